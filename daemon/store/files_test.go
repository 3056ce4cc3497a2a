package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

func TestLeases(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	if got, err := s.LoadLeases(); err != nil || len(got.Leases) != 0 {
		t.Errorf("new: %v, %v", got, err)
	}
	want := []Lease{{
		ActionID: "a1", Action: "raise-tcp-mem", Rule: "load", Incident: "in-1", Undo: mustJSON(map[string]int{"max": 1}),
		TakenAt: stamp(1), Expires: stamp(600), HardEnd: stamp(3600), State: LeasePlanned,
	}}
	if err := wait(t, func(done func(error)) { s.SaveLeases(want, done) }); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(t, dir, Options{})
	got, err := s.LoadLeases()
	if diff := cmp.Diff(Leases{1, boot, want}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestSmallFilesDamaged(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "torn": `{"version":1,"val`, "garbage": "\x00\x00\x00\x00", "of a later version": `{"version":2,"value":{}}`,
		"without version": `{"value":{"a":1}}`, "trailing": `{"version":1,"value":{"a":1}}{`, "huge": `{"version":1,"value":"` + strings.Repeat("a", 3<<20) + `"}`,
		"removed": "-",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, Options{})
			s.SaveBudgets(map[string]int{"rule": 1}, nil)
			if err := appendWait(t, s, event("a")); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
			want := []string{"file-broken budgets.json", "file-broken leases.json"}
			for _, file := range []string{budgetsName, leasesName} {
				path := filepath.Join(dir, file)
				if content == "-" {
					want = nil
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				} else if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // what is lost stays lost until something is saved
				s = open(t, dir, Options{})
				budgets := map[string]int{"untouched": 1}
				if err := s.LoadBudgets(&budgets); !errors.Is(err, ErrLost) || budgets["untouched"] != 1 {
					t.Errorf("budgets: %v, %v", budgets, err)
				}
				if _, err := s.LoadLeases(); !errors.Is(err, ErrLost) {
					t.Errorf("leases: %v", err)
				}
				if diff := cmp.Diff(want, codes(s)); diff != "" {
					t.Errorf("findings (-want +got):\n%s", diff)
				}
				want = nil
				closeStore(t, s)
			}
			s = open(t, dir, Options{})
			s.SaveBudgets(map[string]int{"rule": 2}, nil)
			s.SaveLeases(nil, nil)
			closeStore(t, s)
			s = open(t, dir, Options{})
			var budgets map[string]int
			if err := s.LoadBudgets(&budgets); err != nil || budgets["rule"] != 2 {
				t.Errorf("saved anew: %v, %v", budgets, err)
			}
			if _, err := s.LoadLeases(); err != nil {
				t.Errorf("saved anew: %v", err)
			}
		})
	}
}

func TestBudgetsNeverSaved(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		s := open(t, dir, Options{})
		budgets := "untouched"
		if err := s.LoadBudgets(&budgets); err != nil || budgets != "untouched" {
			t.Errorf("%q, %v", budgets, err)
		}
		s.Append(event("start"), nil)
		closeStore(t, s)
	}
}

func TestOutbox(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	telling := func(id string, seconds float64) Outbox {
		return Outbox{ID: id, Action: "notify", Request: mustJSON(id), Born: stamp(seconds), Next: stamp(seconds + 5)}
	}
	for i, id := range []string{"c", "a", "b"} {
		s.PutOutbox(telling(id, float64(i)), nil)
	}
	list, err := s.Outbox()
	if err != nil || len(list) != 3 || list[0].ID != "c" {
		t.Errorf("%v, %v", list, err)
	}
	again := telling("a", 1)
	again.Attempts = 3
	s.PutOutbox(again, nil)
	s.RemoveOutbox("c", nil)
	for _, bad := range []string{"", "../x", "A", "a/b", strings.Repeat("a", 65)} {
		if err := wait(t, func(done func(error)) { s.PutOutbox(telling(bad, 1), done) }); err == nil {
			t.Errorf("%q is kept", bad)
		}
		if err := wait(t, func(done func(error)) { s.RemoveOutbox(bad, done) }); err == nil {
			t.Errorf("%q is removed", bad)
		}
	}
	closeStore(t, s)
	if err := os.WriteFile(filepath.Join(dir, "outbox", "broken.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	again.Version = 1
	want := []Outbox{again, telling("b", 2)}
	want[1].Version = 1
	if list, err = s.Outbox(); err != nil || !cmp.Equal(want, list) {
		t.Errorf("%v (-want +got):\n%s", err, cmp.Diff(want, list))
	}
	if diff := cmp.Diff([]string{"file-broken outbox/broken.json"}, codes(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i := range maxOutboxFiles + 5 {
		s.PutOutbox(telling("n"+strings.Repeat("x", i%60)+string(rune('0'+i/60)), float64(10+i)), nil)
	}
	closeStore(t, s)
	if list, err = s.Outbox(); err != nil || len(list) != maxOutboxFiles || list[0].ID == "a" {
		t.Errorf("%d of %v, %v", len(list), list[0], err)
	}
	// a, b and 5 more; the broken one was no telling any more.
	if n := s.Health().PrunedOutbox; n != 8 {
		t.Errorf("%d dropped", n)
	}
}

func TestIncidents(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	in := &record.Incident{ID: "in-1", Rule: "leak", Began: stamp(1), Keys: []record.KeyState{{Key: "system/a.service"}}}
	s.SaveIncident(in, nil)
	in.Keys[0].Key = "changed" // after the call that is no more the store's
	if got, err := s.Incident("in-1"); err != nil || got.Keys[0].Key != "system/a.service" {
		t.Errorf("%v, %v", got, err)
	}
	ended := stamp(9)
	in.Ended, in.End = &ended, record.EndCleared
	s.SaveIncident(in, nil)
	s.SaveIncident(&record.Incident{ID: "in-2", Began: stamp(5)}, nil)
	s.SaveIncident(&record.Incident{ID: "../in-3"}, nil)
	check := func() {
		t.Helper()
		list := s.Incidents()
		if len(list) != 2 || list[0].ID != "in-2" || list[1].End != record.EndCleared || !list[1].Ended.At.Equal(ended.At) {
			t.Errorf("%+v", list)
		}
		if got, err := s.Incident("in-1"); err != nil || got.Keys[0].Key != "changed" {
			t.Errorf("%v, %v", got, err)
		}
		if _, err := s.Incident("in-9"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("unknown: %v", err)
		}
		if _, err := s.Incident("../budgets"); err == nil {
			t.Error("a path is read")
		}
	}
	check()
	closeStore(t, s)
	for name, content := range map[string]string{"torn": `{"version":1,"id":"torn","ru`, "other": `{"version":1,"id":"in-1"}`} {
		if err := os.WriteFile(filepath.Join(dir, "incidents", name+".json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, Options{})
	check()
	if diff := cmp.Diff([]string{"file-broken incidents/other.json", "file-broken incidents/torn.json"}, codes(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
