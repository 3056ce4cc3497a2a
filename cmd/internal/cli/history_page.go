package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Bounds of the page; JSON has all.
const (
	maxPastStrips = 5
	maxPastLines  = 12 // of what happened
	maxPastGaps   = 5
	leastColumns  = 40
	mostColumns   = 240
)

// pastPage draws what was recorded.
func pastPage(doc *past, columns int, signs charset, paint layout.Painter) []string {
	columns = min(max(columns, leastColumns), mostColumns)
	var out []string
	say := func(s string) { out = append(out, layout.Wrap(s, columns, "  ")...) }
	from := doc.From
	if doc.Begins != nil {
		from = *doc.Begins
	}
	say(fmt.Sprintf("%s on %s, %s to %s (%s)", paint.Style("TCP memory", layout.Bold), prose.Escape(doc.Hostname),
		prose.Time(from), prose.Time(doc.To), prose.Duration(doc.To.Sub(from))))
	if len(doc.Points) == 0 {
		if doc.Begins == nil && len(doc.Gaps) == 0 {
			say("Nothing was recorded in that time, nor before.")
		} else {
			say("Nothing was recorded in that time.")
		}
	} else {
		out = append(out, doc.picture(from, columns, signs, paint)...)
	}
	out = appendBlock(out, doc.happened(columns, paint))
	for i := range out {
		out[i] = signs.clean(out[i])
	}
	return out
}

// picture is the charts with what they show in words.
func (p *past) picture(from time.Time, columns int, signs charset, paint layout.Painter) []string {
	gutter := min(max(columns/4, 18), 32)
	c := newChart(p, from, columns-gutter-2, signs, paint)
	var out []string
	say := func(s string) { out = append(out, layout.Wrap(s, columns, "  ")...) }

	worst := slices.MaxFunc(p.Points, func(a, b pastPoint) int { return cmp.Compare(a.Fill, b.Fill) })
	last := &p.Points[len(p.Points)-1]
	say(fmt.Sprintf("worst %s full (%s of %s) at %s; last %s full (%s), %s; %s", prose.Fill(worst.Fill), prose.Bytes(worst.UsedBytes),
		p.bytes(worst.Max), prose.Time(worst.At), prose.Fill(last.Fill), prose.Bytes(last.UsedBytes),
		paint.Style(last.Level.String(), words.LevelStyle(last.Level)), prose.Plural(int64(len(p.Points)), "sample")))
	if p.Begins != nil {
		say("The recording begins at " + prose.Time(*p.Begins) + ".")
	}
	if top := c.top(); last.Min > top {
		say(fmt.Sprintf("The limits are above the picture: min %s, pressure %s, max %s.", p.bytes(last.Min),
			p.bytes(last.Pressure), p.bytes(last.Max)))
	}
	out = append(out, "")
	out = append(out, c.pool(gutter, p.PageSize)...)
	out = append(out, c.axis(gutter)...)
	out = append(out, c.levels(gutter))
	out = append(out, p.marks(c, gutter)...)
	owners := p.biggest()
	if shown := owners[:min(len(owners), maxPastStrips)]; len(shown) > 0 {
		out = append(out, "")
		for _, o := range shown {
			out = append(out, c.owner(o, p.scans, shown[0].most, gutter))
		}
		out = append(out, "")
		out = append(out, p.ownerLines(shown, columns, paint)...)
		if n := len(owners) - len(shown); n > 0 {
			out = append(out, "and "+prose.Plural(int64(n), "more owner"))
		}
	}
	out = appendBlock(out, layout.Wrap(strings.Join(p.legend(c), ", "), columns, "  "))
	return append(out, p.gapLines(columns, paint)...)
}

// bytes are pages of this host.
func (p *past) bytes(pages reading.Pages) string { return prose.Bytes(pages.Bytes(p.PageSize)) }

// marks are what happened and what was done, on the axis; lines without a mark
// are left out.
func (p *past) marks(c *chart, gutter int) []string {
	n := len(c.columns)
	incidents, actions := []rune(strings.Repeat(" ", n)), []rune(strings.Repeat(" ", n))
	for i := range p.Incidents {
		in := &p.Incidents[i]
		begin, end := c.column(in.Began), n-1
		if in.Ended != nil {
			end = c.column(*in.Ended)
		}
		for at := begin; at <= end; at++ {
			switch {
			case at == begin && at == end && in.Ended != nil:
				incidents[at] = 'I'
			case at == begin && !in.Began.Before(c.from):
				incidents[at] = '['
			case at == end && in.Ended != nil:
				incidents[at] = ']'
			case incidents[at] == ' ':
				incidents[at] = '='
			}
		}
	}
	for i := range p.Actions {
		at, sign := c.column(p.Actions[i].At), signOf(&p.Actions[i])
		if strings.IndexRune(actionSigns, sign) > strings.IndexRune(actionSigns, actions[at]) {
			actions[at] = sign
		}
	}
	var out []string
	for _, l := range []struct {
		name  string
		marks []rune
		style layout.Style
	}{{"incidents", incidents, layout.Warn}, {"actions", actions, layout.Bold}} {
		if strings.TrimSpace(string(l.marks)) == "" {
			continue
		}
		out = append(out, c.strip(l.name, gutter, func(i int) (rune, layout.Style) {
			if l.marks[i] == ' ' {
				return ' ', layout.Plain
			}
			return l.marks[i], l.style
		}))
	}
	return out
}

// actionSigns are the marks of actions, the gravest last.
const actionSigns = "dnA"

// signOf: an action that touched something, one that told, or one that was not
// taken.
func signOf(a *api.Action) rune {
	switch {
	case !a.Started:
		return 'd'
	case a.Touches == "nothing":
		return 'n'
	}
	return 'A'
}

// legend explains the signs that occur.
func (p *past) legend(c *chart) []string {
	var out []string
	levels, gap := make(map[reading.Level]bool), false
	for i := range c.columns {
		levels[c.columns[i].level] = levels[c.columns[i].level] || c.columns[i].known
		gap = gap || !c.columns[i].known
	}
	for _, l := range []reading.Level{reading.Calm, reading.Elevated, reading.Pressure, reading.Critical, reading.Unknown} {
		if levels[l] {
			out = append(out, string(levelSigns[l])+" "+l.String())
		}
	}
	if gap {
		out = append(out, string(c.signs.gap)+" not recorded")
	}
	if len(p.Incidents) > 0 {
		out = append(out, "[==] incident")
	}
	meaning := map[rune]string{'d': "not done", 'n': "told", 'A': "acted"}
	seen := make(map[rune]bool)
	for i := range p.Actions {
		seen[signOf(&p.Actions[i])] = true
	}
	for _, sign := range actionSigns {
		if seen[sign] {
			out = append(out, string(sign)+" "+meaning[sign])
		}
	}
	return out
}

func (p *past) gapLines(columns int, paint layout.Painter) []string {
	var out []string
	for i, g := range p.Gaps {
		if i == maxPastGaps {
			out = append(out, fmt.Sprintf("and %s (shown by --json)", prose.Plural(int64(len(p.Gaps)-i), "more gap")))
			break
		}
		out = append(out, layout.Wrap(fmt.Sprintf("%s: %s to %s (%s)", paint.Style("not recorded", layout.Warn), prose.Time(g.From),
			prose.Time(g.To), prose.Seconds(g.Seconds)), columns, "  ")...)
	}
	return out
}

func (p *past) ownerLines(shown []*pastOwner, columns int, paint layout.Painter) []string {
	t := layout.Table{Columns: []layout.Column{
		{Title: "OWNER", Least: 16, Middle: true},
		{Title: "MOST", Right: true},
		{Title: "AT", Rank: 2},
		{Title: "LAST", Right: true},
		{Title: "VERDICT", Rank: 1},
	}}
	for _, o := range shown {
		verdict := "-"
		if o.verdict != nil {
			verdict = string(*o.verdict)
		}
		now := "-" // not among the biggest, or gone
		if n := len(o.scans) - 1; int(o.scans[n]) == len(p.scans)-1 {
			now = prose.Bytes(o.bytes[n])
		}
		t.Add(prose.Escape(o.name), prose.Bytes(o.most), o.mostAt.UTC().Format("01-02 15:04:05"), now, verdict)
	}
	return t.Lines(columns, paint)
}

// happened lists incidents and actions, the oldest first.
func (p *past) happened(columns int, paint layout.Painter) []string {
	type line struct {
		at   time.Time
		text string
	}
	var all []line
	for i := range p.Incidents {
		in := &p.Incidents[i]
		s := "incident " + prose.Escape(in.Rule) + ": " + prose.Escape(in.Name)
		if in.Ended != nil {
			s += ", over after " + prose.Duration(in.Ended.Sub(in.Began))
		} else {
			s += ", " + paint.Style("lasts", layout.Warn)
		}
		all = append(all, line{in.Began, s + " (" + prose.Escape(in.ID) + ")"})
	}
	for i := range p.Actions {
		a := &p.Actions[i]
		outcome, style := outcomeOf(a)
		s := prose.Escape(a.Action) + " on " + prose.Escape(a.Target) + ": " + paint.Style(outcome, style)
		if a.Effect != nil {
			s += ", " + string(*a.Effect)
		}
		all = append(all, line{a.At, s + " (" + prose.Escape(a.ID) + ")"})
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b line) int { return a.at.Compare(b.at) })
	out := []string{paint.Style("What happened", layout.Bold)}
	if n := len(all) - maxPastLines; n > 0 {
		out = append(out, fmt.Sprintf("%s before (shown by tcpmemctl incidents, and actions)", prose.Plural(int64(n), "more")))
		all = all[n:]
	}
	for _, l := range all {
		out = append(out, layout.Wrap(l.at.UTC().Format("01-02 15:04:05")+"  "+l.text, columns, "                ")...)
	}
	return out
}
