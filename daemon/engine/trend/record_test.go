package trend_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tcpmemd/tcpmemd/daemon/engine/trend/trendtest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

var (
	recordFor  = flag.Duration("record", 0, "run the live scenes for so long and write their recordings")
	recordOnly = flag.String("record-only", "", "of the live scenes, only those that match")
	recordTo   = flag.String("record-to", "testdata", "directory for the recordings")
)

// The paces of the daemon: each scene is recorded at both, by two scanners.
var recordPaces = []struct {
	suffix string
	level  reading.Level
	every  time.Duration
}{
	{"", reading.Elevated, 5 * time.Second},
	{"-calm", reading.Calm, 30 * time.Second},
}

// TestRecordKernel runs the live scenes, all at the same time, and records
// them with the real scanner:
//
//	go test ./daemon/engine/trend -run RecordKernel -record 11m30s -timeout 20m
//
// A scene that matches -record-only alone takes as long: time is real.
// It needs root, /dev/net/tun, about 400 MiB of TCP memory and 60 processes.
func TestRecordKernel(t *testing.T) {
	if *recordFor == 0 {
		return // nothing is lacking: recordings are made on purpose, and kept
	}
	require.Root(t)
	only, err := regexp.Compile(*recordOnly)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	start := time.Now().Add(time.Second)
	slice := makeSlice(t)
	var players sync.WaitGroup
	t.Cleanup(func() {
		stop()
		players.Wait()
	})
	var chosen []*liveScene
	for i := range liveScenes {
		c := &liveScenes[i]
		world := c.name == "kernel-world"
		if !world && !only.MatchString(c.name) {
			continue
		}
		if !world {
			chosen = append(chosen, c)
		}
		enact(ctx, t, &players, c, i+1, slice, start)
	}

	var recorders sync.WaitGroup
	whole := make([]*trendtest.Recording, len(recordPaces))
	for i, pace := range recordPaces {
		recorders.Go(func() {
			var err error
			if whole[i], err = recordHost(ctx, chosen, pace.level, pace.every); err != nil {
				t.Error(err)
			}
		})
	}
	recorders.Wait()
	stop()
	players.Wait()
	if err := forgetRemote(); err != nil {
		t.Error(err)
	}
	for i, pace := range recordPaces {
		for _, c := range chosen {
			if whole[i] == nil {
				continue
			}
			h := c.header()
			h.Name += pace.suffix
			if err := whole[i].Cut(h, c.owns).WriteFile(filepath.Join(*recordTo, h.Name+".jsonl.gz")); err != nil {
				t.Error(err)
			}
		}
	}
}

// recordHost records the owners of all scenes at a pace.
func recordHost(ctx context.Context, scenes []*liveScene, level reading.Level, every time.Duration) (whole *trendtest.Recording, err error) {
	s, err := scan.Open(ctx, scan.Config{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return trendtest.Record(ctx, trendtest.Header{Name: "host", Origin: trendtest.RealSockets}, trendtest.Plan{
		Duration:    *recordFor,
		SampleEvery: every,
		ScanEvery:   func(reading.Level) time.Duration { return every / 2 }, // so each time
		Keep: func(o *reading.Owner) bool {
			return slices.ContainsFunc(scenes, func(c *liveScene) bool { return c.owns(o.Key) })
		},
	}, trendtest.Source{Scan: func(ctx context.Context) (reading.Reading, error) {
		full, err := s.Scan(ctx, scan.Options{Thorough: true})
		if err != nil {
			return reading.Reading{}, err
		}
		full.Level = level
		return *full, nil
	}})
}

// makeSlice makes a slice at the root of the cgroup hierarchy, so that the
// scanner takes what is in it for services, and removes it after the test.
func makeSlice(t *testing.T) string {
	t.Helper()
	probe := scene.NewCgroup(t, "probe")
	root := strings.TrimSuffix(probe.Path, probe.Name)
	slice := filepath.Join(root, fmt.Sprintf("tcpmemdtrend%d.slice", os.Getpid()))
	if err := os.Mkdir(slice, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		units, err := filepath.Glob(filepath.Join(slice, "*.service"))
		if err != nil {
			t.Error(err)
		}
		for _, dir := range append(units, slice) {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		}
	})
	return slice
}

// enact starts the processes of a scene, and starts those again that end.
func enact(ctx context.Context, t *testing.T, players *sync.WaitGroup, c *liveScene, number int, slice string, start time.Time) {
	t.Helper()
	var ns *scene.Netns
	for i := range c.parts {
		p := &c.parts[i]
		dir := filepath.Join(slice, c.unit(p))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if p.inside && ns == nil {
			ns = scene.NewNetns(t)
			if err := join(ns, number); err != nil {
				t.Fatal(err)
			}
		}
		for range max(p.workers, 1) {
			inside := ns
			if !p.inside {
				inside = nil
			}
			players.Go(func() {
				for ctx.Err() == nil {
					if err := perform(ctx, c, p, dir, inside, start); err != nil && ctx.Err() == nil {
						t.Errorf("%s: %v", c.unit(p), err)
						return
					}
				}
			})
		}
	}
}

// perform runs one process of a part until it or ctx ends.
func perform(ctx context.Context, c *liveScene, p *part, cgroup string, ns *scene.Netns, start time.Time) error {
	text, err := json.Marshal(role{Scene: c.name, Part: p.name, StartMicros: start.UnixMicro(), Seed: rand.Uint64()})
	if err != nil {
		return err
	}
	dir, err := os.Open(cgroup)
	if err != nil {
		return err
	}
	defer dir.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.Env = append(os.Environ(), envPlayer+"="+string(text), "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	stdin, err := cmd.StdinPipe() // ends the process when this one ends
	if err != nil {
		return err
	}
	defer stdin.Close()
	begin := cmd.Start
	if ns != nil {
		begin = func() error { return ns.Do(cmd.Start) }
	}
	if err := begin(); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, said.Bytes())
	}
	return nil
}

// join connects a namespace with the host's: 10.213.N.1 and .2.
func join(ns *scene.Netns, number int) error {
	outside, inside := fmt.Sprintf("tcpmemd-o%d", number), fmt.Sprintf("tcpmemd-i%d", number)
	// The kernel takes its time to remove the namespace of an earlier run.
	if old, err := netlink.LinkByName(outside); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return fmt.Errorf("remove %s: %w", outside, err)
		}
	}
	// Made inside, so that it goes with the namespace.
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: inside}, PeerName: outside, PeerNamespace: netlink.NsPid(os.Getpid())}
	err := ns.Do(func() error {
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		return address(inside, fmt.Sprintf("10.213.%d.2/24", number))
	})
	if err == nil {
		err = address(outside, fmt.Sprintf("10.213.%d.1/24", number))
	}
	if err != nil {
		return fmt.Errorf("join namespace: %w", err)
	}
	return nil
}

func address(name, cidr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}
