package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func all(*reading.Socket) bool { return true }

const manyRows = 100_000

func withRows(h *fakeHost) { h.rows = manyRows }

func TestSockets(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(time.Second)
		next := reading.Cookie(2)
		even := func(s *reading.Socket) bool { return s.Cookie%2 == 0 }
		err := (&source{r.d}).Sockets(t.Context(), even, func(s *reading.Socket) error {
			if s.Cookie != next {
				t.Fatalf("row %d, want %d", s.Cookie, next)
			}
			next += 2
			return nil
		})
		if err != nil || next != manyRows+2 {
			t.Errorf("%d rows, error %v; want %d", next/2-1, err, manyRows/2)
		}
	}, withRows)
}

// TestSocketsSlowClient: a client that does not read keeps the reader for
// listTime at most; then the host is scanned again. The client learns that its
// list is not whole.
func TestSocketsSlowClient(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(time.Second)
		begin := time.Now()
		listed := make(chan error, 1)
		rows := 0
		go func() {
			listed <- (&source{r.d}).Sockets(t.Context(), all, func(*reading.Socket) error {
				rows++
				time.Sleep(time.Second)
				return nil
			})
		}()
		r.after(0)
		if _, err := (&source{r.d}).Read(t.Context(), true); err != nil {
			t.Error(err)
		}
		if waited := time.Since(begin); waited < listTime || waited > listTime+time.Second {
			t.Errorf("a fresh reading after %v, want right after %v", waited, listTime)
		}
		if n := len(r.when("watchdog", r.start)); n < 11 {
			t.Errorf("%d signs of life while a client was slow", n)
		}
		if err := <-listed; err == nil || !strings.Contains(err.Error(), "took too long") || rows >= manyRows {
			t.Errorf("%d rows, error %v; want some, and that it took too long", rows, err)
		}
	}, withRows)
}

// TestTurns: where scans take longer than their interval, who asks is served
// after the one that runs.
func TestTurns(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		for range 3 {
			r.after(time.Second)
			begin := time.Now()
			if _, err := (&source{r.d}).Info(t.Context(), &reading.Socket{}); err != nil {
				t.Error(err)
			}
			if waited := time.Since(begin); waited > r.takes {
				t.Errorf("waited %v, a scan takes %v", waited, r.takes)
			}
		}
		if n := len(r.began(r.start)); n < 3 {
			t.Errorf("%d scans beside the questions", n)
		}
	}, func(h *fakeHost) { h.takes, h.used = 3*pressed, 290 })
}

// TestSocketsBehindScan: waiting for the reader counts, too.
func TestSocketsBehindScan(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(time.Second)
		begin := time.Now()
		err := (&source{r.d}).Sockets(t.Context(), all, func(*reading.Socket) error { t.Error("a row"); return nil })
		if err == nil || !strings.Contains(err.Error(), "took too long") || time.Since(begin) != listTime {
			t.Errorf("error %v after %v; want that it took too long, after %v", err, time.Since(begin), listTime)
		}
	}, withRows, func(h *fakeHost) { h.takes = time.Hour })
}

// TestSocketsStopped: what the client's side returns is what the caller gets.
func TestSocketsStopped(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(time.Second)
		src, enough := &source{r.d}, errors.New("enough")
		n := 0
		err := src.Sockets(t.Context(), all, func(*reading.Socket) error {
			if n++; n == 300 {
				return enough
			}
			return nil
		})
		if err != enough || n != 300 {
			t.Errorf("%d rows, error %v; want 300, %v", n, err, enough)
		}
		ctx, cancel := context.WithCancel(t.Context())
		err = src.Sockets(ctx, all, func(*reading.Socket) error { cancel(); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want cancelled", err)
		}
		synctest.Wait()
		if _, err := src.Info(t.Context(), &reading.Socket{}); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		if _, err := src.Doctor(t.Context()); err == nil || err.Error() != "no doctor" {
			t.Errorf("error %v, want the doctor's", err)
		}
	}, withRows)
}

func TestState(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		src := &source{r.d}
		if _, err := src.State(t.Context()); err != nil && !errors.Is(err, errNoReading) {
			t.Error(err)
		}
		r.after(5 * time.Second)
		s, err := src.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Level != reading.Calm || s.Reading == nil || s.Sample.Used != 42 || !s.Started.Equal(r.start) || s.Cost == nil {
			t.Errorf("state %+v", s)
		}
	}, func(h *fakeHost) { h.used = 42 })
}
