package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/top"
)

const aboutTop = `Look at the pool, at what the policy is about to do, and at who holds the
memory, as they change. Keys sort, filter, and open an owner's sockets; ? lists
them. It wants a terminal: "owners --watch" does without.`

func (c *command) top() *cobra.Command {
	every := interval(2 * time.Second)
	cmd := &cobra.Command{
		Use:   "top",
		Short: "A live view of the pool and of who holds it",
		Long:  aboutTop,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			const instead = `; "tcpmemctl owners --watch" prints line by line`
			switch term := c.Getenv("TERM"); {
			case c.json:
				return usagef(`--json: a live view has no JSON; "tcpmemctl owners --json --watch" prints documents`)
			case c.TerminalSize == nil:
				return usagef("top: standard output is no terminal" + instead)
			case !c.Interactive:
				return usagef("top: standard input is no terminal to read keys from" + instead)
			case term == "" || term == "dumb":
				return usagef("top: a terminal of type %q cannot place text%s", term, instead)
			}
			src, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			defer src.Close()
			return top.Run(cmd.Context(), top.Config{
				Source: src, Direct: c.direct, Interval: time.Duration(every), Paint: c.painter(), Now: c.now,
				Ready: c.progress().during(src.SocketsRead), Input: c.Input, Output: c.Stdout, Term: c.Getenv("TERM"),
			})
		},
	}
	cmd.Flags().Var(&every, "interval", "read again after each `INTERVAL`")
	return cmd
}
