package daemon

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/level"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// TestCalm: one scan at the start and then by the calm interval; a sample and
// a sign of life each second.
func TestCalm(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(130*time.Second + time.Millisecond)
		checkTimes(t, "scans", r.began(r.start), seconds(0, 60, 120))
		checkTimes(t, "watchdog", r.when("watchdog", r.start), every(0, 130))
	})
}

// TestReadyAfterFirstReading: the service manager may send nobody before there
// is something to answer.
func TestReadyAfterFirstReading(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(2900 * time.Millisecond)
		if at := r.when("ready", r.start); at != nil {
			t.Errorf("ready at %v, before the first reading", at)
		}
		if _, err := (&source{r.d}).State(t.Context()); err != nil {
			t.Errorf("state before the first reading: %v", err)
		}
		r.after(60 * time.Second)
		checkTimes(t, "ready", r.when("ready", r.start), seconds(3))
	}, func(h *fakeHost) { h.takes = 3 * time.Second })
}

// TestReloadIsTold: the service manager learns of a reload's begin and of its
// end, also where a file is wrong or whoever asked is gone; a daemon that is not
// ready does not become it by a reload.
func TestReloadIsTold(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		var broken error
		r.d.cfg.Load = func(context.Context) (Policy, error) { time.Sleep(time.Second); return Policy{}, broken }
		reload := func(ctx context.Context) { _ = r.d.Reload(ctx) }
		reload(t.Context())
		checkTimes(t, "reloading before it is ready", r.when("reloading", r.start), nil)
		r.after(9 * time.Second)
		reload(t.Context())
		broken = errors.New("boom")
		reload(t.Context())
		asks, gone := context.WithTimeout(t.Context(), time.Millisecond)
		defer gone()
		reload(asks)
		checkTimes(t, "reloading", r.when("reloading", r.start), seconds(10, 11, 12))
		checkTimes(t, "ready", r.when("ready", r.start), seconds(3, 11, 12, 13))
	}, func(h *fakeHost) { h.takes = 3 * time.Second })
}

// TestReloadShows: who asks right after a reload is told of the new mode.
func TestReloadShows(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.d.cfg.Load = func(context.Context) (Policy, error) {
			return Policy{Config: policy.Config{Mode: policy.Enforce}}, nil
		}
		r.after(10 * time.Second)
		if err := r.d.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.d.mode(); got != policy.Enforce {
			t.Errorf("the mode is %s", got)
		}
	})
}

// TestReadyAfterFailedScan: samples and level do without a scan, and a daemon
// that never gets ready would be ended by the service manager.
func TestReadyAfterFailedScan(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(30 * time.Second)
		checkTimes(t, "ready", r.when("ready", r.start), seconds(0))
		r.tell(func() { r.broken = nil })
		r.after(calm)
		checkTimes(t, "ready", r.when("ready", r.start), seconds(0))
	}, func(h *fakeHost) { h.broken = errors.New("boom") })
}

// TestStuckScanStopsTheWatchdog: only a new process gets out of a scan that
// hangs in the kernel.
func TestStuckScanStopsTheWatchdog(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(stuckScan + 10*time.Second)
		pings := r.when("watchdog", r.start)
		if last := pings[len(pings)-1]; last > stuckScan+time.Second || last < stuckScan-time.Second {
			t.Errorf("the last ping came after %v, want %v", last, stuckScan)
		}
	}, func(h *fakeHost) { h.takes = time.Hour })
}

// TestLongScanDelaysNothing: a sample at each second, however long a scan takes.
func TestLongScanDelaysNothing(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(90*time.Second + time.Millisecond)
		var at []time.Duration
		for _, s := range r.samples {
			at = append(at, s.Sub(r.start))
		}
		checkTimes(t, "samples", at, every(0, 90))
		checkTimes(t, "watchdog", r.when("watchdog", r.start), every(0, 90))
	}, func(h *fakeHost) { h.takes = 10 * time.Minute })
}

// TestLevelRises: the host leaves calm, and is looked at in that very second,
// thoroughly, and often from then on.
func TestLevelRises(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(20*time.Second + time.Millisecond)
		r.tell(func() { r.used = 170 }) // elevated
		r.after(20 * time.Second)
		checkTimes(t, "scans", r.began(r.start), seconds(0, 21, 26, 31, 36))
		if !r.scans[1].Thorough {
			t.Error("the scan after the rise reads not every process")
		}
		r.tell(func() { r.used = 290 }) // critical
		r.after(2 * time.Second)
		checkTimes(t, "scans", r.began(r.start)[5:], seconds(41))
		if got := r.d.snapshot.Load().Level.Level; got != reading.Critical {
			t.Errorf("level %v, want critical", got)
		}
		checkTimes(t, "status", r.when("status", r.start), seconds(0, 21, 41))
	})
}

// TestFresh: who asks gets a reading that began after the question, and all who
// ask while a scan runs share the next one.
func TestFresh(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		src := &source{r.d}
		r.after(10*time.Second + time.Millisecond)
		old, err := src.Read(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		got := make([]*reading.Reading, 6)
		ask := func(i int) {
			wg.Go(func() {
				var err error
				if got[i], err = src.Read(t.Context(), true); err != nil {
					t.Error(err)
				}
			})
		}
		ask(0)
		r.after(time.Second) // its scan takes four
		for i := 1; i < len(got); i++ {
			ask(i)
		}
		wg.Wait()
		if got[0] == old || got[0] == got[1] {
			t.Error("a fresh reading began before the question")
		}
		for _, g := range got[2:] {
			if g != got[1] {
				t.Error("those who asked together do not share a scan")
			}
		}
		if n := len(r.began(r.start)); n != 3 {
			t.Errorf("%d scans, want the first, one and one", n)
		}
		if !r.scans[1].Thorough || !r.scans[2].Thorough {
			t.Error("a person waits, and the scan is not thorough")
		}
	}, func(h *fakeHost) { h.takes = 4 * time.Second })
}

// TestFailedScanAnswers: who waits learns of it, and the next scan is for the next.
func TestFailedScanAnswers(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		src := &source{r.d}
		r.after(10 * time.Second)
		r.tell(func() { r.broken = errors.New("boom") })
		if _, err := src.Read(t.Context(), true); err == nil || !strings.Contains(err.Error(), "scan failed") {
			t.Errorf("error %v, want that the scan failed", err)
		}
		if old, err := src.Read(t.Context(), false); err != nil || old == nil {
			t.Errorf("the reading of before: %v, error %v", old, err)
		}
		r.tell(func() { r.broken = nil })
		if _, err := src.Read(t.Context(), true); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r.tell(func() { r.takes = time.Minute })
		if _, err := src.Read(ctx, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the caller's deadline", err)
		}
		r.tell(func() { r.takes = 0 })
		r.after(2 * time.Minute) // its answer is taken by nobody, and that stops nothing
		if n := len(r.when("watchdog", r.start)); n < 120 {
			t.Errorf("%d signs of life in more than two minutes", n)
		}
	})
}

// TestWatchdog: a sign of life comes from a turn that ended, never from beside it.
func TestWatchdog(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(3*time.Second + time.Millisecond)
		blocked := make(chan struct{})
		r.tell(func() { r.blocked = blocked })
		r.after(30 * time.Second)
		checkTimes(t, "watchdog", r.when("watchdog", r.start), every(0, 3))
		r.tell(func() { r.blocked = nil })
		close(blocked)
		r.after(2 * time.Second)
		if n := len(r.when("watchdog", r.start)); n < 6 {
			t.Errorf("%d signs of life after it went on", n)
		}
	})
}

// TestOldSampleIsUnknown: a host that cannot be read any more is not fine.
func TestOldSampleIsUnknown(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(3*time.Second + time.Millisecond)
		r.tell(func() { r.failing = errors.New("boom") })
		r.after(level.StaleAfter + 2*time.Second)
		if got := r.d.snapshot.Load().Level.Level; got != reading.Unknown {
			t.Errorf("level %v, want unknown", got)
		}
		r.tell(func() { r.failing = nil })
		r.after(2 * time.Second)
		if got := r.d.snapshot.Load().Level.Level; got != reading.Calm {
			t.Errorf("level %v, want calm again", got)
		}
	})
}

// TestNothingToRead: a daemon that cannot read at all ends at its start.
func TestNothingToRead(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		boom := r.failing
		if err := r.stop(); !errors.Is(err, boom) {
			t.Errorf("error %v, want %v", err, boom)
		}
		r.stop = func() error { return nil }
	}, func(h *fakeHost) { h.failing = errors.New("boom") })
}

// TestStopWhileScanning: the end does not wait for what runs.
func TestStopWhileScanning(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(2 * time.Second)
		before := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { // waits for a slot until the end of its request
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := (&source{r.d}).Info(ctx, &reading.Socket{}); err == nil {
				t.Error("answered while a scan ran")
			}
		})
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(before); took > time.Second {
			t.Errorf("the end took %v", took)
		}
		wg.Wait()
		if _, err := (&source{r.d}).Info(t.Context(), &reading.Socket{}); !errors.Is(err, errStopping) {
			t.Errorf("after the end: error %v, want %v", err, errStopping)
		}
	}, func(h *fakeHost) { h.takes = time.Hour })
}
