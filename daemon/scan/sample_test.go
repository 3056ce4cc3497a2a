package scan_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/level"
	"github.com/tcpmemd/tcpmemd/daemon/kmsg"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// kernelLog follows the kernel's log until the test ends.
func kernelLog(t *testing.T) *kmsg.Log {
	t.Helper()
	log, err := kmsg.Open("/dev/kmsg", slog.New(slog.DiscardHandler))
	do(t, "open kernel log", err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-log.Ready()
	return log
}

// The way to the limit, as the kernel goes it, with all that happens in another
// namespace: its counters count, its log is read, and the level rises. The
// sysctl is the machine's, so it is lowered three times for some milliseconds
// rather than once for long.
func TestSampleUnderPressure(t *testing.T) {
	log := kernelLog(t)
	s := openWith(t, scan.Config{KernelLog: log.Counts})
	c := scene.StartT(t, scene.ChildOptions{NewNetns: true})
	scene.BuildT(t, c, scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 1 << 20})
	unsent := scene.BuildT(t, c, scene.Spec{Kind: scene.Unsent, Pairs: 5, SendBuffer: 1 << 20})
	do(t, "refresh", s.Refresh())
	first := sample(t, s)
	if !first.Log.Readable || first.Kernel.AbortOnMemory == nil || first.Kernel.MemoryPressures == nil {
		t.Fatalf("sample %+v", first)
	}
	if first.Inuse < 50 || first.Namespaces < 2 {
		t.Errorf("%d sockets in %d namespaces, built 50 in one", first.Inuse, first.Namespaces)
	}

	// Limits at which the use of this moment means a level. Other work may
	// change the use meanwhile: then once more.
	reach := func(want reading.Level, limits func(used reading.Pages) reading.TCPMem, act func()) reading.Sample {
		t.Helper()
		for range 10 {
			before := sample(t, s)
			lease, err := scene.LowerTCPMem(t.Context(), limits(before.Used))
			do(t, "lower", err)
			v := sample(t, s)
			got := level.Next(level.State{}, &v, v.At)
			if got.Level == want && act != nil {
				act()
			}
			do(t, "restore", lease.Restore())
			if v.Mem != limits(before.Used) {
				t.Fatalf("tcp_mem is %+v, set %+v", v.Mem, limits(before.Used))
			}
			if got.Level == want {
				return v
			}
			t.Logf("level %v (%s), want %v: used %d pages, before %d", got.Level, got.Why, want, v.Used, before.Used)
		}
		t.Fatalf("level %v is not reached", want)
		return first
	}
	reach(reading.Elevated, func(used reading.Pages) reading.TCPMem {
		return reading.TCPMem{Min: used, Pressure: used * 10 / 9, Max: 3 * used}
	}, nil)
	// Whoever wants memory now makes the kernel enter pressure.
	reach(reading.Pressure, func(used reading.Pages) reading.TCPMem {
		return reading.TCPMem{Min: used / 2, Pressure: used * 8 / 10, Max: 3 * used}
	}, func() {
		scene.BuildT(t, c, scene.Spec{Kind: scene.Unread, Pairs: 5, Bytes: 20000})
		if v := sample(t, s); v.UnderPressure == nil || !*v.UnderPressure {
			t.Error("the kernel's own flag is not set")
		}
	})
	pressed := sample(t, s)
	if rise := *pressed.Kernel.MemoryPressures - *first.Kernel.MemoryPressures; rise < 1 {
		t.Errorf("pressure was entered %d times", rise)
	}
	// And who closes a full send queue beyond the limit is cut off
	// (tcp_check_oom).
	reach(reading.Critical, func(used reading.Pages) reading.TCPMem {
		return reading.TCPMem{Min: used / 4, Pressure: used / 2, Max: used * 8 / 10}
	}, func() {
		do(t, "close", c.Close(t.Context(), unsent.Role(scene.Dialer)...))
	})
	eventually(t, "aborts and the kernel's words for them", func() bool {
		v := sample(t, s)
		return *v.Kernel.AbortOnMemory-*first.Kernel.AbortOnMemory >= 1 && v.Log.OutOfMemory-first.Log.OutOfMemory >= 1
	})
}

func sample(t *testing.T, s *scan.Scanner) reading.Sample {
	t.Helper()
	v, err := s.Sample(scan.EveryNamespace)
	do(t, "sample", err)
	if age := time.Since(v.At); age > time.Second {
		t.Errorf("the sample is %v old", age)
	}
	return v
}
