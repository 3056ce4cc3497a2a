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
