package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	"github.com/tcpmemd/tcpmemd/daemon/event"
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
		Use:   "test [FILE...]",
		Short: "Try a policy against a scene, or against what was recorded",
		Long: `Play a scene, or what the daemon recorded, through the rules of this host, with
FILEs as drafts laid over them, one over the other, and say what would have been
decided, on whom and by which numbers, beside what was done. Nothing is done. The rules observe; with --as enforce all of them act, on
paper. The exit code is 1 where an expectation of the scene does not hold, and 6
where a file has a mistake.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (scene == "") == (since == "") {
				return usagef("policy test: want --scene FILE or --since WHEN")
			}
			if as != "" && as != string(policy.Observe) && as != string(policy.Enforce) {
				return usagef("--as %.40q: want observe or enforce", as)
			}
			l, err := c.load(cmd.Context(), args...)
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
		if why := units.OptedOut(o.Unit, cfg.OptOut); o.Unit != "" && why != "" {
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
	t, err := c.record()
	if err != nil {
		return err
	}
	defer t.Close()
	p := c.player(l, as == string(policy.Enforce))
	doc := &tried{Version: api.Version, Events: []replay.Event{}, Expect: []expected{}, Did: []api.Action{}}
	told := c.progress()
	defer told.end()
	var broken error
	for e, err := range moments(ctx, t, from) {
		if err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		doc.Events = append(doc.Events, p.Play(&replay.Entry{Stamp: e.Stamp, Level: e.Level, Sample: e.Sample, Reading: e.Reading})...)
		told.say("played up to %s", prose.Time(e.At))
	}
	doc.Report = p.Report()
	if doc.Report.Entries == 0 {
		if broken == nil {
			broken = errors.New("policy test: nothing was recorded in that time")
		}
		return broken
	}
	rows := api.ActionRows{}
	for r, err := range t.Records(ctx, api.RecordQuery{Since: from}) {
		if err != nil {
			broken = errors.Join(broken, err)
			break
		}
		rows.Add(&r)
	}
	doc.Did = append(doc.Did, rows.Rows()...)
	told.end()
	return errors.Join(c.put(doc, func(columns int, paint layout.Painter) []string {
		return triedPage(doc, "", time.Time{}, columns, paint)
	}), broken)
}

// maxTried bounds the moments that a page shows; JSON has all.
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
	moments := triedMoments(doc, start, paint)
	if len(moments) > 0 {
		out = append(out, "")
	}
	for i, m := range moments {
		if i == maxTried {
			out = append(out, fmt.Sprintf("and %s (shown by --json)", prose.Plural(int64(len(moments)-i), "more event")))
			break
		}
		say(m.line, "          ")
		if m.numbers != "" {
			say("          by "+m.numbers, "            ")
		}
	}
	out = append(out, "")
	for _, line := range r.Words() {
		say(prose.Escape(line), "  ")
	}
	if doc.Did != nil {
		out = append(out, "")
		for _, line := range didWords(doc.Did) {
			say(prose.Escape(line), "  ")
		}
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

// moment is one line of what would have come, or of what was done.
type moment struct {
	at            time.Time
	line, numbers string
}

// triedMoments are all of them in the order of time. Those of a scene count from
// its start.
func triedMoments(doc *tried, start time.Time, paint layout.Painter) []moment {
	stamp := func(at time.Time) string {
		if !start.IsZero() {
			return fmt.Sprintf("%8s", at.Sub(start).Round(time.Second))
		}
		return at.UTC().Format(time.DateTime)
	}
	var all []moment
	for i := range doc.Events {
		e := &doc.Events[i]
		m := moment{at: e.At, line: stamp(e.At) + "  " + prose.Escape(e.Rule) + " " + prose.Escape(nameOfEvent(e)) + ": " + prose.Escape(e.Words())}
		switch {
		case e.Decision != nil:
			m.numbers = event.NumberWords(e.Decision.Numbers)
		case e.State != nil && e.State.Phase == record.Firing:
			m.numbers = event.NumberWords(e.State.Numbers)
		}
		all = append(all, m)
	}
	for i := range doc.Did {
		a := &doc.Did[i]
		outcome, _ := outcomeOf(a)
		if a.Effect != nil {
			outcome += ", " + string(*a.Effect)
		}
		all = append(all, moment{at: a.At, line: stamp(a.At) + "  " + paint.Style("did:", layout.Bold) + " " + prose.Escape(a.Rule) + " " +
			prose.Escape(a.Target) + ": " + prose.Escape(a.Action) + ": " + outcome + " (" + prose.Escape(a.ID) + ")"})
	}
	slices.SortStableFunc(all, func(a, b moment) int { return a.at.Compare(b.at) })
	return all
}

// didWords sums up what was done, or would have been by the rules of that time,
// as the report does for the rules that are tried. Names are as they came.
func didWords(did []api.Action) []string {
	type deed struct{ rule, action, target, outcome string }
	times := make(map[deed][]time.Time)
	var order []deed
	for _, a := range slices.Backward(did) { // the oldest first
		outcome, _ := outcomeOf(&a)
		if a.Effect != nil {
			outcome += ", " + string(*a.Effect)
		}
		d := deed{a.Rule, a.Action, a.Target, outcome}
		if times[d] == nil {
			order = append(order, d)
		}
		times[d] = append(times[d], a.At)
	}
	if len(order) == 0 {
		return []string{"what was done: nothing"}
	}
	out := make([]string, len(order))
	for i, d := range order {
		out[i] = fmt.Sprintf("what was done: %s came to %s on %s (%s) %s", d.rule, d.action, d.target, d.outcome, replay.Often(times[d]))
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
