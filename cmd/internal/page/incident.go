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

func (t *telling) facts() []fact {
	return []fact{t.whoFact(), t.sinceFact(), t.badFact(), t.doneFact(), t.overFact()}
}

func (t *telling) whoFact() fact {
	f := fact{Label: "Who", Value: t.who()}
	if n := t.more(); n > 0 {
		f.Value += fmt.Sprintf(" and %d more", n)
	}
	if o := t.suspect(); o != nil {
		f.Note = identity(o)
	}
	return f
}

func (t *telling) sinceFact() fact {
	f := fact{Label: "Since", Value: prose.Time(t.Began.At)}
	switch after := t.Fired.Since(t.Began); {
	case t.Fired.At.IsZero():
	case after < time.Second:
		f.Note = "the rule fired at once"
	default:
		f.Note = "the rule fired " + prose.Duration(after) + " later"
	}
	return f
}

func (t *telling) badFact() fact {
	f := fact{Label: "How bad", Value: "not known"}
	peak := t.within.peak()
	if peak == nil {
		return f
	}
	c := chart{course: t.course}
	f.Value = c.size(peak.used) + " in use"
	if peak.max > 0 {
		f.Value = t.fill() + " full"
		f.Note = c.size(peak.used) + " of " + c.size(peak.max) + " at " + peak.at.UTC().Format(time.TimeOnly)
	}
	lasted := t.within.levels()
	for _, level := range []string{"critical", "pressure", "elevated"} {
		if d := lasted[level]; d > 0 {
			f.Note += "; " + level + " for " + prose.Duration(d)
			break
		}
	}
	if n, known := t.within.aborted(); known && n > 0 {
		f.Note += "; the kernel aborted " + prose.Plural(n, "connection")
	}
	f.Note = strings.TrimPrefix(f.Note, "; ")
	return f
}

func (t *telling) doneFact() fact {
	f := fact{Label: "What was done", Value: "nothing"}
	acted := 0
	for _, d := range t.deeds {
		if d.about.Choice == record.ChoseAct && d.touches() {
			acted++
		}
	}
	if slices.ContainsFunc(t.deeds, func(d *deed) bool { return d.about.Choice == record.ChoseAct }) && acted == 0 {
		f.Value = "told, nothing touched"
	}
	d := t.deed()
	if d == nil {
		return f
	}
	at := "at " + d.rec.At.UTC().Format(time.TimeOnly)
	switch d.about.Choice {
	case record.ChoseAct:
		f.Value, f.Note = done(d.about.Action)+": "+d.came(), at
		if e := d.effect; e != nil && e.PoolBefore != nil && e.PoolAfter != nil {
			f.Note += "; the pool went from " + prose.Bytes(*e.PoolBefore) + " to " + prose.Bytes(*e.PoolAfter)
		} else if d.result != nil {
			f.Note += ": " + prose.Escape(cut(d.result.Message, 120))
		}
	case record.ChoseDryRun:
		f.Value, f.Note = "nothing, it only watched", "it would have "+done(d.about.Action)+"; "+prose.Escape(cut(cmp.Or(d.about.ModeWhy, d.about.Why), 120))
	case record.ChoseRefuse:
		f.Value, f.Note = "nothing: a guard refused", prose.Escape(cut(d.about.Why, 160))
	case record.ChoseHold:
		f.Value, f.Note = "nothing: the budget is spent", prose.Escape(cut(d.about.Why, 160))
	case record.ChoseNothing:
		f.Value, f.Note = "every step, in vain", prose.Escape(cut(d.about.Why, 160))
	default:
		f.Value, f.Note = "nothing yet: it waits", prose.Escape(cut(d.about.Why, 160))
	}
	if acted > 1 {
		f.Note = fmt.Sprintf("the last of %d actions; ", acted) + f.Note
	}
	return f
}

func (t *telling) overFact() fact {
	f := fact{Label: "Is it over"}
	if t.Ended == nil {
		f.Value = "no"
		if d := t.meta.Now.Sub(t.Began.At); d > 0 {
			f.Value = "no, it lasts for " + prose.Duration(d)
		}
		if m := t.course.last(); m != nil && m.max > 0 {
			f.Note = prose.Fill(float64(m.used)/float64(m.max)) + " full at the last reading, " + prose.Time(m.at)
		}
		return f
	}
	f.Value = "yes, after " + prose.Duration(t.Ended.Since(t.Began))
	if t.End == record.EndStopped {
		f.Value = "not known"
	}
	f.Note = endWords(t.End) + ", " + prose.Time(t.Ended.At)
	return f
}

func endWords(e record.End) string {
	switch e {
	case record.EndCleared:
		return "the rule gave the all-clear"
	case record.EndOwnerGone:
		return "the owner is gone"
	case record.EndRuleChanged:
		return "the rule was changed or removed"
	case record.EndReset:
		return "the rule was reset by hand"
	case record.EndStopped:
		return "tcpmemd stopped"
	case record.EndModeChanged:
		return "the mode was changed"
	}
	return prose.Escape(string(e))
}

// identity says in one line who an owner is.
func identity(o *record.Suspect) string {
	line := strings.TrimPrefix(event.OwnerLines(o)[0], "who: "+prose.Escape(cmp.Or(o.Name, o.Key))+", ")
	return cut(line, 200)
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
