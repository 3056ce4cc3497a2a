package store

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

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
	for _, err := range history.Read(history.Dir(filepath.Join(s.dir, history.Name)), time.Time{}, time.Time{}) {
		if err != nil {
			t.Error(err)
		}
		entries++
	}
	if entries == 0 {
		t.Error("no history")
	}
}
