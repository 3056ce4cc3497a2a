//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// owner is what the tests need of an entry of `tcpmemctl owners --json`, read
// here as a user of the documented format would and not with its own types.
type owner struct {
	Key          string  `json:"key"`
	Name         string  `json:"name"`
	Kind         string  `json:"kind"`
	Unit         string  `json:"unit"`
	Manager      string  `json:"manager"`
	UnitVerified bool    `json:"unit_verified"`
	CgroupGone   bool    `json:"cgroup_gone"`
	UID          *uint32 `json:"uid"`
	Holders      []struct {
		Command string `json:"command"`
		Unit    string `json:"unit"`
	} `json:"holders"`
	Netns []struct {
		Cookie *uint64 `json:"cookie"`
	} `json:"netns"`
	Peers []struct {
		Owner *string `json:"owner"`
		tally
	} `json:"peers"`
	tally
	Classes  map[string]tally `json:"classes"`
	Evidence map[string]tally `json:"evidence"`
}

type tally struct {
	Sockets int64 `json:"sockets"`
	Bytes   int64 `json:"bytes"`
}

// leak is what the leaker says that it holds.
type leak struct {
	tally
	Classes map[string]tally `json:"classes"`
}

// leaks are services that hold TCP memory, the biggest first. Together they
// need each right that the unit's sandbox leaves: other users' descriptors,
// sockets that no dump shows, another network namespace.
var leaks = []struct {
	unit    string
	command string
	args    string
	service string // more of its [Service] section
}{
	{"task-queue.service", "task-queue", "-unread 300 -hidden 60", "User=daemon"},
	{"sandboxed.service", "sandboxed", "-unread 60", "User=games\nPrivateNetwork=yes"},
	{"api.service", "api", "-unread 12", ""},
}

// TestWalkingSkeleton goes the way of a first day: install, enable, look who
// holds the TCP memory, stop. TestPackage has the rest of a package's life.
func TestWalkingSkeleton(t *testing.T) {
	for _, rel := range []Release{Bookworm, Trixie} {
		t.Run(string(rel), func(t *testing.T) { checkFirstDay(t, boot(t, rel)) })
	}
}

func checkFirstDay(t *testing.T, m *Machine) {
	install(t, m)
	// Type=notify: this returns once the daemon said READY=1.
	run(t, m, "systemctl", "enable", "--now", "tcpmemd")
	t.Run("Running", func(t *testing.T) { checkRunning(t, m) })
	t.Run("Rights", func(t *testing.T) { checkRights(t, m) })
	t.Run("Owners", func(t *testing.T) { checkOwners(t, m) })
	t.Run("Watchdog", func(t *testing.T) { checkWatchdog(t, m) })
	t.Run("Stop", func(t *testing.T) { checkStop(t, m) })
	for unit := range strings.Lines(ask(t, m, "systemctl", "--failed", "--plain", "--no-legend")) {
		// systemd 257 finds no modules in a container, and says so.
		if !strings.HasPrefix(unit, "systemd-modules-load.service") {
			t.Errorf("failed: %s", unit)
		}
	}
}

func checkRunning(t *testing.T, m *Machine) {
	if got := ask(t, m, "systemctl", "is-active", "tcpmemd"); got != "active" {
		t.Fatalf("is-active = %q, want active", got)
	}
	status := run(t, m, "systemctl", "show", "--property=StatusText", "--value", "tcpmemd")
	if status == "" {
		t.Error("the unit has no Status line")
	}
	t.Logf("Status: %s", status)

	want := "750 root:tcpmemd /run/tcpmemd\n660 root:tcpmemd /run/tcpmemd/tcpmemd.sock\n750 root:tcpmemd /var/lib/tcpmemd"
	got := run(t, m, "stat", "--format=%a %U:%G %n", "/run/tcpmemd", "/run/tcpmemd/tcpmemd.sock", "/var/lib/tcpmemd")
	if got != want {
		t.Errorf("modes:\n%s\nwant:\n%s", got, want)
	}

	// 3.2 of 10 is what seeing other namespaces and the kernel log may cost.
	out, err := m.Run(t.Context(), "systemd-analyze", "security", "--no-pager", "--threshold=32", "tcpmemd.service")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Log(lastLines(out, 1))
}

// checkRights asks the daemon to try, inside its sandbox, each thing that it
// needs on this host.
func checkRights(t *testing.T, m *Machine) {
	var doc struct {
		Checks []struct {
			Name   string  `json:"name"`
			Status string  `json:"status"`
			What   string  `json:"what"`
			Costs  *string `json:"costs"`
		} `json:"checks"`
	}
	if err := json.Unmarshal([]byte(ask(t, m, "tcpmemctl", "doctor", "--json")), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Checks) == 0 {
		t.Error("doctor checked nothing")
	}
	for _, c := range doc.Checks {
		// The machine is a container: its processes are not all of the host's.
		if c.Status != "ok" && c.Name != "PID namespace" {
			t.Errorf("%s is %s: %s", c.Name, c.Status, c.What)
		}
	}
}

func checkOwners(t *testing.T, m *Machine) {
	installLeaker(t, m)
	want := make(map[string]leak)
	for _, l := range leaks {
		name := strings.TrimSuffix(l.unit, ".service")
		startService(t, m, l.unit, fmt.Sprintf(
			"[Service]\nType=notify\nRuntimeDirectory=%s\nExecStart=%s -comm %s -report /run/%s/held.json %s\n%s\n",
			name, leakerPath, l.command, name, l.args, l.service))
		var held leak
		if err := json.Unmarshal([]byte(run(t, m, "cat", "/run/"+name+"/held.json")), &held); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s holds %d bytes in %d sockets: %v", l.unit, held.Bytes, held.Sockets, held.Classes)
		want[l.unit] = held
	}

	var owners []owner
	eventually(t, 30*time.Second, func() string {
		var err error
		owners, err = askOwners(t, m)
		if err != nil {
			return err.Error()
		}
		var problems []string
		for _, l := range leaks {
			if p := judge(owners, l.unit, l.command, want[l.unit]); p != "" {
				problems = append(problems, p)
			}
		}
		return strings.Join(problems, "\n")
	})
	t.Logf("\n%s", run(t, m, "tcpmemctl", "owners"))
	// What runs outside the machine shares the host's network and is nobody that
	// its processes show.
	named := slices.DeleteFunc(owners, func(o owner) bool { return o.Kind == "unresolved" })
	if got := named[0].Unit; got != leaks[0].unit {
		t.Errorf("first owner = %q (%s), want %s", named[0].Name, got, leaks[0].unit)
	}
}

// judge says what is wrong with the owner of unit, "" when nothing is.
func judge(owners []owner, unit, command string, want leak) string {
	for _, o := range owners {
		if o.Unit != unit {
			continue
		}
		switch {
		case o.Kind != "service", o.Key != "system/"+unit, o.Name != unit:
			return fmt.Sprintf("%s is called %s, a %s with key %s", unit, o.Name, o.Kind, o.Key)
		case !near(o.Bytes, want.Bytes):
			return fmt.Sprintf("%s: %d bytes, want %d", unit, o.Bytes, want.Bytes)
		case !near(o.Classes["hidden"].Bytes, want.Classes["hidden"].Bytes):
			return fmt.Sprintf("%s: %d bytes in hidden sockets, want %d", unit, o.Classes["hidden"].Bytes, want.Classes["hidden"].Bytes)
		case !near(o.Evidence["fd"].Bytes, want.Bytes):
			return fmt.Sprintf("%s: evidence %v, want fd for %d bytes", unit, o.Evidence, want.Bytes)
		case len(o.Holders) == 0 || !strings.Contains(o.Holders[0].Command, command) || o.Holders[0].Unit != unit:
			return fmt.Sprintf("%s: holders %v, want %s", unit, o.Holders, command)
		case len(o.Netns) != 1 || o.Netns[0].Cookie == nil:
			return unit + ": no cookie of its network namespace"
		}
		return ""
	}
	return unit + " is not among the owners"
}

// near allows for what TCP itself frees between two looks.
func near(got, want int64) bool {
	return max(got-want, want-got) <= want/50
}

func askOwners(t *testing.T, m *Machine) ([]owner, error) {
	t.Helper()
	out, err := m.Run(t.Context(), "tcpmemctl", "owners", "--json")
	if err != nil {
		return nil, err
	}
	var doc struct {
		Version int     `json:"version"`
		Owners  []owner `json:"owners"`
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		return nil, fmt.Errorf("decode owners: %w\n%s", err, out)
	}
	if doc.Version != 1 {
		return nil, fmt.Errorf("owners: version %d, want 1", doc.Version)
	}
	return doc.Owners, nil
}

// checkWatchdog shortens the watchdog and waits: a daemon that does its turns
// is left alone.
func checkWatchdog(t *testing.T, m *Machine) {
	const dropIn = "/run/systemd/system/tcpmemd.service.d/watchdog.conf"
	if err := m.WriteFile(dropIn, []byte("[Service]\nWatchdogSec=2s\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, m, "systemctl", "daemon-reload")
	run(t, m, "systemctl", "restart", "tcpmemd")
	if err := pause(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if got := run(t, m, "systemctl", "show", "--property=NRestarts", "--value", "tcpmemd"); got != "0" {
		t.Errorf("restarted %s times by a watchdog of 2 s", got)
	}
	run(t, m, "rm", "-r", "/run/systemd/system/tcpmemd.service.d")
	run(t, m, "systemctl", "daemon-reload")
	run(t, m, "systemctl", "restart", "tcpmemd")
}

func checkStop(t *testing.T, m *Machine) {
	run(t, m, "systemctl", "stop", "tcpmemd")
	got := run(t, m, "systemctl", "show", "--property=Result,ExecMainStatus,NRestarts", "tcpmemd")
	for _, want := range []string{"Result=success", "ExecMainStatus=0", "NRestarts=0"} {
		if !strings.Contains(got, want) {
			t.Errorf("after stop: %s missing in\n%s", want, got)
		}
	}
	if _, err := m.Run(t.Context(), "tcpmemctl", "owners"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("owners without a daemon: %v, want exit status 3", err)
	}
}
