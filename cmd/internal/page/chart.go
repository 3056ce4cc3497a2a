package page

import (
	"fmt"
	"html/template"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

// Heights in a picture, in pixels.
const (
	plotHeight  = 260.0
	stripHeight = 20.0
	laneHeight  = 18.0
	tickHeight  = 20.0
	flagHeight  = 20.0
	maxFlagRows = 5
)

// A mark is something that happened. Those with a number stand in the story
// under the same one.
type mark struct {
	at     time.Time
	number int    // 0: only a tick
	label  string // a few words
	short  string // fewer
	title  string // one sentence
	kind   string // act, tell, state, end: its class
	first  int    // those of a lower one get their words first
}

// A chart is a course drawn with what happened meanwhile.
type chart struct {
	course *course
	marks  []mark
	// fired and ended are when the incident fired and was over; zero where there
	// is none, or where it lasts.
	fired, ended time.Time

	top  float64 // of the scale
	rows int     // of flags
}

// picture draws the chart: first the axis, which keeps its width, then the plot.
func (c *chart) picture() (gutter, plot template.HTML) {
	c.top = c.scale()
	wide, wideRows := c.flags(620)
	narrow, narrowRows := c.flags(250)
	c.rows = max(wideRows, narrowRows)
	y := c.plotTop()
	height := y + plotHeight + stripHeight + 4 + laneHeight + tickHeight

	var b svg
	b.raw(`<pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch" width="7" height="7"/><line class="hatch" x1="0" y1="0" x2="0" y2="7"/></pattern>`)
	c.background(&b)
	b.raw(`<svg x="0" y="%s" width="100%%" height="%s" viewBox="0 0 1000 %s" preserveAspectRatio="none">`, num(y), num(plotHeight), num(plotHeight))
	c.areas(&b)
	b.raw(`</svg>`)
	c.gaps(&b)
	c.limits(&b)
	c.owners(&b)
	c.strip(&b)
	c.ticks(&b)
	out := b.String()

	var flags svg
	flags.raw(`<g class="wide">`)
	c.draw(&flags, wide)
	flags.raw(`</g><g class="narrow">`)
	c.draw(&flags, narrow)
	flags.raw(`</g>`)
	c.lane(&flags)

	var g svg
	g.raw(`<svg class="gutter" width="76" height="%s" aria-hidden="true">`, num(height))
	for _, t := range sizeTicks(int64(c.top), c.course.pageSize > 0) {
		down := 4.0
		if t.at == 0 {
			down = -1 // the strip is below
		}
		g.raw(`<text class="axis" x="70" y="%s" text-anchor="end">%s</text>`, num(y+plotHeight*(1-t.at/100)+down), escape(t.label))
	}
	g.raw(`<text class="axis" x="70" y="%s" text-anchor="end">level</text>`, num(y+plotHeight+15))
	if len(c.marks) > 0 {
		g.raw(`<text class="axis" x="70" y="%s" text-anchor="end">events</text>`, num(y+plotHeight+stripHeight+4+13))
	}
	g.raw(`</svg>`)
	plot = template.HTML(fmt.Sprintf(`<svg class="plot" width="100%%" height="%s" role="group" aria-label="what happened, in time"><g aria-hidden="true">%s</g>%s</svg>`,
		num(height), out, flags.String()))
	return template.HTML(g.String()), plot
}

func (c *chart) plotTop() float64 { return float64(c.rows)*flagHeight + 6 }

// scale gives the top of the axis: above max, where the use comes anywhere near
// it, else above the use.
func (c *chart) scale() float64 {
	var used, limit int64
	for i := range c.course.moments {
		m := &c.course.moments[i]
		used, limit = max(used, m.used), max(limit, m.max)
	}
	top := 1.08 * float64(max(used, limit))
	if limit > 0 && float64(used) < 0.2*float64(limit) {
		top = 1.4 * float64(used)
	}
	return max(top, 1)
}

func (c *chart) x(t time.Time) float64 { return percent(t, c.course.from, c.course.to) }

// y is a height within the plot, from its top.
func (c *chart) y(v int64) float64 {
	return plotHeight * (1 - min(max(float64(v)/c.top, 0), 1))
}

func (c *chart) point(t time.Time, v int64) [2]float64 { return [2]float64{10 * c.x(t), c.y(v)} }

// background has the sky in the colour of the level, and lines of the axis.
func (c *chart) background(b *svg) {
	y := c.plotTop()
	b.rect("sky", 0, 100, y, plotHeight, "")
	c.eachLevel(func(level string, from, to time.Time) {
		b.rect("sky "+levelClass(level), c.x(from), c.x(to)-c.x(from), y, plotHeight, "")
	})
	for _, t := range sizeTicks(int64(c.top), c.course.pageSize > 0) {
		at := y + plotHeight*(1-t.at/100)
		b.line("grid", 0, at, 100, at)
	}
}

// eachLevel gives each stretch of one level, never across a gap.
func (c *chart) eachLevel(yield func(level string, from, to time.Time)) {
	for _, run := range c.course.runs {
		for i := 0; i < len(run); {
			j := i
			for j < len(run) && run[j].level == run[i].level {
				j++
			}
			to := run[len(run)-1].at
			if j < len(run) {
				to = run[j].at
			}
			yield(run[i].level, run[i].at, to)
			i = j
		}
	}
}

// areas draws the pool, its owners stacked in it, and the limits.
func (c *chart) areas(b *svg) {
	b.raw(`<clipPath id="pool">`)
	for _, run := range c.course.runs {
		b.shape("polygon", "", c.under(run))
	}
	b.raw(`</clipPath>`)
	for _, run := range c.course.runs {
		b.shape("polygon", "pool", c.under(run))
	}
	b.raw(`<g clip-path="url(#pool)">`)
	for _, run := range c.course.runs {
		for _, part := range known(run) {
			c.stack(b, part)
		}
	}
	b.raw(`</g>`)
	for _, run := range c.course.runs {
		line := make([][2]float64, len(run))
		for i := range run {
			line[i] = c.point(run[i].at, run[i].used)
		}
		if len(line) == 1 {
			line = append(line, [2]float64{line[0][0] + 1, line[0][1]})
		}
		b.shape("polyline", "used", line)
	}
	for _, limit := range limits {
		for _, line := range c.steps(limit.of) {
			b.shape("polyline", "limit "+limit.name, line)
		}
	}
}

// known gives the stretches of a run where the owners are known.
func known(run []moment) [][]moment {
	var parts [][]moment
	for i := 0; i < len(run); {
		j := i
		for j < len(run) && run[j].owners != nil {
			j++
		}
		if j > i {
			parts = append(parts, run[i:j])
		}
		i = j + 1
	}
	return parts
}

func (c *chart) under(run []moment) [][2]float64 {
	shape := make([][2]float64, 0, len(run)+2)
	shape = append(shape, c.point(run[0].at, 0))
	for i := range run {
		shape = append(shape, c.point(run[i].at, run[i].used))
	}
	return append(shape, c.point(run[len(run)-1].at, 0))
}

// stack draws the owners one above the other, the one it is about at the bottom.
func (c *chart) stack(b *svg, run []moment) {
	if len(run) < 2 {
		return
	}
	base := make([]int64, len(run))
	for s := range run[0].owners {
		up, down := make([][2]float64, 0, 2*len(run)), make([][2]float64, 0, len(run))
		some := false
		for i := range run {
			down = append(down, c.point(run[i].at, base[i]))
			base[i] += run[i].owners[s]
			some = some || run[i].owners[s] > 0
			up = append(up, c.point(run[i].at, base[i]))
		}
		if !some {
			continue
		}
		slices.Reverse(down)
		b.shape("polygon", "owner "+c.seriesClass(s), append(up, down...))
	}
}

func (c *chart) seriesClass(s int) string {
	if s == len(c.course.series) {
		return "others"
	}
	return fmt.Sprintf("o%d", s)
}

var limits = []struct {
	name string
	of   func(*moment) int64
}{
	{"min", func(m *moment) int64 { return m.min }},
	{"pressure", func(m *moment) int64 { return m.pressure }},
	{"max", func(m *moment) int64 { return m.max }},
}

// steps gives a limit over time. It is broken where it is not known.
func (c *chart) steps(of func(*moment) int64) [][][2]float64 {
	var lines [][][2]float64
	for _, run := range c.course.runs {
		var line [][2]float64
		for i := range run {
			v := of(&run[i])
			switch {
			case v <= 0:
				if len(line) > 1 {
					lines = append(lines, line)
				}
				line = nil
				continue
			case float64(v) > c.top:
				continue
			}
			p := c.point(run[i].at, v)
			if n := len(line); n > 1 && line[n-1][1] == p[1] && line[n-2][1] == p[1] {
				line[n-1][0] = p[0] // it stays: one long line
				continue
			} else if n > 0 && line[n-1][1] != p[1] {
				line = append(line, [2]float64{p[0], line[n-1][1]})
			}
			line = append(line, p)
		}
		if len(line) > 1 {
			lines = append(lines, line)
		}
	}
	return lines
}

func (c *chart) size(v int64) string {
	if c.course.pageSize <= 0 {
		return prose.Plural(v, "page")
	}
	return prose.Bytes(v)
}

// gaps hatches the times without readings.
func (c *chart) gaps(b *svg) {
	y := c.plotTop()
	for _, gap := range c.course.gaps {
		x, width := c.x(gap[0]), c.x(gap[1])-c.x(gap[0])
		b.rect("gap", x, width, y, plotHeight+stripHeight, "no readings for "+prose.Duration(gap[1].Sub(gap[0])))
		if width > 10 {
			b.text("axis limit wide", x+width/2, y+plotHeight/2, 0, "middle", "no readings")
		}
	}
}

func levelClass(level string) string {
	if slices.Contains([]string{"calm", "elevated", "pressure", "critical"}, level) {
		return level
	}
	return "unknown"
}
