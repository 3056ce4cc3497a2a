package store

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
)

const boot = "0d9be60c-6e5f-4a0a-8f60-6f2d7b7f3c11"

var epoch = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// stamp is the moment so many seconds after the tests' beginning.
func stamp(seconds float64) record.Stamp {
	return record.Stamp{
		At:     epoch.Add(time.Duration(seconds * float64(time.Second))),
		BootID: boot, BootSeconds: 1000 + seconds, Synced: true,
	}
}

func now() record.Stamp {
	s := stamp(0)
	s.At = time.Now().UTC()
	s.BootSeconds = time.Since(epoch).Seconds()
	return s
}

func open(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = now
	}
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.isClosing() {
			closeStore(t, s)
		}
	})
	return s
}

func (s *Store) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// wait calls start with a callback and gives what that was told.
func wait(t testing.TB, start func(done func(error))) error {
	t.Helper()
	told := make(chan error, 2)
	start(func(err error) { told <- err })
	select {
	case err := <-told:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the callback did not come")
		return nil
	}
}

func appendWait(t testing.TB, s *Store, rec record.Record) error {
	t.Helper()
	return wait(t, func(done func(error)) { s.Append(rec, done) })
}

func event(id string) record.Record {
	return record.Record{ID: id, Stamp: stamp(1), Kind: record.KindEvent, Event: &record.Event{ID: "test", Severity: "info", Text: id}}
}

func intent(action string) record.Record {
	return record.Record{
		ID: "i-" + action, Stamp: stamp(2), Kind: record.KindIntent, Action: action, Incident: "in-1", Rule: "leak", Key: "system/a.service",
		Intent: &record.Intent{Decision: record.Decision{Choice: record.ChoseAct, Action: "restart-unit"}, Deadline: stamp(60)},
	}
}

func result(action string) record.Record {
	return record.Record{
		ID: "r-" + action, Stamp: stamp(3), Kind: record.KindResult, Action: action, Incident: "in-1", Rule: "leak",
		Result: &record.Result{Outcome: record.Done, Message: "restarted"},
	}
}

// records reads all of the log and insists on numbers that rise.
func records(t testing.TB, s *Store, q actions.Query) (list []record.Record) {
	t.Helper()
	last := uint64(0)
	for rec, err := range s.Records(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		if !q.NewestFirst && rec.Seq <= last {
			t.Fatalf("record %d after %d", rec.Seq, last)
		}
		last = rec.Seq
		list = append(list, rec)
	}
	return list
}

func ids(list []record.Record) (ids []string) {
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}

func codes(s *Store) (codes []string) {
	for _, f := range s.Findings() {
		codes = append(codes, f.Code+" "+f.File)
	}
	slices.Sort(codes)
	return codes
}

// size is what the folder takes, in blocks of 4096 bytes.
func size(t testing.TB, dir string) (sum int64, files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if info, err := e.Info(); err == nil { // else a temporary file that is gone
			sum += (info.Size() + 4095) &^ 4095
			files++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum, files
}

func mustJSON(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprint(err))
	}
	return data
}

// soon insists that the loop's calls return at once and that cond comes true.
func soon(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for begun := time.Now(); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}
