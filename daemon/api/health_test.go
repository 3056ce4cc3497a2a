package api_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

func TestHealth(t *testing.T) {
	firing := func(severity string, acting bool) func(*api.State) {
		return func(s *api.State) {
			s.Level = reading.Calm
			s.Conduct = &api.Conduct{Rules: []api.RuleState{{
				Name: "r", Severity: severity, Firing: 1, Held: true, ForEach: "unit",
				Keys: []api.RuleKey{{Key: "system/task-queue.service", Phase: record.Firing, Acting: acting, Action: "restart-unit"}},
			}}}
		}
	}
	level := func(l reading.Level) func(*api.State) { return func(s *api.State) { s.Level = l } }
	spoken := func(ago time.Duration) func(*api.State) {
		return func(s *api.State) {
			s.Level, s.Watch = reading.Calm, &api.Watch{OutOfMemory: apitest.At.Add(-ago), Fill: 80, Owner: "system/task-queue.service", Share: 60}
		}
	}
	for _, tt := range []struct {
		name     string
		change   func(*api.State)
		age      time.Duration
		want     api.HealthStatus
		critical bool
		reasons  []string
	}{
		{"calm", level(reading.Calm), 0, api.HealthOK, false, []string{}},
		{"elevated", level(reading.Elevated), 0, api.HealthOK, false, []string{}},
		{"pressure", level(reading.Pressure), 0, api.HealthProblem, false, []string{"level"}},
		{"critical", level(reading.Critical), 0, api.HealthProblem, true, []string{"level"}},
		{"unknown", level(reading.Unknown), 0, api.HealthUnknown, false, []string{}},
		{"old", level(reading.Critical), 2 * time.Minute, api.HealthUnknown, false, []string{}},
		{"calm and old", level(reading.Calm), 2 * time.Minute, api.HealthUnknown, false, []string{}},
		{"a critical rule", firing("critical", true), 0, api.HealthProblem, true, []string{"rule"}},
		{"another rule", firing("warning", true), 0, api.HealthOK, false, []string{}},
		{"a critical rule, old", firing("critical", true), 2 * time.Minute, api.HealthUnknown, true, []string{"rule"}},
		{"the kernel spoke", spoken(time.Minute), 0, api.HealthProblem, true, []string{"out-of-memory"}},
		{"the kernel spoke long ago", spoken(api.OutOfMemoryRecent), 0, api.HealthOK, false, []string{}},
	} {
		host := apitest.Leak()
		host.AnswerAfter = tt.age
		state := api.StateOf(&host.Reading)
		tt.change(&state)
		doc := api.HealthFrom(host.Meta(), state)
		if doc.Status != tt.want || doc.Critical != tt.critical {
			t.Errorf("%s: %s, critical %v", tt.name, doc.Status, doc.Critical)
		}
		if diff := cmp.Diff(tt.reasons, doc.Reasons); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, diff)
		}
		if doc.Owner == nil || doc.Owner.Name != "task-queue.service" || *doc.Owner.Verdict != reading.Leak {
			t.Errorf("%s: the worst is %+v", tt.name, doc.Owner)
		}
		if c := state.Conduct; c != nil && (doc.Acting == nil || *doc.Acting != "restart-unit" || doc.ActingElsewhere) {
			t.Errorf("%s: acting %v", tt.name, doc.Acting)
		}
	}
}

// TestHealthIsSmall: the same size, whatever the host holds.
func TestHealthIsSmall(t *testing.T) {
	host := apitest.Many(5000)
	state := api.StateOf(&host.Reading)
	state.Conduct = &api.Conduct{Rules: []api.RuleState{{Name: "r", ForEach: "unit", Keys: make([]api.RuleKey, 20)}}}
	text, err := json.Marshal(api.HealthFrom(host.Meta(), state))
	if err != nil || len(text) > 2000 {
		t.Errorf("%d bytes, error %v", len(text), err)
	}
}

func TestWorstOwner(t *testing.T) {
	host := func(text string) *reading.Reading {
		var r reading.Reading
		for i, c := range text {
			o := reading.Owner{Key: string(rune('a' + i)), Sum: reading.Tally{Bytes: int64(c-'0') * 1000}}
			if c >= 'A' {
				o.Sum.Bytes = int64(c-'A') * 1000
				o.Verdict = &reading.Verdict{Kind: reading.Leak}
			}
			r.Owners = append(r.Owners, o)
		}
		return &r
	}
	// A digit is an owner of so many thousand bytes, a letter (A is 0) a leak.
	for _, tt := range []struct{ owners, held, want string }{
		{"", "", "none"},
		{"00", "", "none"},
		{"591", "", "b"},
		{"98F", "", "c"},
		{"98E", "", "a"},
		{"89", "a", "a"},
		{"79", "a", "b"},
		{"79", "gone", "b"},
		{"9F", "a", "b"},
		{"9E", "b", "a"},
		{"0", "a", "none"},
	} {
		got := "none"
		if o := api.WorstOwner(host(tt.owners), tt.held); o != nil {
			got = o.Key
		}
		if got != tt.want {
			t.Errorf("%s, held %q: %s, want %s", tt.owners, tt.held, got, tt.want)
		}
	}
}

func BenchmarkHealth(b *testing.B) {
	for _, n := range []int{10, 5000} {
		host := apitest.Many(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				api.HealthFrom(host.Meta(), api.StateOf(&host.Reading))
			}
		})
	}
}
