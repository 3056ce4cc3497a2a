package policy

import (
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func TestWindow(t *testing.T) {
	start := time.Unix(1000, 0)
	sample := func(after time.Duration, aborts *int64, log, orphans int64) *reading.Sample {
		s := &reading.Sample{At: start.Add(after), Orphans: orphans}
		s.Kernel.AbortOnMemory = aborts
		s.Log = reading.LogCounts{Readable: after >= 2*time.Second, OutOfMemory: log}
		return s
	}
	n := func(n int64) *int64 { return &n }
	steps := []struct {
		after               time.Duration
		aborts              *int64
		log, orphans        int64
		wantA, wantL, wantO rise
	}{
		{0, nil, 0, 50, rise{}, rise{}, rise{}},
		{time.Second, n(5), 0, 60, rise{}, rise{}, rise{10, true}},
		{time.Second, n(9), 0, 99, rise{}, rise{}, rise{10, true}}, // the same sample again
		{2 * time.Second, n(7), 3, 40, rise{2, true}, rise{}, rise{-10, true}},
		{3 * time.Second, n(7), 4, 40, rise{2, true}, rise{1, true}, rise{-10, true}},
		{11 * time.Second, n(7), 4, 40, rise{2, true}, rise{1, true}, rise{-20, true}},
		{12 * time.Second, n(8), 4, 40, rise{1, true}, rise{1, true}, rise{0, true}},
		{13 * time.Second, nil, 4, 40, rise{}, rise{0, true}, rise{0, true}},
		{14 * time.Second, n(8), 9, 40, rise{1, true}, rise{5, true}, rise{0, true}},
		{25 * time.Second, n(90), 90, 90, rise{}, rise{}, rise{}}, // a gap
		{26 * time.Second, n(91), 90, 90, rise{1, true}, rise{0, true}, rise{0, true}},
	}
	var w Window
	for _, s := range steps {
		w.Observe(sample(s.after, s.aborts, s.log, s.orphans))
		r := w.Rates()
		if a, l, o := r.rises[abortsOnMemory], r.rises[logOutOfMemory], r.rises[orphanCount]; a != s.wantA || l != s.wantL || o != s.wantO {
			t.Errorf("after %v: aborts %v, log %v, orphans %v; want %v, %v, %v", s.after, a, l, o, s.wantA, s.wantL, s.wantO)
		}
	}
	facts, _ := scene()
	facts.Rates = w.Rates()
	if got := compiled(t, "kernel.aborts_on_memory == 1 && kernel.prunes == 0", Host).Eval(HostVars(facts)); got != Unknown {
		t.Errorf("a counter that the kernel does not print is %v", got)
	}
	if got := compiled(t, "kernel.aborts_on_memory == 1", Host).Eval(HostVars(facts)); got != Yes {
		t.Errorf("kernel.aborts_on_memory == 1 is %v", got)
	}
}
