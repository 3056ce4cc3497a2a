package daemon

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// hearing is a judge alone whose words are kept, at a time that can be set.
func hearing(at *record.Stamp) (*judge, func() []string) {
	j, _ := alone()
	j.cfg.Clock = func() record.Stamp { return *at }
	var said []string
	j.cfg.Say = func(t event.Text) {
		keys := ""
		if i := slices.IndexFunc(t.Fields, func(f event.Field) bool { return f.Name == "KEYS" }); i >= 0 {
			keys = " " + t.Fields[i].Value
		}
		said = append(said, t.Event+" "+t.Severity+keys)
	}
	return j, func() []string {
		all := said
		said = nil
		return all
	}
}

func ruleOf(t *testing.T, name string, each policy.Scope) *policy.Rule {
	t.Helper()
	when, err := policy.Compile("tcp.fill > 0.7", each)
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Rule{Name: name, Severity: policy.Critical, ForEach: each, When: when, Cooldown: 15 * time.Minute}
}

func phase(j *judge, r *policy.Rule, key string, p record.Phase) {
	j.changed(&policy.Change{Rule: r, Key: key, State: record.State{Phase: p, Owner: &record.Suspect{Key: key, Name: key}}}, j.cfg.Clock())
}

func heardAll(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestOneAlertPerIncident: however many keys it has, with one end; and the same
// again within its cooldown is no alert.
func TestOneAlertPerIncident(t *testing.T) {
	at := record.Stamp{BootID: "boot", BootSeconds: 1000}
	j, said := hearing(&at)
	r := ruleOf(t, "leak", policy.Unit)
	phase(j, r, "a", record.Firing)
	phase(j, r, "b", record.Firing)
	j.alerts.opened(j, at)
	heardAll(t, "two keys", said(), []string{"rule-firing critical 2"})
	phase(j, r, "c", record.Firing)
	phase(j, r, "c", record.Ended)
	phase(j, r, "c", record.Firing)
	heardAll(t, "a third, twice", said(), []string{"rule-firing notice"})
	for _, key := range []string{"a", "b", "c"} {
		phase(j, r, key, record.Ended)
	}
	heardAll(t, "the end", said(), []string{"rule-ended warning 3"})

	at.BootSeconds += 60
	phase(j, r, "a", record.Firing)
	j.alerts.opened(j, at)
	phase(j, r, "a", record.Ended)
	heardAll(t, "again", said(), []string{"rule-firing info 1", "rule-ended info 1"})
	at.BootSeconds += 15 * 60
	phase(j, r, "a", record.Firing)
	j.alerts.opened(j, at)
	heardAll(t, "after the cooldown", said(), []string{"rule-firing critical 1"})
}

// TestManyKeysAtOnce: all are counted, also those that an incident has no room
// for; and what a rule calls info is no alert from its beginning to its end.
func TestManyKeysAtOnce(t *testing.T) {
	at := record.Stamp{BootID: "boot", BootSeconds: 1000}
	j, said := hearing(&at)
	r := ruleOf(t, "leak", policy.Process)
	r.Severity = policy.Info
	for i := range maxKeys + 20 {
		phase(j, r, fmt.Sprint(i), record.Firing)
	}
	j.alerts.opened(j, at)
	heardAll(t, "many keys", said(), []string{fmt.Sprint("rule-firing info ", maxKeys+20)})
	for i := range maxKeys + 20 {
		phase(j, r, fmt.Sprint(i), record.Ended)
	}
	heardAll(t, "the end", said(), []string{fmt.Sprint("rule-ended info ", maxKeys+20)})
}

// TestAlertsAMinute: no more about owners than a person can read. What is about
// the host is told all the same.
func TestAlertsAMinute(t *testing.T) {
	at := record.Stamp{BootID: "boot", BootSeconds: 1000}
	j, said := hearing(&at)
	for i := range maxOwnerAlerts + 2 {
		phase(j, ruleOf(t, fmt.Sprint("rule-", i), policy.Unit), "a", record.Firing)
	}
	phase(j, ruleOf(t, "host", policy.Host), "host", record.Firing)
	j.alerts.opened(j, at)
	got := said()
	want := slices.Repeat([]string{"rule-firing critical 1"}, maxOwnerAlerts)
	want = append(want, "rule-firing info 1", "rule-firing info 1", "rule-firing critical 1")
	heardAll(t, "a crowd", got, want)
	at.BootSeconds += 61
	phase(j, ruleOf(t, "later", policy.Unit), "a", record.Firing)
	j.alerts.opened(j, at)
	heardAll(t, "a minute later", said(), []string{"rule-firing critical 1"})
}

// TestRefusedOnce: a refusal is an alert where something was at stake, and the
// first time.
func TestRefusedOnce(t *testing.T) {
	at := record.Stamp{BootID: "boot", BootSeconds: 1000}
	j, said := hearing(&at)
	r := ruleOf(t, "leak", policy.Unit)
	phase(j, r, "a", record.Firing)
	j.alerts.opened(j, at)
	said()
	say := func(d record.Decision) {
		j.say(&record.Record{Incident: j.book.id("leak"), Kind: record.KindDecision, Decision: &d}, nil)
	}
	refused := record.Decision{Choice: record.ChoseRefuse, Guard: "protected", Mode: "enforce", Touches: "owner"}
	say(refused)
	say(refused)
	refused.Guard = "shared"
	say(refused)
	refused.Guard, refused.Mode = "evidence", "observe"
	say(refused)
	heardAll(t, "refusals", said(), []string{"refused warning", "refused info", "refused warning", "refused info"})
	say(record.Decision{Choice: record.ChoseNothing, Mode: "enforce"})
	say(record.Decision{Choice: record.ChoseNothing, Mode: "enforce"})
	say(record.Decision{Choice: record.ChoseNothing, Mode: "observe"})
	heardAll(t, "exhausted", said(), []string{"exhausted critical", "exhausted info", "exhausted info"})
	say(record.Decision{Choice: record.ChoseHold, Guard: "told", Mode: "enforce", Touches: "nothing"})
	heardAll(t, "told before", said(), []string{"held debug"})
}

// TestLastWords: an incident that the daemon does not see end has its end, with
// what was done.
func TestLastWords(t *testing.T) {
	at := record.Stamp{BootID: "boot", BootSeconds: 1000}
	j, said := hearing(&at)
	r := ruleOf(t, "leak", policy.Unit)
	phase(j, r, "a", record.Firing)
	j.alerts.opened(j, at)
	said()
	var end event.Text
	j.cfg.Say = func(t event.Text) { end = t }
	id := j.book.id("leak")
	d := record.Decision{Action: "restart-unit", Touches: "owner"}
	for i := range maxDeeds + 3 {
		action := fmt.Sprint("a", i)
		j.append(&record.Record{Incident: id, Action: action, Intent: &record.Intent{Decision: d}}, nil)
		j.append(&record.Record{Incident: id, Action: action, Result: &record.Result{Outcome: record.Done}}, nil)
	}
	j.append(&record.Record{Incident: id, Action: fmt.Sprint("a", maxDeeds+2), Effect: &record.Effect{Verdict: record.Helped}}, nil)
	for _, p := range j.book.endAll(at) {
		j.alerts.close(j, p, &record.State{End: record.EndStopped, Why: "stops"}, at)
	}
	want := map[string]string{"END": "daemon-stopped", "ACTIONS": fmt.Sprint(maxDeeds + 3), "RESULT": "done", "EFFECT": "helped"}
	for _, f := range end.Fields {
		if v, ok := want[f.Name]; ok && v != f.Value {
			t.Errorf("%s = %s, want %s", f.Name, f.Value, v)
		}
		delete(want, f.Name)
	}
	if len(want) > 0 || end.Severity != event.Warning {
		t.Errorf("%+v lacks %v", end, want)
	}
}
