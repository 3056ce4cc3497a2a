package cli

import (
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// charset are the signs that a terminal can show.
type charset struct {
	bars   []rune // from nothing to a whole cell
	shades []rune // the same for a line of its own, of which each must be told from the others
	limit  rune
	axis   [3]rune // upright, level, corner
	tick   rune
	gap    rune
}

var (
	unicodeSigns = charset{bars: []rune(" ▁▂▃▄▅▆▇█"), shades: []rune(" ▁▂▃▄▅▆▇█"), limit: '┄', axis: [3]rune{'│', '─', '└'}, tick: '┬', gap: '░'}
	asciiSigns   = charset{bars: []rune(" .:#"), shades: []rune(" .:-=+*%#"), limit: '-', axis: [3]rune{'|', '-', '+'}, tick: '+', gap: '/'}
)

// charset is what the locale allows (locale(7)).
func (c *command) charset() charset {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := c.Getenv(name); v != "" {
			v = strings.ToLower(strings.ReplaceAll(v, "-", ""))
			if strings.Contains(v, "utf8") {
				return unicodeSigns
			}
			break
		}
	}
	return asciiSigns
}

func (s *charset) ascii() bool { return s.limit == asciiSigns.limit }

// clean makes a line of signs that the charset has, as wide as it was.
func (s *charset) clean(line string) string {
	if !s.ascii() {
		return line
	}
	var b strings.Builder
	for _, r := range line {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r == '…':
			b.WriteByte('~')
		case r == '±':
			b.WriteByte('~')
		default:
			b.WriteString(strings.Repeat("?", layout.Width(string(r))))
		}
	}
	return b.String()
}

// chart is what was recorded, by columns.
type chart struct {
	from, to time.Time
	columns  []slot
	signs    charset
	paint    layout.Painter
}

// slot is the worst of one column's time.
type slot struct {
	known                    bool
	level                    reading.Level
	used, low, pressure, max reading.Pages
}

// chartRows is the height of the pool's picture.
const chartRows = 10

func newChart(p *past, from time.Time, columns int, signs charset, paint layout.Painter) *chart {
	c := &chart{from: from, to: p.To, columns: make([]slot, columns), signs: signs, paint: paint}
	gaps := p.Gaps
	for i := range p.Points {
		point := &p.Points[i]
		for len(gaps) > 0 && gaps[0].From.Before(point.At) {
			gaps = gaps[1:]
		}
		// A moment stands for the time up to the next one, or to a gap.
		first := c.column(point.At)
		end := first + 1
		if i+1 < len(p.Points) && (len(gaps) == 0 || !gaps[0].From.Equal(point.At)) {
			end = max(end, c.column(p.Points[i+1].At))
		}
		for at := first; at < end; at++ {
			c.columns[at].add(point)
		}
	}
	return c
}

func (s *slot) add(p *pastPoint) {
	if !s.known || p.Used > s.used {
		s.used = p.Used
	}
	if !s.known || gravity(p.Level) > gravity(s.level) {
		s.level = p.Level
	}
	s.known, s.low, s.pressure, s.max = true, p.Min, p.Pressure, p.Max
}

// gravity orders levels: what was not known is graver than calm alone.
func gravity(l reading.Level) int {
	if l == reading.Unknown {
		return 2*int(reading.Calm) + 1
	}
	return 2 * int(l)
}

// column is where a time lies; what is outside lies at the ends.
func (c *chart) column(at time.Time) int {
	n := int(float64(len(c.columns)) * float64(at.Sub(c.from)) / float64(max(c.to.Sub(c.from), 1)))
	return min(max(n, 0), len(c.columns)-1)
}

// top is what the picture's upper edge stands for: the highest limit, or where
// the pool was nearly empty less, so that it can be seen to move.
func (c *chart) top() reading.Pages {
	var used, limit reading.Pages
	for i := range c.columns {
		used, limit = max(used, c.columns[i].used), max(limit, c.columns[i].max)
	}
	for _, percent := range []reading.Pages{1, 2, 5, 10, 20} {
		if zoom := limit * percent / 100; used > 0 && used*5 <= zoom*4 {
			return zoom
		}
	}
	return max(used, limit, 1)
}

// pool draws the pool against its limits, the upper row first.
func (c *chart) pool(gutter, pageSize int) []string {
	top := c.top()
	labels := make([]string, chartRows)
	last := c.last()
	if last == nil {
		return nil
	}
	labels[chartRows-1] = prose.Bytes(top.Bytes(pageSize))
	labels[0] = "0 B"
	for _, l := range []struct {
		name  string
		pages reading.Pages
	}{{"max", last.max}, {"pressure", last.pressure}, {"min", last.low}} {
		if row := rowOf(l.pages, top); row >= 0 {
			labels[row] = l.name + " " + prose.Bytes(l.pages.Bytes(pageSize))
		}
	}
	rows := make([]string, 0, chartRows)
	for row := chartRows - 1; row >= 0; row-- {
		line := c.run(len(c.columns), func(i int) (rune, layout.Style) { return c.cell(&c.columns[i], row, top) })
		rows = append(rows, padLeft(labels[row], gutter)+" "+string(c.signs.axis[0])+line)
	}
	return rows
}

// last is the newest column that is known.
func (c *chart) last() *slot {
	for i := len(c.columns) - 1; i >= 0; i-- {
		if c.columns[i].known {
			return &c.columns[i]
		}
	}
	return nil
}

// rowOf is the row that a number of pages lies in, -1 beyond the picture.
func rowOf(pages, top reading.Pages) int {
	if pages > top {
		return -1
	}
	return min(int(chartRows*pages/top), chartRows-1)
}

func (c *chart) cell(s *slot, row int, top reading.Pages) (rune, layout.Style) {
	switch {
	case !s.known && row == 0:
		return c.signs.gap, layout.Plain
	case !s.known:
		return ' ', layout.Plain
	}
	steps := reading.Pages(len(c.signs.bars) - 1)
	filled := (s.used*chartRows*steps + top/2) / top
	if s.used > 0 {
		filled = max(filled, 1)
	}
	if part := min(max(filled-reading.Pages(row)*steps, 0), steps); part > 0 {
		return c.signs.bars[part], words.LevelStyle(s.level)
	}
	for _, limit := range []reading.Pages{s.low, s.pressure, s.max} {
		if rowOf(limit, top) == row {
			return c.signs.limit, layout.Plain
		}
	}
	return ' ', layout.Plain
}

// strip is a line of signs beside a name.
func (c *chart) strip(name string, gutter int, sign func(i int) (rune, layout.Style)) string {
	return strings.TrimRight(padLeft(layout.ShortenMiddle(name, gutter), gutter)+"  "+c.run(len(c.columns), sign), " ")
}

// run is a line of signs, each run of one style painted together.
func (c *chart) run(n int, sign func(i int) (rune, layout.Style)) string {
	var b, part strings.Builder
	style := layout.Plain
	flush := func() {
		b.WriteString(c.paint.Style(part.String(), style))
		part.Reset()
	}
	for i := range n {
		r, s := sign(i)
		if s != style {
			flush()
			style = s
		}
		part.WriteRune(r)
	}
	flush()
	return b.String()
}

func padLeft(s string, w int) string { return strings.Repeat(" ", max(w-layout.Width(s), 0)) + s }

// levelSigns are the level's in a line; the one of calm is quiet.
var levelSigns = map[reading.Level]rune{reading.Unknown: '?', reading.Calm: '.', reading.Elevated: 'e', reading.Pressure: 'p', reading.Critical: 'C'}

// levels draws the level.
func (c *chart) levels(gutter int) string {
	return c.strip("level", gutter, func(i int) (rune, layout.Style) {
		if s := &c.columns[i]; s.known {
			return levelSigns[s.level], words.LevelStyle(s.level)
		}
		return ' ', layout.Plain
	})
}

// owner draws what one owner held, against most.
func (c *chart) owner(o *pastOwner, scans []time.Time, most int64, gutter int) string {
	bytes := make([]int64, len(c.columns))
	next := 0 // of what is known of the owner
	for i, scan := range scans {
		held := int64(0) // it was not among the biggest
		if next < len(o.scans) && int(o.scans[next]) == i {
			held = o.bytes[next]
			next++
		}
		// A scan stands for the time up to the next one.
		first, end := c.column(scan), len(c.columns)
		if i+1 < len(scans) {
			end = c.column(scans[i+1])
		}
		bytes[first] = max(bytes[first], held)
		for at := first + 1; at < end; at++ {
			bytes[at] = held
		}
	}
	steps := int64(len(c.signs.shades) - 1)
	return c.strip(prose.Escape(o.name), gutter, func(i int) (rune, layout.Style) {
		if !c.columns[i].known || bytes[i] <= 0 {
			return ' ', layout.Plain
		}
		return c.signs.shades[max((bytes[i]*steps+most/2)/max(most, 1), 1)], layout.Plain
	})
}

// axis draws the time below.
func (c *chart) axis(gutter int) []string {
	n := len(c.columns)
	span := c.to.Sub(c.from)
	step, layoutOf := tickStep(span, n)
	line := []rune(strings.Repeat(string(c.signs.axis[1]), n))
	text := []rune(strings.Repeat(" ", n+gutter+2))
	for at := c.from.Truncate(step); !at.After(c.to); at = at.Add(step) {
		if at.Before(c.from) {
			continue
		}
		label := at.Format(layoutOf)
		if layoutOf == clockMinutes && at.Equal(at.Truncate(24*time.Hour)) {
			label = at.Format(dayOnly)
		}
		i := c.column(at)
		// The label stands below its tick, or is left out at the edges.
		begin := gutter + 2 + i - len(label)/2
		if begin+len(label) > len(text) {
			continue
		}
		line[i] = c.signs.tick
		copy(text[begin:], []rune(label))
	}
	return []string{
		strings.Repeat(" ", gutter+1) + string(c.signs.axis[2]) + string(line),
		strings.TrimRight(string(text), " "),
	}
}

// How the time is written below the axis.
const (
	clockSeconds = "15:04:05"
	clockMinutes = "15:04"
	dayOnly      = "01-02"
)

// tickStep is the time between two ticks, so that their labels have room.
func tickStep(span time.Duration, columns int) (time.Duration, string) {
	const day = 24 * time.Hour
	for _, step := range []time.Duration{
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 7 * day, 14 * day,
	} {
		format := clockMinutes
		switch {
		case step < time.Minute:
			format = clockSeconds
		case step >= day:
			format = dayOnly
		}
		if float64(step)/float64(span)*float64(columns) >= float64(len(format)+3) {
			return step, format
		}
	}
	return 28 * day, dayOnly
}
