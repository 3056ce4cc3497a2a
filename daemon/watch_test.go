package daemon

import (
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func TestWatch(t *testing.T) {
	start := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	at := func(second int, aborts *int64, readable bool, logged int64) *reading.Sample {
		return &reading.Sample{
			At: start.Add(time.Duration(second) * time.Second), Used: 93, Mem: reading.TCPMem{Max: 100},
			Kernel: reading.Counters{AbortOnMemory: aborts}, Log: reading.LogCounts{Readable: readable, OutOfMemory: logged},
		}
	}
	var w api.Watch
	before := &reading.Sample{}
	for _, tt := range []struct {
		now  *reading.Sample
		want int // second of the last word, 0 for none
	}{
		{at(1, new(int64(7)), true, 5), 0}, // what was before the daemon looked is not news
		{at(2, new(int64(7)), true, 5), 0},
		{at(3, new(int64(8)), true, 5), 3},
		{at(4, nil, true, 5), 3},
		{at(5, new(int64(9)), true, 6), 5},
		{at(6, new(int64(9)), false, 0), 5},
		{at(7, new(int64(9)), true, 9), 5},
	} {
		watchSample(&w, before, tt.now)
		if want := start.Add(time.Duration(tt.want) * time.Second); tt.want == 0 && !w.OutOfMemory.IsZero() || tt.want > 0 && !w.OutOfMemory.Equal(want) {
			t.Errorf("at %s: the last word is of %s, want second %d", tt.now.At, w.OutOfMemory, tt.want)
		}
		before = tt.now
	}
	if w.Fill != 90 {
		t.Errorf("fill in tens is %d, want 90", w.Fill)
	}

	r := func(a, b int64) *reading.Reading {
		return &reading.Reading{
			Sample: reading.Sample{Used: 100, PageSize: 1},
			Owners: []reading.Owner{{Key: "a", Sum: reading.Tally{Bytes: a}}, {Key: "b", Sum: reading.Tally{Bytes: b}}},
		}
	}
	for _, tt := range []struct {
		a, b, share int64
		owner       string
	}{{50, 40, 50, "a"}, {44, 50, 40, "a"}, {39, 55, 50, "b"}, {39, 61, 50, "b"}, {0, 0, 0, ""}} {
		if watchReading(&w, r(tt.a, tt.b)); w.Owner != tt.owner || w.Share != int(tt.share) {
			t.Errorf("%d and %d: %q holds %d, want %q with %d", tt.a, tt.b, w.Owner, w.Share, tt.owner, tt.share)
		}
	}
}

// TestHealthOfAStuckLoop: a daemon that does not turn any more is not fine.
func TestHealthOfAStuckLoop(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(10 * time.Second)
		state, err := (&source{r.d}).State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if doc := api.HealthFrom((&source{r.d}).Meta(), state); doc.Status != api.HealthOK || doc.FillTens == nil {
			t.Errorf("a calm host is %s, %v", doc.Status, doc.FillTens)
		}
		r.after(10 * time.Second) // the state stays
		if doc := api.HealthFrom((&source{r.d}).Meta(), state); doc.Status != api.HealthUnknown {
			t.Errorf("10 s later it is %s", doc.Status)
		}
	})
}
