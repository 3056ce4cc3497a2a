package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/drill"
	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// drilled is the document of "tcpmemctl drill --json".
type drilled struct {
	Version int     `json:"version"`
	Unit    *string `json:"unit"` // null: a process below this command
	Planned int64   `json:"planned_bytes"`
	// Held is what the leak itself says of its sockets, Owner what the daemon
	// found, both at the end.
	Held         drill.Held `json:"held"`
	Owner        *api.Owner `json:"owner"` // null: it was not found
	SeenAfter    *float64   `json:"seen_after_seconds"`
	VerdictAfter *float64   `json:"verdict_after_seconds"`
	Would        *would     `json:"would"` // null without a verdict
	// Clean: nothing of it is left.
	Clean bool `json:"clean"`
}

const (
	// drillShare of max is what the leak grows to, and drillMost what it never
	// exceeds: 1 %. A verdict needs about 0.4 % of max and 2 MiB.
	drillShare = 0.006
	drillMost  = 0.01
	drillLeast = 5 << 19
	// drillOver is the time in which it grows to that.
	drillOver = 3 * time.Minute
	// drillLook is the time between two scans that are asked for.
	drillLook = 10 * time.Second
	// drillPatience is how long a leak may go unseen.
	drillPatience = 90 * time.Second
)

func (c *command) drill() *cobra.Command {
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Let a small leak be found, as a fire drill",
		Long: `Make a small leak of TCP memory, at most 1 % of the host's, and see the daemon find
it: who holds it, what of it no listing shows, the verdict, and what the policy of
this host would do if it went on. Nothing is done to it or to anybody else: its unit
is known as a drill, and only observed. It is refused unless the host is calm, ends
at once when the host is not calm any more, and with this command, however that
ends. A verdict takes about three minutes. Only root may.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if lasts < 20*time.Second || lasts > 30*time.Minute {
				return usagef("--for %s: want from 20s to 30m", lasts)
			}
			return c.runDrill(cmd.Context(), lasts)
		},
	}
	cmd.Flags().DurationVar(&lasts, "for", 5*time.Minute, "wait at most `DURATION` for the verdict")
	return cmd
}

// drillLeak is what the drill's own process runs.
func (c *command) drillLeak() *cobra.Command {
	var p drill.Plan
	cmd := &cobra.Command{
		Use: drill.Command, Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return drill.Leak(cmd.Context(), p, c.Input, c.Stdout) },
	}
	cmd.Flags().Int64Var(&p.Bytes, "bytes", 0, "")
	cmd.Flags().DurationVar(&p.Over, "over", drillOver, "")
	return cmd
}

// exercise is a drill under way.
type exercise struct {
	c      *command
	client *api.Client
	child  *drill.Child
	doc    drilled
	status *api.Status
	begun  time.Time
}

func (c *command) runDrill(ctx context.Context, lasts time.Duration) (err error) {
	l, err := c.load(ctx)
	if err != nil {
		return err
	}
	client, err := c.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	x := &exercise{c: c, client: client, doc: drilled{Version: api.Version}}
	if err := x.begin(ctx); err != nil {
		return err
	}
	x.begun = time.Now()
	defer func() {
		err = errors.Join(err, x.end(context.WithoutCancel(ctx)))
		if c.json {
			err = errors.Join(err, c.encode(&x.doc))
		}
	}()
	if err := x.watch(ctx, lasts); err != nil {
		return err
	}
	if x.doc.VerdictAfter == nil {
		x.say(fmt.Sprintf("no verdict in %s. It takes growth that stays for two and a half minutes at least, and more where it is in doubt.", prose.Duration(lasts)))
		return nil
	}
	return x.follow(l)
}

// begin looks whether this is a time for drills, and starts the leak.
func (x *exercise) begin(ctx context.Context) error {
	if x.c.UID != 0 {
		return fmt.Errorf("drill: only root may make a leak: %w", os.ErrPermission)
	}
	var err error
	if x.status, err = x.client.Status(ctx); err != nil {
		return err
	}
	m := &x.status.Memory
	if why := uncalm(x.status); why != "" {
		return errors.New("drill: refused: " + why)
	}
	limit := int64(drillMost * float64(m.MaxBytes))
	x.doc.Planned = min(max(int64(drillShare*float64(m.MaxBytes)), drillLeast), limit)
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	x.say(fmt.Sprintf("%s: %s used of %s. A leak of %s at most begins, %s of it, and ends with this command.", m.Level,
		prose.Bytes(m.UsedBytes), prose.Bytes(m.MaxBytes), prose.Bytes(x.doc.Planned), prose.Share(x.doc.Planned, m.MaxBytes)))
	if x.child, err = drill.Start(drill.Plan{Bytes: x.doc.Planned, Over: drillOver}, exe); err != nil {
		return err
	}
	if x.child.Unit != "" {
		x.doc.Unit = &x.child.Unit
		x.say("leaking: " + x.child.Unit + ", a unit of its own, only to be observed")
		return nil
	}
	// Without a unit of its own nothing says that it is a drill.
	if x.status.Mode != "observe" {
		return errors.Join(errors.New("drill: refused: without systemd-run the leak has no unit of its own, and the daemon may act"), x.child.End())
	}
	x.say(fmt.Sprintf("leaking: process %d", x.child.PID()))
	return nil
}

// uncalm says why this is no time for drills, "" where it is one.
func uncalm(s *api.Status) string {
	switch {
	case s.Level != reading.Calm:
		return fmt.Sprintf("the host is not calm, its level is %s", s.Level)
	case s.Memory.Lease != nil:
		return "net.ipv4.tcp_mem is raised for a time"
	}
	return ""
}

// watch waits for the leak to be seen, and then for the verdict.
func (x *exercise) watch(ctx context.Context, lasts time.Duration) error {
	end := time.After(lasts)
	look := time.NewTicker(drillLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("drill: ended early: %w", context.Cause(ctx))
		case <-x.child.Done():
			return errors.New("drill: the leak ended by itself")
		case <-end:
			if x.doc.SeenAfter == nil {
				return x.unseen()
			}
			return nil
		case <-look.C:
		}
		done, err := x.look(ctx)
		if err != nil || done {
			return err
		}
	}
}

// look has the daemon scan, and says what is new. It is done with a verdict.
func (x *exercise) look(ctx context.Context) (done bool, err error) {
	held := x.child.Held() // it only grows: the scan finds at least that
	owners, err := x.client.Owners(ctx, true)
	if err != nil {
		return false, err
	}
	status, err := x.client.Status(ctx)
	if err != nil {
		return false, err
	}
	if why := uncalm(status); why != "" {
		return false, errors.New("drill: ended early: " + why)
	}
	x.status, x.doc.Held = status, held
	i := slices.IndexFunc(owners.Owners, x.isIt)
	if i >= 0 {
		x.doc.Owner = &owners.Owners[i]
	}
	after := time.Since(x.begun)
	switch o := x.doc.Owner; {
	case held.All.Bytes == 0:
	case i < 0 || !foundOf(o.Bytes, held.All.Bytes, owners.Ledger.ReserveMaxBytes):
		if x.doc.SeenAfter == nil && after > drillPatience {
			return false, x.unseen()
		}
	case x.doc.SeenAfter == nil:
		x.doc.SeenAfter = new(after.Seconds())
		x.say(fmt.Sprintf("seen after %s: %s", prose.Duration(after), x.found()))
	case o.Verdict != nil && *o.Verdict == reading.Leak:
		x.doc.VerdictAfter = new(after.Seconds())
		x.say(fmt.Sprintf("verdict after %s: %s. It is %s", prose.Duration(after), *o.Verdict, x.found()))
		for _, r := range o.Reasons {
			x.say("    " + prose.Escape(r))
		}
		return true, nil
	}
	return false, nil
}

// foundOf: new hidden sockets are looked for once they are 64 or hold more than
// the error bound, so what is found may lag behind by that much.
func foundOf(found, held, bound int64) bool {
	return found >= held/2 && held-found <= max(held/10, bound)
}

// isIt: only PID 1's word names the unit.
func (x *exercise) isIt(o api.Owner) bool {
	if x.child.Unit != "" {
		return o.UnitVerified && o.Unit != nil && *o.Unit == x.child.Unit
	}
	return slices.ContainsFunc(o.Holders, func(h api.Holder) bool { return h.PID == x.child.PID() })
}

func (x *exercise) unseen() error {
	found := "it is not among the owners"
	if x.doc.Owner != nil {
		found = "found is " + x.found()
	}
	return fmt.Errorf("drill: the leak holds %s in %s, and %s: tcpmemctl doctor says what keeps owners from being seen",
		prose.Bytes(x.doc.Held.All.Bytes), prose.Plural(x.doc.Held.All.Sockets, "socket"), found)
}

// found says what the daemon says, beside what the leak itself does.
func (x *exercise) found() string {
	o, held := x.doc.Owner, &x.doc.Held
	return fmt.Sprintf("%s with %s in %s (it says %s in %d), %s of that in sockets that no listing shows (it says %s)", prose.Escape(o.Name),
		prose.Bytes(o.Bytes), prose.Plural(o.Sockets, "socket"), prose.Bytes(held.All.Bytes), held.All.Sockets,
		prose.Bytes(o.Classes.Hidden.Bytes), prose.Bytes(held.Hidden.Bytes))
}

// end has the leak close its sockets, and looks whether anything is left.
func (x *exercise) end(ctx context.Context) error {
	err := x.child.End()
	ctx, cancel := context.WithTimeout(ctx, drillPatience)
	defer cancel()
	for {
		owners, oerr := x.client.Owners(ctx, true)
		switch {
		case oerr != nil:
			return errors.Join(err, oerr)
		case !slices.ContainsFunc(owners.Owners, func(o api.Owner) bool { return x.isIt(o) && o.Bytes > 0 }):
			x.doc.Clean = true
			x.say("ended: its sockets are closed, nothing of it is left")
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, errors.New("drill: something of it is left: see tcpmemctl owners"))
		case <-time.After(time.Second):
		}
	}
}

// say tells a person how it goes.
func (x *exercise) say(line string) {
	if x.c.json {
		return
	}
	columns, _ := x.c.size()
	_ = x.c.print(layout.Wrap(line, columns, "    ")) // a leak is ended also where nobody reads
}
