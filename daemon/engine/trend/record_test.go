package trend_test

import (
	"bytes"
	"context"
	"encoding/json"
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
// It needs root, about 400 MiB of TCP memory and 60 processes.
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
	start := time.Now().Add(2 * time.Second)
	slice := makeSlice(t)
	var players sync.WaitGroup
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

	var scanners sync.WaitGroup
	recorders := make([]*recorder, len(recordPaces))
	for i, pace := range recordPaces {
		recorders[i] = newRecorder(chosen)
		scanners.Go(func() { recorders[i].run(ctx, t, start, pace.level, pace.every) })
	}
	time.Sleep(time.Until(start.Add(*recordFor)))
	stop()
	scanners.Wait()
	players.Wait()
	if err := forgetRemote(); err != nil {
		t.Error(err)
	}
	for i, pace := range recordPaces {
		recorders[i].write(t, pace.suffix)
	}
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

// recorder cuts the readings of the host into a recording for each scene.
type recorder struct {
	scenes     []*liveScene
	recordings []*trendtest.Recording
}

func newRecorder(scenes []*liveScene) *recorder {
	r := &recorder{scenes: scenes}
	for _, c := range scenes {
		h := trendtest.Header{Version: trendtest.Version, Name: c.name, Origin: trendtest.RealSockets, HeldOut: c.heldOut,
			About: c.about, Host: c.host, From: c.from, Owners: labels{}}
		for i := range c.parts {
			p := &c.parts[i]
			if p.label != "" {
				h.Owners[c.key(p)] = p.label
			}
			if culprit := c.culprits[p.name]; culprit != "" {
				if h.Culprits == nil {
					h.Culprits = make(map[string]string)
				}
				for j := range c.parts {
					if c.parts[j].name == culprit {
						culprit = c.key(&c.parts[j])
					}
				}
				h.Culprits[c.key(p)] = culprit
			}
		}
		r.recordings = append(r.recordings, &trendtest.Recording{Header: h})
	}
	return r
}

// run scans at a pace until ctx is done.
func (r *recorder) run(ctx context.Context, t *testing.T, start time.Time, level reading.Level, every time.Duration) {
	s, err := scan.Open(ctx, scan.Config{})
	if err != nil {
		t.Error(err)
		return
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		full, err := s.Scan(ctx, scan.Options{Thorough: true})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		full.Level = level
		r.cut(full, full.Sample.At.Sub(start))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// cut keeps of a reading, for each scene, the owners that belong to it, and
// takes their sum for the host's.
func (r *recorder) cut(full *reading.Reading, since time.Duration) {
	for i, c := range r.scenes {
		var sum int64
		o := trendtest.FromReading(full, since, func(o *reading.Owner) bool {
			ours := slices.ContainsFunc(c.parts, func(p part) bool { return c.key(&p) == o.Key })
			if ours {
				sum += o.Sum.Bytes
			}
			return ours
		})
		o.Used = reading.Pages(sum / int64(full.Sample.PageSize))
		rec := r.recordings[i]
		if rec.PageSize == 0 {
			s := &full.Sample
			rec.PageSize, rec.ReserveMax = s.PageSize, s.ReserveMax
			rec.Mem = [3]int64{int64(s.Mem.Min), int64(s.Mem.Pressure), int64(s.Mem.Max)}
		}
		rec.Observations = append(rec.Observations, o)
	}
}

func (r *recorder) write(t *testing.T, suffix string) {
	for _, rec := range r.recordings {
		rec.Name += suffix
		rec.About += "; cut out of a recording of the whole host in which all live scenes ran at once: " +
			"it has this scene's owners only, the host's use is their sum, and there are no samples between the scans"
		if err := rec.WriteFile(filepath.Join(*recordTo, rec.Name+".jsonl.gz")); err != nil {
			t.Error(err)
		}
	}
}
