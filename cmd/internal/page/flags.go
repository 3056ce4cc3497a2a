package page

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"
)

// A flag is a mark with a number and, where there is room, its words, above
// the plot.
type flag struct {
	*mark
	row       int
	x         float64 // percent
	words     string
	left      bool    // the words are on its left
	begin, to float64 // what it takes of its row, in pixels
}

// Widths of text, in pixels: a bound for the fonts that browsers take.
const (
	flagWidth = 20.0 // the number in its circle
	charWidth = 7.8
	nameWidth = 8.6 // larger, and bold
)

// flags finds a place for each numbered mark in a plot that is width pixels
// wide or wider: first for those that matter most. Of those without a place
// only the tick in the lane stays.
func (c *chart) flags(width float64) (placed []flag, rows int) {
	var wanted []*mark
	for i := range c.marks {
		if c.marks[i].number > 0 {
			wanted = append(wanted, &c.marks[i])
		}
	}
	slices.SortStableFunc(wanted, func(a, b *mark) int { return cmp.Compare(a.first, b.first) })
	for _, m := range wanted {
		if f, ok := c.place(m, width, placed); ok {
			placed = append(placed, f)
			rows = max(rows, f.row+1)
		}
	}
	slices.SortStableFunc(placed, func(a, b flag) int { return cmp.Compare(a.number, b.number) })
	return placed, rows
}

func (c *chart) place(m *mark, width float64, placed []flag) (flag, bool) {
	x := c.x(m.at)
	at := x / 100 * width
	for _, words := range []string{m.label, cmp.Or(m.short, m.label), ""} {
		wide := flagWidth/2 + charWidth*float64(utf8.RuneCountInString(words))
		for _, f := range []flag{
			{mark: m, x: x, words: words, begin: at - flagWidth/2, to: at + wide},
			{mark: m, x: x, words: words, begin: at - wide, to: at + flagWidth/2, left: true},
		} {
			if f.begin < -flagWidth/2 || f.to > width+flagWidth/2 {
				continue
			}
			for f.row = range maxFlagRows {
				if !slices.ContainsFunc(placed, f.meets) {
					return f, true
				}
			}
		}
	}
	return flag{}, false
}

// meets says whether one would cover the other.
func (f *flag) meets(o flag) bool {
	const air = 4
	return f.row == o.row && f.begin < o.to+air && o.begin < f.to+air
}

func (c *chart) draw(b *svg, flags []flag) {
	top := c.plotTop()
	for i := range flags {
		f := &flags[i]
		y := float64(f.row)*flagHeight + flagHeight/2
		b.line("flag "+f.kind, f.x, y, f.x, top+plotHeight)
	}
	for i := range flags {
		f := &flags[i]
		y := float64(f.row)*flagHeight + flagHeight/2
		b.raw(`<a href="#e%d" class="flag %s"><title>%s</title>`, f.number, f.kind, escape(f.title))
		b.raw(`<circle cx="%s" cy="%s" r="8.5"/>`, pct(f.x), num(y))
		b.text("number", f.x, y+4, 0, "middle", fmt.Sprint(f.number))
		switch {
		case f.words == "":
		case f.left:
			b.text("words", f.x, y+4, -12, "end", f.words)
		default:
			b.text("words", f.x, y+4, 12, "start", f.words)
		}
		b.raw(`</a>`)
	}
}

// lane has a tick for everything that happened.
func (c *chart) lane(b *svg) {
	y := c.plotTop() + plotHeight + stripHeight + 4
	b.raw(`<g aria-hidden="true">`)
	if !c.fired.IsZero() {
		to := c.ended
		if to.IsZero() {
			to = c.course.to
		}
		b.rect("fires", c.x(c.fired), max(c.x(to)-c.x(c.fired), 0.3), y+laneHeight/2-2, 4, "the rule fires")
	}
	drawn := make(map[string]bool)
	for i := range c.marks {
		m := &c.marks[i]
		place := m.kind + num(3*c.x(m.at))
		if drawn[place] {
			continue // it would cover another one
		}
		drawn[place] = true
		b.rect("event "+m.kind, max(c.x(m.at)-0.2, 0), 0.4, y+2, laneHeight-4, m.title)
	}
	b.raw(`</g>`)
}

// cut shortens text in its middle: names differ at the end as often as at the
// start.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	half := (n - 1) / 2
	return string(r[:n-1-half]) + "…" + string(r[len(r)-half:])
}
