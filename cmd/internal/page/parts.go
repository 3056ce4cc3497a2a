package page

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// number tells the story, and marks in the picture what it tells. What matters
// most has a number that joins the two.
func (t *telling) number() {
	var teller event.Teller
	n, day, fired := 0, "", false
	told := make(map[*deed]bool)
	add := func(h happening, m mark, at time.Time) {
		if m.label != "" && n < maxNumbers {
			n++
			h.Number, m.number = n, n
		}
		if d := at.UTC().Format("Monday, 2 January 2006"); d != day {
			day, h.Day = d, d
		}
		h.Time, h.Class, m.at = at.UTC().Format(time.TimeOnly), m.kind, at
		h.Text, h.By = cut(h.Text, maxText), cut(h.By, maxText)
		m.title = h.Time + " " + cut(h.Text, 100)
		if len(t.story) < maxStory || m.number > 0 {
			t.story = append(t.story, h)
		}
		t.marks = append(t.marks, m)
	}
	begins := mark{kind: "fired", label: "the rule fires", short: "fires", first: 1}
	untold := !slices.ContainsFunc(t.Records, t.fires) && !t.Fired.At.IsZero()
	fire := func() {
		if untold && !fired {
			add(happening{Text: "the rule fires"}, begins, t.axis.at(t.Fired))
			fired = true
		}
	}
	for i := range t.Records {
		r := &t.Records[i]
		if !r.At.Before(t.Fired.At) {
			fire()
		}
		h, m := happening{Text: teller.Words(r)}, mark{kind: "state"}
		own := r.Incident == t.ID
		if !own && r.Kind != record.KindEvent {
			h.Text = "meanwhile: rule " + prose.Escape(r.Rule) + ": " + h.Text
		}
		d := t.of[i]
		switch {
		case t.fires(*r) && !fired:
			fired, m = true, begins
		case r.State != nil && own && r.State.Phase == record.Ended && t.Ended != nil && !r.At.Before(t.Ended.At):
			m = mark{kind: "end", label: "over", first: 1}
		case told[d] && r.Decision != nil:
			continue // the same again: said where it is told first
		case told[d] && r.Intent != nil: // as a decision
		case d != nil && !told[d]:
			told[d] = true
			if d.times > 1 {
				h.Text += fmt.Sprintf(" (%d times, until %s)", d.times, d.last.UTC().Format(time.TimeOnly))
			}
			h.By = event.NumberWords(d.about.Numbers)
			m.kind = "tell"
			if d.telling() {
				m = mark{kind: "tell", label: d.label(), short: d.short(), first: 2}
				if d.about.Choice == record.ChoseAct {
					m.kind, m.first = "act", 0
				}
			}
		case d != nil && d.touches() && d.about.Choice == record.ChoseAct:
			m.kind = "act"
		case d != nil:
			m.kind = "tell"
		}
		add(h, m, t.axis.at(r.Stamp))
	}
	fire()
	if t.Ended != nil && !slices.ContainsFunc(t.marks, func(m mark) bool { return m.kind == "end" }) {
		add(happening{Text: "over: " + endWords(t.End)}, mark{kind: "end", label: "over", first: 1}, t.axis.at(*t.Ended))
	}
}

// fires: with r the rule fired, for one of its keys.
func (t *telling) fires(r record.Record) bool {
	return r.Incident == t.ID && r.State != nil && r.State.Phase == record.Firing
}

// figures is the picture of the pool.
func (t *telling) figures() []*figure {
	if len(t.course.moments) == 0 {
		return nil
	}
	c := &chart{course: t.course, marks: t.marks, fired: t.axis.at(t.Fired)}
	if t.Ended != nil {
		c.ended = t.axis.at(*t.Ended)
	}
	return []*figure{c.figure()}
}

// figure is the chart with its legend and its numbers.
func (c *chart) figure() *figure {
	gutter, plot := c.picture()
	f := &figure{Caption: c.caption(), Gutter: gutter, Plot: plot, Data: c.data()}
	from, to := c.course.from.UTC(), c.course.to.UTC()
	f.Days = from.Format("2 January 2006")
	if !from.Truncate(day).Equal(to.Truncate(day)) {
		f.Days += " to " + to.Format("2 January 2006")
	}
	f.Days += ", UTC"
	for i, s := range c.course.series {
		f.Legend = append(f.Legend, swatch{c.seriesClass(i), prose.Escape(cut(s.name, 80)), "at most " + c.size(s.most)})
	}
	if c.course.others() {
		f.Legend = append(f.Legend, swatch{"others", "other owners", ""})
	}
	rest := "smaller owners, and what no socket explains"
	if len(c.course.series) == 0 {
		rest = "in use; who held it was not read meanwhile"
	}
	f.Legend = append(f.Legend, swatch{"pool", rest, ""})
	if len(c.course.gaps) > 0 {
		f.Legend = append(f.Legend, swatch{"gap", "no readings", ""})
	}
	return f
}

// caption says in words what the picture shows.
func (c *chart) caption() string {
	first, peak, last := &c.course.moments[0], c.course.peak(), c.course.last()
	point := func(m *moment) string {
		s := c.size(m.used)
		if m.max > 0 {
			s += " (" + prose.Fill(float64(m.used)/float64(m.max)) + ")"
		}
		return s
	}
	return fmt.Sprintf("TCP memory of the host in %s: %s at first, %s at its most, %s at last. The coloured areas are its owners, as the scans told them and in proportion in between; the lines are the kernel's limits (net.ipv4.tcp_mem).",
		prose.Duration(c.course.to.Sub(c.course.from)), point(first), point(peak), point(last))
}

// data is the picture in numbers: some of its moments, and the highest.
func (c *chart) data() *table {
	t := &table{Caption: "TCP memory over time, with its owners where a scan told them", Head: []column{{"Time", false}, {"Level", false}, {"Used", true}, {"Of max", true}}}
	for i, s := range c.course.series {
		if i == 3 {
			break
		}
		t.Head = append(t.Head, column{prose.Escape(cut(s.name, 40)), true})
	}
	all, peak := c.course.moments, c.course.peak()
	step := (len(all) + maxRows - 1) / maxRows
	for i := range all {
		m := &all[i]
		if i%step != 0 && i != len(all)-1 && m != peak {
			continue
		}
		row := []string{m.at.UTC().Format(time.DateTime), prose.Escape(m.level), c.size(m.used), "-"}
		if m.max > 0 {
			row[3] = prose.Fill(float64(m.used) / float64(m.max))
		}
		for s := range t.Head[4:] {
			text := "-"
			if m.told {
				text = prose.Bytes(m.owners[s])
			}
			row = append(row, text)
		}
		cells := t.add(row...)
		cells[2].Strong = m == peak
	}
	if step > 1 {
		t.Foot = fmt.Sprintf("%d of %d moments; --json has all.", len(t.Rows), len(all))
	}
	return t
}

func (t *telling) happened() section {
	s := section{ID: "story", Title: "What happened", Story: t.story}
	if n := t.LeftOut.Records + len(t.marks) - len(t.story); n > 0 {
		s.Intro = append(s.Intro, fmt.Sprintf("%s had no room here.", sentence(prose.Plural(int64(n), "more record"))))
	}
	return s
}

// held is the ledger at its worst.
func (t *telling) held() section {
	s := section{ID: "ledger", Title: "Who held it at the worst"}
	w := t.Worst
	if w == nil {
		return s
	}
	s.Intro = append(s.Intro, fmt.Sprintf("At %s sockets held %s, of which %s has a named owner. By how they are held: %s.",
		prose.Time(w.At), prose.Bytes(w.Seen), prose.Coverage(w.Coverage), event.Shares(w.Classes, w.Seen)))
	if w.Unseen > 0 && w.Unseen > w.Seen/20 {
		s.Intro = append(s.Intro, prose.Bytes(w.Unseen)+" more were in use that no socket explains.")
	}
	owners := suspectTable("TCP memory by owner at its worst", w.Owners, t.about())
	if w.LeftOut > 0 {
		owners.Foot = "and " + prose.Plural(int64(w.LeftOut), "more owner")
	}
	if len(owners.Rows) > 0 {
		s.Tables = append(s.Tables, owners)
	} else {
		s.Intro = append(s.Intro, "Nobody held any.")
	}
	return s
}

func suspectTable(caption string, owners []record.Suspect, about []string) *table {
	t := &table{Caption: caption, Head: []column{
		{"Owner", false}, {"Share", false}, {"Memory", true}, {"Sockets", true}, {"Growth", true}, {"Verdict", false}, {"Held as", false}, {"Known by", false},
	}}
	for i := range owners {
		o := &owners[i]
		growth, verdict := "-", "-"
		if o.Growth != nil {
			growth = prose.Growth(*o.Growth)
		}
		if o.Verdict != nil {
			verdict = string(o.Verdict.Kind)
		}
		row := t.add(prose.Escape(nameOf(o.Key, o.Name)), fmt.Sprintf("%.0f %%", 100*o.Share), prose.Bytes(o.Bytes), fmt.Sprint(o.Sockets), growth,
			prose.Escape(verdict), event.Shares(o.Classes, o.Bytes), event.Shares(o.Evidence, o.Bytes))
		row[0].Strong = slices.Contains(about, o.Key)
		row[1].Bar = pct(100 * min(max(o.Share, 0), 1))
	}
	return t
}

// decided tells each decision in full.
func (t *telling) decided() section {
	s := section{ID: "decisions", Title: "What was decided, and why"}
	for i, d := range t.deeds {
		if i == maxDecisions {
			s.Intro = append(s.Intro, fmt.Sprintf("%s are in the record only.", sentence(prose.Plural(int64(len(t.deeds)-i), "more decision"))))
			break
		}
		told := d.tell()
		if o := d.about.Owner; o != nil && slices.ContainsFunc(t.Keys, func(k record.KeyState) bool { return k.Owner != nil && k.Owner.Key == o.Key }) {
			// Who that is, another section tells.
			told.More = slices.DeleteFunc(told.More, func(p pair) bool { return slices.Contains([]string{"rule", "who", "holds", "verdict"}, p.Name) })
		}
		s.Decisions = append(s.Decisions, told)
	}
	for _, d := range t.deeds {
		if len(d.about.RunnersUp) > 0 {
			runners := suspectTable("Runners-up: who else held much when it was decided", d.about.RunnersUp, nil)
			s.Tables = append(s.Tables, runners)
			break
		}
	}
	return s
}

// keys says who it was about, each at its worst.
func (t *telling) keys() section {
	s := section{ID: "keys", Title: "Who it was about"}
	for i := range t.Keys {
		if i == maxKeys {
			break
		}
		k := &t.Keys[i]
		if k.Owner == nil && len(t.Keys) == 1 {
			return section{}
		}
		d := decision{Time: k.Began.At.UTC().Format(time.TimeOnly), Line: prose.Escape(k.Key) + ": " + string(k.Phase)}
		if k.End != "" {
			d.Line += ", " + endWords(k.End)
		}
		if k.Owner != nil {
			for _, line := range event.OwnerLines(k.Owner) {
				d.More = append(d.More, pairOf(line))
			}
		}
		if k.Why != "" {
			d.More = append(d.More, pair{"decided", strings.TrimSpace(fmt.Sprintf("step %d, %s: %s", k.Step, prose.Escape(string(k.Choice)), prose.Escape(k.Why)))})
		}
		s.Decisions = append(s.Decisions, d)
	}
	if n := len(t.Keys) + t.LeftOut.Keys - len(s.Decisions); n > 0 {
		s.Intro = append(s.Intro, fmt.Sprintf("%s had no room here.", sentence(prose.Plural(int64(n), "more key"))))
	}
	return s
}

// sockets are some of the target's, before the first action.
func (t *telling) sockets() section {
	s := section{ID: "sockets", Title: "Sockets of the target before the first action"}
	if len(t.Sample) == 0 {
		return s
	}
	list := &table{Caption: "A sample of its sockets", Head: []column{
		{"Remote", false}, {"Local", false}, {"State", false}, {"Class", false}, {"Memory", true}, {"Received, unread", true}, {"To be sent", true}, {"Known by", false}, {"Pid", true},
	}}
	address := func(a *string) string {
		if a == nil {
			return "not known"
		}
		return prose.Escape(*a)
	}
	for i := range t.Sample {
		o := &t.Sample[i]
		pid := "-"
		if o.PID > 0 {
			pid = fmt.Sprint(o.PID)
		}
		list.add(address(o.Remote), address(o.Local), prose.Escape(o.State), prose.Escape(o.Class), prose.Bytes(o.Bytes), prose.Bytes(o.Receive),
			prose.Bytes(o.Send), prose.Escape(o.Evidence), pid)
	}
	if t.LeftOut.Sockets > 0 {
		list.Foot = "and " + prose.Plural(int64(t.LeftOut.Sockets), "more socket")
	}
	s.Tables = append(s.Tables, list)
	return s
}
