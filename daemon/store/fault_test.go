package store

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// mount mounts a small tmpfs.
func mount(t *testing.T, options string) string {
	t.Helper()
	require.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestLogOnFullDisk(t *testing.T) {
	dir := mount(t, "size=1m")
	ballast := filepath.Join(dir, "ballast")
	s := open(t, filepath.Join(dir, "state"), Options{})
	if err := appendWait(t, s, event("before")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	long := event("during")
	long.Event.Text = strings.Repeat("x", 8<<10) // some of it may find room
	if err := appendWait(t, s, long); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("told %v", err)
	}
	if err := appendWait(t, s, intent("a")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("told %v", err)
	}
	if err := wait(t, func(done func(error)) { s.SaveLeases(nil, done) }); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("leases: told %v", err)
	}
	if h := s.Health(); h.Log.Err == nil || h.State.Err == nil || h.Queued != 2 || h.Waiting != 1 || h.Log.Since.BootID != boot {
		t.Errorf("health: %+v", h)
	}
	// What waits is part of what is shown.
	if diff := cmp.Diff([]string{"before", "during", "i-a"}, ids(records(t, s, actions.Query{}))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	soon(t, "written again", func() bool { h := s.Health(); return h.Queued == 0 && h.Waiting == 0 && h.Log.Err == nil })
	closeStore(t, s)
	s = open(t, filepath.Join(dir, "state"), Options{})
	if diff := cmp.Diff([]string{"before", "during", "i-a"}, ids(records(t, s, actions.Query{}))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(s.Unfinished()) != 1 || len(s.Findings()) != 0 {
		t.Errorf("unfinished %v, findings %v", s.Unfinished(), s.Findings())
	}
}

// A daemon that starts on a full disk observes all the same.
func TestOpenOnFullDisk(t *testing.T) {
	dir := mount(t, "size=64k,nr_inodes=3")
	state := filepath.Join(dir, "state")
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 60<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, state, Options{})
	if err := appendWait(t, s, event("a")); err == nil {
		t.Error("no error")
	}
	s.AppendHistory(&history.Entry{Stamp: stamp(1)})
	if err := unix.Mount("tmpfs", dir, "", unix.MS_REMOUNT, "size=1m,nr_inodes=100"); err != nil {
		t.Fatal(err)
	}
	soon(t, "written", func() bool { h := s.Health(); return h.Queued+h.Waiting == 0 })
	if err := wait(t, func(done func(error)) { s.SaveIncident(&record.Incident{ID: "in"}, done) }); err != nil {
		t.Error(err)
	}
}

func TestLogOnReadOnlyDisk(t *testing.T) {
	dir := mount(t, "size=4m")
	s := open(t, dir, Options{})
	if err := appendWait(t, s, intent("a")); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("tmpfs", dir, "", unix.MS_REMOUNT|flags, "size=4m"); err != nil {
			t.Fatalf("remount: %v", err)
		}
	}
	remount(unix.MS_RDONLY)
	s = open(t, dir, Options{})
	if diff := cmp.Diff([]string{"i-a"}, ids(s.Unfinished())); diff != "" {
		t.Errorf("unfinished (-want +got):\n%s", diff)
	}
	if err := s.LoadBudgets(new(string)); err != nil {
		t.Errorf("budgets: %v", err)
	}
	if s.Health().Log.Err == nil {
		t.Error("health does not tell before the first record")
	}
	if err := appendWait(t, s, result("a")); !errors.Is(err, unix.EROFS) {
		t.Errorf("told %v", err)
	}
	for i := range 100 {
		s.AppendHistory(&history.Entry{Stamp: stamp(float64(i))})
	}
	remount(0)
	soon(t, "written again", func() bool { return s.Health().Queued == 0 })
	if err := wait(t, func(done func(error)) { s.SaveBudgets("x", done) }); err != nil {
		t.Error(err)
	}
	if list := records(t, s, actions.Query{}); len(list) != 2 || list[1].Seq != 2 {
		t.Errorf("%v", ids(list))
	}
}

// A file system that is frozen, as for a snapshot: writes hang in the kernel.
func TestLogOnFrozenDisk(t *testing.T) {
	require.Root(t)
	mkfs, freeze, mountTool := require.Tool(t, "mkfs.ext4"), require.Tool(t, "fsfreeze"), require.Tool(t, "mount")
	image := filepath.Join(t.TempDir(), "image")
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 16<<20); err != nil {
		t.Fatal(err)
	}
	run(mkfs, "-q", "-F", image)
	run(mountTool, "-o", "loop", image, dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	s := open(t, filepath.Join(dir, "state"), Options{})
	if err := appendWait(t, s, event("before")); err != nil {
		t.Fatal(err)
	}
	run(freeze, "-f", dir)
	thawed := false
	thaw := func() {
		if !thawed {
			thawed = true
			if out, err := exec.Command(freeze, "-u", dir).CombinedOutput(); err != nil {
				t.Errorf("thaw: %v: %s", err, out)
			}
		}
	}
	defer thaw()
	told := make(chan error, 1)
	begun := time.Now()
	s.Append(intent("a"), func(err error) { told <- err })
	for i := range 100 {
		s.Append(event(fmt.Sprint(i)), nil)
		s.AppendHistory(&history.Entry{Stamp: stamp(float64(i))})
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("the loop waited: %v", took)
	}
	soon(t, "stuck", func() bool { return s.Health().Busy > 300*time.Millisecond })
	select {
	case err := <-told:
		t.Errorf("told %v while the disk was frozen", err)
	default:
	}
	thaw()
	if err := <-told; err != nil {
		t.Error(err)
	}
	soon(t, "written", func() bool { return s.Health().Queued == 0 })
	if n := len(records(t, s, actions.Query{})); n != 102 {
		t.Errorf("%d records", n)
	}
	closeStore(t, s)
}
