package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/engine/replay"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/nearest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/units"
)

// tried is the document of "tcpmemctl policy test --json".
type tried struct {
	Version int            `json:"version"`
	Scene   *string        `json:"scene"`
	Report  replay.Report  `json:"report"`
	Events  []replay.Event `json:"events"`
	// Did is what was done in that time, as the record has it; null for a scene.
	Did    []api.Action `json:"did"`
	Expect []expected   `json:"expect"`
}

// expected is an expectation of a scene. Found says what came instead.
type expected struct {
	Expect string `json:"expect"`
	OK     bool   `json:"ok"`
	Found  string `json:"found"`
}

func (c *command) policyTest() *cobra.Command {
	var scene, since, as string
	cmd := &cobra.Command{
		Use:   "test [FILE]",
		Short: "Try a policy against a scene, or against what was recorded",
		Long: `Play a scene, or what the daemon recorded, through the rules of this host, with
FILE as a draft laid over them, and say what would have been decided, beside what
was. Nothing is done. The rules observe; with --as enforce all of them act, on
paper. The exit code is 1 where an expectation of the scene does not hold, and 6
where a file has a mistake.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (scene == "") == (since == "") {
				return usagef("policy test: want --scene FILE or --since WHEN")
			}
			if as != "" && as != string(policy.Observe) && as != string(policy.Enforce) {
				return usagef("--as %.40q: want observe or enforce", as)
			}
			draft := ""
			if len(args) == 1 {
				draft = args[0]
			}
			l, err := c.load(cmd.Context(), draft)
			if err != nil {
				return err
			}
			if scene != "" {
				return c.tryScene(l, scene, as)
			}
			from, err := parseSince(since, c.now())
			if err != nil {
				return err
			}
			return c.tryHistory(cmd.Context(), l, from, as)
		},
	}
	cmd.Flags().StringVar(&scene, "scene", "", "play the scene of `FILE` (- is standard input)")
	sinceFlag(cmd, &since, "")
	cmd.Flags().StringVar(&as, "as", "", "play as if all rules `MODE`: observe or enforce (left out: what the scene says, else observe)")
	return cmd
}

func (c *command) player(l loaded, enforce bool) *replay.Player {
	cfg := l.config.Config
	infos := maps.Clone(l.infos)
	for name, info := range infos {
		info.Missing = "" // the rights of who runs this command say nothing
		infos[name] = info
	}
	return replay.New(replay.Config{
		Enforce: enforce,
		OptOut:  optOut(cfg),
		Policy: policy.Config{
			Rules: l.policy.Rules, Actions: infos, MinCoverage: cfg.MinCoverage,
			SettleStart: cfg.Settle.Start, SettleOwner: cfg.Settle.Owner, HostBudget: cfg.Budget.Host,
			Sample: cfg.Sample.Interval, Calm: cfg.Scan.Calm, Pressed: cfg.Scan.Pressed,
		},
	})
}

func optOut(cfg config.Config) func(*reading.Owner) string {
	return func(o *reading.Owner) string {
		if why := units.Protected(o.Unit, cfg.OptOut); o.Unit != "" && why != "" {
			return "opted out: " + why
		}
		return ""
	}
}

func (c *command) tryScene(l loaded, file, as string) error {
	text, err := c.readScene(file)
	if err != nil {
		return err
	}
	scene, err := replay.ParseScene(file, text)
	if err != nil {
		return err
	}
	if err := expectsKnown(scene, l.policy.Rules, file); err != nil {
		return err
	}
	enforce := scene.Enforce && as == "" || as == string(policy.Enforce)
	p := c.player(l, enforce)
	doc := &tried{Version: api.Version, Scene: &file, Events: []replay.Event{}, Expect: []expected{}}
	for e := range scene.Entries() {
		doc.Events = append(doc.Events, p.Play(e)...)
	}
	doc.Report = p.Report()
	failed := 0
	for _, x := range scene.Expect {
		found := x.Check(scene.Start(), doc.Events)
		doc.Expect = append(doc.Expect, expected{Expect: x.String(), OK: found == "", Found: found})
		if found != "" {
			failed++
		}
	}
	err = c.put(doc, func(columns int, paint layout.Painter) []string {
		return triedPage(doc, scene.About, scene.Start(), columns, paint)
	})
	if err == nil && failed > 0 {
		return errSaid
	}
	return err
}

// expectsKnown: that a rule never fires which does not exist would always hold.
func expectsKnown(scene *replay.Scene, rules []*policy.Rule, file string) error {
	names := make([]string, len(rules))
	for i, r := range rules {
		names[i] = r.Name
	}
	var errs []error
	for i, x := range scene.Expect {
		if slices.Contains(names, x.Rule) {
			continue
		}
		err := fmt.Errorf("expect %d: no rule is called %.70q", i+1, x.Rule)
		if near := nearest.Name(x.Rule, names); near != "" {
			err = fmt.Errorf("%w; did you mean %q?", err, near)
		}
		errs = append(errs, &replay.SceneError{File: file, Err: err})
	}
	return errors.Join(errs...)
}

func (c *command) readScene(file string) ([]byte, error) {
	var in io.Reader
	if file == "-" {
		in = c.Input
		if in == nil {
			return nil, errors.New("read scene: there is no standard input")
		}
	} else {
		f, err := os.Open(file)
		if err != nil {
			return nil, &replay.SceneError{File: file, Err: errors.Unwrap(err)}
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, replay.MaxScene+1))
	if err != nil {
		return nil, fmt.Errorf("read scene %s: %w", file, err)
	}
	return text, nil
}

func (c *command) tryHistory(ctx context.Context, l loaded, from time.Time, as string) error {
	client, err := c.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	p := c.player(l, as == string(policy.Enforce))
	doc := &tried{Version: api.Version, Events: []replay.Event{}, Expect: []expected{}, Did: []api.Action{}}
	var broken error
	for e, err := range entries(client.History(ctx, from)) {
		if err != nil {
			broken = err
			break
		}
		doc.Events = append(doc.Events, p.Play(e)...)
	}
	doc.Report = p.Report()
	if doc.Report.Entries == 0 {
		if broken == nil {
			broken = errors.New("policy test: nothing was recorded in that time")
		}
		return broken
	}
	rows := api.ActionRows{}
	for r, err := range client.Records(ctx, api.RecordQuery{Since: from}) {
		if err != nil {
			broken = errors.Join(broken, err)
			break
		}
		rows.Add(&r)
	}
	doc.Did = append(doc.Did, rows.Rows()...)
	return errors.Join(c.put(doc, func(columns int, paint layout.Painter) []string {
		return triedPage(doc, "", time.Time{}, columns, paint)
	}), broken)
}

// entries reads what the history holds.
func entries(from iter.Seq2[json.RawMessage, error]) iter.Seq2[*replay.Entry, error] {
	return func(yield func(*replay.Entry, error) bool) {
		for text, err := range from {
			e := new(replay.Entry)
			if err == nil {
				if err = json.Unmarshal(text, e); err != nil {
					err = fmt.Errorf("read history: %w", err)
				}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// maxTried bounds the events that a page shows; JSON has all.
const maxTried = 200

func triedPage(doc *tried, about string, start time.Time, columns int, paint layout.Painter) []string {
	var out []string
	say := func(s, indent string) { out = append(out, layout.Wrap(s, columns, indent)...) }
	r := &doc.Report
	what := "Recorded"
	if doc.Scene != nil {
		what = "Scene"
	}
	head := fmt.Sprintf("%s %s to %s, as if all %s: %d samples, %s", paint.Style(what, layout.Bold), prose.Time(r.From), prose.Time(r.To),
		map[string]string{"observe": "observed", "enforce": "enforced"}[r.As], r.Entries, prose.Plural(int64(r.Readings), "full reading"))
	say(head, "  ")
	if about != "" {
		say(prose.Escape(about), "  ")
	}
	if r.Coarse > 0 {
		say(fmt.Sprintf("%s are too far apart to know rates of counters", prose.Plural(int64(r.Coarse), "sample")), "  ")
	}
	if n := len(r.Gaps); n > 0 {
		say(fmt.Sprintf("%s, the first from %s for %s: rules that were pending start anew", prose.Plural(int64(n), "gap"),
			prose.Time(r.Gaps[0].From), prose.Seconds(r.Gaps[0].Seconds)), "  ")
	}
	if len(doc.Events) > 0 {
		out = append(out, "")
	}
	for i := range doc.Events {
		if i == maxTried {
			out = append(out, fmt.Sprintf("and %s (shown by --json)", prose.Plural(int64(len(doc.Events)-i), "more event")))
			break
		}
		e := &doc.Events[i]
		at := e.At.UTC().Format(time.DateTime)
		if !start.IsZero() {
			at = fmt.Sprintf("%8s", e.At.Sub(start).Round(time.Second))
		}
		say(at+"  "+prose.Escape(e.Rule)+" "+prose.Escape(nameOfEvent(e))+": "+prose.Escape(e.Words()), "          ")
	}
	out = append(out, "")
	for _, line := range r.Words() {
		say(prose.Escape(line), "  ")
	}
	if doc.Did != nil {
		out = append(out, "")
		say(paint.Style("What was done in that time:", layout.Bold), "  ")
		out = append(out, actionsPage(&api.Actions{Actions: doc.Did}, "", columns, paint)...)
	}
	if len(doc.Expect) > 0 {
		out = append(out, "")
	}
	for _, x := range doc.Expect {
		if x.OK {
			say(paint.Style("ok", layout.Good)+"    "+prose.Escape(x.Expect), "      ")
		} else {
			say(paint.Style("FAIL", layout.Bad)+"  "+prose.Escape(x.Expect)+": "+prose.Escape(x.Found), "      ")
		}
	}
	return out
}

// nameOfEvent is who an event is about, as a person knows it.
func nameOfEvent(e *replay.Event) string {
	var owner *record.Suspect
	switch {
	case e.State != nil:
		owner = e.State.Owner
	case e.Decision != nil:
		owner = e.Decision.Owner
	}
	if owner != nil && owner.Name != "" {
		return owner.Name
	}
	return e.Key
}
