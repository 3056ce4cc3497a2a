//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// drillPolicy would restart whoever leaks as a drill does.
const drillPolicy = `
[rule.drilled]
mode = "enforce"
for_each = "unit"
when = 'owner.hidden_bytes > 200 * KiB'
for = "0s"
cooldown = "1m"
[[rule.drilled.step]]
action = "restart-unit"
`

// TestDrill: a drill on an installed host that acts is found, named and left
// alone; it ends with its caller, also when that is killed.
func TestDrill(t *testing.T) {
	m := boot(t, Bookworm)
	install(t, m)
	configure(t, m, "mode = \"enforce\"\nsettle.start = \"2s\"\nsettle.owner = \"2s\"\nmin_coverage = 0.1\nscan.calm = \"5s\"\nscan.pressed = \"2s\"\n", drillPolicy)
	allowActing(t, m)
	run(t, m, "systemctl", "start", "tcpmemd")

	var done struct {
		Unit      string   `json:"unit"`
		SeenAfter *float64 `json:"seen_after_seconds"`
		Owner     *owner   `json:"owner"`
		Held      struct {
			All    tally `json:"all"`
			Hidden tally `json:"hidden"`
		} `json:"held"`
		Clean bool `json:"clean"`
	}
	// Other tests of this host may have left it in another state than calm.
	eventually(t, 2*time.Minute, func() string {
		out, err := m.Run(t.Context(), "tcpmemctl", "drill", "--for", "25s", "--json")
		if err != nil {
			return err.Error()
		}
		if err := json.Unmarshal([]byte(out), &done); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		return ""
	})
	if done.SeenAfter == nil || done.Owner == nil || !done.Clean {
		t.Fatalf("%+v: want it seen, and nothing left", done)
	}
	t.Logf("%s: seen after %.0f s, %+v of %+v", done.Unit, *done.SeenAfter, done.Owner.tally, done.Held)
	if done.Owner.Key != "system/"+done.Unit || !strings.HasPrefix(done.Unit, "tcpmemd-drill-") {
		t.Errorf("the leak of %s is said to be %s's", done.Unit, done.Owner.Key)
	}
	if got, want := done.Owner.Classes["hidden"].Bytes, done.Held.Hidden.Bytes; got < want/2 { // it lags behind, see the drill
		t.Errorf("%d hidden bytes were found of %d", got, want)
	}
	// The rule wanted to restart it, and was told that it is a drill.
	in, ok := incidentOf(t, m, "drilled")
	if !ok {
		t.Fatal("the rule did not see it")
	}
	observed := false
	for i := range in.Records {
		r := &in.Records[i]
		if r.Intent != nil {
			t.Errorf("an action was started: %+v", r.Intent)
		}
		if d := r.Decision; d != nil && d.Action == "restart-unit" {
			t.Logf("%s: %s", d.Choice, d.Why)
			observed = observed || d.Choice == record.ChoseDryRun || d.Choice == record.ChoseRefuse
			if d.Choice == record.ChoseAct {
				t.Error("it was decided to restart a drill")
			}
		}
	}
	if !observed {
		t.Errorf("nothing was decided about it:\n%s", run(t, m, "tcpmemctl", "incidents", "show", in.ID))
	}

	run(t, m, "systemd-run", "--quiet", "--unit=caller.service", "tcpmemctl", "drill")
	units := func() string {
		return run(t, m, "systemctl", "list-units", "--plain", "--no-legend", "tcpmemd-drill-*")
	}
	eventually(t, 20*time.Second, func() string {
		if units() == "" {
			return "no drill begins\n" + ask(t, m, "journalctl", "--no-pager", "-u", "caller.service")
		}
		return ""
	})
	run(t, m, "systemctl", "kill", "--signal=KILL", "caller.service")
	eventually(t, 20*time.Second, func() string { return units() })
}
