package store

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
)

func TestAppend(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir, Options{})
	s.Append(event("a"), nil)
	s.Append(intent("x"), nil)
	if err := appendWait(t, s, result("x")); err != nil {
		t.Fatal(err)
	}
	if err := appendWait(t, s, intent("y")); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)

	s = open(t, dir, Options{})
	if diff := cmp.Diff([]string{"i-y"}, ids(s.Unfinished())); diff != "" {
		t.Errorf("unfinished (-want +got):\n%s", diff)
	}
	if err := appendWait(t, s, result("y")); err != nil {
		t.Fatal(err)
	}
	list := records(t, s, actions.Query{})
	if diff := cmp.Diff([]string{"a", "i-x", "r-x", "i-y", "r-y"}, ids(list)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want := intent("x")
	want.Version, want.Seq = 1, 2
	if diff := cmp.Diff(want, list[1]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	closeStore(t, s)
	if s = open(t, dir, Options{}); len(s.Unfinished()) != 0 || len(s.Findings()) != 0 {
		t.Errorf("unfinished %v, findings %v", s.Unfinished(), s.Findings())
	}

	for path, mode := range map[string]fs.FileMode{"": 0o750 | fs.ModeDir, "actions.jsonl": 0o640, "budgets.json": 0o640, "incidents": 0o750 | fs.ModeDir} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestRecordsSelects(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	for _, rec := range []record.Record{event("a"), intent("x"), result("x"), intent("y"), event(`odd "<id>"`)} {
		s.Append(rec, nil)
	}
	tests := map[string]struct {
		q    actions.Query
		want []string
	}{
		"all":      {actions.Query{}, []string{"a", "i-x", "r-x", "i-y", `odd "<id>"`}},
		"newest":   {actions.Query{NewestFirst: true, Limit: 2}, []string{`odd "<id>"`, "i-y"}},
		"limit":    {actions.Query{Limit: 1}, []string{"a"}},
		"since":    {actions.Query{Since: stamp(3).At}, []string{"r-x"}},
		"action":   {actions.Query{Action: "x"}, []string{"i-x", "r-x"}},
		"kind":     {actions.Query{Kind: record.KindIntent, Rule: "leak", Incident: "in-1"}, []string{"i-x", "i-y"}},
		"id":       {actions.Query{ID: `odd "<id>"`}, []string{`odd "<id>"`}},
		"not text": {actions.Query{Action: "restart-unit"}, nil},
	}
	check := func(when string) {
		for name, tt := range tests {
			if diff := cmp.Diff(tt.want, ids(records(t, s, tt.q))); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", when, name, diff)
			}
		}
	}
	check("queued or not")
	if err := appendWait(t, s, record.Record{ID: "last", Kind: record.KindEvent, Event: &record.Event{}}); err != nil {
		t.Fatal(err)
	}
	tests = map[string]struct {
		q    actions.Query
		want []string
	}{"newest": {actions.Query{NewestFirst: true, Limit: 2}, []string{"last", `odd "<id>"`}}}
	check("written")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range s.Records(ctx, actions.Query{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	if _, err := Open(dir, s.opts); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("second: %v", err)
	}
	closeStore(t, s)
	open(t, dir, Options{})
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file + "/x", filepath.Join(t.TempDir(), "a", "b")} {
		if _, err := Open(dir, Options{}); err == nil {
			t.Errorf("%s: no error", dir)
		}
	}
	if _, err := Open(t.TempDir(), Options{MaxBytes: 1000}); err == nil {
		t.Error("1000 bytes: no error")
	}
}

func TestAppendAfterClose(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	closeStore(t, s)
	if err := appendWait(t, s, event("late")); !errors.Is(err, ErrClosed) {
		t.Errorf("append: %v", err)
	}
	if err := wait(t, func(done func(error)) { s.SaveBudgets(1, done) }); !errors.Is(err, ErrClosed) {
		t.Errorf("save: %v", err)
	}
}

func TestCloseFlushes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	told := 0
	for range 500 {
		s.Append(event("e"), func(err error) {
			if err == nil {
				told++
			}
		})
	}
	s.SaveBudgets("spent", nil)
	closeStore(t, s)
	if told != 500 {
		t.Errorf("told of %d", told)
	}
	s = open(t, dir, Options{})
	var budgets string
	if err := s.LoadBudgets(&budgets); err != nil || budgets != "spent" || len(records(t, s, actions.Query{})) != 500 {
		t.Errorf("%q, %v, %d records", budgets, err, len(records(t, s, actions.Query{})))
	}
}

// A number without a form in JSON must not cost the record.
func TestAppendInfinite(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	rec := intent("x")
	rec.Intent.Decision.Numbers = record.Numbers{"owner.share": math.Inf(1), "tcp.fill": 0.5}
	if err := appendWait(t, s, rec); err != nil {
		t.Fatal(err)
	}
	got := records(t, s, actions.Query{})[0].Intent.Decision.Numbers
	if diff := cmp.Diff(record.Numbers{"owner.share": nil, "tcp.fill": 0.5}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	rec.Intent.Decision.Fill = math.NaN()
	if err := appendWait(t, s, rec); err == nil {
		t.Error("NaN: no error")
	}
	rec = event(strings.Repeat("x", 2<<20))
	if err := appendWait(t, s, rec); err == nil {
		t.Error("2 MB: no error")
	}
	if err := appendWait(t, s, event("next")); err != nil {
		t.Error(err)
	}
	if list := records(t, s, actions.Query{}); list[1].Seq != 2 {
		t.Errorf("a refused record took a number: %d", list[1].Seq)
	}
}

func TestClockSetBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	for i, seconds := range []float64{100, -86400, -86399} {
		rec := event(string(rune('a' + i)))
		rec.Stamp = stamp(seconds)
		if err := appendWait(t, s, rec); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	s = open(t, dir, Options{})
	s.Append(event("d"), nil)
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, ids(records(t, s, actions.Query{}))); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"d", "a"}, ids(records(t, s, actions.Query{Since: epoch, NewestFirst: true}))); diff != "" {
		t.Errorf("since (-want +got):\n%s", diff)
	}
}

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

func TestLeftoversAreSwept(t *testing.T) {
	dir := t.TempDir()
	closeStore(t, open(t, dir, Options{}))
	for _, name := range []string{".budgets.json12345", "incidents/.in-1.json777"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, open(t, dir, Options{}))
	if _, n := size(t, dir); n != 3 {
		t.Errorf("%d files", n)
	}
}

// The queue alone: what is dropped, in which order.
func TestQueueBounds(t *testing.T) {
	q := queue{maxItems: 4, maxBytes: 1 << 20}
	var refused []string
	push := func(name string, keep bool) {
		q.push(line{text: []byte(name), keep: keep, since: time.Now(), done: func(error) { refused = append(refused, name) }})
	}
	names := func() (names []string) {
		for _, l := range q.items {
			names = append(names, string(l.text))
		}
		return names
	}
	push("w", false)
	q.batch(1)
	for _, n := range []string{"a", "b", "c", "d"} {
		push(n, n == "a")
	}
	if diff := cmp.Diff([]string{"w", "a", "c", "d"}, names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, n := range []string{"I1", "I2", "I3", "I4", "I5", "I6", "I7"} {
		push(n, true)
	}
	if diff := cmp.Diff([]string{"w", "a", "I1", "I2", "I3", "I4", "I5", "I6"}, names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, done := range q.refused {
		done(ErrDropped)
	}
	if diff := cmp.Diff([]string{"b", "c", "d", "I7"}, refused); diff != "" || q.dropped != 4 {
		t.Errorf("%d (-want +got):\n%s", q.dropped, diff)
	}
	if told := q.written(); len(told) != 1 || q.bytes != len(strings.Join(names(), "")) {
		t.Errorf("%d told, %d bytes", len(told), q.bytes)
	}
	if !slices.Contains(names(), "I6") {
		t.Error(names())
	}
}
