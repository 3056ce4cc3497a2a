package page

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// maxOwners bounds the table of a status.
const maxOwners = 30

// state is a host's state being told.
type state struct {
	*api.Status
	owners *api.Owners
	meta   Meta
}

// Status writes the page of a host's state. owners are by a scan of about then,
// nil where there was none; past is what was recorded before, in order.
func Status(doc *api.Status, owners *api.Owners, past []record.Point, m Meta) ([]byte, error) {
	s := &state{Status: doc, owners: owners, meta: m}
	v := &view{
		Title: "TCP memory on " + prose.Escape(doc.Hostname), Host: prose.Escape(doc.Hostname), Kind: "TCP memory",
		Badges: s.badges(), Tone: s.tone(), Headline: s.headline(), Facts: s.facts(),
	}
	v.Figures = append(v.Figures, s.gauge())
	if len(past) > 1 {
		c := &chart{course: newCourse(past, doc.Memory.PageSize, s.top(), axis{past[len(past)-1].Stamp}, time.Time{}, time.Time{})}
		v.Figures = append(v.Figures, c.figure())
	}
	v.Sections = slices.DeleteFunc([]section{s.next(), s.conduct(), s.holders(), s.rest()}, section.empty)
	v.Foot = append(v.Foot, words.Title("TCP memory", &doc.Header, false)+". All of it: tcpmemctl status --json, tcpmemctl owners --json")
	return v.write(m)
}

// top gives the keys of the owners, the biggest first.
func (s *state) top() []string {
	var keys []string
	for i := range s.list() {
		keys = append(keys, s.list()[i].Key)
	}
	return keys
}

// list has the owners, the most bytes first.
func (s *state) list() []api.Owner {
	if s.owners != nil {
		return s.owners.Owners
	}
	return s.TopOwners
}

func (s *state) ledger() *api.Ledger {
	if s.owners != nil {
		return &s.owners.Ledger
	}
	return s.Ledger
}

// whole is what shares are parts of.
func (s *state) whole() int64 {
	if l := s.ledger(); l != nil {
		return words.Whole(l, &s.Memory)
	}
	return s.Memory.UsedBytes
}

// first is the owner that holds the most, nil where nobody holds any.
func (s *state) first() *api.Owner {
	if l := s.list(); len(l) > 0 && l[0].Bytes > 0 {
		return &l[0]
	}
	return nil
}

func (s *state) tone() string {
	switch s.Level {
	case reading.Calm:
		return "calm"
	case reading.Critical, reading.Pressure:
		return "critical"
	}
	return "warning"
}

func (s *state) badges() []badge {
	list := []badge{{levelClass(s.Level.String()), s.Level.String()}}
	if s.Stale {
		list = append(list, badge{"critical", prose.Seconds(s.AgeSeconds) + " old"})
	}
	if s.Partial {
		list = append(list, badge{"pressure", "the scan ended early"})
	}
	if s.Source == api.SourceDirect {
		list = append(list, badge{"unknown", "read without a daemon"})
	} else if s.Mode != "enforce" {
		list = append(list, badge{"unknown", "observing only"})
	}
	return list
}

func (s *state) headline() string {
	m := &s.Memory
	text := prose.Escape(s.Hostname) + " has " + prose.Bytes(m.UsedBytes) + " of TCP memory in use"
	if m.MaxPages > 0 {
		text = prose.Escape(s.Hostname) + " has " + prose.Fill(m.FillLive) + " of its limit of TCP memory in use: " + s.Level.String()
	}
	text += "."
	if o := s.first(); o != nil {
		text += " " + cut(words.Owner(o), 64) + " holds " + prose.Share(o.Bytes, s.whole()) + " of it"
		switch {
		case o.Verdict == nil:
		case *o.Verdict == reading.Leak:
			text += ", and leaks"
		case *o.Verdict == reading.Load:
			text += ", and is busy"
		case *o.Verdict == reading.SlowPeer:
			text += ", and its peer does not read"
		}
		text += "."
	}
	if eta := m.EtaSeconds; eta != nil && m.UsedPages < m.MaxPages {
		text += " At this pace it is full in " + prose.Seconds(*eta) + "."
	}
	return text
}

func (s *state) facts() []fact {
	m := &s.Memory
	who := fact{Label: "Who", Value: "nobody holds any"}
	if s.ledger() == nil {
		who.Value = "not known: no full scan yet"
	}
	if o := s.first(); o != nil {
		who.Value, who.Note = cut(words.Owner(o), 64), string(o.Kind)+", "+prose.Bytes(o.Bytes)+" in "+prose.Plural(o.Sockets, "socket")
	}
	since := fact{Label: "Since", Value: "not known"}
	if s.Since != nil {
		since.Value, since.Note = prose.Time(*s.Since), s.Level.String()+" for "+prose.Duration(s.TakenAt.Sub(*s.Since))
	}
	bad := fact{Label: "How bad", Value: prose.Bytes(m.UsedBytes), Note: "the limits are not known"}
	if m.MaxPages > 0 {
		bad.Value, bad.Note = prose.Fill(m.FillLive)+" full", prose.Bytes(m.UsedBytes)+" of "+prose.Bytes(m.MaxBytes)
	}
	if n := s.Kernel.AbortsOnMemory; n != nil && *n > 0 {
		bad.Note += "; the kernel aborted " + prose.Plural(*n, "connection") + " since tcpmemd started"
	}
	trend := fact{Label: "Where it goes", Value: "not known"}
	if g := m.GrowthBytesPerMinute; g != nil {
		trend.Value = prose.Growth(*g)
		if *g == 0 {
			trend.Value = "not growing"
		}
	}
	if eta := m.EtaSeconds; eta != nil && m.UsedPages < m.MaxPages {
		trend.Value, trend.Note = "full in "+prose.Seconds(*eta), trend.Value
	}
	return []fact{who, since, bad, trend, s.doing()}
}

// doing is what tcpmemd does about it.
func (s *state) doing() fact {
	f := fact{Label: "What is done", Value: "nothing fires"}
	firing, pending := 0, 0
	for _, r := range s.Rules {
		firing, pending = firing+min(r.Firing, 1), pending+min(r.Pending, 1)
	}
	switch {
	case s.Source == api.SourceDirect:
		f.Value = "no daemon was asked"
	case s.Stop != nil:
		f.Value = "stopped: nothing is touched"
	case s.Pause != nil:
		f.Value = "paused: nothing is touched"
	case firing > 0:
		f.Value = prose.Plural(int64(firing), "rule") + " firing"
	case pending > 0:
		f.Value = prose.Plural(int64(pending), "rule") + " pending"
	}
	if s.Source != api.SourceDirect {
		f.Note = fmt.Sprintf("mode %s, %s", prose.Escape(s.Mode), prose.Plural(int64(s.RulesLoaded), "rule"))
		if firing > 0 && (s.Pause != nil || s.Stop != nil) {
			f.Note = prose.Plural(int64(firing), "rule") + " firing; " + f.Note
		}
	}
	return f
}

// gauge draws the pool now: its owners in a row against the limits.
func (s *state) gauge() *figure {
	const high, bar, above = 96.0, 36.0, 30.0
	m := &s.Memory
	top := max(1.06*float64(max(m.MaxPages, m.UsedPages)), 1) * float64(m.PageSize)
	full := s.whole()
	// A pool that is nearly empty is drawn by itself.
	near := full == 0 || float64(full) > 0.1*top
	if !near {
		top = max(1.3*float64(full), 1)
	}
	x := func(v int64) float64 { return min(100*float64(v)/top, 100) }
	f := &figure{}
	var b svg
	b.raw(`<svg class="gauge" width="100%%" height="%s" aria-hidden="true">`, num(high))
	b.rect("track", 0, 100, above, bar, "")
	var base, others int64
	for i := range s.list() {
		o := &s.list()[i]
		if i >= maxSeries {
			others += o.Bytes
			continue
		}
		if o.Bytes <= 0 {
			break
		}
		class := fmt.Sprintf("o%d", i)
		b.rect("owner "+class, x(base), x(base+o.Bytes)-x(base), above, bar, words.Owner(o)+" "+prose.Bytes(o.Bytes))
		f.Legend = append(f.Legend, swatch{class, cut(words.Owner(o), 80), prose.Bytes(o.Bytes)})
		base += o.Bytes
	}
	others += s.truncated()
	if others > 0 {
		b.rect("owner others", x(base), x(base+others)-x(base), above, bar, "other owners "+prose.Bytes(others))
		f.Legend = append(f.Legend, swatch{"others", "other owners", prose.Bytes(others)})
		base += others
	}
	if rest := m.UsedBytes - base; rest > 0 {
		b.rect("owner pool", x(base), x(m.UsedBytes)-x(base), above, bar, "")
		f.Legend = append(f.Legend, swatch{"pool", "what no socket explains", prose.Bytes(rest)})
	}
	if near {
		for i, limit := range []struct {
			name string
			at   reading.Pages
		}{{"min", m.MinPages}, {"pressure", m.PressurePages}, {"max", m.MaxPages}} {
			if limit.at <= 0 {
				continue
			}
			at := x(limit.at.Bytes(m.PageSize))
			y, anchor := above-8, "end"
			switch {
			case i == 0:
				y = above + bar + 18
			case i == 2 && at < 70:
				anchor = "start"
			}
			b.line("limit "+limit.name, at, above-6, at, above+bar+6)
			b.text("limit", at, y, 0, anchor, limit.name+" "+prose.Bytes(limit.at.Bytes(m.PageSize)))
		}
	} else {
		b.text("limit", 100, above-8, 0, "end", "max "+prose.Bytes(m.MaxBytes)+" is far above")
	}
	b.raw(`</svg>`)
	f.Plot = template.HTML(b.String())
	f.Caption = "TCP memory now, by owner, against the kernel's limits (net.ipv4.tcp_mem)."
	if t := words.Trend(m, false); t != "" {
		f.Caption += " The pool is " + t + "."
	}
	return f
}

// truncated are the bytes of owners that the document leaves out.
func (s *state) truncated() int64 {
	if s.owners != nil {
		return s.owners.Truncated.Bytes
	}
	return s.Truncated.Bytes
}

func (s *state) next() section {
	n := section{ID: "next", Title: "What to do next"}
	add := func(text, command string) { n.Steps = append(n.Steps, step{text, command}) }
	for _, r := range s.Rules {
		for _, k := range r.Keys {
			if k.Incident != "" && simple(k.Incident) {
				add("Read what the rule "+prose.Escape(r.Name)+" found, and what was done.", "tcpmemctl incidents show "+k.Incident)
				break
			}
		}
	}
	if o := s.first(); o != nil && s.Level != reading.Calm {
		suspect := &record.Suspect{Key: o.Key, Name: o.Name, Kind: o.Kind, Bytes: o.Bytes, Classes: map[string]int64{
			"hidden": o.Classes.Hidden.Bytes, "orphan": o.Classes.Orphan.Bytes, "unaccepted": o.Classes.Unaccepted.Bytes,
		}}
		if o.Unit != nil {
			suspect.Unit = *o.Unit
		}
		if o.Verdict != nil {
			suspect.Verdict = &reading.Verdict{Kind: *o.Verdict}
			if o.Culprit != nil {
				suspect.Verdict.Culprit = *o.Culprit
			}
		}
		afterVerdict(suspect, true, false, add)
	}
	if len(s.RightsMissing) > 0 || len(s.Blind) > 0 || len(s.Gaps) > 0 {
		add("See what tcpmemd cannot see or do here, and what would let it.", "tcpmemctl doctor")
	}
	if len(n.Steps) == 0 {
		n.Intro = append(n.Intro, "Nothing: the host is well.")
	}
	return n
}

// conduct is what rules fire, and what stands against acting.
func (s *state) conduct() section {
	out := section{ID: "rules", Title: "What tcpmemd does about it"}
	for _, line := range words.Conduct(s.Status, 0, false) {
		out.Intro = append(out.Intro, strings.TrimSpace(line))
	}
	return out
}

func (s *state) holders() section {
	out := section{ID: "owners", Title: "Who holds it"}
	l := s.ledger()
	if l == nil {
		return out
	}
	if c := words.Coverage(l, &s.Memory); c != "" {
		out.Intro = append(out.Intro, "The scan "+c+". By how they are held: "+words.Classes(&l.Classes)+".")
	}
	t := &table{Caption: "TCP memory by owner", Head: []column{
		{"Owner", false}, {"Share", false}, {"Memory", true}, {"Sockets", true}, {"Growth", true}, {"Verdict", false}, {"Held as", false}, {"Known by", false},
	}}
	left, bytes := s.Truncated.Owners, s.truncated()
	if s.owners != nil {
		left = s.owners.Truncated.Owners
	}
	for i := range s.list() {
		o := &s.list()[i]
		if i >= maxOwners || o.Bytes <= 0 {
			left, bytes = left+1, bytes+o.Bytes
			continue
		}
		row := t.add(words.Owner(o), prose.Share(o.Bytes, s.whole()), prose.Bytes(o.Bytes), fmt.Sprint(o.Sockets), words.Growth(o.GrowthBytesPerMinute),
			prose.Escape(words.VerdictCell(&o.Judgement)), words.Classes(&o.Classes), words.Parts(o.Evidence))
		row[1].Bar = pct(100 * float64(o.Bytes) / float64(max(s.whole(), 1)))
	}
	if left > 0 {
		t.Foot = fmt.Sprintf("and %s with %s", prose.Plural(int64(left), "more owner"), prose.Bytes(bytes))
	}
	if len(t.Rows) > 0 {
		out.Tables = append(out.Tables, t)
	} else {
		out.Intro = append(out.Intro, "Nobody holds any.")
	}
	return out
}

// rest is what the table does not say: what was not seen, and orphans.
func (s *state) rest() section {
	out := section{ID: "rest", Title: "What else there is"}
	o := &s.Orphans
	out.Intro = append(out.Intro, fmt.Sprintf("Orphans: %d of %d allowed.", o.Count, o.Limit))
	lines := words.Gaps(s.Gaps, 0, false)
	if l := s.ledger(); l != nil {
		lines = words.Rest(l, &s.Memory, s.Gaps, 0, false)
	}
	for _, line := range lines {
		out.Intro = append(out.Intro, sentence(strings.TrimSpace(line))+".")
	}
	return out
}
