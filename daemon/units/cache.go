package units

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

// How long an answer holds, and how many are kept. A unit that starts is
// found soon: "no unit there" holds for less.
const (
	positiveTTL = 30 * time.Second
	negativeTTL = 2 * time.Second
	maxCached   = 4096
)

// cache keeps answers by control group. A unit is kept under its own control
// group and serves every path below: PID 1 makes units in slices only, so
// there is no second one further down.
type cache struct {
	answers map[string]answer
}

type answer struct {
	unit Unit
	err  error
	at   time.Time
}

func newCache() cache { return cache{answers: make(map[string]answer)} }

func (c *cache) get(path string, now time.Time) (answer, bool) {
	if a, ok := c.answers[path]; ok && a.fresh(now) {
		return a, true
	}
	for p := parent(path); p != ""; p = parent(p) {
		a, ok := c.answers[p]
		if ok && a.err == nil && a.fresh(now) && !a.unit.IsSlice() {
			return a, true
		}
	}
	return answer{}, false
}

// put keeps what PID 1 said, "no unit there" included. That PID 1 could not be
// asked says nothing of the path.
func (c *cache) put(path string, u Unit, err error, now time.Time) {
	if err != nil && !errors.Is(err, ErrNoUnit) {
		delete(c.answers, path)
		return
	}
	key := path
	if err == nil {
		key = u.ControlGroup
	} else {
		// What was known of the units around the path is in doubt.
		for p := parent(path); p != ""; p = parent(p) {
			delete(c.answers, p)
		}
	}
	if _, known := c.answers[key]; !known && len(c.answers) >= maxCached {
		c.evict(now)
	}
	c.answers[key] = answer{u, err, now}
}

// evict makes room: all that is stale, or else the oldest eighth, so that a
// full cache is not searched for each new answer.
func (c *cache) evict(now time.Time) {
	maps.DeleteFunc(c.answers, func(_ string, a answer) bool { return !a.fresh(now) })
	if len(c.answers) < maxCached {
		return
	}
	byAge := slices.SortedFunc(maps.Keys(c.answers), func(a, b string) int {
		return c.answers[a].at.Compare(c.answers[b].at)
	})
	for _, key := range byAge[:maxCached/8] {
		delete(c.answers, key)
	}
}

func (a answer) fresh(now time.Time) bool {
	ttl := positiveTTL
	if a.err != nil {
		ttl = negativeTTL
	}
	return now.Sub(a.at) < ttl
}

// parent is the path one directory up, "" above the first.
func parent(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return ""
	}
	return path[:i]
}
