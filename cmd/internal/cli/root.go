package cli

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/daemon/api"
)

const about = `tcpmemctl shows who holds this host's TCP memory (net.ipv4.tcp_mem), what the
daemon tcpmemd decided about it and what came of that. It asks the daemon or,
with --direct, reads the kernel itself.

Exit codes: 0 ok, 1 failure, 2 usage, 3 the daemon is not running, 4 permission,
6 configuration. Times are in UTC.`

// defaultLimit is how many rows a table has unless told otherwise.
const defaultLimit = 20

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "tcpmemctl",
		Short:         "Show who holds this host's TCP memory",
		Long:          about,
		Args:          noArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if c.limit < 0 {
				return usagef("--limit %d: want a number of rows", c.limit)
			}
			if err := cmd.ValidateFlagGroups(); err != nil {
				return &usageError{err} // cobra itself looks at them after this hook
			}
			if err := c.checkFrom(cmd); err != nil {
				return err
			}
			c.running = true
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetArgs(append([]string{}, c.Args...))
	root.SetOut(c.Stdout)
	root.SetErr(c.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.PersistentFlags().StringVar(&c.socket, "socket", api.FindSocket(c.Getenv, c.UID), "the daemon's socket (also TCPMEMD_SOCKET)")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON")
	root.PersistentFlags().BoolVar(&c.direct, "direct", false, "read the kernel without a daemon")
	root.PersistentFlags().StringVar(&c.from, "from", "", "read the export `FILE` in place of the daemon; - is standard input")
	root.MarkFlagsMutuallyExclusive("from", "direct")
	root.AddCommand(readsExport(c.status()), c.top(), readsExport(c.owners()), readsExport(c.sockets()), readsExport(c.orphans()),
		readsExport(c.history()), readsExport(c.incidents()), readsExport(c.actions()), readsExport(c.explain()), c.act(), c.policy(), readsExport(c.plugins()), c.pause(), c.resume(), c.reset(), c.reload(),
		readsExport(c.doctor()), c.health(), c.export(), c.drill(), c.drillLeak(), c.version())
	return root
}

// noArgs is for commands that take none. Where they have others below them, the
// argument is one that is not known.
func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case !cmd.HasAvailableSubCommands():
		return fmt.Errorf("%stakes no argument, and %.40q is one", named(cmd), args[0])
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("%sunknown command %.40q; did you mean %q?", named(cmd), args[0], near[0])
	}
	return fmt.Errorf("%sunknown command %.40q", named(cmd), args[0])
}

// oneArg is for commands that are about one thing; hint says how to name it.
func oneArg(what, hint string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%swants one %s (%s), and there are %d", named(cmd), what, hint, len(args))
		}
		return nil
	}
}

// named names a command at the start of a message, tcpmemctl itself by nothing.
func named(cmd *cobra.Command) string {
	_, name, below := strings.Cut(cmd.CommandPath(), " ")
	if !below {
		return ""
	}
	return name + ": "
}

// listFlags are for commands that print rows.
func (c *command) listFlags(cmd *cobra.Command) {
	cmd.Flags().IntVar(&c.limit, "limit", 0, fmt.Sprintf("print the biggest `N` rows (table: %d; JSON: all)", defaultLimit))
	cmd.Flags().BoolVar(&c.all, "all", false, "print all rows, also those without bytes")
	cmd.MarkFlagsMutuallyExclusive("limit", "all")
}

// watchFlag is for commands that can be repeated.
func (c *command) watchFlag(cmd *cobra.Command) {
	cmd.Flags().Var((*interval)(&c.watch), "watch", "print again after each `INTERVAL`, until Ctrl-C")
	cmd.Flags().Lookup("watch").NoOptDefVal = "2s"
}

// rows is the limit that applies, 0 for none.
func (c *command) rows() int {
	if c.all || c.json && c.limit == 0 {
		return 0
	}
	return cmp.Or(c.limit, defaultLimit)
}

// interval is the value of --watch: a duration of which a screen can follow.
type interval time.Duration

const leastInterval = 100 * time.Millisecond

func (i *interval) String() string {
	if *i == 0 {
		return ""
	}
	return time.Duration(*i).String()
}

func (i *interval) Type() string { return "duration" }

func (i *interval) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 2s", s)
	}
	if d < leastInterval {
		return fmt.Errorf("%s is too often: want at least %s", s, leastInterval)
	}
	*i = interval(d)
	return nil
}

func (c *command) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			if c.json {
				return c.encode(map[string]any{"version": api.Version, "tcpmemctl_version": c.Version})
			}
			_, err := fmt.Fprintln(c.Stdout, "tcpmemctl "+c.Version)
			return err
		},
	}
}
