//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

const tellerPath = "/usr/local/bin/teller"

// alertsPolicy has an incident with all that can come of it, and one of a rule
// that observes.
const alertsPolicy = `
[rule.alerts]
about = "a service leaks"
severity = "critical"
mode = "enforce"
for_each = "unit"
when = 'owner.unit == "alerts.service" && owner.hidden_bytes > 1 * MiB'
for = "0s"
until = 'owner.hidden_bytes < 64 * KiB'
cooldown = "1m"
[[rule.alerts.step]]
action = "notify"
[[rule.alerts.step]]
action = "restart-unit"

[rule.alerts-watched]
about = "the same, only watched"
severity = "warning"
mode = "observe"
for_each = "unit"
when = 'owner.unit == "alerts.service" && owner.hidden_bytes > 1 * MiB'
for = "0s"
until = 'owner.hidden_bytes < 64 * KiB'
[[rule.alerts-watched.step]]
action = "restart-unit"
`

const alertsConfig = `
mode = "enforce"
settle.start = "2s"
settle.owner = "2s"
min_coverage = 0.01
scan.calm = "5s"
scan.pressed = "2s"
`

// TestAlerts reads the journal as who is woken at night does, and as a program
// does.
func TestAlerts(t *testing.T) {
	m := boot(t, Bookworm)
	install(t, m)
	installLeaker(t, m)
	installTeller(t, m)
	configure(t, m, alertsConfig, alertsPolicy)
	if err := m.WriteFile("/usr/local/bin/once", []byte(once), 0o755); err != nil {
		t.Fatal(err)
	}
	leak := "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/local/bin/once /run/alerts-leaked " +
		leakerPath + " -comm 'al\x1b[31merts' -hidden 80 -bytes 50000\n"
	if err := m.WriteFile("/etc/systemd/system/alerts.service", []byte(leak), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("Kinds", func(t *testing.T) { checkKinds(t, m) })
	t.Run("Events", func(t *testing.T) { checkEvents(t, m) })
	t.Run("Stuck", func(t *testing.T) { checkStuckJournal(t, m) })
	t.Run("Gone", func(t *testing.T) { checkGoneJournal(t, m) })
	t.Run("End", func(t *testing.T) { checkLastWords(t, m) })
}

// installTeller builds packaging/e2e/teller and copies it into m.
func installTeller(t *testing.T, m *Machine) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "teller")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./teller")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build teller: %v\n%s", err, out)
	}
	if err := m.Copy(bin, tellerPath, 0o755); err != nil {
		t.Fatal(err)
	}
}

// entry is one of `journalctl -o json`: each field with its values.
type entry map[string][]string

// get gives a field that is there once, or what shows that it is not.
func (e entry) get(name string) string {
	if len(e[name]) == 1 {
		return e[name][0]
	}
	return fmt.Sprintf("%q", e[name])
}

// entries reads the journal as a log pipeline does.
func entries(t *testing.T, m *Machine, args ...string) []entry {
	t.Helper()
	out := run(t, m, "journalctl", append([]string{"--no-pager", "--all", "--output=json"}, args...)...)
	var list []entry
	for line := range strings.Lines(out) {
		var raw map[string]any
		if err := json.Unmarshal([]byte(line), &raw); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		e := make(entry)
		for name, v := range raw {
			values, several := v.([]any)
			if !several {
				values = []any{v}
			}
			for _, v := range values {
				e[name] = append(e[name], fmt.Sprint(v))
			}
		}
		list = append(list, e)
	}
	return list
}

// ofKind gives the entries of a kind.
func ofKind(list []entry, kind string) []entry {
	return slices.DeleteFunc(slices.Clone(list), func(e entry) bool { return e.get("TCPMEMD_EVENT") != kind })
}

// common says what is wrong with what every entry of a kind has.
func common(e entry, kind event.Kind, unit string) string {
	var wrong []string
	for name, want := range map[string]string{
		"MESSAGE_ID": kind.MessageID, "SYSLOG_IDENTIFIER": "tcpmemd", "TCPMEMD_EVENT": kind.ID, "_SYSTEMD_UNIT": unit, "_TRANSPORT": "journal",
	} {
		if got := e.get(name); got != want {
			wrong = append(wrong, fmt.Sprintf("%s = %s, want %s", name, got, want))
		}
	}
	if _, err := time.Parse(time.RFC3339, e.get("TCPMEMD_TIME")); err != nil {
		wrong = append(wrong, err.Error())
	}
	if message := e.get("MESSAGE"); message == "" || strings.ContainsAny(message, "\x1b\r\x00") {
		wrong = append(wrong, fmt.Sprintf("MESSAGE = %q", message))
	}
	return strings.Join(wrong, "\n")
}

// checkKinds sends one of each kind, by the daemon's own code, and reads it
// back.
func checkKinds(t *testing.T, m *Machine) {
	rows := kinds()
	var texts []event.Text
	for _, k := range event.Catalogue() {
		row, ok := rows[k.ID]
		if !ok {
			t.Errorf("the kind %s is not in the table of this test", k.ID)
			continue
		}
		if row.text.Event != k.ID {
			t.Errorf("the text of %s is one of %q", k.ID, row.text.Event)
		}
		texts = append(texts, row.text)
	}
	file, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.WriteFile("/run/texts.json", file, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, m, "systemd-run", "--quiet", "--unit=teller.service", tellerPath, "/run/texts.json")
	var list []entry
	eventually(t, 30*time.Second, func() string {
		if list = entries(t, m, "-u", "teller.service", "SYSLOG_IDENTIFIER=tcpmemd"); len(list) != len(texts) {
			return fmt.Sprintf("%d entries of %d", len(list), len(texts))
		}
		return ""
	})
	explained := run(t, m, "journalctl", "--no-pager", "-x", "-u", "teller.service", "SYSLOG_IDENTIFIER=tcpmemd")
	listed := run(t, m, "journalctl", "--no-pager", "--list-catalog")
	ofUnit := entries(t, m, "-u", "offender.service")
	for _, k := range event.Catalogue() {
		row, of := rows[k.ID], ofKind(list, k.ID)
		if len(of) != 1 {
			t.Errorf("%s: %d entries, want 1", k.ID, len(of))
			continue
		}
		e := of[0]
		if wrong := common(e, k, "teller.service"); wrong != "" {
			t.Errorf("%s: %s", k.ID, wrong)
		}
		if got := e.get("PRIORITY"); got != row.priority {
			t.Errorf("%s: PRIORITY = %s, want %s", k.ID, got, row.priority)
		}
		for _, part := range row.says {
			if !strings.Contains(e.get("MESSAGE"), part) {
				t.Errorf("%s: no %q in\n%s", k.ID, part, e.get("MESSAGE"))
			}
		}
		for name, want := range row.fields {
			if got := e.get("TCPMEMD_" + name); got != want {
				t.Errorf("%s: TCPMEMD_%s = %s, want %s", k.ID, name, got, want)
			}
		}
		for name := range e {
			own, ok := strings.CutPrefix(name, "TCPMEMD_")
			if _, want := row.fields[own]; ok && own != "EVENT" && own != "TIME" && !want {
				t.Errorf("%s: %s = %s is not in the table", k.ID, name, e.get(name))
			}
		}
		if got := len(ofKind(ofUnit, k.ID)) == 1; got != row.object {
			t.Errorf("%s: journalctl -u offender.service shows it: %v, want %v", k.ID, got, row.object)
		}
		if !strings.Contains(listed, k.MessageID+" tcpmemd: tcpmemd: "+k.Title) {
			t.Errorf("%s is not in the catalog of journald", k.ID)
		}
		first, _, _ := strings.Cut(k.Means, "@")
		first = first[:min(len(first), 40)]
		if !strings.Contains(explained, "Subject: tcpmemd: "+k.Title) || !strings.Contains(explained, first) ||
			k.Do != "" && !strings.Contains(explained, "What to do: ") {
			t.Errorf("journalctl -x does not explain %s", k.ID)
		}
	}
	if strings.Contains(explained, "@TCPMEMD_INCIDENT@") || !strings.Contains(explained, "What to do: look at who holds the memory: tcpmemctl incidents show i-1") {
		t.Errorf("journalctl -x does not name the incident:\n%s", explained)
	}
	run(t, m, "systemctl", "stop", "teller.service")
}

// checkEvents causes what can be on an installed host, and reads it back.
func checkEvents(t *testing.T, m *Machine) {
	run(t, m, "systemctl", "start", "tcpmemd") // enforcing, without the rights to
	want := []struct{ kind, priority, says string }{
		{event.DaemonStarted, "6", "mode enforce"},
		{event.RightsMissing, "4", "/usr/lib/tcpmemd/acting/restart-unit.conf"},
		{event.Paused, "4", "deploying"},
		{event.Resumed, "4", "over"},
		{event.Stopped, "4", "stopped"},
		{event.WasReset, "6", "alerts"},
		{event.Reloaded, "6", "read again"},
		{event.ReloadFailed, "4", "99-broken.toml"},
		{event.PolicyBroken, "2", "99-broken.toml"},
		{event.DaemonStopped, "6", "stopped"},
	}
	run(t, m, "tcpmemctl", "pause", "1h", "--why", "deploying")
	run(t, m, "tcpmemctl", "resume")
	run(t, m, "touch", "/run/tcpmemd/pause")
	waitEntry(t, m, event.Stopped, "/run/tcpmemd/pause")
	run(t, m, "rm", "/run/tcpmemd/pause")
	run(t, m, "tcpmemctl", "reset", "alerts")
	run(t, m, "systemctl", "reload", "tcpmemd")
	const broken = "/etc/tcpmemd/policy.d/99-broken.toml"
	if err := m.WriteFile(broken, []byte("[rule.broken]\nwhem = 'true'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ask(t, m, "systemctl", "reload", "tcpmemd")
	waitEntry(t, m, event.ReloadFailed, "99-broken.toml")
	run(t, m, "systemctl", "restart", "tcpmemd")
	waitEntry(t, m, event.PolicyBroken, "99-broken.toml")
	run(t, m, "rm", broken)
	allowActing(t, m)
	run(t, m, "systemctl", "restart", "tcpmemd")

	list := entries(t, m, "-u", "tcpmemd.service")
	for _, w := range want {
		of := ofKind(list, w.kind)
		if len(of) == 0 {
			t.Errorf("%s is not told", w.kind)
			continue
		}
		if wrong := common(of[0], event.KindOf(w.kind), "tcpmemd.service"); wrong != "" {
			t.Errorf("%s: %s", w.kind, wrong)
		}
		if got := of[0].get("PRIORITY"); got != w.priority || !strings.Contains(of[0].get("MESSAGE"), w.says) {
			t.Errorf("%s: priority %s, want %s, and %q in\n%s", w.kind, got, w.priority, w.says, of[0].get("MESSAGE"))
		}
	}
}

// waitEntry waits until tcpmemd has told of a kind and says so, and gives the
// first such entry.
func waitEntry(t *testing.T, m *Machine, kind, says string) (found entry) {
	t.Helper()
	eventually(t, patience, func() string {
		for _, e := range entries(t, m, "-u", "tcpmemd.service", "TCPMEMD_EVENT="+kind) {
			if strings.Contains(e.get("MESSAGE"), says) {
				found = e
				return ""
			}
		}
		return "tcpmemd has told nothing of " + kind + ", " + says
	})
	return found
}

// checkStuckJournal: journald is stopped with a full queue, and a service leaks.
// It is restarted as if nothing was; then all of the incident is told.
func checkStuckJournal(t *testing.T, m *Machine) {
	journald := show(t, m, "systemd-journald.service", "MainPID")
	run(t, m, "kill", "-STOP", journald)
	t.Cleanup(func() { ask(t, m, "kill", "-CONT", journald) })
	run(t, m, tellerPath, "-fill", "/run/systemd/journal/socket")
	run(t, m, "systemctl", "start", "alerts.service")
	results := waitFor(t, m, "alerts", "restart-unit")
	if got := results["restart-unit"]; got.Outcome != record.Done {
		t.Errorf("restart-unit: %+v", got)
	}
	var status struct {
		Journal *struct {
			Waiting int   `json:"waiting"`
			Lost    int64 `json:"lost"`
		} `json:"journal"`
	}
	if err := json.Unmarshal([]byte(run(t, m, "tcpmemctl", "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	if status.Journal == nil || status.Journal.Waiting < 3 || status.Journal.Lost != 0 {
		t.Errorf("journal: %+v: the beginning, the intent and the result wait at least", status.Journal)
	}
	if text := run(t, m, "tcpmemctl", "status"); !strings.Contains(text, "journal: it has not taken") {
		t.Errorf("status does not say that something waits:\n%s", text)
	}
	run(t, m, "kill", "-CONT", journald)

	report := waitEntry(t, m, event.JournalLate, "")
	if report.get("PRIORITY") != "4" || report.get("TCPMEMD_LOST") != "0" || !strings.Contains(report.get("MESSAGE"), "came late, 0 lost") {
		t.Errorf("after it: %v", report)
	}
	in, _ := incidentOf(t, m, "alerts")
	waitEntry(t, m, event.RuleEnded, in.ID)
	in, _ = incidentOf(t, m, "alerts")
	checkStory(t, m, &in)
}

// checkStory holds the entries of an incident against its record.
func checkStory(t *testing.T, m *Machine, in *record.Incident) {
	list := entries(t, m, "-u", "tcpmemd.service", "TCPMEMD_INCIDENT="+in.ID)
	var story []string
	for _, e := range list {
		story = append(story, e.get("TCPMEMD_EVENT")+" "+e.get("PRIORITY"))
		if wrong := common(e, event.KindOf(e.get("TCPMEMD_EVENT")), "tcpmemd.service"); wrong != "" {
			t.Errorf("%s: %s", e.get("TCPMEMD_EVENT"), wrong)
		}
		if !slices.Contains(e["OBJECT_SYSTEMD_UNIT"], "alerts.service") || e.get("TCPMEMD_KEY") != "system/alerts.service" || e.get("TCPMEMD_RULE") != "alerts" {
			t.Errorf("%s: %v is not of alerts.service", e.get("TCPMEMD_EVENT"), e)
		}
	}
	want := []string{"rule-firing 2", "action-intent 5", "action-result 4", "action-effect 5", "rule-ended 4"}
	if got := slices.DeleteFunc(slices.Clone(story), func(s string) bool { return strings.HasSuffix(s, " 7") }); !slices.Equal(got, want) {
		t.Errorf("the story is %q, want %q", got, want)
	}
	if len(list) == 0 {
		return
	}
	first, last := list[0], list[len(list)-1]
	for _, part := range []string{
		"alerts: alerts.service (pid ", "; TCP memory is ", "\nrule: a service leaks", "\nsince: ", "unit alerts.service, pid ", `al\x1b[31merts`,
		"\nwhat is done, while it lasts: restart-unit", "\nmore: tcpmemctl incidents show " + in.ID, "\ntold late: this was at ",
	} {
		if !strings.Contains(first.get("MESSAGE"), part) {
			t.Errorf("no %q in\n%s", part, first.get("MESSAGE"))
		}
	}
	at, err := time.Parse(time.RFC3339, first.get("TCPMEMD_TIME"))
	if err != nil || at.Sub(in.Fired.At).Abs() > time.Second {
		t.Errorf("it fired at %s, told as %s (%v)", in.Fired.At, first.get("TCPMEMD_TIME"), err)
	}
	for name, want := range map[string]string{
		"TCPMEMD_UNIT": "alerts.service", "TCPMEMD_OWNER": "alerts.service", "TCPMEMD_MODE": "enforce", "TCPMEMD_KEYS": "1",
	} {
		if got := first.get(name); got != want {
			t.Errorf("the beginning: %s = %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"TCPMEMD_RESULT": "done", "TCPMEMD_EFFECT": "helped", "TCPMEMD_ACTIONS": "1",
	} {
		if got := last.get(name); got != want {
			t.Errorf("the end: %s = %s, want %s", name, got, want)
		}
	}
	for _, part := range []string{"alerts: over for alerts.service after ", ": restart-unit on alerts.service helped\n", "\ndone: restart-unit on alerts.service: done after "} {
		if !strings.Contains(last.get("MESSAGE"), part) {
			t.Errorf("no %q in\n%s", part, last.get("MESSAGE"))
		}
	}
	ofUnit := entries(t, m, "-u", "alerts.service", "TCPMEMD_INCIDENT="+in.ID)
	if len(ofUnit) != len(list) {
		t.Errorf("journalctl -u alerts.service shows %d of %d entries", len(ofUnit), len(list))
	}
	// The rule that only watches: what it would have done, and no warning of what
	// was never at stake.
	watched, _ := incidentOf(t, m, "alerts-watched")
	var observed []string
	for _, e := range entries(t, m, "-u", "tcpmemd.service", "TCPMEMD_INCIDENT="+watched.ID) {
		if e.get("PRIORITY") != "7" {
			observed = append(observed, e.get("TCPMEMD_EVENT")+" "+e.get("PRIORITY"))
		}
	}
	if len(observed) < 3 || observed[0] != "rule-firing 4" || observed[len(observed)-1] != "rule-ended 4" || !slices.Contains(observed, "would-act 6") {
		t.Errorf("of the rule that observes: %q", observed)
	}
	t.Logf("\n%s", run(t, m, "journalctl", "--no-pager", "-u", "tcpmemd", "TCPMEMD_INCIDENT="+in.ID))
}

// checkGoneJournal: journald is stopped and its sockets are closed, which takes
// the output of every service with it. tcpmemd lives, and tells later.
func checkGoneJournal(t *testing.T, m *Machine) {
	pid := show(t, m, "tcpmemd.service", "MainPID")
	names := strings.Fields(ask(t, m, "sh", "-c", "systemctl list-units --plain --no-legend 'systemd-journald*.socket' | cut -d' ' -f1"))
	run(t, m, "systemctl", append(append([]string{"stop"}, names...), "systemd-journald.service")...)
	run(t, m, "tcpmemctl", "pause", "1h", "--why", "nobody hears this")
	ask(t, m, "tcpmemctl", "reload", "--wait")
	run(t, m, "tcpmemctl", "resume")
	waits := ask(t, m, "sh", "-c", "tcpmemctl status --json")
	run(t, m, "systemctl", append([]string{"start"}, append(names, "systemd-journald.service")...)...)
	if strings.Contains(waits, `"journal":{"waiting":0`) {
		t.Errorf("nothing waits for a journal that is gone:\n%s", waits)
	}
	e := waitEntry(t, m, event.Paused, "nobody hears this")
	if wrong := common(e, event.KindOf(event.Paused), "tcpmemd.service"); wrong != "" {
		t.Errorf("%s", wrong)
	}
	if now := show(t, m, "tcpmemd.service", "MainPID"); now != pid {
		t.Errorf("tcpmemd has pid %s, it was %s: it died with the journal", now, pid)
	}
	// A restart of journald is nothing to anybody.
	run(t, m, "systemctl", "restart", "systemd-journald.service")
	run(t, m, "tcpmemctl", "pause", "1h", "--why", "after a restart")
	waitEntry(t, m, event.Paused, "after a restart")
	run(t, m, "tcpmemctl", "resume")
}

// checkLastWords: what is told at the end is delivered before the end.
func checkLastWords(t *testing.T, m *Machine) {
	before := len(ofKind(entries(t, m, "-u", "tcpmemd.service"), event.DaemonStopped))
	run(t, m, "systemctl", "stop", "tcpmemd")
	eventually(t, 20*time.Second, func() string {
		if now := len(ofKind(entries(t, m, "-u", "tcpmemd.service"), event.DaemonStopped)); now != before+1 {
			return fmt.Sprintf("%d words at an end, want %d", now, before+1)
		}
		return ""
	})
}
