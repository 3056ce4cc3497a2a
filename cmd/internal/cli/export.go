package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/export"
	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

// exported is the document of "tcpmemctl export --json".
type exported struct {
	Version int         `json:"version"`
	File    string      `json:"file"`
	Bytes   int64       `json:"bytes"`
	Left    *export.End `json:"left_out"`
}

func (c *command) export() *cobra.Command {
	var file, since string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write all that the daemon knows into a file",
		Long: `Write all that the daemon knows into one file, which the commands that read take in
the daemon's place with --from: the status, the ledger, the 20,000 sockets of most
memory, incidents, actions, the policy, the plugins, and what was recorded. It has
names of units, commands and addresses, as the commands print them, and no command
line. It is a tar archive of JSON, packed by gzip.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := parseSince(since, c.now())
			if err != nil {
				return err
			}
			return c.exportTo(cmd.Context(), file, from)
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "write to `FILE`, - is standard output (left out: tcpmem-HOST-TIME.tar.gz here)")
	sinceFlag(cmd, &since, "")
	return cmd
}

// exportTo writes an export to a file, "" for one that is named after the host.
func (c *command) exportTo(ctx context.Context, file string, since time.Time) error {
	client, err := c.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	counted := &counter{}
	write := func(w io.Writer) (*export.End, error) {
		counted.w = w
		var step atomic.Value
		step.Store("status")
		defer c.progress().telling(func() string {
			return fmt.Sprintf("%s: %s, %s written", step.Load(), socketsRead(client.SocketsRead()), prose.Bytes(counted.n.Load()))
		})()
		return export.Write(ctx, counted, client, export.Options{At: c.now(), By: c.Version, Since: since, Told: func(what string) { step.Store(what) }})
	}
	if file == "-" {
		if c.TerminalSize != nil {
			return usagef("export: standard output is a terminal: -o FILE, or a pipe")
		}
		end, err := write(c.Stdout)
		if err != nil {
			return err
		}
		return lacks(end)
	}
	if file == "" {
		if file, err = c.exportName(ctx, client); err != nil {
			return err
		}
	}
	end, err := replace(file, write)
	if err != nil {
		return err
	}
	doc := &exported{Version: api.Version, File: file, Bytes: counted.n.Load(), Left: end}
	return errors.Join(c.put(doc, func(columns int, _ layout.Painter) []string { return exportedPage(doc, columns) }), lacks(end))
}

// replace writes a file whole or not at all.
func replace(file string, write func(io.Writer) (*export.End, error)) (*export.End, error) {
	if err := replaceable(file); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	// Others of this host are not to read what the daemon tells its group only.
	out, err := renameio.NewPendingFile(file, renameio.WithTempDir(filepath.Dir(file)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	defer out.Cleanup() //nolint:errcheck // nothing is left to do about a file that cannot be removed
	end, err := write(out)
	if err != nil {
		return nil, err
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return end, nil
}

// exportName is a name that says of which host a file is, and of when.
func (c *command) exportName(ctx context.Context, client *api.Client) (string, error) {
	status, err := client.Status(ctx)
	if err != nil {
		return "", err
	}
	host := strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, status.Hostname)
	return "tcpmem-" + host + "-" + c.now().UTC().Format("20060102T150405Z") + ".tar.gz", nil
}

// replaceable: a device is not to be replaced by a file, nor a folder to be made.
func replaceable(file string) error {
	if info, err := os.Stat(filepath.Dir(file)); err != nil || !info.IsDir() {
		return fmt.Errorf("write %s: there is no such folder", prose.Escape(file))
	}
	info, err := os.Lstat(file)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("write %s: it is no regular file: -o - writes to standard output", prose.Escape(file))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// lacks is an error where the daemon could not give all.
func lacks(end *export.End) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(end.Missing)) {
		errs = append(errs, fmt.Errorf("export: %s is not in it, or not whole: %s", name, end.Missing[name]))
	}
	return errors.Join(errs...)
}

func exportedPage(doc *exported, columns int) []string {
	var out []string
	say := func(s string) { out = append(out, layout.Wrap(s, columns, "  ")...) }
	say(fmt.Sprintf("%s: %s. Read it with --from, as in: tcpmemctl status --from %[1]s", prose.Escape(doc.File), prose.Bytes(doc.Bytes)))
	if left := doc.Left.Sockets; left.Sockets > 0 {
		say(fmt.Sprintf("left out: %s of least memory, with %s", prose.Plural(left.Sockets, "socket"), prose.Bytes(left.Bytes)))
	}
	if n := doc.Left.Incidents; n > 0 {
		say("left out: " + prose.Plural(int64(n), "incident"))
	}
	if at := doc.Left.Records; at != nil {
		say("left out: records before " + prose.Time(*at))
	}
	return out
}

// counter counts what goes through it.
type counter struct {
	w io.Writer
	n atomic.Int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// fromExport marks commands that an export can answer.
const fromExport = "export"

func readsExport(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{fromExport: ""}
	return cmd
}

// checkFrom refuses --from where it has no meaning, and reads the file.
func (c *command) checkFrom(cmd *cobra.Command) error {
	if c.from == "" {
		return nil
	}
	if _, ok := cmd.Annotations[fromExport]; !ok {
		return usagef("--from: %sno file can answer that, only this host", named(cmd))
	}
	if c.watch != 0 {
		return usagef("--from: a file does not change: it cannot be watched")
	}
	file, err := c.exported()
	if err != nil {
		c.running = true
		return err
	}
	fmt.Fprintf(c.Stderr, "recorded on %s at %s, %s ago\n", prose.Escape(file.Hostname), prose.Time(file.MadeAt), prose.Duration(max(file.Now.Sub(file.MadeAt), 0)))
	return nil
}

// exported is the file of --from, which is read once.
func (c *command) exported() (*export.Source, error) {
	if c.file != nil {
		return c.file, nil
	}
	in := c.Input
	if c.from != "-" {
		f, err := os.Open(c.from)
		if err != nil {
			return nil, fmt.Errorf("read export: %w", err)
		}
		defer f.Close()
		in = f
	}
	if in == nil {
		return nil, errors.New("read export: there is no standard input")
	}
	file, err := export.Read(in)
	if err != nil {
		return nil, err
	}
	c.file = &export.Source{File: file, Now: c.now()}
	return c.file, nil
}
