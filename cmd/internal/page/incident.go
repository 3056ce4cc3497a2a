package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Bounds of a page: a record may hold more than a person reads.
const (
	maxStory     = 200
	maxNumbers   = 60
	maxText      = 400 // of one line, in runes
	maxDecisions = 30
	maxRows      = 40 // of the picture in numbers
	maxKeys      = 20
)

// telling is an incident being told.
type telling struct {
	*record.Incident
	meta   Meta
	axis   axis
	course *course
	within *course // of the incident alone, without what was before
	deeds  []*deed
	of     map[int]*deed
	marks  []mark
	story  []happening
}

// Incident writes the page of an incident.
func Incident(in *record.Incident, m Meta) ([]byte, error) {
	t := &telling{Incident: in, meta: m, axis: axis{in.Began}}
	end := t.last()
	t.course = newCourse(t.readings(end), t.pageSize(), t.about(), t.axis, in.Began.At, end)
	t.within = t.course.since(in.Began.At)
	t.deeds, t.of = deedsOf(in, t.axis)
	t.number()
	v := &view{
		Title: "Incident " + prose.Escape(in.ID), Host: prose.Escape(in.Hostname), Kind: "TCP memory incident",
		Badges: t.badges(), Tone: tone(in.Severity), Headline: t.headline(), Facts: t.facts(), Figures: t.figures(),
		NoFigure: "There is no picture: nothing was measured meanwhile.",
	}
	if in.About != "" && !t.ofHost() {
		v.Lede = append(v.Lede, "The rule "+prose.Escape(in.Rule)+" fired: "+prose.Escape(in.About)+".")
	}
	v.Sections = slices.DeleteFunc([]section{t.next(), t.happened(), t.keys(), t.held(), t.decided(), t.sockets()}, section.empty)
	v.Foot = append(v.Foot, fmt.Sprintf("Incident %s, rule %s, mode %s. The whole record: tcpmemctl incidents show --json %s",
		prose.Escape(in.ID), prose.Escape(in.Rule), prose.Escape(in.Mode), word(in.ID)))
	return v.write(m)
}

func (s section) empty() bool {
	return len(s.Intro)+len(s.Steps)+len(s.Story)+len(s.Decisions)+len(s.Tables) == 0
}

// last is the time up to which the incident is known.
func (t *telling) last() time.Time {
	if t.Ended != nil {
		return t.axis.at(*t.Ended)
	}
	end := t.axis.at(t.Fired)
	for i := range t.Records {
		end = later(end, t.axis.at(t.Records[i].Stamp))
	}
	return end
}

// readings are those to show: some seconds before a short incident, a minute
// before a longer one.
func (t *telling) readings(end time.Time) []record.Point {
	from := t.axis.at(t.Began).Add(-max(10*time.Second, end.Sub(t.axis.at(t.Began))))
	for i := range t.Readings {
		if !t.axis.at(t.Readings[i].Stamp).Before(from) {
			return t.Readings[i:]
		}
	}
	return nil
}

// pageSize is that of the host, also where only the ledger tells it; 0 where
// nothing does.
func (t *telling) pageSize() int {
	if w := t.Worst; t.PageSize == 0 && w != nil && w.UsedPages > 0 {
		return int((w.Seen + w.Unseen) / int64(w.UsedPages))
	}
	return t.PageSize
}

// about gives the owners that the incident is about.
func (t *telling) about() []string {
	var keys []string
	for i := range t.Keys {
		if o := t.Keys[i].Owner; o != nil {
			keys = append(keys, o.Key)
		}
		keys = append(keys, t.Keys[i].Key)
	}
	return keys
}

// suspect is the owner that it is about most, nil where it is about the host.
func (t *telling) suspect() *record.Suspect {
	if len(t.Keys) == 0 {
		return nil
	}
	return t.Keys[0].Owner
}

// who names what it is about.
func (t *telling) who() string {
	if len(t.Keys) == 0 {
		return "nobody known"
	}
	if o := t.suspect(); o != nil {
		switch o.Kind {
		case reading.KindUnresolved:
			return "somebody unknown"
		case reading.KindKernel:
			return "the kernel itself"
		}
		return prose.Escape(cut(nameOf(o.Key, o.Name), 64))
	}
	if t.Keys[0].Key == "host" {
		return "the whole host"
	}
	return prose.Escape(cut(t.Keys[0].Key, 64))
}

// ofHost says whether it is about the host and nobody in particular.
func (t *telling) ofHost() bool { return t.suspect() == nil || t.Keys[0].Key == "host" }

// more counts the keys beside the first.
func (t *telling) more() int { return max(len(t.Keys)+t.LeftOut.Keys-1, 0) }

// fill is the highest use against the limit of that time, "" where it is not
// known.
func (t *telling) fill() string {
	if peak := t.within.peak(); peak != nil && peak.max > 0 {
		return prose.Fill(float64(peak.used) / float64(peak.max))
	}
	return ""
}

// deed is what a person wants to know of first: the last action that helped,
// else the last one taken, else what kept it from being taken.
func (t *telling) deed() *deed {
	rank := func(d *deed) int {
		switch d.about.Choice {
		case record.ChoseAct:
			if d.effect != nil && d.effect.Verdict == record.Helped {
				return 6
			}
			return 5
		case record.ChoseDryRun:
			return 4
		case record.ChoseRefuse, record.ChoseHold:
			return 3
		case record.ChoseNothing:
			return 2
		}
		return 1
	}
	var best *deed
	for _, d := range t.deeds {
		if d.touches() && (best == nil || rank(d) >= rank(best)) {
			best = d
		}
	}
	return best
}

func (t *telling) headline() string {
	s := t.first()
	if d := t.deed(); d != nil {
		s += " " + d.sentence()
	} else if told := slices.ContainsFunc(t.deeds, func(d *deed) bool { return d.about.Choice == record.ChoseAct }); told {
		s += " tcpmemd told about it, and touched nothing"
	} else {
		s += " tcpmemd did nothing about it"
	}
	switch {
	case t.Ended == nil:
		return s + ". It is not over."
	case t.End == record.EndStopped:
		return s + ". Then tcpmemd stopped: how it went on is not known."
	}
	return s + ". Over after " + prose.Duration(t.Ended.Since(t.Began)) + "."
}

// first says who did what, and how bad that was.
func (t *telling) first() string {
	o := t.suspect()
	if t.ofHost() {
		s := sentence(prose.Escape(cmp.Or(t.About, "the rule "+t.Rule+" fired")))
		if fill := t.fill(); fill != "" {
			s += "; TCP memory was " + fill + " full"
		}
		if w := t.Worst; w != nil && len(w.Owners) > 0 && w.Owners[0].Share > 0 {
			s += fmt.Sprintf(", %.0f %% of it held by %s", 100*w.Owners[0].Share, prose.Escape(cut(nameOf(w.Owners[0].Key, w.Owners[0].Name), 64)))
		}
		return s + "."
	}
	who, bytes := t.who(), prose.Bytes(o.Bytes)
	if o.Kind == reading.KindUnresolved || o.Kind == reading.KindKernel {
		who = sentence(who)
	}
	if n := t.more(); n > 0 {
		who += fmt.Sprintf(" and %d more", n)
	}
	s := who + " held " + bytes + " of TCP memory"
	if v := o.Verdict; v != nil {
		switch v.Kind {
		case reading.Leak:
			s = who + " leaked " + bytes + " of TCP memory"
		case reading.Load:
			s = who + " was busy and took " + bytes + " of TCP memory"
		case reading.SlowPeer:
			s += " that " + prose.Escape(cut(cmp.Or(v.Culprit, "its peer"), 64)) + " did not read"
		}
	}
	if fill := t.fill(); fill != "" {
		s += "; the host had " + fill + " of its limit in use"
	}
	return s + "."
}

func (t *telling) badges() []badge {
	list := []badge{{severityClass(t.Severity), prose.Escape(t.Severity)}}
	switch {
	case t.Ended == nil:
		list = append(list, badge{"critical", "not over"})
	case t.End == record.EndStopped:
		list = append(list, badge{"unknown", "end not known"})
	default:
		list = append(list, badge{"calm", "over"})
	}
	if t.Mode != "enforce" {
		list = append(list, badge{"unknown", "observing only"})
	}
	return list
}

func tone(severity string) string {
	if severity == event.Critical || severity == event.Warning {
		return severity
	}
	return "calm"
}

func severityClass(severity string) string {
	switch severity {
	case event.Critical:
		return "critical"
	case event.Warning:
		return "pressure"
	}
	return "unknown"
}

func pairOf(line string) pair {
	name, text, ok := strings.Cut(line, ": ")
	if !ok {
		return pair{"", line}
	}
	return pair{name, text}
}

// sentence begins with a capital letter.
func sentence(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[size:]
}
