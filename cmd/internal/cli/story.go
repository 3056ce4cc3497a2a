package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// storyPage tells an incident to a person.
func storyPage(in *record.Incident, now time.Time, columns int, paint layout.Painter) []string {
	var out []string
	say := func(s string) { out = append(out, layout.Wrap(s, columns, "  ")...) }
	state := "lasts"
	if in.Ended != nil {
		state = "over"
	}
	say(fmt.Sprintf("%s %s: rule %s, %s, %s", paint.Style("Incident", layout.Bold), prose.Escape(in.ID), prose.Escape(in.Rule),
		paint.Style(prose.Escape(in.Severity), words.SeverityStyle(in.Severity)), state))
	if in.About != "" {
		say(prose.Escape(in.About))
	}
	say(spanWords(in, now))
	for i := range in.Keys {
		out = append(out, "")
		out = append(out, keyLines(&in.Keys[i], i == 0, columns)...)
	}
	if n := in.LeftOut.Keys; n > 0 {
		say(fmt.Sprintf("and %s that had no room", prose.Plural(int64(n), "more key")))
	}
	out = appendBlock(out, poolLines(in.Readings, columns))
	out = appendBlock(out, worstLines(in.Worst, columns, paint))
	out = appendBlock(out, timeline(in, columns, paint))
	out = appendBlock(out, sampleLines(in, columns, paint))
	return out
}

func spanWords(in *record.Incident, now time.Time) string {
	s := "from " + prose.Time(in.Began.At)
	if !in.Fired.At.IsZero() {
		s += ", fired " + in.Fired.At.UTC().Format(time.TimeOnly)
	}
	switch {
	case in.Ended != nil:
		s += fmt.Sprintf(", over %s after %s: %s", in.Ended.At.UTC().Format(time.TimeOnly), prose.Duration(in.Ended.Since(in.Began)), in.End)
	case now.After(in.Began.At):
		s += ", for " + prose.Duration(now.Sub(in.Began.At))
	}
	return s + "; mode " + prose.Escape(in.Mode)
}

// keyLines say who it was about, at its worst.
func keyLines(k *record.KeyState, whole bool, columns int) []string {
	var out []string
	say := func(s string) { out = append(out, layout.Wrap(s, columns, "  ")...) }
	s := prose.Escape(k.Key) + ": " + string(k.Phase)
	if k.End != "" {
		s += " (" + string(k.End) + ")"
	}
	if k.Step > 0 {
		s += fmt.Sprintf(", step %d: %s", k.Step, k.Choice)
	}
	if k.Why != "" {
		s += ": " + prose.Escape(k.Why)
	}
	say(s)
	if k.Owner != nil && whole {
		for _, line := range event.OwnerLines(k.Owner) {
			out = append(out, layout.Wrap("  "+line, columns, "    ")...)
		}
	}
	return out
}

// poolLines say how the pool moved: the first, the highest and the last point.
func poolLines(points []record.Point, columns int) []string {
	if len(points) == 0 {
		return nil
	}
	worst := slices.MaxFunc(points, func(a, b record.Point) int { return cmp.Compare(a.Used, b.Used) })
	var parts []string
	for i, p := range []record.Point{points[0], worst, points[len(points)-1]} {
		parts = append(parts, fmt.Sprintf("%s %s at %s (%d of %d pages, %s)", [...]string{"first", "worst", "last"}[i],
			prose.Fill(float64(p.Used)/float64(max(p.Max, 1))), p.At.UTC().Format(time.TimeOnly), p.Used, p.Max, prose.Escape(p.Level)))
	}
	return layout.Wrap("the pool: "+strings.Join(parts, ", "), columns, "  ")
}

// worstLines is the ledger at the worst.
func worstLines(l *record.Ledger, columns int, paint layout.Painter) []string {
	if l == nil {
		return nil
	}
	out := layout.Wrap(fmt.Sprintf("%s at %s: %s seen, %s explained; %s", paint.Style("Ledger", layout.Bold), prose.Time(l.At),
		prose.Bytes(l.Seen), prose.Coverage(l.Coverage), byteParts(l.Classes)), columns, "  ")
	t := layout.Table{Columns: []layout.Column{
		{Title: "OWNER", Least: 12, Middle: true},
		{Title: "SOCKETS", Right: true, Rank: 2},
		{Title: "MEMORY", Right: true},
		{Title: "SHARE", Right: true, Rank: 1},
		{Title: "CLASSES", Least: 10, Rank: 3},
		{Title: "VERDICT", Rank: 4},
	}}
	for i := range l.Owners {
		o := &l.Owners[i]
		verdict := "-"
		if o.Verdict != nil {
			verdict = string(o.Verdict.Kind)
		}
		t.Add(prose.Escape(cmp.Or(o.Name, o.Key)), fmt.Sprint(o.Sockets), prose.Bytes(o.Bytes), prose.Share(o.Bytes, l.Seen), byteParts(o.Classes), verdict)
	}
	if len(t.Rows) > 0 {
		out = append(out, t.Lines(columns, paint)...)
	}
	if l.LeftOut > 0 {
		out = append(out, fmt.Sprintf("and %s", prose.Plural(int64(l.LeftOut), "more owner")))
	}
	return out
}

// byteParts names the parts of a sum, the most bytes first.
func byteParts(parts map[string]int64) string {
	tallies := make(map[string]reading.Tally)
	for name, n := range parts {
		tallies[prose.Escape(name)] = reading.Tally{Bytes: n}
	}
	return cmp.Or(words.Parts(tallies), "nothing")
}

// timeline is what happened, in order.
func timeline(in *record.Incident, columns int, paint layout.Painter) []string {
	if len(in.Records) == 0 {
		return nil
	}
	out := []string{paint.Style("What happened", layout.Bold)}
	var teller event.Teller
	day := ""
	for i := range in.Records {
		r := &in.Records[i]
		if d := r.At.UTC().Format(time.DateOnly); d != day {
			day = d
			out = append(out, day)
		}
		line := "  " + r.At.UTC().Format(time.TimeOnly) + "  "
		if r.Incident != in.ID && r.Kind != record.KindEvent {
			line += "meanwhile: rule " + prose.Escape(r.Rule) + ": "
		}
		out = append(out, layout.Wrap(line+teller.Words(r), columns, "            ")...)
		if d := decisionOf(r); d != nil && r.Incident == in.ID {
			if numbers := event.NumberWords(d.Numbers); numbers != "" {
				out = append(out, layout.Wrap("            by "+numbers, columns, "              ")...)
			}
		}
	}
	if n := in.LeftOut.Records; n > 0 {
		out = append(out, fmt.Sprintf("  and %s that had no room", prose.Plural(int64(n), "record")))
	}
	return out
}

func decisionOf(r *record.Record) *record.Decision {
	if r.Intent != nil {
		return nil // its decision is told on its own
	}
	return r.Decision
}

// sampleLines are sockets of the target before the first action.
func sampleLines(in *record.Incident, columns int, paint layout.Painter) []string {
	if len(in.Sample) == 0 {
		return nil
	}
	out := layout.Wrap(paint.Style("Sockets of the target", layout.Bold)+" before the first action", columns, "  ")
	t := layout.Table{Columns: []layout.Column{
		{Title: "STATE"},
		{Title: "CLASS", Rank: 2},
		{Title: "LOCAL", Least: 12, Middle: true, Rank: 1},
		{Title: "REMOTE", Least: 12, Middle: true},
		{Title: "MEMORY", Right: true},
		{Title: "RECEIVE", Right: true, Rank: 3},
		{Title: "SEND", Right: true, Rank: 3},
		{Title: "PID", Right: true, Rank: 4},
	}}
	for i := range in.Sample {
		s := &in.Sample[i]
		pid := "-"
		if s.PID > 0 {
			pid = fmt.Sprint(s.PID)
		}
		t.Add(prose.Escape(s.State), prose.Escape(s.Class), words.Optional(s.Local), words.Optional(s.Remote), prose.Bytes(s.Bytes), prose.Bytes(s.Receive), prose.Bytes(s.Send), pid)
	}
	out = append(out, t.Lines(columns, paint)...)
	if n := in.LeftOut.Sockets; n > 0 {
		out = append(out, fmt.Sprintf("and %s", prose.Plural(int64(n), "more socket")))
	}
	return out
}

// actionsOf gives the ids of an incident's actions, in order.
func actionsOf(in *record.Incident) []string {
	ids := make(map[string]int)
	for i := range in.Records {
		if id := in.Records[i].Action; id != "" && in.Records[i].Incident == in.ID {
			if _, ok := ids[id]; !ok {
				ids[id] = i
			}
		}
	}
	return slices.SortedFunc(maps.Keys(ids), func(a, b string) int { return cmp.Compare(ids[a], ids[b]) })
}
