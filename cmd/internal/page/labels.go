package page

import (
	"time"
	"unicode/utf8"

	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

// limits names the lines at the end where the pool is lower, one above the other
// where they are close.
func (c *chart) limits(b *svg) {
	m := c.course.last()
	if m == nil {
		return
	}
	x, dx, anchor := 100.0, -6.0, "end"
	if left := &c.course.moments[0]; c.highest(0, 20) < c.highest(80, 100) && left.max == m.max && left.min == m.min {
		x, dx, anchor = 0, 6, "start"
	}
	const room = 15
	top, free := c.plotTop(), plotHeight-2
	for _, limit := range limits {
		v := limit.of(m)
		if v <= 0 || float64(v) > c.top {
			continue
		}
		y := min(c.y(v)-4, free)
		b.text("limit", x, top+y, dx, anchor, limit.name+" "+c.size(v))
		free = y - room
	}
	switch {
	case m.max <= 0:
		b.text("limit", x, top+12, dx, anchor, "the limits are not known")
	case float64(m.max) > c.top:
		b.text("limit", x, top+12, dx, anchor, "max "+c.size(m.max)+" is far above")
	}
}

// highest is the highest use between two places, in percent.
func (c *chart) highest(from, to float64) int64 {
	var high int64
	for i := range c.course.moments {
		if m := &c.course.moments[i]; c.x(m.at) >= from && c.x(m.at) <= to {
			high = max(high, m.used)
		}
	}
	return high
}

// owners names the owners in their areas, where the name fits in.
func (c *chart) owners(b *svg) {
	for _, set := range []struct {
		class string
		width float64 // of the plot, at least
		runes int
	}{{"wide", 620, 44}, {"narrow", 250, 20}} {
		for s := range c.course.series {
			name := prose.Escape(cut(c.course.series[s].name, set.runes))
			half := 50 * nameWidth * float64(utf8.RuneCountInString(name)) / set.width
			x, y, ok := c.room(s, half)
			if !ok && s == 0 { // the one that it is about, also if it reaches into others
				x, y, ok = c.room(s, 0.3*half)
				x = min(max(x, half), 100-half)
			}
			if ok {
				b.text("name "+set.class, x, c.plotTop()+y+5, 0, "middle", name)
			}
		}
	}
}

// room finds where the area of a series is thickest over so many percent to
// both sides.
func (c *chart) room(s int, half float64) (x, y float64, ok bool) {
	best := 20.0 // pixels
	for _, run := range c.course.runs {
		for _, told := range known(run) {
			for i := range told {
				at := c.x(told[i].at)
				if at-half < c.x(told[0].at) || at+half > c.x(told[len(told)-1].at) {
					continue
				}
				top, bottom := 0.0, plotHeight
				for j := range told {
					if beside := c.x(told[j].at); beside < at-half || beside > at+half {
						continue
					}
					base := int64(0)
					for _, v := range told[j].owners[:s] {
						base += v
					}
					top, bottom = max(top, c.y(min(base+told[j].owners[s], told[j].used))), min(bottom, c.y(base))
				}
				if bottom-top > best {
					best, x, y, ok = bottom-top, at, (top+bottom)/2, true
				}
			}
		}
	}
	return x, y, ok
}

// strip names the level under the plot.
func (c *chart) strip(b *svg) {
	y := c.plotTop() + plotHeight
	c.eachLevel(func(level string, from, to time.Time) {
		x, width := c.x(from), c.x(to)-c.x(from)
		b.rect("level "+levelClass(level), x, width, y, stripHeight, level+" for "+prose.Duration(to.Sub(from)))
		class := "level " + levelClass(level)
		switch {
		case width > 32:
		case width > 13:
			class += " wide"
		default:
			return
		}
		b.text(class, x+width/2, y+14, 0, "middle", prose.Escape(level))
	})
}

func (c *chart) ticks(b *svg) {
	y := c.plotTop() + plotHeight
	for _, set := range []struct {
		class string
		n     int
	}{{"wide", 8}, {"narrow", 4}} {
		b.raw(`<g class="%s">`, set.class)
		for _, t := range timeTicks(c.course.from, c.course.to, set.n) {
			anchor := "middle"
			switch {
			case t.at < 6:
				anchor = "start"
			case t.at > 94:
				anchor = "end"
			}
			b.line("grid", t.at, y+stripHeight, t.at, y+stripHeight+laneHeight+8)
			b.text("axis", t.at, y+stripHeight+laneHeight+21, 0, anchor, t.label)
		}
		b.raw(`</g>`)
	}
}
