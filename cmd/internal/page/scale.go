package page

import (
	"fmt"
	"time"
)

// A tick is a mark on an axis, at so many percent of it.
type tick struct {
	at    float64
	label string
}

// percent says where t lies between from and to.
func percent(t, from, to time.Time) float64 {
	whole := to.Sub(from)
	if whole <= 0 {
		return 0
	}
	return min(max(100*float64(t.Sub(from))/float64(whole), 0), 100)
}

var timeSteps = []time.Duration{
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 5 * day, 10 * day, 30 * day, 60 * day, 360 * day,
}

const day = 24 * time.Hour

// timeTicks gives at most n ticks, on round times in UTC.
func timeTicks(from, to time.Time, n int) []tick {
	step := timeSteps[len(timeSteps)-1]
	for _, s := range timeSteps {
		if to.Sub(from)/s < time.Duration(n) {
			step = s
			break
		}
	}
	var ticks []tick
	for t := from.UTC().Truncate(step); !t.After(to) && len(ticks) <= n; t = t.Add(step) {
		if t.Before(from) {
			continue
		}
		layout := "15:04"
		switch {
		case step < time.Minute:
			layout = time.TimeOnly
		case step >= day, t.Truncate(day).Equal(t):
			layout = "2 Jan"
		}
		ticks = append(ticks, tick{percent(t, from, to), t.Format(layout)})
	}
	return ticks
}

// sizeTicks gives round sizes from 0 to top, in bytes or in pages.
func sizeTicks(top int64, bytes bool) []tick {
	const most = 5
	unit, name := int64(1), "pages"
	if bytes {
		name = "B"
		for _, n := range []string{"KiB", "MiB", "GiB", "TiB"} {
			if top/1024 < 2*unit {
				break
			}
			unit, name = 1024*unit, n
		}
	}
	step := unit
	for power := unit; top/step > most; power *= 10 {
		for _, factor := range []int64{1, 2, 5} {
			if step = power * factor; top/step <= most {
				break
			}
		}
	}
	var ticks []tick
	for v := int64(0); v <= top; v += step {
		ticks = append(ticks, tick{100 * float64(v) / float64(max(top, 1)), fmt.Sprintf("%d %s", v/unit, name)})
	}
	return ticks
}
