package scan_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// Processes and namespaces that come and vanish while they are read are no
// error and no gap, and nothing of them stays open.
func TestVanishing(t *testing.T) {
	s, c := open(t), start(t)
	b := scene.BuildT(t, c, scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 9000})
	key := processKey(t, c.PID())
	checkOwner(t, read(t, s), key, wantProcess(b))
	before := openFiles(t, s)

	ctx, cancel := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	busy.Go(func() {
		for ctx.Err() == nil {
			crowd, err := scene.IdleNetns(context.WithoutCancel(ctx), 3, scene.ByProcess)
			if err != nil {
				t.Error(err)
				return
			}
			crowd.Stop()
		}
	})
	busy.Go(func() {
		for ctx.Err() == nil {
			short, err := scene.Start(context.WithoutCancel(ctx), scene.ChildOptions{NewNetns: true})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := short.Build(context.WithoutCancel(ctx), scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 9000}); err != nil {
				t.Error(err)
			}
			short.Kill()
		}
	})
	for scans, begin := 0, time.Now(); scans < 20 || time.Since(begin) < 2*time.Second; scans++ {
		r := read(t, s)
		checkOwner(t, r, key, wantProcess(b))
		if gap, ok := hasGap(r, "netns-unreadable"); ok {
			t.Errorf("what vanished is a gap: %+v", gap)
		}
		if v, err := s.Sample(scan.EveryNamespace); err != nil {
			t.Errorf("sample: %v", err)
		} else if v.Namespaces < 1 || v.Kernel.AbortOnMemory == nil {
			t.Errorf("sample %+v", v)
		}
	}
	cancel()
	busy.Wait()
	read(t, s)
	if after := openFiles(t, s); after > before {
		t.Errorf("%d files are open beside counters, %d before", after, before)
	}
}

// openFiles counts our descriptors but for the counters of namespaces, of which
// there may be four each: other work on this machine has namespaces, too.
func openFiles(t *testing.T, s *scan.Scanner) (others int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	do(t, "list descriptors", err)
	counters := 0
	for _, path := range links {
		link, err := os.Readlink(path)
		if err != nil {
			continue // the one that listed the others
		}
		if strings.HasPrefix(link, "/proc/") && strings.Contains(link, "/net/") {
			counters++
			continue
		}
		others++
	}
	const each, host = 4, 8
	if most := each*s.Namespaces() + host; counters > most {
		t.Errorf("%d counters are open of %d namespaces", counters, s.Namespaces())
	}
	return others
}
