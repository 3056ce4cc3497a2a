package kmsg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// fakeLog answers reads from a list and then blocks, as the kernel does.
type fakeLog struct {
	mu       sync.Mutex
	answers  []any // string or error
	reads    int
	deadline chan struct{} // closed by SetReadDeadline
	closed   bool
}

func newFake(answers ...any) *fakeLog {
	return &fakeLog{answers: answers, deadline: make(chan struct{})}
}

func (f *fakeLog) Read(b []byte) (int, error) {
	f.mu.Lock()
	f.reads++
	if f.closed {
		f.mu.Unlock()
		return 0, os.ErrClosed
	}
	if len(f.answers) > 0 {
		a := f.answers[0]
		f.answers = f.answers[1:]
		f.mu.Unlock()
		switch a := a.(type) {
		case string:
			if len(a) > len(b) {
				return 0, &os.PathError{Op: "read", Path: "fake", Err: unix.EINVAL}
			}
			return copy(b, a), nil
		case error:
			return 0, a
		}
	}
	f.mu.Unlock()
	<-f.deadline
	return 0, os.ErrDeadlineExceeded
}

func (f *fakeLog) SetReadDeadline(time.Time) error {
	close(f.deadline)
	return nil
}

func (f *fakeLog) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

// runFake feeds the answers to a Log, lets it read all of them, and ends it.
func runFake(t *testing.T, answers ...any) (counts reading.LogCounts, matched bool, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake(answers...)
		l := follow("fake", fake, discard())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		<-l.Ready()
		time.Sleep(time.Hour)
		cancel()
		err = <-done
		if !fake.closed {
			t.Error("the log is still open")
		}
		counts = l.Counts()
		select {
		case <-l.Matched():
			matched = true
		default:
		}
	})
	return counts, matched, err
}

func overwritten() error { return &os.PathError{Op: "read", Path: "fake", Err: unix.EPIPE} }

func TestCounts(t *testing.T) {
	const oom, orphans = "TCP: out of memory -- consider tuning tcp_mem", "TCP: too many orphaned sockets"
	const full = "nf_conntrack: nf_conntrack: table full, dropping packet"
	rec := func(prio, seq int, msg string) string { return fmt.Sprintf("%d,%d,77,-;%s\n", prio, seq, msg) }
	for _, tt := range []struct {
		name    string
		answers []any
		want    reading.LogCounts
	}{
		{"nothing", nil, reading.LogCounts{Readable: true}},
		{
			"each kind",
			[]any{rec(6, 5, oom), rec(6, 6, orphans), rec(4, 7, full), rec(6, 8, "eth0: up"), rec(6, 9, oom)},
			reading.LogCounts{Readable: true, OutOfMemory: 2, TooManyOrphans: 1, ConntrackFull: 1},
		},
		{
			"forged by a program",
			[]any{rec(12, 5, oom), rec(8, 6, orphans), rec(30, 7, full)},
			reading.LogCounts{Readable: true},
		},
		{
			"gap after EPIPE",
			[]any{rec(6, 5, oom), overwritten(), rec(6, 105, oom)},
			reading.LogCounts{Readable: true, OutOfMemory: 2, Lost: 99},
		},
		{
			"gap without EPIPE",
			[]any{rec(6, 5, "x"), rec(6, 7, "y")},
			reading.LogCounts{Readable: true, Lost: 1},
		},
		{
			"EPIPE without a gap",
			[]any{rec(6, 5, "x"), overwritten(), rec(6, 6, "y")},
			reading.LogCounts{Readable: true},
		},
		{
			"EPIPE before the first",
			[]any{overwritten(), rec(6, 105, oom)},
			reading.LogCounts{Readable: true, OutOfMemory: 1, Lost: 1},
		},
		{
			"first number is not a gap",
			[]any{rec(6, 9000, "x")},
			reading.LogCounts{Readable: true},
		},
		{
			"garbage is lost",
			[]any{rec(6, 1, "x"), "no header\n", rec(6, 3, oom)},
			reading.LogCounts{Readable: true, OutOfMemory: 1, Lost: 1},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			counts, matched, err := runFake(t, tt.answers...)
			if err != nil {
				t.Errorf("cancelled Run: %v", err)
			}
			if diff := cmp.Diff(tt.want, counts); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			wantMatch := tt.want.OutOfMemory+tt.want.TooManyOrphans+tt.want.ConntrackFull > 0
			if matched != wantMatch {
				t.Errorf("notified: %t, want %t", matched, wantMatch)
			}
		})
	}
}

func TestBrokenLogIsNotReadable(t *testing.T) {
	for _, broken := range []any{io.EOF, &os.PathError{Op: "read", Path: "fake", Err: unix.EIO}, ""} {
		got, _, err := runFake(t, "6,1,1,-;TCP: out of memory\n", broken)
		if err == nil || strings.Count(err.Error(), "read") != 1 {
			t.Errorf("after %v: Run says %v", broken, err)
		}
		if got.Readable || got.OutOfMemory != 1 {
			t.Errorf("after %v: %+v", broken, got)
		}
	}
}

func TestNilLogIsNotReadable(t *testing.T) {
	var l *Log
	if got := l.Counts(); got != (reading.LogCounts{}) {
		t.Errorf("got %+v", got)
	}
}

// TestFloodIsPaced shows that a flood is read at a bounded rate.
func TestFloodIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flood []any
		for i := range 20 * burst {
			flood = append(flood, fmt.Sprintf("6,%d,1,-;noise\n", i+1))
		}
		fake := newFake(flood...)
		l := follow("fake", fake, discard())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		time.Sleep(time.Second)
		synctest.Wait()
		fake.mu.Lock()
		reads := fake.reads
		fake.mu.Unlock()
		if limit := int(time.Second/burstTime+1)*burst + burst; reads > limit || reads < burst {
			t.Errorf("%d reads in a second of flood, want at most %d", reads, limit)
		}
		cancel() // also ends the pause
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none"), discard()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	// A regular file cannot be waited for.
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("6,1,1,-;x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(plain, discard()); err == nil {
		t.Error("a regular file was accepted")
	}
}
