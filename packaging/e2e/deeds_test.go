//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// deed is what the tests need of an entry of `tcpmemctl actions --json --all`:
// an action that ran, or the decision not to run it.
type deed struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Rule    string    `json:"rule"`
	Key     string    `json:"key"`
	Action  string    `json:"action"`
	Choice  string    `json:"choice"`
	Guard   *string   `json:"guard"`
	Why     string    `json:"why"`
	Outcome *string   `json:"outcome"`
	Code    *string   `json:"code"`
	Message *string   `json:"message"`
	Touches string    `json:"touches"`
	Started bool      `json:"started"`
	Took    float64   `json:"took_seconds"`
}

// came is how it came out: the outcome of what ran, else the decision.
func (d *deed) came() string {
	if d.Outcome != nil {
		return *d.Outcome
	}
	return d.Choice
}

// reason is the stable word of what refused or held it, "" where nothing did.
func (d *deed) reason() string {
	switch {
	case d.Guard != nil:
		return *d.Guard
	case d.Code != nil:
		return *d.Code
	}
	return ""
}

// said is the reason in words.
func (d *deed) said() string {
	if d.Message != nil {
		return *d.Message
	}
	return d.Why
}

// wanted is a deed to be seen. Words are in the reason that people are told.
type wanted struct {
	rule, key, action, came, reason string
	words                           string
}

func askDeeds(t *testing.T, m *Machine) []deed {
	t.Helper()
	var doc struct {
		Actions []deed `json:"actions"`
	}
	if err := json.Unmarshal([]byte(run(t, m, "tcpmemctl", "actions", "--json", "--all")), &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Actions
}

// expectDeed waits for a deed, and checks that `tcpmemctl explain` gives its
// reason to a person.
func expectDeed(t *testing.T, m *Machine, want wanted) (found deed) {
	t.Helper()
	eventually(t, 2*time.Minute, func() string {
		var others []string
		for _, d := range askDeeds(t, m) {
			if d.Rule != want.rule || d.Key != want.key || d.Action != want.action {
				continue
			}
			if found = d; d.came() == want.came && d.reason() == want.reason {
				return ""
			}
			others = append(others, fmt.Sprintf("%s (%s: %s)", d.came(), d.reason(), d.said()))
		}
		return fmt.Sprintf("%s of %s on %s: %q, want %s (%s)\n%s", want.action, want.rule, want.key, others, want.came, want.reason, ask(t, m, "tcpmemctl", "status"))
	})
	t.Logf("%s on %s: %s (%s): %s", want.action, want.key, found.came(), found.reason(), found.said())
	if !strings.Contains(found.said(), want.words) {
		t.Errorf("the reason says %q, want %q in it", found.said(), want.words)
	}
	if out := run(t, m, "tcpmemctl", "explain", found.ID); !strings.Contains(out, found.said()) {
		t.Errorf("explain %s does not say %q:\n%s", found.ID, found.said(), out)
	}
	return found
}

// enforcing is the text of a rule that fires at once and takes its steps one
// after the other. A step is an action's name, and lines of more settings.
func enforcing(name, each, when string, steps ...string) string {
	text := fmt.Sprintf("[rule.%s]\nmode = \"enforce\"\nfor_each = %q\nwhen = '%s'\nfor = \"0s\"\ncooldown = \"10m\"\nbudget = \"20 per 1h\"\n", name, each, when)
	for _, step := range steps {
		action, more, _ := strings.Cut(step, "\n")
		text += fmt.Sprintf("[[rule.%s.step]]\naction = %q\n%s\n", name, action, more)
	}
	return text
}

// enforcingConfig lets tcpmemd act soon and often. What other programs of this
// machine's host hold has no name here, and need not have.
const enforcingConfig = "mode = \"enforce\"\nmin_coverage = 0.1\nsettle.start = \"3s\"\nsettle.owner = \"3s\"\n" +
	"scan.calm = \"5s\"\nscan.pressed = \"2s\"\nbudget.host = \"60 per 1h\"\n"

// starts are the invocations of units by name.
type starts map[string]string

func startsOf(t *testing.T, m *Machine, units ...string) starts {
	t.Helper()
	s := make(starts)
	for _, u := range units {
		if s[u] = show(t, m, u, "InvocationID"); s[u] == "" {
			t.Fatalf("%s does not run", u)
		}
	}
	return s
}

// expectUntouched checks that units run as they did.
func (s starts) expectUntouched(t *testing.T, m *Machine) {
	t.Helper()
	for _, u := range slices.Sorted(maps.Keys(s)) {
		if state := ask(t, m, "systemctl", "is-active", u); state != "active" || show(t, m, u, "InvocationID") != s[u] {
			t.Errorf("%s was touched: it is %s, started anew: %t", u, state, show(t, m, u, "InvocationID") != s[u])
		}
	}
}

// expectRestarted checks that units run, and were started anew.
func (s starts) expectRestarted(t *testing.T, m *Machine, units ...string) {
	t.Helper()
	for _, u := range units {
		if state := ask(t, m, "systemctl", "is-active", u); state != "active" || show(t, m, u, "InvocationID") == s[u] {
			t.Errorf("%s was not restarted: it is %s, started anew: %t", u, state, show(t, m, u, "InvocationID") != s[u])
		}
	}
}
