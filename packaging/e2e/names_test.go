//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

// patience is how long a name may take to be right. Each question is a scan of
// its own, so one or two are enough on a quiet machine.
const patience = 15 * time.Second

// heldDir has the reports of leakers, those of unprivileged ones too.
const heldDir = "/run/held"

// name is who should be said to hold a leaker's memory.
type name struct {
	key      string
	kind     string
	verified bool // by PID 1; what a user's manager runs stays a label
	uid      uint32
	command  string
}

// unprivileged is the user whose manager runs a unit.
const unprivileged = 1000

// TestNames shows on a real systemd that owners have the names that a person
// gives them, however the memory came to be theirs.
func TestNames(t *testing.T) {
	m := boot(t, Bookworm)
	install(t, m)
	run(t, m, "systemctl", "start", "tcpmemd")
	installLeaker(t, m)
	run(t, m, "mkdir", "--mode=1777", heldDir)

	t.Run("Delegated", func(t *testing.T) { checkDelegated(t, m) })
	t.Run("Template", func(t *testing.T) { checkTemplate(t, m) })
	t.Run("Scope", func(t *testing.T) { checkScopes(t, m) })
	t.Run("UserUnit", func(t *testing.T) { checkUserUnit(t, m) })
	t.Run("Hostile", func(t *testing.T) { checkHostile(t, m) })
	t.Run("SocketUnit", func(t *testing.T) { checkSocketUnit(t, m) })
	t.Run("SocketInstance", func(t *testing.T) { checkSocketInstance(t, m) })
	// The next ones share the consumer; each ends with no connection to it.
	t.Run("SlowPeer", func(t *testing.T) { checkSlowPeer(t, m) })
	t.Run("OrphansOfRestart", func(t *testing.T) { checkOrphansOfRestart(t, m) })
	t.Run("OrphansSeen", func(t *testing.T) { checkOrphansSeen(t, m) })
	t.Run("OrphansUnseen", func(t *testing.T) { checkOrphansUnseen(t, m) })
}

// checkDelegated: a service that may arrange its own control group calls a part
// of it like another service, and a part of that so that it clears the terminal
// of who prints it. What runs there is still the service's.
func checkDelegated(t *testing.T, m *Machine) {
	const script = `d=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/nginx.service/$(printf '\033[2J'); mkdir -p "$d"; echo 0 >"$d/cgroup.procs"; exec `
	text := "#!/bin/sh -e\n" + script + leakerCommand("delegated", "-unread 8") + "\n"
	if err := m.WriteFile("/usr/local/bin/delegated", []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	startService(t, m, "delegated.service", "[Service]\nType=notify\nDelegate=yes\nExecStart=/usr/local/bin/delegated\n")
	if got := run(t, m, "find", "/sys/fs/cgroup/system.slice/delegated.service", "-name", "nginx.service"); got == "" {
		t.Fatal("the service made no control group of its own")
	}
	owners := expectName(t, m, "delegated", name{key: "system/delegated.service", kind: "service", verified: true})
	for _, o := range owners {
		if strings.Contains(o.Key+o.Name+o.Unit, "nginx") {
			t.Errorf("%s, a %s, holds %d bytes", o.Key, o.Kind, o.Bytes)
		}
	}
}

func checkTemplate(t *testing.T, m *Machine) {
	writeUnit(t, m, "worker@.service", "[Service]\nType=notify\nExecStart="+leakerCommand("worker%i", "-unread 8")+"\n")
	run(t, m, "systemctl", "start", "worker@7.service")
	expectName(t, m, "worker7", name{key: "system/worker@7.service", kind: "service", verified: true})
}

// checkScopes: a scope of PID 1, and one that is named and placed as
// systemd-logind does for a login.
func checkScopes(t *testing.T, m *Machine) {
	for _, scope := range []struct {
		report, unit, slice string
		want                name
	}{
		{"batch", "batch.scope", "system.slice", name{key: "system/batch.scope", kind: "scope", verified: true}},
		{"login", "session-7.scope", "user-1001.slice", name{key: "system/session-7.scope", kind: "session", verified: true}},
	} {
		// It runs in the foreground, and not as a child of PID 1.
		run(t, m, "sh", "-c", fmt.Sprintf("systemd-run --scope --unit=%s --slice=%s %s >/run/%s.log 2>&1 </dev/null &",
			scope.unit, scope.slice, leakerCommand(scope.report, "-unread 8"), scope.report))
		expectName(t, m, scope.report, scope.want)
	}
}

func checkUserUnit(t *testing.T, m *Machine) {
	startUserUnit(t, m, "notes.service", leakerCommand("notes", "-unread 8"))
	expectName(t, m, "notes", name{key: "user@1000/notes.service", kind: "user-service", uid: unprivileged})
}

// startUserUnit starts a unit of a user's own manager. The minimal system has no
// pam_systemd, which tells that manager where its run-time directory is.
func startUserUnit(t *testing.T, m *Machine, unit, command string) {
	t.Helper()
	run(t, m, "useradd", "--create-home", "--uid", fmt.Sprint(unprivileged), "somebody")
	writeUnit(t, m, "user@.service.d/no-pam.conf", "[Service]\nPAMName=\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n")
	const units = "/home/somebody/.config/systemd/user/"
	if err := m.WriteFile(units+unit, []byte("[Service]\nType=notify\nExecStart="+command+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, m, "mkdir", units+"default.target.wants")
	run(t, m, "ln", "-s", units+unit, units+"default.target.wants")
	run(t, m, "systemctl", "daemon-reload")
	// As systemd-logind does for a lingering user.
	run(t, m, "systemctl", "start", fmt.Sprintf("user@%d.service", unprivileged))
}

// checkHostile: a unit whose name is full of escapes, and a process that would
// write on the terminal of who looks.
func checkHostile(t *testing.T, m *Machine) {
	const (
		template = `a\x2db@.service`
		unit     = `a\x2db@c\x20d.service`
		comm     = "\x1b[31mred\r\nx\x07"
	)
	writeUnit(t, m, template, "[Service]\nType=notify\nExecStart="+
		leakerCommand("hostile", `-unread 8 -comm "\x1b[31mred\r\nx\x07"`)+"\n")
	run(t, m, "systemctl", "start", unit)
	expectName(t, m, "hostile", name{key: "system/" + unit, kind: "service", verified: true, command: comm})

	for _, args := range [][]string{
		{"owners"}, {"owners", "--by", "process"}, {"owners", "--by", "unit"}, {"owners", "--by", "cgroup"}, {"sockets"},
	} {
		out := run(t, m, "tcpmemctl", args...)
		if i := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }); i >= 0 {
			t.Errorf("tcpmemctl %s has a raw control character: %q", strings.Join(args, " "), out[max(0, i-20):min(len(out), i+20)])
		}
	}
	for by, want := range map[string]string{"process": `\x1b[31mred\x0d\nx\x07`, "cgroup": `nginx.service/\x1b[2J`} {
		if out := run(t, m, "tcpmemctl", "owners", "--by", by); !strings.Contains(out, want) {
			t.Errorf("owners --by %s has no %s:\n%s", by, want, out)
		}
	}
}

// checkSocketUnit: connections wait in the queue of a socket unit whose service,
// of another name, is first not started, then runs and never accepts.
func checkSocketUnit(t *testing.T, m *Machine) {
	address := loopback(7001)
	writeUnit(t, m, "queue.socket", "[Socket]\nListenStream="+address+"\nService=drain.service\n")
	// PID 1 alone has the queue while the service is being prepared.
	writeUnit(t, m, "drain.service", "[Service]\nTimeoutStartSec=infinity\n"+
		"ExecStartPre=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.1; done'\nExecStart=/bin/sleep infinity\n")
	writeUnit(t, m, "dialer.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -dial "+address+" -count 12 -bytes 0\n")
	run(t, m, "systemctl", "daemon-reload")
	run(t, m, "systemctl", "start", "queue.socket")
	run(t, m, "systemctl", "start", "dialer.service")

	waiting := func() string {
		owners, err := askOwners(t, m)
		if err != nil {
			return err.Error()
		}
		want := kernelSays(t, m, "src", address)
		o, problem := find(owners, name{key: "system/drain.service", kind: "service", verified: true})
		switch got := o.Classes["unaccepted"]; {
		case problem != "":
			return problem
		case got.Sockets != 12 || !near(got.Bytes, want.Bytes):
			return fmt.Sprintf("drain.service: %v unaccepted, want %v", got, want)
		case o.Evidence["listener"].Sockets != 12:
			return fmt.Sprintf("drain.service: evidence %v, want listener for 12", o.Evidence)
		case slices.ContainsFunc(owners, func(o owner) bool { return o.Key == "system/queue.socket" }):
			return "queue.socket is an owner beside its service"
		}
		o, problem = find(owners, name{key: "system/dialer.service", kind: "service", verified: true})
		if problem == "" {
			problem = expectPeer(o, "system/drain.service", 12)
		}
		return problem
	}
	if got := ask(t, m, "systemctl", "is-active", "drain.service"); got != "activating" {
		t.Errorf("drain.service is %s, want activating", got)
	}
	eventually(t, patience, waiting)

	run(t, m, "touch", "/run/go")
	eventually(t, patience, func() string {
		if got := ask(t, m, "systemctl", "is-active", "drain.service"); got != "active" {
			return "drain.service is " + got
		}
		return waiting()
	})
}

// checkSocketInstance: one instance per connection, each with its own.
func checkSocketInstance(t *testing.T, m *Machine) {
	address := loopback(7002)
	writeUnit(t, m, "each.socket", "[Socket]\nListenStream="+address+"\nAccept=yes\n")
	writeUnit(t, m, "each@.service", "[Service]\nExecStart=/bin/sleep infinity\n")
	writeUnit(t, m, "caller.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -dial "+address+" -count 3 -bytes 30000\n")
	run(t, m, "systemctl", "daemon-reload")
	run(t, m, "systemctl", "start", "each.socket")
	run(t, m, "systemctl", "start", "caller.service")
	eventually(t, patience, func() string {
		owners, err := askOwners(t, m)
		if err != nil {
			return err.Error()
		}
		var sum tally
		instances := slices.DeleteFunc(owners, func(o owner) bool {
			return !strings.HasPrefix(o.Key, "system/each@") || !strings.HasSuffix(o.Key, ".service")
		})
		for _, o := range instances {
			if o.Kind != "service" || !o.UnitVerified || o.Sockets != 1 || o.Evidence["fd"].Sockets != 1 {
				return fmt.Sprintf("%s is a %s (verified %t) with %v, evidence %v", o.Key, o.Kind, o.UnitVerified, o.tally, o.Evidence)
			}
			sum.Sockets += o.Sockets
			sum.Bytes += o.Bytes
		}
		if want := kernelSays(t, m, "src", address); sum.Sockets != 3 || !near(sum.Bytes, want.Bytes) {
			return fmt.Sprintf("instances hold %v, want %v", sum, want)
		}
		return ""
	})
}

// expectName waits until the leaker that reports as report is called want and
// holds what it reports. It returns all owners.
func expectName(t *testing.T, m *Machine, report string, want name) []owner {
	t.Helper()
	var owners []owner
	eventually(t, patience, func() string {
		var held leak
		// A scope is not waited for: the report may not be there yet.
		if err := json.Unmarshal([]byte(ask(t, m, "cat", heldDir+"/"+report)), &held); err != nil {
			return fmt.Sprintf("report of %s: %v", report, err)
		}
		var err error
		if owners, err = askOwners(t, m); err != nil {
			return err.Error()
		}
		o, problem := find(owners, want)
		switch {
		case problem != "":
			return problem
		case !near(o.Bytes, held.Bytes) || o.Sockets < held.Sockets:
			return fmt.Sprintf("%s: %v, want %v", o.Key, o.tally, held.tally)
		case !near(o.Evidence["fd"].Bytes, held.Bytes):
			return fmt.Sprintf("%s: evidence %v, want fd for %d bytes", o.Key, o.Evidence, held.Bytes)
		case o.UID == nil || *o.UID != want.uid:
			return fmt.Sprintf("%s: uid %s, want %d", o.Key, text(o.UID), want.uid)
		case len(o.Holders) == 0 || !strings.Contains(o.Holders[0].Command, want.command):
			return fmt.Sprintf("%s: holders %s, want %q", o.Key, text(o.Holders), want.command)
		}
		return ""
	})
	return owners
}

// find returns the owner with the key of want, and what it is called wrongly.
func find(owners []owner, want name) (o owner, problem string) {
	i := slices.IndexFunc(owners, func(o owner) bool { return o.Key == want.key })
	if i < 0 {
		keys := make([]string, len(owners))
		for i := range owners {
			keys[i] = owners[i].Key
		}
		return o, fmt.Sprintf("%s is not among the owners %q", want.key, keys)
	}
	o = owners[i]
	manager, unit, _ := strings.Cut(want.key, "/")
	switch {
	case o.Name != unit, o.Unit != unit, o.Manager != manager, o.Kind != want.kind:
		return o, fmt.Sprintf("%s is called %s, %s %q of %q, want %s", o.Key, o.Name, o.Kind, o.Unit, o.Manager, want.kind)
	case o.UnitVerified != want.verified:
		return o, fmt.Sprintf("%s: verified %t, want %t", o.Key, o.UnitVerified, want.verified)
	}
	return o, ""
}

// loopback is an address in the network that the machine shares with the host:
// another one for each test process, since several may run.
func loopback(port int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.77.%d.%d:%d", pid>>8&0xff, pid&0xff, port)
}

// kernelSays is what ss(8) of iproute2 shows, without tcpmemd, of connections
// whose end "src" or "dst" is address.
func kernelSays(t *testing.T, m *Machine, end, address string) tally {
	t.Helper()
	var sum tally
	out := run(t, m, "ss", "--tcp", "--numeric", "--memory", "--no-header", "--oneline", "state", "connected", end, address)
	for line := range strings.Lines(out) {
		_, skmem, ok := strings.Cut(line, "skmem:(")
		if !ok {
			continue
		}
		sum.Sockets++
		// sk_rmem_alloc, sk_wmem_queued and sk_forward_alloc are of the pool.
		var rmem, rcvbuf, wmem, sndbuf, fwd, queued uint32
		if _, err := fmt.Sscanf(skmem, "r%d,rb%d,t%d,tb%d,f%d,w%d", &rmem, &rcvbuf, &wmem, &sndbuf, &fwd, &queued); err != nil {
			t.Fatalf("ss: %v in %q", err, line)
		}
		// ss prints a negative reserve as a large one.
		sum.Bytes += int64(rmem) + int64(queued) + int64(int32(fwd))
	}
	return sum
}

// leakerCommand is the command line of a leaker that reports to heldDir.
func leakerCommand(report, args string) string {
	return fmt.Sprintf("%s -report %s/%s %s", leakerPath, heldDir, report, args)
}

func writeUnit(t *testing.T, m *Machine, unit, text string) {
	t.Helper()
	if err := m.WriteFile("/etc/systemd/system/"+unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// text shows a value with what its pointers lead to.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
