package event

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// maxMore bounds one of the lines below the first, in bytes.
const maxMore = 1000

func (c *Case) text(id, line string) Text {
	k := KindOf(id)
	severity := k.Severity
	if id == RuleFiring {
		severity = cmp.Or(c.Severity, severity)
	}
	t := Text{Event: id, Severity: severity, Line: clip(line, MaxLine), At: c.At}
	t.fields(c)
	return t
}

func (t *Text) add(line string) {
	if line != "" {
		t.More = append(t.More, clip(line, maxMore))
	}
}

// say adds a line of text that may hold anything.
func (t *Text) say(what, text string) {
	if text != "" {
		t.add(what + ": " + prose.Escape(text))
	}
}

func (c *Case) name() string {
	if c.Rule == "" {
		return ""
	}
	return prose.Escape(c.Rule) + ": "
}

// pool says how full the pool is, against which limit.
func (c *Case) pool() string {
	p := &c.Pool
	switch {
	case p.Max > 0:
		s := fmt.Sprintf("TCP memory is %s full (%s of %s)", prose.Fill(float64(p.Used)/float64(p.Max)), prose.Bytes(p.Used), prose.Bytes(p.Max))
		if p.Pressure > 0 && p.Used > p.Pressure {
			s += ", above pressure " + prose.Bytes(p.Pressure)
		}
		return s
	case c.Fill > 0:
		return fmt.Sprintf("TCP memory is %s full", prose.Fill(c.Fill))
	}
	return ""
}

// holds says who holds how much, and how that moves.
func (c *Case) holds() string {
	if c.Owner == nil {
		return ""
	}
	return brief(c.Owner)
}

// brief says in one clause who holds what.
func brief(o *record.Suspect) string {
	s := short(cmp.Or(o.Name, o.Key))
	if len(o.Holders) > 0 {
		s += fmt.Sprintf(" (pid %d)", o.Holders[0].PID)
	}
	s += " holds " + prose.Bytes(o.Bytes)
	if o.Share > 0 {
		s += fmt.Sprintf(" (%.0f %%)", 100*o.Share)
	}
	if o.Growth != nil && *o.Growth != 0 {
		s += ", " + prose.Growth(*o.Growth)
	}
	if o.Verdict != nil {
		s += ", " + string(o.Verdict.Kind)
	}
	return s
}

func (c *Case) since() string {
	if c.Since.IsZero() {
		return ""
	}
	s := "since: " + prose.Time(c.Since)
	if c.At.Sub(c.Since) >= time.Second {
		s += " (" + prose.Duration(c.At.Sub(c.Since)) + ")"
	}
	if c.Level != "" {
		s += ", level " + c.Level
	}
	return s
}

// who adds all that identifies the owner, and by which evidence.
func (t *Text) who(c *Case) {
	if c.Owner != nil {
		for _, line := range OwnerLines(c.Owner) {
			t.add(line)
		}
	}
}

// OwnerLines says who an owner is, what it holds, and how that is known.
func OwnerLines(o *record.Suspect) []string {
	parts := []string{"who: " + prose.Escape(cmp.Or(o.Name, o.Key)), string(o.Kind)}
	if o.Unit != "" {
		unit := "unit " + prose.Escape(o.Unit)
		if !o.UnitVerified {
			unit += " (a label: PID 1 did not say so)"
		}
		parts = append(parts, unit)
	}
	if o.Container != nil {
		parts = append(parts, "container "+prose.Escape(cmp.Or(o.Container.Name, o.Container.ID)))
	}
	if o.Pod != nil {
		parts = append(parts, "pod "+prose.Escape(o.Pod.Namespace+"/"+cmp.Or(o.Pod.Name, o.Pod.UID)))
	}
	for _, h := range o.Holders {
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("pid %d %s", h.PID, prose.Escape(h.Command))))
	}
	if len(o.Holders) == 0 && o.Command != "" {
		parts = append(parts, "command "+prose.Escape(o.Command))
	}
	if o.UID != nil {
		parts = append(parts, fmt.Sprintf("uid %d", *o.UID))
	}
	holds := fmt.Sprintf("holds: %s in %s: %s; known by %s", prose.Bytes(o.Bytes), prose.Plural(o.Sockets, "socket"),
		Shares(o.Classes, o.Bytes), Shares(o.Evidence, o.Bytes))
	lines := []string{strings.Join(parts, ", "), holds}
	if v := o.Verdict; v != nil {
		line := "verdict: " + string(v.Kind)
		if v.Culprit != "" {
			line += " (not reading: " + prose.Escape(v.Culprit) + ")"
		}
		if len(v.Reasons) > 0 {
			line += ": " + prose.Escape(strings.Join(v.Reasons, "; "))
		}
		lines = append(lines, line)
	}
	if o.Protected != "" {
		lines = append(lines, "protected: "+prose.Escape(o.Protected))
	}
	if o.Shared {
		lines = append(lines, "shared: processes of several owners hold its sockets")
	}
	return lines
}

// Shares says of what a sum is made, the most first.
func Shares(parts map[string]int64, sum int64) string {
	names := slices.SortedFunc(maps.Keys(parts), func(a, b string) int {
		return cmp.Or(cmp.Compare(parts[b], parts[a]), cmp.Compare(a, b))
	})
	names = slices.DeleteFunc(names, func(name string) bool { return parts[name] == 0 })
	if len(names) == 0 {
		return "nothing"
	}
	for i, name := range names {
		names[i] = prose.Escape(name)
		if len(names) > 1 && sum > 0 {
			names[i] += fmt.Sprintf(" %.0f %%", 100*float64(parts[name])/float64(sum))
		}
	}
	return strings.Join(names, ", ")
}

func (t *Text) numbers(c *Case) {
	if c.Condition != "" {
		t.add("condition: " + prose.Escape(oneLine(c.Condition)))
	}
	if len(c.Numbers) > 0 {
		t.add("numbers: " + NumberWords(c.Numbers))
	}
}

// oneLine writes a condition, which may be of several, in one.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// NumberWords lists the values that a condition saw.
func NumberWords(n record.Numbers) string {
	names := slices.Sorted(maps.Keys(n))
	for i, name := range names {
		names[i] = name + " = " + value(name, n[name])
	}
	return strings.Join(names, ", ")
}

// value writes one. That of a variable of bytes is a size to a person.
func value(name string, v any) string {
	switch v := v.(type) {
	case nil:
		return "unknown"
	case string:
		return `"` + clip(prose.Escape(v), maxName) + `"`
	case float64:
		return number(name, v)
	case int64:
		return number(name, float64(v))
	}
	return clip(prose.Escape(fmt.Sprint(v)), maxName)
}

func number(name string, f float64) string {
	switch _, field, _ := strings.Cut(name, "."); {
	case strings.HasSuffix(name, "bytes") || slices.Contains([]string{"tcp.used", "tcp.min", "tcp.pressure", "tcp.max"}, name):
		return prose.Bytes(int64(f))
	case field == "growth":
		return prose.Growth(int64(f))
	case field == "eta":
		return prose.Seconds(f)
	}
	return strconv.FormatFloat(f, 'g', 4, 64)
}

// stand says on what a decision rests: the mode, the level, the reading.
func (c *Case) stand(d *record.Decision) string {
	if d.Mode == "" && d.Level == "" {
		return "" // telling again what was not delivered
	}
	s := "mode: " + prose.Escape(d.Mode)
	if d.ModeWhy != "" {
		s += " (" + prose.Escape(d.ModeWhy) + ")"
	}
	s += "; level " + prose.Escape(d.Level)
	if p := c.pool(); p != "" {
		s += ", " + p
	}
	if d.Coverage != nil {
		s += fmt.Sprintf("; %s explained", prose.Coverage(*d.Coverage))
	}
	if d.AgeSecs != nil {
		s += ", by a reading " + prose.Seconds(*d.AgeSecs) + " old"
	}
	if d.By != nil {
		s += fmt.Sprintf("; asked for by uid %d, pid %d", d.By.UID, d.By.PID)
	}
	return s
}

// plan says what was or would be done.
func (c *Case) plan() string {
	var touching []string
	for _, s := range c.Steps {
		touching = append(touching, prose.Escape(s))
	}
	switch {
	case len(touching) == 0:
		return "what is done: nothing but telling"
	case c.Mode == "enforce":
		return "what is done, while it lasts: " + strings.Join(touching, ", then ")
	}
	why := ""
	if c.ModeWhy != "" {
		why = ": " + prose.Escape(c.ModeWhy)
	}
	return "what would be done: " + strings.Join(touching, ", then ") + " (observing" + why + ")"
}

func (t *Text) see(c *Case) {
	if id := cmp.Or(c.See, c.Incident); id != "" {
		t.add("more: tcpmemctl explain " + prose.Escape(id))
	}
}

// show says how to see all of an incident.
func (t *Text) show(c *Case) {
	if c.Incident != "" {
		t.add("more: tcpmemctl incidents show " + prose.Escape(c.Incident))
	}
}

// short is a name in a first line.
func short(name string) string { return clip(prose.Escape(name), maxName) }

// clip cuts escaped text to at most n bytes, between two runes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "..."
	end := 0
	for i := range s {
		if i > n-len(mark) {
			break
		}
		end = i
	}
	return s[:end] + mark
}
