// Package words says what the documents of package api hold in lines for a
// person, with everything that a process may have chosen escaped.
package words

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Title is the first line of a page: what, where, when, and whether it is
// old or not whole.
func Title(what string, h *api.Header, paint layout.Painter) string {
	s := paint.Style(what, layout.Bold) + " on " + prose.Escape(h.Hostname) + ", " + prose.Time(h.TakenAt)
	switch {
	case h.Source == api.SourceDirect:
		s += ", read directly"
	case h.Source == api.SourceExport:
		s += ", recorded " + prose.Seconds(h.AgeSeconds) + " ago"
	case h.AgeSeconds >= 1:
		s += ", " + prose.Seconds(h.AgeSeconds) + " old"
	}
	if h.Stale {
		s += ", " + paint.Style("STALE", layout.Bad)
	}
	if h.Partial {
		s += ", " + paint.Style("PARTIAL: the scan ended early", layout.Warn)
	}
	return s
}

// Used says how full the pool is.
func Used(m *api.Memory, paint layout.Painter) string {
	s := fmt.Sprintf("used %s of %s (%d of %d pages), %s full: %s", prose.Bytes(m.UsedBytes), prose.Bytes(m.MaxBytes),
		m.UsedPages, m.MaxPages, prose.Fill(m.FillLive), paint.Style(m.Level.String(), LevelStyle(m.Level)))
	if m.UnderPressure != nil && *m.UnderPressure {
		s += ", the kernel is under pressure"
	}
	return s
}

// Trend says where the pool is going; "" where that is not known.
func Trend(m *api.Memory, paint layout.Painter) string {
	var parts []string
	if g := m.GrowthBytesPerMinute; g != nil {
		switch {
		case *g > 0:
			parts = append(parts, "growing "+prose.Bytes(*g)+"/min")
		case *g < 0:
			parts = append(parts, "shrinking "+prose.Bytes(-*g)+"/min")
		default:
			parts = append(parts, "not growing")
		}
	}
	if eta := m.EtaPressureSeconds; eta != nil && m.UsedPages < m.PressurePages {
		parts = append(parts, "under pressure in "+prose.Seconds(*eta))
	}
	if eta := m.EtaSeconds; eta != nil && m.UsedPages < m.MaxPages {
		parts = append(parts, paint.Style("full in "+prose.Seconds(*eta), layout.Warn))
	}
	if m.Verdict != nil {
		parts = append(parts, Verdict(&m.Judgement, paint))
	}
	return strings.Join(parts, ", ")
}

// Verdict is a verdict with its reasons.
func Verdict(j *api.Judgement, paint layout.Painter) string {
	s := paint.Style(string(*j.Verdict), VerdictStyle(j))
	if j.Culprit != nil {
		s += " (not reading: " + prose.Escape(*j.Culprit) + ")"
	}
	if len(j.Reasons) > 0 {
		reasons := make([]string, len(j.Reasons))
		for i, r := range j.Reasons {
			reasons[i] = prose.Escape(r)
		}
		s += ": " + strings.Join(reasons, "; ")
	}
	return s
}

// VerdictStyle colours a verdict.
func VerdictStyle(j *api.Judgement) layout.Style {
	switch {
	case j.Verdict == nil:
		return layout.Plain
	case *j.Verdict == reading.Leak:
		return layout.Bad
	case *j.Verdict == reading.SlowPeer:
		return layout.Warn
	default:
		return layout.Plain
	}
}

// Coverage says how much the ledger explains, with its error bound; ""
// where there is nothing to explain.
func Coverage(l *api.Ledger, m *api.Memory) string {
	if m.UsedBytes == 0 && l.SeenBytes == 0 {
		return ""
	}
	if l.SeenBytes == 0 && m.UsedBytes <= l.ReserveMaxBytes {
		return fmt.Sprintf("no socket is needed to explain it: CPUs may keep up to %s in reserve", prose.Bytes(l.ReserveMaxBytes))
	}
	s := fmt.Sprintf("explains %s of %s (± %s per-CPU reserve)",
		prose.Coverage(l.Coverage), prose.Bytes(m.UsedBytes), prose.Bytes(l.ReserveMaxBytes))
	const fresh = 10 // seconds: younger than a person would care about
	if l.IndexAgeSeconds > fresh {
		s += ", by processes read up to " + prose.Seconds(l.IndexAgeSeconds) + " ago"
	}
	return s
}

// Rest says what the table does not: what nobody can be named for, what
// no scan saw, what could not be read, and which checks did not hold.
func Rest(l *api.Ledger, m *api.Memory, gaps []reading.Gap, columns int, paint layout.Painter) []string {
	var out []string
	say := func(s string) { out = append(out, layout.Wrap(s, columns, "  ")...) }
	if t := l.Classes.Unresolved; t.Bytes != 0 {
		say(fmt.Sprintf("unresolved: nobody could be named for %s in %s", prose.Bytes(t.Bytes), prose.Plural(t.Sockets, "socket")))
	}
	switch unseen := l.UnseenBytes; {
	case unseen > l.ReserveMaxBytes:
		say(fmt.Sprintf("%s: %s of %s are on sockets that the scan did not see, more than the reserve explains",
			paint.Style("unseen", layout.Warn), prose.Bytes(unseen), prose.Bytes(m.UsedBytes)))
	case unseen < -l.ReserveMaxBytes:
		say(fmt.Sprintf("%s: the sockets hold %s more than the kernel counts, more than the reserve explains",
			paint.Style("overseen", layout.Warn), prose.Bytes(-unseen)))
	}
	out = append(out, Gaps(gaps, columns, paint)...)
	for _, c := range l.Checks {
		if c.Status != reading.CheckMismatch && c.Status != reading.CheckUnsure {
			continue
		}
		style := layout.Warn
		if c.Status == reading.CheckMismatch {
			style = layout.Bad
		}
		amount := func(n int64) string { return fmt.Sprint(n) }
		if c.Name == "memory" {
			amount = prose.Bytes
		}
		say(fmt.Sprintf("check %s (%s): %s, the kernel counts %s, the scan saw %s (tolerance %s)", prose.Escape(c.Name),
			prose.Escape(c.Scope), paint.Style(string(c.Status), style), betweenWords(amount(c.Before), amount(c.After)), amount(c.Seen), amount(c.Tolerance)))
	}
	return out
}

func betweenWords(before, after string) string {
	if before == after {
		return before
	}
	return before + ", then " + after
}

// maxGaps bounds the gaps in a table; JSON has all.
const maxGaps = 10

// Sentence escapes text that may be several errors, one on each line.
func Sentence(s string) string { return prose.Escape(strings.ReplaceAll(s, "\n", "; ")) }

// More counts what a table leaves out; "" where that is nothing.
func More(n int64, thing string, bytes int64) string {
	switch {
	case n == 0:
		return ""
	case bytes == 0:
		return fmt.Sprintf("and %s without TCP memory (shown by --all)", prose.Plural(n, "more "+thing))
	default:
		return fmt.Sprintf("and %s with %s (shown by --all)", prose.Plural(n, "more "+thing), prose.Bytes(bytes))
	}
}

// Gaps says what could not be read, and why.
func Gaps(gaps []reading.Gap, columns int, paint layout.Painter) []string {
	var out []string
	for i, g := range gaps {
		if i == maxGaps {
			out = append(out, fmt.Sprintf("and %s, all in --json", prose.Plural(int64(len(gaps)-i), "more gap")))
			break
		}
		s := paint.Style("not read", layout.Warn) + ": " + Sentence(g.What) + ": " + Sentence(g.Why)
		if g.MayHideBytes != nil {
			s += ", may hide " + prose.Bytes(*g.MayHideBytes)
		}
		out = append(out, layout.Wrap(s+" ("+prose.Escape(g.Code)+")", columns, "  ")...)
	}
	return out
}

// Classes names the classes that bytes are in, most bytes first, with
// their parts where there are several.
func Classes(c *api.Classes) string {
	tallies := make(map[string]reading.Tally)
	for _, class := range reading.ClassesByName() {
		if t := c.Of(class); t != (reading.Tally{}) {
			tallies[class.String()] = t
		}
	}
	return Parts(tallies)
}

// Parts names the parts of a sum, most bytes first; parts without bytes
// only where no part has any.
func Parts(parts map[string]reading.Tally) string {
	names := slices.SortedFunc(maps.Keys(parts), func(a, b string) int {
		return cmp.Or(cmp.Compare(parts[b].Bytes, parts[a].Bytes), cmp.Compare(parts[b].Sockets, parts[a].Sockets), cmp.Compare(a, b))
	})
	var sum int64
	for _, t := range parts {
		sum += t.Bytes
	}
	if sum > 0 {
		names = slices.DeleteFunc(names, func(name string) bool { return parts[name].Bytes == 0 })
	}
	if len(names) > 1 && sum > 0 {
		for i, name := range names {
			names[i] = fmt.Sprintf("%s %.0f%%", name, 100*float64(parts[name].Bytes)/float64(sum))
		}
	}
	return strings.Join(names, ", ")
}

// LevelStyle colours a level.
func LevelStyle(l reading.Level) layout.Style {
	switch l {
	case reading.Calm:
		return layout.Good
	case reading.Elevated, reading.Unknown:
		return layout.Warn
	default:
		return layout.Bad
	}
}
