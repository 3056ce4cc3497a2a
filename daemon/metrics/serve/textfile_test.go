package serve

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// holds waits until the file has the text.
func holds(t *testing.T, file, want string) {
	t.Helper()
	eventually(t, func() string {
		text, err := os.ReadFile(file)
		if err != nil || string(text) != want {
			return "the file has " + string(text)
		}
		return ""
	})
}

func gone(t *testing.T, file string) {
	t.Helper()
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", file, err)
	}
}

// TestTextfileOwnCost: what node_exporter has of its own stays out of the file.
func TestTextfileOwnCost(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tcpmemd.prom")
	start(t, Config{Textfile: file, Interval: 20 * time.Millisecond, Gather: func(ctx context.Context) ([]*dto.MetricFamily, error) {
		cost := &dto.MetricFamily{Name: new("process_open_fds"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: new(7.0)}}}}
		families, err := one(ctx)
		return append([]*dto.MetricFamily{cost}, families...), err
	}})
	holds(t, file, oneText)
}

func TestTextfile(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	file, precious := filepath.Join(dir, "tcpmemd.prom"), filepath.Join(dir, "precious")
	left := filepath.Join(dir, ".tcpmemd.prom12345") // of a daemon that was killed
	for _, f := range []string{precious, left, filepath.Join(dir, ".tcpmemd.promise")} {
		if err := os.WriteFile(f, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(precious, file); err != nil {
		t.Fatal(err)
	}
	e, stop := start(t, Config{Textfile: file, Interval: 20 * time.Millisecond})
	holds(t, file, oneText)
	untroubled(t, e)
	if does := e.Doing(); len(does) != 1 || does[0] != "written every 20ms to "+file {
		t.Errorf("does %v", does)
	}
	if info, err := os.Lstat(file); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v; want a file that all may read", info.Mode(), err)
	}
	if text, _ := os.ReadFile(precious); string(text) != "precious" {
		t.Errorf("what a link led to was written: %s", text)
	}
	first, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if now, err := os.Stat(file); err != nil || os.SameFile(first, now) {
			return "it is not written again"
		}
		return ""
	})
	stop()
	gone(t, file)
	gone(t, left)
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("the folder has %v", entries)
	}
}

func TestTextfileTroubles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.prom"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"absent/m.prom": "open: no such file or directory; make the folder",
		"file/m.prom":   "open: not a directory",
		"folder.prom":   "rename: file exists",
	} {
		e, _ := start(t, Config{Textfile: filepath.Join(dir, path), Interval: 20 * time.Millisecond})
		troubleWith(t, e, filepath.Join(dir, path)+": "+want)
		before := e.Troubles()[0]
		time.Sleep(50 * time.Millisecond)
		if now := e.Troubles()[0]; now != before {
			t.Errorf("it would be told again: %s, then %s", before, now)
		}
	}
	// It works as soon as it can.
	e, stop := start(t, Config{Textfile: filepath.Join(dir, "later", "m.prom"), Interval: 20 * time.Millisecond})
	troubleWith(t, e, "no such file")
	if err := os.Mkdir(filepath.Join(dir, "later"), 0o700); err != nil {
		t.Fatal(err)
	}
	untroubled(t, e)
	stop()
	if entries, _ := os.ReadDir(filepath.Join(dir, "later")); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
}

// TestFullDisk: the old file stays whole, and nothing else stays. The same on a
// file system that becomes read-only.
func TestFullDisk(t *testing.T) {
	require.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	var size atomic.Int64
	size.Store(10)
	file := filepath.Join(dir, "m.prom")
	e, _ := start(t, Config{Textfile: file, Interval: 20 * time.Millisecond, Gather: func(context.Context) ([]*dto.MetricFamily, error) {
		return []*dto.MetricFamily{{Name: new("a"), Help: new(strings.Repeat("x", int(size.Load()))), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: new(1.0)}}}}}, nil
	}})
	want := "# HELP a xxxxxxxxxx\n# TYPE a gauge\na 1\n"
	holds(t, file, want)
	size.Store(200 << 10)
	troubleWith(t, e, file+": write: no space left on device; make room there")
	holds(t, file, want)
	size.Store(10)
	untroubled(t, e)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	troubleWith(t, e, file+": open: read-only file system", "metrics-textfile.conf")
	holds(t, file, want)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	untroubled(t, e)
	eventually(t, func() string {
		if entries, _ := os.ReadDir(dir); len(entries) != 1 && len(entries) != 2 { // one is being written
			return "temporary files stay"
		}
		return ""
	})
}

// TestHangingWrite: what does not answer holds up neither the daemon's end nor
// anything else, and has one goroutine.
func TestHangingWrite(t *testing.T) {
	var asked atomic.Int64
	release := make(chan struct{})
	e, stop := start(t, Config{Textfile: filepath.Join(t.TempDir(), "m.prom"), Interval: 10 * time.Millisecond, Gather: func(ctx context.Context) ([]*dto.MetricFamily, error) {
		asked.Add(1)
		<-release
		return one(ctx)
	}})
	troubleWith(t, e, "the file system has not answered for 5s")
	began := time.Now()
	stop()
	if took := time.Since(began); took > 2*stopTime {
		t.Errorf("the end took %s", took)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d writes at once", n)
	}
	close(release)
}
