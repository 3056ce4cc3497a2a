package api_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// rows writes rows as "ID OUTCOME EFFECT".
func rows(list []api.Action) (out []string) {
	for _, a := range list {
		s := a.ID + " " + string(a.Choice)
		if a.Started {
			s += " started"
		}
		if a.Outcome != nil {
			s += " " + string(*a.Outcome)
		}
		if a.Effect != nil {
			s += " " + string(*a.Effect)
		}
		out = append(out, s)
	}
	return out
}

// TestActionRows: however the records come, each action is one row.
func TestActionRows(t *testing.T) {
	log := apitest.Acted().Log
	backwards := slices.Clone(log)
	slices.Reverse(backwards)
	want := []string{
		"r-10 dry-run", apitest.Restart + " act started done helped", "a-20261122T081600-1 act started delivered",
	}
	all := slices.Insert(slices.Clone(want), 1, "r-9 held")
	for _, order := range [][]record.Record{log, backwards} {
		some, every := api.ActionRows{}, api.ActionRows{All: true}
		for i := range order {
			some.Add(&order[i])
			every.Add(&order[i])
		}
		if diff := cmp.Diff(want, rows(some.Rows())); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if diff := cmp.Diff(all, rows(every.Rows())); diff != "" {
			t.Errorf("all: (-want +got)\n%s", diff)
		}
		if a := some.Rows()[1]; a.Target != "task-queue.service" || a.Step != 2 || a.At != apitest.At.Add(-43*time.Minute) || *a.Message == "" {
			t.Errorf("the restart: %+v", a)
		}
	}
}

// TestRowsOfWhatNeverStarted: a decision to act that the last look refused, and
// dry runs, whose results belong to no action.
func TestRowsOfWhatNeverStarted(t *testing.T) {
	decided := record.Decision{Choice: record.ChoseAct, Action: "restart-unit", Step: 1}
	dry := record.Decision{Choice: record.ChoseDryRun, Action: "restart-unit", Step: 1}
	var a api.ActionRows
	for _, r := range []record.Record{
		{ID: "r1", Kind: record.KindDecision, Action: "a1", Decision: &decided},
		{ID: "r2", Kind: record.KindResult, Action: "a1", Result: &record.Result{Outcome: record.Refused}},
		{ID: "r3", Kind: record.KindDecision, Decision: &dry},
		{ID: "r4", Kind: record.KindResult, Result: &record.Result{Outcome: record.DryRun}},
		{ID: "r5", Kind: record.KindDecision, Decision: &dry},
		{ID: "r6", Kind: record.KindResult, Result: &record.Result{Outcome: record.DryRun}},
	} {
		a.Add(&r)
	}
	if diff := cmp.Diff([]string{"a1 act refused", "r3 dry-run", "r5 dry-run"}, rows(a.Rows())); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSummaryOf(t *testing.T) {
	host := apitest.Acted()
	done, helped := record.Done, record.Helped
	want := []api.IncidentSummary{{
		ID: apitest.OpenIncident, Rule: "slow-peer", About: "a peer does not read what it is sent", Severity: "warning", Mode: "observe",
		Began: apitest.At.Add(-9 * time.Minute), Fired: new(apitest.At.Add(-8 * time.Minute)), Keys: 1, First: "container/3f2a9c",
		Name: "prod/checkout-7d9f (worker)", Choice: record.ChoseDryRun,
	}, {
		ID: apitest.EndedIncident, Rule: "leaking-service", About: host.IncidentList[1].About, Severity: "critical", Mode: "enforce",
		Began: apitest.At.Add(-45 * time.Minute), Fired: new(apitest.At.Add(-44 * time.Minute)), Ended: new(apitest.At.Add(-40 * time.Minute)),
		End: record.EndCleared, Keys: 1, First: "system/task-queue.service", Name: "task-queue.service", WorstFill: new(0.874564),
		Actions: 2, Choice: record.ChoseAct, Outcome: &done, Effect: &helped,
	}}
	got := []api.IncidentSummary{api.SummaryOf(host.IncidentList[0]), api.SummaryOf(host.IncidentList[1])}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if s := api.SummaryOf(new(record.Incident)); s.WorstFill != nil || s.Fired != nil || s.Ended != nil || s.Outcome != nil {
		t.Errorf("of nothing: %+v", s)
	}
}

func TestRecordQueryComesBack(t *testing.T) {
	for _, q := range []api.RecordQuery{
		{},
		{Since: apitest.At.Add(time.Nanosecond), Incident: "i&x=1", Action: "a b", Rule: "r%", Kind: record.KindIntent, ID: "\x00é", Limit: 7},
	} {
		got, err := api.ParseRecordQuery(q.Values())
		if err != nil || got != q {
			t.Errorf("%+v became %+v, %v", q, got, err)
		}
	}
}

// TestConduct: a status says what stands against acting, and a lease does not
// make a pool look emptier.
func TestConduct(t *testing.T) {
	host := apitest.Acted()
	host.Conduct.Lease = &api.Lease{BaseMinPages: 20000, BasePressurePages: 30000, BaseMaxPages: 43257, ExpiresAt: apitest.At.Add(time.Hour)}
	host.Conduct.Stop = "the kernel was started with tcpmemd.observe"
	state, err := host.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	doc := api.StatusFrom(host.Meta(), state)
	if err := doc.Validate(); err != nil {
		t.Error(err)
	}
	if doc.Memory.Fill < 1.7 || doc.Memory.FillLive > 0.9 || doc.Memory.Lease == nil {
		t.Errorf("fill %v, live %v", doc.Memory.Fill, doc.Memory.FillLive)
	}
	var names []string
	for _, r := range doc.Rules {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "leaking-service slow-peer" || doc.RulesLoaded != 3 || *doc.Stop != host.Conduct.Stop {
		t.Errorf("rules %q of %d, stop %v", got, doc.RulesLoaded, *doc.Stop)
	}
	if j := doc.Journal; j == nil || j.Waiting != 2 || j.Lost != 1 {
		t.Errorf("journal %+v", j)
	}
}
