//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// checkDamaged: what the daemon keeps was damaged between two of its runs. What
// is lost counts as spent.
func checkDamaged(t *testing.T, m *Machine) {
	run(t, m, "systemctl", "stop", "tcpmemd")
	run(t, m, "sh", "-ec", "cd "+stateDir+`; printf '{"version":1,"boot' >leases.json; printf '\000\377garbage' >budgets.json
		printf '{"version":1,"seq":9999,"id":"torn' >>actions.jsonl; echo '[]' >incidents/i20260101-000000-abcdef.json`)
	invocation := startLeaking(t, m, "damaged")
	since := run(t, m, "date", "+@%s")
	run(t, m, "systemctl", "start", "tcpmemd")
	log := run(t, m, "journalctl", "--no-pager", "--unit=tcpmemd", "--output=cat", "--since="+since)
	for _, want := range []string{"leases are lost", "budgets are lost", "log-torn", "i20260101-000000-abcdef.json"} {
		if !strings.Contains(log, want) {
			t.Errorf("the journal does not say %q:\n%s", want, log)
		}
	}
	eventually(t, time.Minute, func() string {
		if out := ask(t, m, "journalctl", "--no-pager", "--output=cat", "--since="+since, "TCPMEMD_EVENT=budgets-lost"); !strings.Contains(out, "all count as spent") {
			return "the journal does not tell of budgets-lost:\n" + out
		}
		return ""
	})
	waits(t, m, "damaged", "budget of")
	if got := show(t, m, "damaged.service", "InvocationID"); got != invocation {
		t.Error("damaged.service was restarted, by a budget that nobody knows")
	}
	run(t, m, "tcpmemctl", "reset", "damaged")
	restarted(t, m, "damaged", invocation)
	whole(t, run(t, m, "cat", stateDir+"/actions.jsonl"))
}

// checkSecondDaemon: nobody else gets the record of one that runs.
func checkSecondDaemon(t *testing.T, m *Machine) {
	pid := show(t, m, "tcpmemd.service", "MainPID")
	for _, args := range [][]string{nil, {"--socket", "/run/second.sock", "--state", stateDir}, {"--state", "/run/second"}} {
		if _, err := m.Run(t.Context(), "timeout", append([]string{"20", "tcpmemd"}, args...)...); err == nil || !strings.Contains(err.Error(), "another daemon") {
			t.Errorf("tcpmemd %q beside another: %v", args, err)
		}
	}
	if got := show(t, m, "tcpmemd.service", "MainPID"); got != pid {
		t.Errorf("tcpmemd was process %s and is %s", pid, got)
	}
	run(t, m, "tcpmemctl", "status")
}

// hostileFiles are the program that a rule runs, and the one that leaks.
var hostileFiles = map[string]string{
	"/usr/local/bin/heard":   "#!/bin/sh\ncat >/run/tcpmemd/heard.json; printf %s \"$1\" >/run/tcpmemd/heard.arg\n",
	"/usr/local/bin/hostile": "#!/bin/sh\nexec /usr/local/bin/once /run/leaked-hostile " + leakerPath + ` -unread 40 -bytes 50000 -comm "$(printf '\033[2J\377\n$(reboot)')"` + "\n",
}

const (
	hostileUnit = `a\x20b\x0a\x1b\x5b2J\x22.service`
	hostileRule = `
[rule.hostile]
mode = "enforce"
for_each = "unit"
when = 'owner.unit startsWith "a" && owner.unit contains "x1b" && owner.unread_bytes > 1 * MiB'
for = "0s"
until = 'owner.unread_bytes < 64 * KiB'
[[rule.hostile.step]]
action = "notify"
[[rule.hostile.step]]
action = "run-command"
command = ["/usr/local/bin/heard", "$(reboot)"]
[[rule.hostile.step]]
action = "restart-unit"
`
)

// checkHostileNames: a unit and a process that are called so as to harm who
// reads of them, from the first alert to the last record.
func checkHostileNames(t *testing.T, m *Machine) {
	startService(t, m, hostileUnit, "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/local/bin/hostile\n")
	invocation := show(t, m, hostileUnit, "InvocationID")
	in := done(t, m, "hostile", "restart-unit")
	if show(t, m, hostileUnit, "InvocationID") == invocation {
		t.Errorf("%s was not restarted", hostileUnit)
	}

	var heard struct {
		Owner struct {
			Unit    string `json:"unit"`
			Command string `json:"command"`
		} `json:"owner"`
	}
	if err := json.Unmarshal([]byte(run(t, m, "cat", "/run/tcpmemd/heard.json")), &heard); err != nil || heard.Owner.Unit != hostileUnit {
		t.Errorf("the program was told of %+v (%v)", heard, err)
	}
	if got := run(t, m, "cat", "/run/tcpmemd/heard.arg"); got != "$(reboot)" {
		t.Errorf("the program's argument is %q", got)
	}
	for _, command := range [][]string{
		{"tcpmemctl", "status"},
		{"tcpmemctl", "owners"},
		{"tcpmemctl", "owners", "--by", "process"},
		{"tcpmemctl", "sockets"},
		{"tcpmemctl", "incidents"},
		{"tcpmemctl", "incidents", "show", in.ID},
		{"tcpmemctl", "explain", in.ID},
		{"tcpmemctl", "actions", "--all"},
		{"systemctl", "status", "--no-pager", "tcpmemd"},
		{"journalctl", "--no-pager", "--unit=tcpmemd", "--output=cat"},
		{"journalctl", "--no-pager", "--unit=" + hostileUnit, "--output=verbose"},
	} {
		out := run(t, m, command[0], command[1:]...)
		i := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) })
		if i >= 0 {
			t.Errorf("%q has a raw character: %q", command, out[max(0, i-40):min(len(out), i+40)])
		}
		if !utf8.ValidString(out) {
			t.Errorf("%q is no text: %q", command, out)
		}
		// How journalctl(1) shows what it does not print.
		if strings.Contains(out, "blob data]") {
			t.Errorf("%q has what is no text:\n%s", command, out)
		}
	}
	for _, command := range [][]string{{"status"}, {"owners"}, {"incidents"}, {"incidents", "show", in.ID}, {"actions", "--all"}} {
		out := run(t, m, "tcpmemctl", append(command, "--json")...)
		if !json.Valid([]byte(out)) || !utf8.ValidString(out) {
			t.Errorf("tcpmemctl %q --json is no JSON:\n%s", command, out)
		}
	}
}
