package daemon

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// TestEffect holds the verdicts to their definition: bound is 2 MiB.
func TestEffect(t *testing.T) {
	const mib = 1 << 20
	of := func(target, pool int64) measure {
		target *= mib
		return measure{level: reading.Critical, target: &target, pool: pool * mib, bound: 2 * mib}
	}
	host := func(level reading.Level, aborts int64) measure {
		return measure{level: level, pool: 100 * mib, aborts: &aborts, bound: 2 * mib}
	}
	aborted := func(m measure, n int64) measure { m.aborts = &n; return m }
	for _, tc := range []struct {
		name          string
		before, after measure
		predicted     map[string]int64
		want          record.Verdict
	}{
		{"both fell", of(50, 100), of(0, 50), nil, record.Helped},
		{"the target fell, the pool did not", of(50, 100), of(0, 98), nil, record.NoEffect},
		{"the pool fell, the target did not", of(50, 100), of(50, 40), nil, record.NoEffect},
		{"by less than twice the bound", of(50, 100), of(47, 90), nil, record.NoEffect},
		{"by twice the bound", of(50, 100), of(46, 90), nil, record.Helped},
		{"by less than half the prediction", of(50, 100), of(30, 70), map[string]int64{"owned": 30 * mib, "hidden": 12 * mib}, record.NoEffect},
		{"by half the prediction", of(50, 100), of(29, 70), map[string]int64{"owned": 30 * mib, "hidden": 12 * mib}, record.Helped},
		{"the pool rose", of(50, 100), of(50, 110), nil, record.Worse},
		{"the pool rose, the target fell", of(50, 100), of(10, 110), nil, record.NoEffect},
		{"aborts rose", aborted(of(50, 100), 3), aborted(of(50, 100), 4), nil, record.Worse},
		{"the host left pressure", host(reading.Critical, 3), host(reading.Elevated, 3), nil, record.Helped},
		{"the host did not", host(reading.Critical, 3), host(reading.Pressure, 3), nil, record.NoEffect},
		{"nobody knows", host(reading.Critical, 3), host(reading.Unknown, 3), nil, record.NoEffect},
		{"still aborting", host(reading.Critical, 3), host(reading.Calm, 4), nil, record.Worse},
		{"the host was calm", host(reading.Calm, 3), host(reading.Calm, 3), nil, record.NotMeasured},
	} {
		e := judgeEffect(tc.before, tc.after, tc.predicted)
		if e.Verdict != tc.want || e.Why == "" {
			t.Errorf("%s: %s (%s), want %s", tc.name, e.Verdict, e.Why, tc.want)
		}
	}
}
