package daemon

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/metrics"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// facts asks as a scraper does; its own patience is longer.
func (r *running) facts(t *testing.T) *metrics.Facts {
	t.Helper()
	begin := time.Now()
	f, err := r.d.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > metricsWait {
		t.Errorf("it took %s", took)
	}
	return f
}

// TestMetrics: what is asked for comes from what is there, and causes no scan.
func TestMetrics(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(3 * time.Second)
		scans := len(r.began(r.start))
		for range 10 {
			f := r.facts(t)
			if f.Sample == nil || f.Reading == nil || f.Conduct == nil || f.Level != reading.Calm {
				t.Errorf("%+v, want all of a host that is calm", f)
			}
		}
		r.after(time.Second)
		if n := len(r.began(r.start)); n != scans {
			t.Errorf("%d scans more", n-scans)
		}
		if p := r.facts(t).Process; p.CPUSeconds == nil || p.ResidentBytes == nil || p.OpenFDs == nil || *p.OpenFDs < 3 {
			t.Errorf("own process %+v", p)
		}
	}, func(h *fakeHost) { h.used = 150 })
}

// TestMetricsOfAStuckLoop: who asks learns within a second what was known last,
// and how old that is; the level of old counters is unknown.
func TestMetricsOfAStuckLoop(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(3 * time.Second)
		block := make(chan struct{})
		r.tell(func() { r.blocked = block })
		r.after(2 * time.Second)
		f := r.facts(t)
		if f.Conduct != nil || f.Sample == nil || f.Level != reading.Calm {
			t.Errorf("a loop stuck for 2 s: %+v", f)
		}
		r.after(10 * time.Second)
		if f = r.facts(t); f.Conduct != nil || f.Level != reading.Unknown || f.Trend != (reading.Trend{}) || time.Since(f.Sample.At) < 10*time.Second {
			t.Errorf("a loop stuck for 13 s: %+v", f)
		}
		r.tell(func() { r.blocked = nil })
		close(block)
		r.after(2 * time.Second)
		if f = r.facts(t); f.Conduct == nil || f.Level != reading.Calm {
			t.Errorf("a loop that goes on: %+v", f)
		}
	}, func(h *fakeHost) { h.used = 150 })
}

// TestMetricsBeforeTheFirstSample: there is little to tell, and no wait for more.
func TestMetricsBeforeTheFirstSample(t *testing.T) {
	var block chan struct{}
	run(t, func(t *testing.T, r *running) {
		r.after(0)
		if f := r.facts(t); f.Sample != nil || f.Conduct != nil || f.Started.IsZero() {
			t.Errorf("%+v", f)
		}
		r.tell(func() { r.blocked = nil })
		close(block)
		r.after(time.Second)
	}, func(h *fakeHost) {
		block = make(chan struct{}) // of the bubble
		h.blocked = block
	})
}

// TestMetricsAtTheEnd: a daemon that has ended says so.
func TestMetricsAtTheEnd(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(time.Second)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if f, err := r.d.Metrics(context.Background()); err == nil {
			t.Errorf("%+v, want an error", f)
		}
	})
}

// TestExpectedResults: what may come of a policy counts from 0, what came before
// a reload stays.
func TestExpectedResults(t *testing.T) {
	p := policy.Config{
		Rules: []*policy.Rule{{Steps: []policy.Step{{Action: "notify"}, {Action: "restart-unit"}}}, {Steps: []policy.Step{{Action: "notify"}}}},
		Actions: map[string]policy.ActionInfo{
			"notify": {Touches: policy.TouchesNothing}, "restart-unit": {Touches: policy.TouchesOwner}, "pager": {Touches: policy.TouchesNothing},
		},
	}
	c := newCounts(&p)
	before := c.now()
	c.result("restart-unit", &record.Result{Outcome: record.Refused, Code: "protected"})
	c.result("restart-unit", &record.Result{Outcome: record.Refused, Code: "own-reason"})
	c.result("notify", &record.Result{Outcome: record.Delivered})
	c.decision(&record.Decision{Choice: record.ChoseRefuse, Guard: "protected"})
	c.decision(&record.Decision{Choice: record.ChoseHold, Guard: "budget"})
	c.effect("restart-unit", record.Helped)
	c.expect(&policy.Config{Rules: []*policy.Rule{{Steps: []policy.Step{{Action: "pager"}}}}, Actions: p.Actions})
	want := metrics.Counts{
		Decisions: map[record.Choice]int64{record.ChoseRefuse: 1, record.ChoseHold: 1},
		Refusals:  []metrics.Count{{Of: "protected", N: 2}},
		Actions: []metrics.Count{
			{Of: "notify", Came: "delivered", N: 1},
			{Of: "notify", Came: "undelivered"},
			{Of: "restart-unit", Came: "done"},
			{Of: "restart-unit", Came: "failed"},
			{Of: "restart-unit", Came: "refused", N: 2},
			{Of: "pager", Came: "delivered"},
			{Of: "pager", Came: "undelivered"},
		},
		Effects: []metrics.Count{{Of: "restart-unit", Came: "helped", N: 1}},
	}
	if diff := cmp.Diff(want, c.now()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if slices.ContainsFunc(before.Actions, func(c metrics.Count) bool { return c.N != 0 }) {
		t.Errorf("counts that were given away changed: %+v", before)
	}
}

// TestProcessStart: this process has started, and not long ago.
func TestProcessStart(t *testing.T) {
	if age := time.Since(processStart()); age < 0 || age > time.Hour {
		t.Errorf("started %s ago", age)
	}
}
