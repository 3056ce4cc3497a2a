package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

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
		var tries atomic.Int32
		disk.become(func(f actions.File, b []byte) (int, error) {
			tries.Add(1)
			n, err := f.Write(b[:len(b)/2])
			return n, errors.Join(err, unix.EIO)
		}, nil, cut)
		if err := appendWait(t, s, event(fmt.Sprint(cut))); !errors.Is(err, unix.EIO) {
			t.Errorf("told %v", err)
		}
		soon(t, "tried again", func() bool { return tries.Load() > 1 || cut != nil })
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
		var writes atomic.Int32
		disk.become(func(f actions.File, b []byte) (int, error) {
			writes.Add(1)
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
		if took := time.Since(begun); took != 6*time.Second || writes.Load() != 2 {
			t.Errorf("%v, %d writes", took, writes.Load())
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
		var tries atomic.Int32
		disk.become(func(actions.File, []byte) (int, error) { tries.Add(1); return 0, unix.ENOSPC }, nil, nil)
		if err := appendWait(t, s, event("a")); err == nil {
			t.Error("no error")
		}
		time.Sleep(time.Minute)
		if n := tries.Load(); n < 55 || n > 70 {
			t.Errorf("%d tries in a minute", n)
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
