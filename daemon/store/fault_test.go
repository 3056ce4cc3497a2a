package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// soon insists that the loop's calls return at once and that cond comes true.
func soon(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for begun := time.Now(); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

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

// badFile is a file whose disk can be made bad.
type badFile struct {
	actions.File
	disk *badDisk
}

type badDisk struct {
	mu    sync.Mutex
	write func(f actions.File, b []byte) (int, error)
	sync  func() error
	cut   error
}

func (d *badDisk) open(path string) (actions.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	return &badFile{f, d}, err
}

func (d *badDisk) become(write func(actions.File, []byte) (int, error), sync func() error, cut error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.write, d.sync, d.cut = write, sync, cut
}

func (f *badFile) Write(b []byte) (int, error) {
	f.disk.mu.Lock()
	write := f.disk.write
	f.disk.mu.Unlock()
	if write != nil {
		return write(f.File, b)
	}
	return f.File.Write(b)
}

func (f *badFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.sync != nil {
		return f.disk.sync()
	}
	return f.File.Sync()
}

func (f *badFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.cut != nil {
		return f.disk.cut
	}
	return f.File.Truncate(size)
}

// A write that is cut short, also where its rest cannot be removed at once: no
// line is there twice or in halves.
func TestLogOnTearingDisk(t *testing.T) {
	disk := &badDisk{}
	dir := t.TempDir()
	s := open(t, dir, Options{openLog: disk.open})
	if err := appendWait(t, s, event("a")); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []error{nil, unix.EIO} {
		tries := 0
		disk.become(func(f actions.File, b []byte) (int, error) {
			tries++
			n, err := f.Write(b[:len(b)/2])
			return n, errors.Join(err, unix.EIO)
		}, nil, cut)
		if err := appendWait(t, s, event(fmt.Sprint(cut))); !errors.Is(err, unix.EIO) {
			t.Errorf("told %v", err)
		}
		soon(t, "tried again", func() bool { disk.mu.Lock(); defer disk.mu.Unlock(); return tries > 1 || cut != nil })
		disk.become(nil, nil, nil)
		soon(t, "written", func() bool { return s.Health().Queued == 0 })
	}
	closeStore(t, s)
	s = open(t, dir, Options{})
	if diff := cmp.Diff([]string{"a", "<nil>", "input/output error"}, ids(records(t, s, actions.Query{}))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(s.Findings()) != 0 {
		t.Errorf("findings: %v", s.Findings())
	}
}

// After a failed fdatasync the lines are written anew, once.
func TestLogOnDiskThatDoesNotSync(t *testing.T) {
	disk := &badDisk{}
	s := open(t, t.TempDir(), Options{openLog: disk.open})
	disk.become(nil, func() error { return unix.EIO }, nil)
	if err := appendWait(t, s, intent("a")); !errors.Is(err, unix.EIO) {
		t.Errorf("told %v", err)
	}
	disk.become(nil, nil, nil)
	soon(t, "written", func() bool { return s.Health().Queued == 0 })
	if diff := cmp.Diff([]string{"i-a"}, ids(records(t, s, actions.Query{}))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A stuck disk: nobody waits, the bound holds, intents are kept, and the count
// of what was lost is recorded.
func TestLogOnStuckDisk(t *testing.T) {
	disk, stuck := &badDisk{}, make(chan struct{})
	s := open(t, t.TempDir(), Options{openLog: disk.open, QueueRecords: 20})
	disk.become(func(f actions.File, b []byte) (int, error) {
		<-stuck
		return f.Write(b)
	}, nil, nil)
	calls := map[string]int{}
	told := map[string]error{}
	var mu sync.Mutex
	add := func(rec record.Record) {
		s.Append(rec, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			calls[rec.ID]++
			told[rec.ID] = err
		})
	}
	begun := time.Now()
	add(event("first"))
	soon(t, "stuck", func() bool { return s.Health().Busy > 0 })
	for i := range 10 {
		add(intent(fmt.Sprint(i)))
	}
	for i := range 1000 {
		add(event(fmt.Sprint("e", i)))
		s.AppendHistory(&history.Entry{Stamp: stamp(float64(i)), Sample: reading.Sample{Used: 1}})
		s.SaveIncident(&record.Incident{ID: "in-1"}, nil)
		s.SaveBudgets(i, nil)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("the loop waited: %v", took)
	}
	h := s.Health()
	if h.Queued > 20 || h.DroppedRecords != 991 || h.DroppedReadings < 900 || h.Waiting != 2 || h.Oldest == 0 || h.Log.Err != nil {
		t.Errorf("health: %+v", h)
	}
	disk.become(nil, nil, nil)
	close(stuck)
	soon(t, "written", func() bool { h := s.Health(); return h.Queued+h.Waiting == 0 })
	list := records(t, s, actions.Query{})
	last := list[len(list)-1]
	if len(list) != 21 || last.Event == nil || last.Event.ID != "records-dropped" || last.Event.Details["dropped"] != 991.0 {
		t.Errorf("%v", ids(list))
	}
	if got := ids(list)[:11]; got[0] != "first" || got[10] != "i-9" {
		t.Errorf("not the intents are kept: %v", got)
	}
	soon(t, "all are told", func() bool { mu.Lock(); defer mu.Unlock(); return len(calls) == 1011 })
	for id, n := range calls {
		if n != 1 || errors.Is(told[id], ErrDropped) == slices.Contains(ids(list), id) {
			t.Errorf("%s was told %d times, %v", id, n, told[id])
		}
	}
	var budgets int
	closeStore(t, s)
	s = open(t, s.dir, Options{})
	if err := s.LoadBudgets(&budgets); err != nil || budgets != 999 {
		t.Errorf("budgets %d, %v", budgets, err)
	}
}

// A slow disk only takes longer: one write for all that came meanwhile.
func TestLogOnSlowDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		disk := &badDisk{}
		s := open(t, dir, Options{openLog: disk.open})
		writes := 0
		disk.become(func(f actions.File, b []byte) (int, error) {
			writes++
			time.Sleep(3 * time.Second)
			return f.Write(b)
		}, nil, nil)
		begun := time.Now()
		s.Append(event("first"), nil)
		synctest.Wait()
		for i := range 200 {
			s.Append(event(fmt.Sprint(i)), nil)
		}
		time.Sleep(time.Second)
		if h := s.Health(); h.Busy != time.Second || h.Oldest != time.Second || h.Queued != 201 {
			t.Errorf("health: %+v", h)
		}
		if err := appendWait(t, s, event("last")); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != 6*time.Second || writes != 2 {
			t.Errorf("%v, %d writes", took, writes)
		}
		closeStore(t, s)
	})
}

// The retry of a failing disk comes soon enough for a caller with a deadline
// of 2 s, and does not spin.
func TestRetryPace(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		disk := &badDisk{}
		s := open(t, dir, Options{openLog: disk.open})
		tries := 0
		disk.become(func(actions.File, []byte) (int, error) { tries++; return 0, unix.ENOSPC }, nil, nil)
		if err := appendWait(t, s, event("a")); err == nil {
			t.Error("no error")
		}
		time.Sleep(time.Minute)
		if tries < 55 || tries > 70 {
			t.Errorf("%d tries in a minute", tries)
		}
		begun := time.Now()
		if err := appendWait(t, s, event("b")); err == nil || time.Since(begun) > time.Second {
			t.Errorf("told %v after %v", err, time.Since(begun))
		}
		if err := s.Close(t.Context()); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("close: %v", err)
		}
	})
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

// The last lines cut short at every byte: what was whole stays, the rest is
// set aside, numbers go on.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	for i := range 2 {
		s.Append(event(fmt.Sprint(i)), nil)
	}
	closeStore(t, s)
	path := filepath.Join(dir, actions.Name)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		lines := bytes.Count(whole[:cut], []byte("\n"))
		torn := whole[bytes.LastIndexByte(whole[:cut], '\n')+1 : cut]
		s := open(t, dir, Options{})
		if got := len(s.Findings()); got != min(len(torn), 1) {
			t.Fatalf("cut at %d: %v", cut, s.Findings())
		}
		if len(torn) > 0 {
			if kept, err := os.ReadFile(filepath.Join(dir, "actions.torn")); err != nil || !bytes.Equal(kept, torn) {
				t.Fatalf("cut at %d: kept %q, %v", cut, kept, err)
			}
		}
		s.Append(event("next"), nil)
		list := records(t, s, actions.Query{})
		if len(list) != lines+1 || list[lines].Seq != uint64(lines)+1 {
			t.Fatalf("cut at %d: %v", cut, ids(list))
		}
		closeStore(t, s)
	}
}

func TestGarbageInLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	s.Append(intent("a"), nil)
	closeStore(t, s)
	path := filepath.Join(dir, actions.Name)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	garbage := []string{
		"garbage", "\x00\x00\x00", "{}", `{"version":1}`, `{"version":9,"seq":5,"kind":"intent"}`, `[1]`, "null",
		`{"version":1,"seq":18446744073709551615,"kind":"event"}`, `{"version":1,"seq":"x","kind":"result","action":"a"}`,
		`{"version":1,"seq":-3,"kind":"result","action":"a"}`, strings.Repeat("[", 100000), strings.Repeat("x", 3<<20), "",
	}
	if _, err := f.WriteString(strings.Join(garbage, "\n") + "\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s = open(t, dir, Options{})
	if diff := cmp.Diff([]string{"log-unreadable actions.jsonl"}, codes(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"i-a"}, ids(s.Unfinished())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.Append(result("a"), nil)
	for _, newest := range []bool{false, true} {
		var got []string
		var skipped *actions.SkippedError
		for rec, err := range s.Records(t.Context(), actions.Query{NewestFirst: newest}) {
			if err != nil {
				if !errors.As(err, &skipped) {
					t.Error(err)
				}
				continue
			}
			got = append(got, fmt.Sprint(rec.Seq, rec.ID))
		}
		// The line of 3 MB and the empty one are no lines at all.
		if skipped == nil || skipped.Lines != 11 || len(got) != 2 {
			t.Errorf("%v, %v", skipped, got)
		}
	}
}

// A log that somebody removed is begun anew, and no record is lost in it.
func TestLogRemovedByHand(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	if err := appendWait(t, s, event("a")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, actions.Name)); err != nil {
		t.Fatal(err)
	}
	if err := appendWait(t, s, event("b")); err != nil {
		t.Fatal(err)
	}
	if list := records(t, s, actions.Query{}); len(list) != 1 || list[0].Seq != 2 {
		t.Errorf("%v", list)
	}
}

// Everything at once, far too much of it: the folder stays within its bound,
// and what is left is whole.
func TestTotalBound(t *testing.T) {
	const bound = 2 << 20
	s := open(t, t.TempDir(), Options{MaxBytes: bound})
	noise := func(n int) string {
		b := make([]byte, n/2)
		if _, err := unix.Getrandom(b, 0); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", b)
	}
	most := int64(0)
	for i := range 700 {
		rec := event(fmt.Sprint(i))
		rec.Event.Text = noise(3000)
		s.Append(rec, nil)
		ended := stamp(float64(i))
		in := &record.Incident{ID: fmt.Sprint("in-", i), About: noise(6000), Began: stamp(float64(i))}
		if i%3 > 0 {
			in.Ended = &ended
		}
		s.SaveIncident(in, nil)
		s.PutOutbox(Outbox{ID: fmt.Sprint("o-", i), Request: mustJSON(noise(2000)), Born: stamp(float64(i))}, nil)
		s.SaveBudgets(noise(20000), nil)
		e := &history.Entry{Stamp: stamp(float64(60 * i)), Reading: &reading.Reading{}}
		for n := range 20 {
			e.Reading.Owners = append(e.Reading.Owners, reading.Owner{Key: fmt.Sprint(n), Name: noise(100)})
		}
		s.AppendHistory(e)
		if i%10 == 0 {
			if err := wait(t, func(done func(error)) { s.SaveLeases(nil, done) }); err != nil {
				t.Fatal(err)
			}
			soon(t, "written", func() bool { h := s.Health(); return h.Queued+h.Waiting == 0 })
			n, _ := size(t, s.dir)
			most = max(most, n)
		}
	}
	if most > bound {
		t.Errorf("%d bytes", most)
	}
	t.Logf("%d bytes of %d", most, bound)
	closeStore(t, s)
	s = open(t, s.dir, Options{MaxBytes: bound})
	list := records(t, s, actions.Query{})
	if len(s.Findings()) != 0 || len(list) < 50 || list[len(list)-1].ID != "699" {
		t.Errorf("findings %v, %d records", s.Findings(), len(list))
	}
	newest := records(t, s, actions.Query{NewestFirst: true})
	if len(newest) != len(list) || newest[0].ID != "699" {
		t.Errorf("%d records the other way", len(newest))
	}
	incidents := s.Incidents()
	if len(incidents) < 20 || incidents[0].ID != "in-699" {
		t.Errorf("%d incidents", len(incidents))
	}
	for _, in := range incidents {
		if _, err := s.Incident(in.ID); err != nil {
			t.Error(err)
		}
	}
	entries := 0
	for _, err := range history.Read(filepath.Join(s.dir, history.Name), time.Time{}, time.Time{}) {
		if err != nil {
			t.Error(err)
		}
		entries++
	}
	if entries == 0 {
		t.Error("no history")
	}
}
