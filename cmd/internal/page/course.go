package page

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Bounds of a picture: more owners than these share one colour, more moments
// than these would be narrower than a pixel.
const (
	maxSeries  = 6
	maxMoments = 360
)

// A moment is the pool at one time, in the unit of the course. Limits that are
// not known are 0.
type moment struct {
	at                       time.Time
	used, min, pressure, max int64
	level                    string
	aborts                   *int64
	// owners are the parts of the series, and of all other owners that were
	// told: told by a scan, or else between two of them; nil where that is not
	// known.
	owners []int64
	told   bool
}

// A course is how the pool moved: what a picture is drawn of.
type course struct {
	from, to time.Time
	pageSize int // 0: not known, all is in pages and nothing is told of owners
	moments  []moment
	// runs are the moments without a gap inside; gaps are the times between.
	runs [][]moment
	gaps [][2]time.Time
	// series are the owners that have a colour of their own, first those that it
	// is about.
	series []series
}

type series struct {
	key, name string
	most      int64
}

// axis puts moments on one steady line: by CLOCK_BOOTTIME within the boot of
// the first, so that a clock that was set does not fold the picture.
type axis struct{ origin record.Stamp }

func (a axis) at(s record.Stamp) time.Time {
	if a.origin.BootID != "" && s.BootID == a.origin.BootID {
		return a.origin.At.Add(time.Duration((s.BootSeconds - a.origin.BootSeconds) * float64(time.Second)))
	}
	return s.At
}

// newCourse makes one of points, which come in order. about are the keys that
// it is about. from and to widen what the points cover.
func newCourse(points []record.Point, pageSize int, about []string, a axis, from, to time.Time) *course {
	c := &course{from: from, to: to, pageSize: pageSize}
	if pageSize > 0 {
		c.series = chooseSeries(points, about)
	}
	unit := int64(max(pageSize, 1))
	for i := range points {
		p := &points[i]
		m := moment{
			at: a.at(p.Stamp), used: int64(p.Used) * unit, min: int64(p.Min) * unit, pressure: int64(p.Pressure) * unit,
			max: int64(p.Max) * unit, level: p.Level, aborts: p.Aborts, owners: c.parts(p),
		}
		m.told = m.owners != nil
		if n := len(c.moments); n > 0 && m.at.Before(c.moments[n-1].at) {
			m.at = c.moments[n-1].at
		}
		c.moments = append(c.moments, m)
	}
	if n := len(c.moments); n > 0 {
		c.from, c.to = earlier(c.from, c.moments[0].at), later(c.to, c.moments[n-1].at)
	}
	if !c.to.After(c.from) {
		c.from, c.to = c.from.Add(-30*time.Second), c.from.Add(30*time.Second)
	}
	for _, run := range split(c.moments) {
		if n := len(c.runs); n > 0 {
			before := c.runs[n-1]
			c.gaps = append(c.gaps, [2]time.Time{before[len(before)-1].at, run[0].at})
		}
		c.runs = append(c.runs, run)
	}
	// Thin out only now: what was left out must not look like a gap.
	for i, run := range c.runs {
		c.runs[i] = thin(run, 1+len(c.moments)/maxMoments)
		share(c.runs[i])
	}
	return c
}

// chooseSeries gives the owners with a colour: those that it is about, then
// those that held the most.
func chooseSeries(points []record.Point, about []string) []series {
	all := make(map[string]*series)
	for i := range points {
		for _, o := range points[i].Owners {
			s := all[o.Key]
			if s == nil {
				s = &series{key: o.Key, name: nameOf(o.Key, o.Name)}
				all[o.Key] = s
			}
			s.most = max(s.most, o.Bytes)
		}
	}
	// Not all of those that it is about: then every colour would be theirs.
	about = about[:min(len(about), maxSeries/2)]
	rank := func(s *series) int {
		if i := slices.Index(about, s.key); i >= 0 {
			return i
		}
		return len(about)
	}
	chosen := slices.SortedFunc(maps.Values(all), func(a, b *series) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.most, a.most), cmp.Compare(a.key, b.key))
	})
	var list []series
	for _, s := range chosen[:min(len(chosen), maxSeries)] {
		list = append(list, *s)
	}
	return list
}

// nameOf is what a person calls an owner. Plain processes are often many of one
// name, so theirs has the pid behind it.
func nameOf(key, name string) string {
	if p := strings.Split(key, "/"); len(p) == 3 && p[0] == "process" {
		return name + "[" + p[1] + "]"
	}
	return cmp.Or(name, key)
}

// parts gives the bytes of each series and, last, of all others.
func (c *course) parts(p *record.Point) []int64 {
	if p.Owners == nil || c.pageSize <= 0 {
		return nil
	}
	parts := make([]int64, len(c.series)+1)
	for _, o := range p.Owners {
		i := slices.IndexFunc(c.series, func(s series) bool { return s.key == o.Key })
		if i < 0 {
			i = len(c.series)
		}
		parts[i] += max(o.Bytes, 0)
	}
	return parts
}

// since is the course from a time on: what was measured then. It cannot be drawn.
func (c *course) since(begin time.Time) *course {
	i := slices.IndexFunc(c.moments, func(m moment) bool { return !m.at.Before(begin) })
	if i < 0 {
		return &course{pageSize: c.pageSize}
	}
	return &course{pageSize: c.pageSize, moments: c.moments[i:]}
}

// others says whether any moment has owners without a colour of their own.
func (c *course) others() bool {
	return slices.ContainsFunc(c.moments, func(m moment) bool {
		return m.owners != nil && m.owners[len(m.owners)-1] > 0
	})
}

// last is the newest moment, nil where there is none.
func (c *course) last() *moment {
	if len(c.moments) == 0 {
		return nil
	}
	return &c.moments[len(c.moments)-1]
}

// peak is the moment of the highest use, nil where there is none.
func (c *course) peak() *moment {
	var peak *moment
	for i := range c.moments {
		if peak == nil || c.moments[i].used > peak.used {
			peak = &c.moments[i]
		}
	}
	return peak
}

// levels says how long each level lasted, as far as readings tell.
func (c *course) levels() map[string]time.Duration {
	lasted := make(map[string]time.Duration)
	for _, run := range split(c.moments) {
		for i := range run[:len(run)-1] {
			lasted[run[i].level] += run[i+1].at.Sub(run[i].at)
		}
	}
	return lasted
}

// aborted counts the connections that the kernel aborted for lack of memory;
// known is false where it did not say.
func (c *course) aborted() (n int64, known bool) {
	var before *int64
	for i := range c.moments {
		now := c.moments[i].aborts
		if now == nil {
			continue
		}
		known = true
		if before != nil {
			n += max(0, *now-*before)
		}
		before = now
	}
	return n, known
}

// split cuts moments where readings are missing: where it takes three times as
// long to the next one as it does around there, and more than some seconds.
func split(moments []moment) [][]moment {
	const around, least = 4, 6 * time.Second
	steps := make([]time.Duration, max(0, len(moments)-1))
	for i := range steps {
		steps[i] = moments[i+1].at.Sub(moments[i].at)
	}
	var runs [][]moment
	begin := 0
	for i, step := range steps {
		near := slices.Concat(steps[max(0, i-around):i], steps[i+1:min(len(steps), i+1+around)])
		slices.Sort(near)
		if len(near) > 0 && step > least && step > 3*near[len(near)/2] {
			runs = append(runs, moments[begin:i+1])
			begin = i + 1
		}
	}
	if begin < len(moments) {
		runs = append(runs, moments[begin:])
	}
	return runs
}

// thin keeps of every n moments the highest, with the owners that one of them
// has, and the first and the last of all.
func thin(run []moment, n int) []moment {
	if n <= 1 || len(run) <= 2 {
		return run
	}
	kept := []moment{run[0]}
	for part := range slices.Chunk(run[1:len(run)-1], n) {
		high := slices.MaxFunc(part, func(a, b moment) int { return cmp.Compare(a.used, b.used) })
		for i := range part {
			if high.owners == nil {
				high.owners, high.told = part[i].owners, part[i].told
			}
		}
		kept = append(kept, high)
	}
	return append(kept, run[len(run)-1])
}

// share fills in the owners between two scans that are not too far from each
// other: each has its share of what was in use, which moves evenly from that of
// the one to that of the other.
func share(run []moment) {
	var told []moment
	place := make(map[time.Time]int)
	for i := range run {
		if run[i].told {
			told = append(told, run[i])
			place[run[i].at] = i
		}
	}
	for _, part := range split(told) {
		for k := range part[1:] {
			a, b := &part[k], &part[k+1]
			for i := place[a.at] + 1; i < place[b.at]; i++ {
				m := &run[i]
				part := float64(m.at.Sub(a.at)) / float64(b.at.Sub(a.at))
				m.owners = make([]int64, len(a.owners))
				for s := range m.owners {
					from, to := float64(a.owners[s])/float64(max(a.used, 1)), float64(b.owners[s])/float64(max(b.used, 1))
					m.owners[s] = int64(float64(m.used) * (from + part*(to-from)))
				}
			}
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
