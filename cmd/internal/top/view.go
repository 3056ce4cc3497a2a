package top

import (
	"fmt"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

// String draws the view: at most height lines of at most width columns.
func (m *Model) String() string {
	lines := m.lines()
	return strings.Join(lines[:min(len(lines), m.height)], "\n")
}

func (m *Model) lines() []string {
	switch {
	case m.height < 2 || m.width < 8:
		return []string{layout.ShortenEnd("too small", m.width)}
	case m.page != pageTable:
		return m.textPage()
	case m.owners == nil:
		return m.waiting()
	}
	out := m.head()
	room := m.height - len(out) - 1 // for the keys
	below := m.below(room)
	body := m.body(room - len(below))
	out = append(out, body...)
	for range room - len(below) - len(body) {
		out = append(out, "")
	}
	return append(append(out, below...), m.foot())
}

// tableRows is how many rows the table has.
func (m *Model) tableRows() int {
	if m.owners == nil {
		return 0
	}
	room := m.height - len(m.head()) - 1
	return room - len(m.below(room)) - tableHead
}

// waiting is the screen before the first answer.
func (m *Model) waiting() []string {
	out := []string{m.Paint.Style("tcpmemctl top", layout.Bold), "reading ..."}
	if m.err != nil {
		out = append(out, layout.Wrap(m.trouble(), m.width, "  ")...)
	}
	out = out[:min(len(out), m.height-1)]
	for len(out) < m.height-1 {
		out = append(out, "")
	}
	return append(fitted(out, m.width), m.foot())
}

// fitted shortens plain lines that cannot be broken. A line with colour is of
// words that can.
func fitted(lines []string, width int) []string {
	for i, line := range lines {
		if layout.Width(line) > width {
			lines[i] = layout.ShortenEnd(stripped(line), width)
		}
	}
	return lines
}

// stripped is a line without its colours.
func stripped(line string) string {
	var b strings.Builder
	colour := false
	for _, r := range line {
		switch {
		case r == '\x1b':
			colour = true
		case colour:
			colour = r != 'm'
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// head is what is above the table: whose pool, how full, where it goes, and
// what is done about it. The less height there is, the less of it; 24 lines
// leave the table a third.
func (m *Model) head() []string {
	mem := m.memory()
	out := []string{m.title()}
	if s := m.state(); s != "" {
		out = append(out, s)
	}
	out = append(out, bar(&mem, m.width, m.Paint)...)
	for _, say := range []struct {
		text  string
		least int // of the height
	}{{m.used(&mem), 5}, {words.Trend(&mem, m.Paint), 14}, {m.counts(), 14}} {
		if say.text == "" || m.height < say.least {
			continue
		}
		lines := layout.Wrap(say.text, m.width, "  ")
		if most := max(1, m.height/12); len(lines) > most {
			lines = append(lines[:most-1], strings.Join(lines[most-1:], " "))
		}
		out = append(out, fitted(lines, m.width)...)
	}
	if m.status != nil && m.height >= 10 {
		out = append(out, conduct(m.status, m.width, max(1, m.height/6), m.Paint)...)
	}
	return out
}

// title says whose memory it is and of when.
func (m *Model) title() string {
	h := m.header()
	s := ", " + prose.Time(h.TakenAt)
	s = "TCP memory on " + layout.ShortenMiddle(prose.Escape(h.Hostname), max(m.width-len("TCP memory on ")-len(s), 8)) + s
	tail := ", mode " + prose.Escape(h.Mode)
	if m.Direct {
		tail = ", read directly"
	}
	if age := m.age(); age >= staleAfter {
		tail = ", " + prose.Duration(age) + " old"
	}
	if layout.Width(s+tail) <= m.width {
		s += tail
	}
	return m.Paint.Style(layout.ShortenEnd(s, m.width), layout.Bold)
}

// state says why what is shown is not of now; "" where it is.
func (m *Model) state() string {
	shown, style, s := "shown is "+prose.Duration(m.age())+" old", layout.Warn, ""
	switch {
	case m.err != nil && m.frozen:
		s, style = "VIEW PAUSED, "+m.trouble(), layout.Bad
	case m.err != nil:
		s, style = m.trouble(), layout.Bad
	case m.recorded():
		s = "RECORDED " + prose.Duration(m.age()) + " ago, in a file"
	case m.frozen:
		s = "VIEW PAUSED, " + shown + "; space goes on"
	case m.asking > 0 && m.now.Sub(m.since) >= staleAfter:
		s = "no answer for " + prose.Duration(m.now.Sub(m.since)) + ", " + shown
	}
	return m.Paint.Style(layout.ShortenEnd(s, m.width), style)
}

// trouble says that no answer came, how old what is shown is, and why.
func (m *Model) trouble() string {
	s := "NO ANSWER"
	if m.owners != nil {
		s += ", shown is " + prose.Duration(m.age()) + " old"
	}
	if !m.frozen {
		s += ", trying again"
	}
	return s + ": " + words.Sentence(m.err.Error())
}

// used says how full the pool is, the level first. How many pages that is has
// no room.
func (m *Model) used(mem *api.Memory) string {
	s := fmt.Sprintf("%s, %s full: used %s of %s", m.Paint.Style(mem.Level.String(), words.LevelStyle(mem.Level)), prose.Fill(mem.FillLive),
		prose.Bytes(mem.UsedBytes), prose.Bytes(mem.MaxBytes))
	if mem.UnderPressure != nil && *mem.UnderPressure {
		s += ", the kernel is under pressure"
	}
	return s
}

// counts are how much of the pool the owners explain, the orphans, and how much
// more there is to say.
func (m *Model) counts() string {
	o, l := &m.owners.Orphans, &m.owners.Ledger
	s := fmt.Sprintf("orphans %d of %d (%s)", o.Count, o.Limit, prose.Share(o.Count, o.Limit))
	if l.SeenBytes > 0 || m.owners.Memory.UsedBytes > l.ReserveMaxBytes {
		s = fmt.Sprintf("owners explain %s; ", prose.Coverage(l.Coverage)) + s
	}
	if m.owners.Partial {
		s = "PARTIAL, the scan ended early; " + s
	}
	if notes := words.Rest(l, &m.owners.Memory, m.owners.Gaps, 0, false); len(notes) > 0 {
		s += fmt.Sprintf("; %s: p", prose.Plural(int64(len(notes)), "note"))
	}
	return s
}

// tableHead is the lines above the rows of a table: what it is, and titles.
const tableHead = 2

// body is the table in so many lines.
func (m *Model) body(room int) []string {
	rows := room - tableHead
	if rows < 1 {
		return nil
	}
	n, at := len(m.rows), m.cursor.row
	if m.list != nil {
		n, at = len(m.list.rows), m.list.cursor.row
	}
	from, to := window(at, n, rows)
	out := []string{m.Paint.Style(layout.ShortenEnd(m.heading(from+1, to), m.width), layout.Bold)}
	if n == 0 {
		return append(out, layout.ShortenEnd(m.empty(), m.width))
	}
	t := m.table(from, to)
	const mark = "> "
	for i, line := range t.Lines(m.width-len(mark), m.Paint) {
		before := "  "
		if i > 0 && from+i-1 == at {
			before = m.Paint.Style(mark, layout.Bold)
		}
		out = append(out, before+line)
	}
	return fitted(out, m.width)
}

// window is the part of n rows that is shown: screens of so many rows, the one
// with the cursor.
func window(at, n, rows int) (from, to int) {
	from = at / rows * rows
	return from, min(from+rows, n)
}

func (m *Model) heading(first, last int) string {
	if m.list != nil {
		return m.list.heading(first, last)
	}
	s := fmt.Sprintf("%s by %s", prose.Plural(int64(len(m.rows)), "owner"), orders[m.order].name)
	if len(m.rows) > 0 {
		s += fmt.Sprintf(", %d to %d", first, last)
	}
	if m.filter != "" {
		s += ", filter: " + prose.Escape(m.filter)
	}
	// The daemon may have put a new scan off: it has a budget.
	if age := time.Duration(m.owners.AgeSeconds*float64(time.Second)) + m.now.Sub(m.read); age >= 2*staleAfter && !m.frozen && !m.recorded() {
		s += ", as of " + prose.Duration(age) + " ago"
	}
	return s
}

func (m *Model) empty() string {
	switch {
	case m.list != nil:
		return m.list.empty()
	case m.filter != "":
		return "No owner matches."
	}
	return "No socket holds TCP memory."
}

func (m *Model) table(from, to int) *layout.Table {
	if m.list != nil {
		return m.list.table(from, to)
	}
	return m.ownersTable(from, to)
}

// ownersTable draws some of the owners. What no owner has has no column, and
// what the owners are sorted by has one always.
func (m *Model) ownersTable(from, to int) *layout.Table {
	type col struct {
		layout.Column
		order order
		cell  func(*api.Owner) string
	}
	whole := words.Whole(&m.owners.Ledger, &m.owners.Memory)
	amount := func(by order, write func(int64) string) func(*api.Owner) string {
		return func(o *api.Owner) string {
			if !orders[by].has(o) {
				return "-"
			}
			return write(orders[by].of(o))
		}
	}
	const always, verdicts = order(-1), order(-2)
	all := []col{
		{layout.Column{Title: "OWNER", Least: 28, Middle: true, Floor: 28}, always, words.Owner},
		{layout.Column{Title: "KIND", Rank: 9, Floor: len("user-service")}, always, func(o *api.Owner) string { return string(o.Kind) }},
		{layout.Column{Title: "SOCKETS", Right: true, Floor: 7}, always, func(o *api.Owner) string { return fmt.Sprint(o.Sockets) }},
		{layout.Column{Title: "MEMORY", Right: true, Floor: widthOfBytes}, byMemory, amount(byMemory, prose.Bytes)},
		{layout.Column{Title: "SHARE", Right: true, Rank: 8, Floor: 7}, always, func(o *api.Owner) string { return prose.Share(o.Bytes, whole) }},
		{layout.Column{Title: "GROWTH", Right: true, Rank: 2, Floor: 13}, byGrowth, amount(byGrowth, prose.Growth)},
		{layout.Column{Title: "ORPHANS", Right: true, Rank: 6, Floor: widthOfBytes}, byOrphans, amount(byOrphans, prose.Bytes)},
		{layout.Column{Title: "HIDDEN", Right: true, Rank: 5, Floor: widthOfBytes}, byHidden, amount(byHidden, prose.Bytes)},
		{layout.Column{Title: "UNREAD", Right: true, Rank: 4, Floor: widthOfBytes}, byUnread, amount(byUnread, prose.Bytes)},
		{layout.Column{Title: "CLOSE-WAIT", Right: true, Rank: 3, Floor: 10}, byCloseWait, amount(byCloseWait, func(n int64) string { return fmt.Sprint(n) })},
		{layout.Column{Title: "VERDICT", Rank: 1, Floor: len("slow-peer")}, verdicts, func(o *api.Owner) string { return words.VerdictCell(&o.Judgement) }},
	}
	t := new(layout.Table)
	var shown []col
	for _, c := range all {
		switch {
		case c.order == m.order:
			c.Rank = 0
		case c.order == verdicts && !m.judged, c.order >= 0 && !m.some[c.order]:
			continue
		}
		t.Columns = append(t.Columns, c.Column)
		shown = append(shown, c)
	}
	for _, i := range m.rows[from:to] {
		o := &m.owners.Owners[i]
		cells := make([]string, len(shown))
		for n := range shown {
			cells[n] = shown[n].cell(o)
		}
		r := t.Add(cells...)
		if m.judged {
			r.Cells[len(cells)-1].Style = words.VerdictStyle(&o.Judgement)
		}
	}
	return t
}

// below is what the table has no room for of the row under the cursor: always
// as many lines, so that the table does not jump.
func (m *Model) below(room int) []string {
	n := min(room/4, 6)
	if n < 2 || m.height < 18 {
		return nil
	}
	out := m.details()
	if len(out) > n {
		const more = " ... i"
		out[n-1] = layout.ShortenEnd(stripped(out[n-1]), m.width-len(more)) + more
	}
	out = out[:min(len(out), n)]
	for len(out) < n {
		out = append(out, "")
	}
	return out
}

// details are all that is known of what is under the cursor.
func (m *Model) details() []string {
	var say, out []string
	if m.list != nil {
		if s := m.list.chosen(); s != nil {
			say = ofSocket(s)
		}
	} else if o := m.chosen(); o != nil {
		say = ofOwner(o, m.Paint)
	}
	for _, s := range say {
		out = append(out, layout.Wrap(s, m.width, "  ")...)
	}
	return fitted(out, m.width)
}
