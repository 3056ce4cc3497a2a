//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

const bodiesPath = "/usr/local/bin/bodies"

// TestIncident is the story that tcpmemd is for: a task queue leaks sockets, the
// TCP memory of the host runs out, an API beside it stalls. In observe mode the
// record says what would have been done; in enforce mode it is done.
func TestIncident(t *testing.T) {
	m := boot(t, Bookworm)
	install(t, m)
	installLeaker(t, m)
	bin := filepath.Join(t.TempDir(), "bodies")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./bodies")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build bodies: %v\n%s", err, out)
	}
	if err := m.Copy(bin, bodiesPath, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.WriteFile("/usr/local/bin/once", []byte(once), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Run("Observe", func(t *testing.T) { checkIncident(t, m, "observe", 7201) })
	t.Run("Enforce", func(t *testing.T) { checkIncident(t, m, "enforce", 7301) })
}

// incidentPolicy is the shipped rule about leaks with a condition of its own:
// a verdict takes minutes, and sockets that the peer has reset are a sign at
// once.
const incidentPolicy = `
[rule.tcp-leak]
mode = "enforce"
when = 'tcp.fill > 0.7 && owner.share > 0.3 && owner.hidden_bytes > 1 * MiB'
for = "6s"
cooldown = "1m"
[[rule.tcp-leak.step]]
action = "notify"
[[rule.tcp-leak.step]]
action = "restart-unit"
after = "5s"
budget = "2 per 1h"
`

func checkIncident(t *testing.T, m *Machine, mode string, port int) {
	address, api := loopback(port), loopback(port+1)
	configure(t, m, fmt.Sprintf("mode = %q\nsettle.start = \"5s\"\nsettle.owner = \"5s\"\nscan.calm = \"5s\"\nscan.pressed = \"2s\"\n", mode), incidentPolicy)
	allowActing(t, m)
	run(t, m, "systemctl", "restart", "tcpmemd")
	t.Cleanup(func() {
		ask(t, m, "systemctl", "stop", "tcpmemd", "task-queue.service", "api.service", "reader.service")
	})

	const private = "PrivateNetwork=yes\n"
	startService(t, m, "api.service", "[Service]\nExecStart="+bodiesPath+" -serve "+api+"\n")
	startService(t, m, "reader.service", "[Service]\nType=notify\n"+private+"ExecStart="+leakerPath+" -listen "+address+"\n")
	fast := fetch(t, m, api)

	lease := scene.LowerTCPMemT(t, reading.TCPMem{Min: 5000, Pressure: 8000, Max: 10000})
	start := time.Now()
	// It grows for a minute, as a leak does: unread, hidden and unsent.
	leak := fmt.Sprintf("#!/bin/sh\nfor i in $(seq 20); do\n\t%[1]s -comm task-queue -unread 8 -hidden 4 -bytes 100000 &\n"+
		"\t%[1]s -dial %[2]s -count 3 -bytes 0 &\n\tsleep 3\ndone\nwait\n", leakerPath, address)
	if err := m.WriteFile("/usr/local/bin/leak-all", []byte(leak), 0o755); err != nil {
		t.Fatal(err)
	}
	unit := "[Unit]\nJoinsNamespaceOf=reader.service\n[Service]\nType=notify\nNotifyAccess=all\n" + private +
		"ExecStart=/usr/local/bin/once /run/leaked-" + mode + " /usr/local/bin/leak-all\n"
	if err := m.WriteFile("/etc/systemd/system/task-queue.service", []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, m, "systemctl", "daemon-reload")
	run(t, m, "systemctl", "start", "--no-block", "task-queue.service") // it may never get ready: there is no memory
	bystander := show(t, m, "api.service", "InvocationID")
	var slow int64
	eventually(t, 2*time.Minute, func() string {
		if slow = fetch(t, m, api); slow > fast/4 {
			return fmt.Sprintf("downloads run at %d bytes a second, %d before the leak: they do not suffer", slow, fast)
		}
		return ""
	})
	old := show(t, m, "task-queue.service", "InvocationID")
	t.Logf("%.0f s: downloads fell from %d to %d bytes a second, %d pages used", time.Since(start).Seconds(), fast, slow, used(t, m))

	want := "dry-run"
	if mode == "enforce" {
		want = "done"
	}
	var incident record.Incident
	eventually(t, 4*time.Minute, func() string {
		var ok bool
		if incident, ok = incidentOf(t, m, "tcp-leak"); !ok {
			return "no incident of tcp-leak\n" + ask(t, m, "tcpmemctl", "status")
		}
		for i := range incident.Records {
			if r := incident.Records[i].Result; r != nil && incident.Records[i].Incident == incident.ID && string(r.Outcome) == want {
				return ""
			}
		}
		return "no result " + want + "\n" + ask(t, m, "tcpmemctl", "incidents", "show", incident.ID)
	})
	t.Logf("%.0f s: %s", time.Since(start).Seconds(), want)
	if k := incident.Keys[0]; k.Key != "system/task-queue.service" {
		t.Errorf("the incident is about %s", k.Key)
	}
	if mode == "observe" {
		time.Sleep(3 * time.Second)
		if now := show(t, m, "task-queue.service", "InvocationID"); now != old {
			t.Error("the unit was restarted in observe mode")
		}
	} else {
		eventually(t, time.Minute, func() string {
			if now := fetch(t, m, api); now < fast/4 {
				return fmt.Sprintf("downloads run at %d bytes a second, %d before: they do not recover\n%s", now, fast, ask(t, m, "tcpmemctl", "status"))
			}
			return ""
		})
		t.Logf("%.0f s: downloads recovered, %d pages used", time.Since(start).Seconds(), used(t, m))
		if now := show(t, m, "task-queue.service", "InvocationID"); now == old {
			t.Error("the unit was not restarted")
		}
		eventually(t, time.Minute, func() string {
			incident, _ = incidentOf(t, m, "tcp-leak")
			for i := range incident.Records {
				if e := incident.Records[i].Effect; e != nil && e.Verdict == record.Helped {
					return ""
				}
			}
			return "no effect that helped\n" + ask(t, m, "tcpmemctl", "incidents", "show", incident.ID)
		})
	}
	if now := show(t, m, "api.service", "InvocationID"); now != bystander {
		t.Error("api.service was touched")
	}
	// journalctl -u of the offender shows what was told of it.
	journal := run(t, m, "journalctl", "--no-pager", "-u", "task-queue.service")
	if !strings.Contains(journal, "task-queue.service") || !strings.Contains(journal, "tcp-leak") {
		t.Errorf("journalctl -u task-queue.service says nothing of it:\n%s", journal)
	}
	t.Logf("\n%s", run(t, m, "tcpmemctl", "incidents", "show", incident.ID))
	checkPage(t, m, mode, incident.ID)
	run(t, m, "systemctl", "stop", "tcpmemd", "task-queue.service", "api.service", "reader.service")
	if err := lease.Restore(); err != nil {
		t.Error(err)
	}
}

// checkPage: the page of the incident says in its headline who it was and what
// was done. It is kept where CI keeps what a person should look at.
func checkPage(t *testing.T, m *Machine, mode, id string) {
	t.Helper()
	page := run(t, m, "tcpmemctl", "incidents", "show", id, "--html")
	_, headline, _ := strings.Cut(page, "<h1 ")
	headline, _, _ = strings.Cut(headline, "</h1>")
	want := "tcpmemd only watched: it would have restarted it"
	if mode == "enforce" {
		want = "tcpmemd restarted it, which helped"
	}
	if !strings.Contains(headline, ">task-queue.service ") || !strings.Contains(headline, want) {
		t.Errorf("the page says %q", headline)
	}
	if dir := os.Getenv("TCPMEMD_SCREENSHOTS"); dir != "" {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "incident-"+mode+".html"), []byte(page), 0o644)); err != nil {
			t.Error(err)
		}
	}
}

// fetch is how fast bodies come from the API, in bytes a second.
func fetch(t *testing.T, m *Machine, address string) (rate int64) {
	t.Helper()
	if _, err := fmt.Sscan(run(t, m, bodiesPath, "-fetch", address), &rate); err != nil {
		t.Fatal(err)
	}
	return rate
}

// incidentOf gives the newest incident of a rule, as a script would.
func incidentOf(t *testing.T, m *Machine, rule string) (in record.Incident, ok bool) {
	t.Helper()
	var list struct {
		Incidents []struct {
			ID   string `json:"id"`
			Rule string `json:"rule"`
		} `json:"incidents"`
	}
	text, err := m.Run(t.Context(), "tcpmemctl", "incidents", "--json")
	if err != nil {
		return in, false
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	for _, i := range list.Incidents {
		if i.Rule == rule {
			if err := json.Unmarshal([]byte(run(t, m, "tcpmemctl", "incidents", "show", i.ID, "--json")), &in); err != nil {
				t.Fatal(err)
			}
			return in, true
		}
	}
	return in, false
}
