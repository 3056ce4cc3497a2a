package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
)

// sockets measures dumps and scans, with many sockets.
func (b *bench) sockets() error {
	small, err := b.size(100_000)
	if err != nil || b.short {
		return err
	}
	large, err := b.size(500_000)
	if err != nil {
		return err
	}
	b.add("500,000 against 100,000 sockets, warm scan", "<= 5.5 x", ratio(large.warm, small.warm) <= 5.5,
		"%.2f x; the bare receive loop itself: %.2f x", ratio(large.warm, small.warm), ratio(large.bare, small.bare))
	b.add("500,000 against 100,000 sockets, cold scan", "<= 5.5 x", ratio(large.cold, small.cold) <= 5.5,
		"%.2f x", ratio(large.cold, small.cold))
	return nil
}

// sizes are the times at one number of sockets.
type sizes struct{ bare, dump, warm, cold, ss time.Duration }

// size measures with n sockets, every second of which holds memory.
func (b *bench) size(n int) (t sizes, err error) {
	fleet, err := scene.NewFleet(b.ctx, scene.FleetOptions{Sockets: n, BytesEach: 1})
	if err != nil {
		return t, err
	}
	defer fleet.Stop()
	name := thousands(n) + " sockets"

	conn, err := sockdiag.Open(sockdiag.NewBuffer())
	if err != nil {
		return t, err
	}
	defer conn.Close()
	var seen, bytes int64
	dump := func() error {
		seen, bytes = 0, 0
		return conn.DumpTCP(b.ctx, func(s *reading.Socket) { seen++; bytes += s.Mem.Bytes() })
	}
	times, err := interleave(9, bareLoop, dump)
	if err != nil {
		return t, err
	}
	t.bare, t.dump = times[0], times[1]
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := dump(); err != nil {
		return t, err
	}
	runtime.ReadMemStats(&after)
	mallocs, garbage := after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
	b.add(name+", dump parsed and summed", "<= 1.15 x the bare receive loop", ratio(t.dump, t.bare) <= 1.15,
		"%v against %v: %.2f x", round(t.dump), round(t.bare), ratio(t.dump, t.bare))
	b.add(name+", allocations of a dump", "0 each, <= 1 MB garbage", mallocs < uint64(n)/1000 && garbage <= 1<<20,
		"%d in all (%.5f each), %d bytes, %d rows", mallocs, float64(mallocs)/float64(seen), garbage, seen)

	if err := b.cold(name, n, &t); err != nil {
		return t, err
	}
	return t, b.warm(name, n, &t)
}

// cold compares whole commands as a user runs them.
func (b *bench) cold(name string, n int, t *sizes) error {
	runs, target := 3, 8.0
	if n > 100_000 {
		runs, target = 3, 25.0
	}
	times, err := interleave(runs, func() error {
		return exec.CommandContext(b.ctx, b.bin+"/tcpmemctl", "owners", "--direct", "--json").Run()
	})
	if err != nil {
		return fmt.Errorf("run tcpmemctl: %w", err)
	}
	t.cold = times[0]
	if path, _ := exec.LookPath("ss"); path == "" {
		fmt.Fprintln(os.Stderr, "ss is not installed: no comparison")
		return nil
	}
	ssRuns := 3
	if n > 100_000 {
		ssRuns = 1
	}
	times, err = interleave(ssRuns, func() error { return exec.CommandContext(b.ctx, "ss", "-tanmp").Run() })
	if err != nil {
		return fmt.Errorf("run ss: %w", err)
	}
	t.ss = times[0]
	b.add(name+", cold: owners --direct against ss -tanmp", fmt.Sprintf(">= %.0f x faster", target), ratio(t.ss, t.cold) >= target,
		"%v against %v: %.1f x (%d processes)", round(t.cold), round(t.ss), ratio(t.ss, t.cold), processes())
	return nil
}

// warm measures scans in which nothing changed, alone and beside idle
// namespaces and processes.
func (b *bench) warm(name string, n int, t *sizes) error {
	s, err := scan.Open(b.ctx, scan.Config{Workers: 1})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	scanOnce := func() error { _, err := s.Scan(b.ctx, scan.Options{}); return err }
	for range 3 { // cold, then settled
		if err := scanOnce(); err != nil {
			return err
		}
	}
	times, err := interleave(9, bareLoop, scanOnce)
	if err != nil {
		return err
	}
	t.warm = times[1]
	b.add(name+", warm scan, nothing changed", "<= 1.5 x the bare dump", ratio(t.warm, times[0]) <= 1.5,
		"%v against %v: %.2f x", round(t.warm), round(times[0]), ratio(t.warm, times[0]))
	if n > 100_000 {
		return nil
	}

	crowd, err := scene.IdleNetns(b.ctx, 200, scene.ByMount)
	if err != nil {
		return err
	}
	more, err := b.beside(s)
	crowd.Stop()
	if err != nil {
		return err
	}
	alone, err := b.beside(s)
	if err != nil {
		return err
	}
	b.add(name+", 200 idle namespaces beside them", "<= 10 ms more per warm scan", more-alone <= 10*time.Millisecond,
		"%v more (%v against %v)", round(more-alone), round(more), round(alone))

	crowd, err = scene.IdleProcesses(b.ctx, 5000)
	if err != nil {
		return err
	}
	more, err = b.beside(s)
	crowd.Stop()
	if err != nil {
		return err
	}
	if alone, err = b.beside(s); err != nil {
		return err
	}
	b.add(name+", 5,000 idle processes beside them", "<= 10 % more per warm scan", ratio(more, alone) <= 1.10,
		"%.1f %% more (%v against %v)", 100*(ratio(more, alone)-1), round(more), round(alone))
	return nil
}

// beside measures warm scans after the index has settled.
func (b *bench) beside(s *scan.Scanner) (time.Duration, error) {
	run := func() error { _, err := s.Scan(b.ctx, scan.Options{}); return err }
	for range 3 {
		if err := run(); err != nil {
			return 0, err
		}
	}
	times, err := interleave(15, run)
	if err != nil {
		return 0, err
	}
	return times[0], nil
}

func round(d time.Duration) time.Duration {
	if d > time.Second || d < -time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	var parts []string
	for len(s) > 3 {
		parts = append([]string{s[len(s)-3:]}, parts...)
		s = s[:len(s)-3]
	}
	return strings.Join(append([]string{s}, parts...), ",")
}
