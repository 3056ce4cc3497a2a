package daemon

import (
	"context"
	"maps"
	"slices"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/metrics"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// recounted counts the records of a life anew, by what a result and an effect
// belong to.
type recounted struct {
	of        map[string]string // action by the id that joins its records
	decisions map[record.Choice]int64
	came      map[[2]string]int64 // refusals with "" for the second
	incidents map[string]bool
}

// count takes a record in the order of the log.
func (c *recounted) count(rec *record.Record) {
	if c.of == nil {
		c.of, c.decisions = make(map[string]string), make(map[record.Choice]int64)
		c.came, c.incidents = make(map[[2]string]int64), make(map[string]bool)
	}
	switch rec.Kind {
	case record.KindState:
		if rec.State.Phase == record.Firing {
			c.incidents[rec.Incident] = true
		}
	case record.KindDecision:
		d := rec.Decision
		c.of[rec.Action] = d.Action
		c.decisions[d.Choice]++
		if d.Choice == record.ChoseRefuse {
			c.came[[2]string{d.Guard}]++
		}
	case record.KindIntent:
		c.of[rec.Action] = rec.Intent.Decision.Action
	case record.KindResult:
		c.came[[2]string{c.of[rec.Action], string(rec.Result.Outcome)}]++
		if r := rec.Result; r.Outcome == record.Refused && slices.Contains(policy.GuardNames(), r.Code) {
			c.came[[2]string{r.Code}]++
		}
	case record.KindEffect:
		c.came[[2]string{c.of[rec.Action], string(rec.Effect.Verdict)}]++
	}
}

// judgeCounts holds what a daemon counted against its records. It has ended.
func (w *world) judgeCounts(l *life) {
	got := l.d.judge.counts.now()
	came := make(map[[2]string]int64)
	for _, list := range [][]metrics.Count{got.Refusals, got.Actions, got.Effects} {
		for _, c := range list {
			if c.N > 0 {
				came[[2]string{c.Of, c.Came}] += c.N
			}
		}
	}
	want := &l.recounted
	if !maps.Equal(got.Decisions, want.decisions) || !maps.Equal(came, want.came) || got.Incidents != int64(len(want.incidents)) {
		w.violation("counted otherwise than recorded (-records +counts):\n%s%s%s", cmp.Diff(want.decisions, got.Decisions),
			cmp.Diff(want.came, came), cmp.Diff(len(want.incidents), int(got.Incidents)))
	}
}

// scrape looks at the metrics of a daemon that runs.
func (w *world) scrape(l *life) {
	f, err := l.d.Metrics(context.Background())
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.note("no metrics: %v", err)
		return
	}
	series := 0
	for _, family := range metrics.Families(f) {
		series += len(family.Metric)
	}
	if f.Sample != nil && f.Conduct != nil && f.Reading != nil {
		w.seen["metrics"] = true
	}
	if series > metrics.MaxSeries {
		w.violation("%d series", series)
	}
}
