//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/remediate"
)

// TestRestartUnit restarts services of a real systemd, or refuses to. The
// action runs with the capabilities that it declares and no others.
func TestRestartUnit(t *testing.T) {
	t.Parallel() // beside TestLease
	for _, rel := range []Release{Bookworm, Trixie} {
		t.Run(string(rel), func(t *testing.T) {
			m := boot(t, rel)
			installLeaker(t, m)
			installActor(t, m)
			if got := run(t, m, actorPath, "probe"); got != "true" {
				t.Fatalf("destroyed orphans do not vanish here (%s): the scenes cannot be shown", got)
			}
			t.Run("Leak", func(t *testing.T) { checkRestartLeak(t, m) })
			t.Run("OrphansLater", func(t *testing.T) { checkOrphansLater(t, m) })
			t.Run("Along", func(t *testing.T) { checkRestartAlong(t, m) })
			t.Run("Refusals", func(t *testing.T) { checkRestartRefusals(t, m) })
			t.Run("SlowStop", func(t *testing.T) { checkSlowStop(t, m) })
			t.Run("FailsToStart", func(t *testing.T) { checkFailsToStart(t, m) })
			t.Run("BusDies", func(t *testing.T) { checkBusDies(t, m) })
		})
	}
}

const actorPath = "/usr/local/bin/actor"

// installActor builds packaging/e2e/actor and copies it into m.
func installActor(t *testing.T, m *Machine) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "actor")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./actor")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build actor: %v\n%s", err, out)
	}
	if err := m.Copy(bin, actorPath, 0o755); err != nil {
		t.Fatal(err)
	}
}

// measured is a request about an owner as a scan finds it.
func measured(t *testing.T, m *Machine, key string) *remediate.Request {
	t.Helper()
	var r remediate.Request
	if err := json.Unmarshal([]byte(run(t, m, actorPath, "request", key)), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// made is a request about a unit that holds one hidden socket, so it says.
func made(t *testing.T, m *Machine, unit string) *remediate.Request {
	t.Helper()
	return &remediate.Request{
		Host: remediate.Host{OrphansVanish: true},
		Owner: &remediate.Owner{
			Name: unit, Kind: "service", Unit: unit, Manager: "system", UnitVerified: true,
			InvocationID: show(t, m, unit, "InvocationID"),
		},
		Sockets: []remediate.Socket{{Class: "hidden", Bytes: 4096}},
	}
}

func show(t *testing.T, m *Machine, unit, property string) string {
	t.Helper()
	return run(t, m, "systemctl", "show", "--value", "--property="+property, unit)
}

// act runs an action with no more rights than tcpmemd gives it.
func act(t *testing.T, m *Machine, action string, r *remediate.Request, settings string) *remediate.Response {
	t.Helper()
	r.Settings = remediate.Settings(settings)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.WriteFile("/run/request.json", text, 0o600); err != nil {
		t.Fatal(err)
	}
	const rights = "setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all,+net_admin,+sys_admin,+sys_ptrace "
	out := run(t, m, "sh", "-c", rights+actorPath+" run "+action+" </run/request.json")
	var resp remediate.Response
	if err := json.Unmarshal([]byte(out), &resp); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	t.Logf("%s %s: %s", resp.Result, resp.Code, resp.Message)
	for _, c := range resp.Changes {
		t.Logf("    %s: %s -> %s", c.What, c.Before, c.After)
	}
	return &resp
}

// holds sums what the sockets of a network namespace hold, by ss(8), without
// those of the peers that only listen and read nothing.
func holds(t *testing.T, m *Machine, pid, end, address string) tally {
	t.Helper()
	var sum tally
	out := run(t, m, "nsenter", "--target", pid, "--net", "ss", "--tcp", "--numeric", "--memory", "--no-header", "--oneline", "state", "connected", end, address)
	for line := range strings.Lines(out) {
		_, skmem, whole := strings.Cut(line, "skmem:(")
		if !whole {
			continue // a mini socket in FIN_WAIT2 holds none
		}
		var rmem, rcvbuf, wmem, sndbuf, fwd, queued uint32
		if _, err := fmt.Sscanf(skmem, "r%d,rb%d,t%d,tb%d,f%d,w%d", &rmem, &rcvbuf, &wmem, &sndbuf, &fwd, &queued); err != nil {
			t.Fatalf("ss: %v in %q", err, line)
		}
		sum.Sockets++
		sum.Bytes += int64(rmem) + int64(queued) + int64(int32(fwd))
	}
	return sum
}

// used is sockstat's mem in pages: the whole host's.
func used(t *testing.T, m *Machine) (pages int64) {
	t.Helper()
	_, rest, _ := strings.Cut(run(t, m, "cat", "/proc/net/sockstat"), " mem ")
	if _, err := fmt.Sscan(rest, &pages); err != nil {
		t.Fatal(err)
	}
	return pages
}

// once runs its argument the first time, and nothing after a restart.
const once = `#!/bin/sh
# once FLAG COMMAND...: the leak is in some edge case that a restart ends.
flag=$1; shift
[ -e "$flag" ] && { systemd-notify --ready; exec sleep infinity; }
touch "$flag"
exec "$@"
`

// checkRestartLeak is the story: a service in a network namespace of its own
// holds unread, hidden and unsent memory. It is restarted; its memory falls,
// that of the orphans too; its peer and a bystander live.
func checkRestartLeak(t *testing.T, m *Machine) {
	address, other := loopback(7101), loopback(7102)
	if err := m.WriteFile("/usr/local/bin/once", []byte(once), 0o755); err != nil {
		t.Fatal(err)
	}
	const private = "PrivateNetwork=yes\n"
	const joins = "[Unit]\nJoinsNamespaceOf=reader.service\n"
	startService(t, m, "reader.service", "[Service]\nType=notify\n"+private+"ExecStart="+leakerPath+" -listen "+address+"\n")
	startService(t, m, "reader2.service", joins+"[Service]\nType=notify\n"+private+"ExecStart="+leakerPath+" -listen "+other+"\n")
	startService(t, m, "bystander.service", joins+"[Service]\nType=notify\n"+private+"ExecStart="+leakerPath+" -dial "+other+" -count 8 -bytes 0\n")
	if err := m.WriteFile("/usr/local/bin/leak-all", []byte("#!/bin/sh\n"+
		leakerPath+" -dial "+address+" -count 100 -bytes 0 &\nexec "+leakerPath+" -comm task-queue -unread 16 -hidden 80 -bytes 50000 -report /run/task-queue\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	startService(t, m, "task-queue.service", joins+"[Service]\nType=notify\nNotifyAccess=all\n"+private+"ExecStart=/usr/local/bin/once /run/leaked /usr/local/bin/leak-all\n")
	pid := show(t, m, "reader.service", "MainPID")
	var sent tally
	eventually(t, patience, func() string {
		if sent = holds(t, m, pid, "dst", address); sent.Sockets != 100 {
			return fmt.Sprintf("%d connections to %s, want 100", sent.Sockets, address)
		}
		return ""
	})
	beside := holds(t, m, pid, "dst", other)
	var r *remediate.Request
	eventually(t, patience, func() string { // the other leaker of the service is ready later
		if r = measured(t, m, "system/task-queue.service"); r.Owner.Classes["hidden"].Sockets != 80 {
			return fmt.Sprintf("task-queue.service: %v, want 80 hidden as in %s", r.Owner.Classes, ask(t, m, "cat", "/run/task-queue"))
		}
		return ""
	})
	old := show(t, m, "task-queue.service", "InvocationID")
	bystander := show(t, m, "bystander.service", "InvocationID")
	before := used(t, m)

	r.DryRun = true
	dry := act(t, m, "restart-unit", r, "")
	if dry.Result != remediate.DryRun || show(t, m, "task-queue.service", "InvocationID") != old {
		t.Errorf("dry run: %+v", dry)
	}
	r.DryRun = false
	resp := act(t, m, "restart-unit", r, "")
	fell := (before - used(t, m)) * int64(os.Getpagesize())
	var predicted int64
	for _, n := range resp.Predicted {
		predicted += n
	}
	left := holds(t, m, pid, "dst", address)
	t.Logf("held %v, of it unsent %v; predicted %v; the pool fell by %d bytes; left to the reader %v", r.Owner.Classes, sent, resp.Predicted, fell, left)
	if resp.Result != remediate.Done || resp.Code != "" {
		t.Errorf("%+v", resp)
	}
	if now := show(t, m, "task-queue.service", "InvocationID"); now == old || show(t, m, "task-queue.service", "ActiveState") != "active" {
		t.Errorf("invocation %s, then %s", old, now)
	}
	if left.Sockets != 0 || !strings.Contains(resp.Message, "100 sockets with") {
		t.Errorf("%v of the orphans are left; %s", left, resp.Message)
	}
	// The owner's own: another test on this host may move the pool meanwhile.
	if resp.Predicted["hidden"] == 0 || resp.Predicted["owned"] < sent.Bytes*9/10 || fell < predicted/2 {
		t.Errorf("predicted %v, the pool fell by %d bytes", resp.Predicted, fell)
	}
	if now := holds(t, m, pid, "dst", other); now != beside || show(t, m, "bystander.service", "InvocationID") != bystander {
		t.Errorf("the bystander held %v and holds %v", beside, now)
	}
	if got := ask(t, m, "systemctl", "is-active", "reader.service", "reader2.service", "bystander.service"); got != "active\nactive\nactive" {
		t.Errorf("beside it: %s", got)
	}
	// The same request once more is about a start that is over.
	if resp := act(t, m, "restart-unit", r, ""); resp.Code != "identity-changed" {
		t.Errorf("%+v", resp)
	}
	run(t, m, "systemctl", "stop", "task-queue.service", "reader.service", "reader2.service", "bystander.service")
}

// checkOrphansLater: without the clean-up the orphans stay, for the operator to
// see, and destroy-sockets ends them.
func checkOrphansLater(t *testing.T, m *Machine) {
	address := loopback(7103)
	startService(t, m, "later.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -listen "+address+"\n")
	startService(t, m, "sender.service", "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/local/bin/once /run/sent "+leakerPath+" -dial "+address+" -count 8 -bytes 0\n")
	pid := show(t, m, "later.service", "MainPID")
	full := holds(t, m, pid, "dst", address)
	r := measured(t, m, "system/sender.service")
	resp := act(t, m, "restart-unit", r, `{"clean_orphans":false}`)
	after := holds(t, m, pid, "dst", address)
	t.Logf("%v before the restart, %v after", full, after)
	if resp.Result != remediate.Done || after.Sockets != 8 || after.Bytes < full.Bytes*9/10 {
		t.Errorf("%+v; %v before the restart, %v after: want the same", resp, full, after)
	}
	// As tcpmemd has seen them: the cookies are those of before.
	for i := range r.Sockets {
		s := &r.Sockets[i]
		s.Class, s.State, s.Inode, s.HolderPID = "orphan", "fin-wait-1", 0, 0
	}
	if resp = act(t, m, "destroy-sockets", r, ""); resp.Result != remediate.Done || resp.Predicted["orphan"] < full.Bytes*9/10 {
		t.Errorf("%+v", resp)
	}
	if left := holds(t, m, pid, "dst", address); left.Sockets != 0 {
		t.Errorf("left: %v", left)
	}
	run(t, m, "systemctl", "stop", "sender.service", "later.service")
}

// checkRestartAlong: PartOf= takes a unit along where that is allowed; what is
// not running is not started.
func checkRestartAlong(t *testing.T, m *Machine) {
	startService(t, m, "main.service", "[Service]\nExecStart=/bin/sleep infinity\n")
	startService(t, m, "part.service", "[Unit]\nPartOf=main.service\n[Service]\nExecStart=/bin/sleep infinity\n")
	writeUnit(t, m, "idle-part.service", "[Unit]\nPartOf=main.service\n[Service]\nExecStart=/bin/sleep infinity\n")
	run(t, m, "systemctl", "daemon-reload")
	run(t, m, "systemctl", "show", "idle-part.service") // loads it
	if resp := act(t, m, "restart-unit", made(t, m, "main.service"), ""); resp.Code != "closure-not-allowed" || !strings.Contains(resp.Message, "part.service (PartOf=main.service)") {
		t.Errorf("%+v", resp)
	}
	part := show(t, m, "part.service", "InvocationID")
	if resp := act(t, m, "restart-unit", made(t, m, "main.service"), `{"allow":["part"]}`); resp.Result != remediate.Done || len(resp.Changes) != 2 {
		t.Errorf("%+v", resp)
	}
	if show(t, m, "part.service", "InvocationID") == part || ask(t, m, "systemctl", "is-active", "idle-part.service") != "inactive" {
		t.Error("part.service was not restarted along, or idle-part.service was started")
	}
}

func checkRestartRefusals(t *testing.T, m *Machine) {
	sleep := "[Service]\nExecStart=/bin/sleep infinity\n"
	for _, test := range []struct {
		unit, text, code string
		then             []string // command
	}{
		{unit: "task.service", text: "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n", code: "oneshot"},
		{unit: "remain.service", text: sleep + "RemainAfterExit=yes\n", code: "remain-after-exit"},
		{unit: "keep.service", text: sleep + "KillMode=process\n", code: "kill-mode"},
		{unit: "manual.service", text: "[Unit]\nRefuseManualStop=yes\n" + sleep, code: "refuse-manual"},
		{unit: "few.service", text: "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=1h\n" + sleep, code: "start-limit"},
		{unit: "ssh-tunnel.service", text: sleep, code: "protected"},
		{unit: "hidden-mask.service", text: sleep, code: "masked", then: []string{"systemctl", "mask", "--runtime", "hidden-mask.service"}},
		{unit: "stopped.service", text: sleep, code: "unit-gone", then: []string{"systemctl", "stop", "stopped.service"}},
		{unit: "twice.service", text: "[Service]\nRestart=always\nRestartSec=1h\nExecStart=/bin/sleep infinity\n", code: "auto-restart", then: []string{"systemctl", "kill", "--signal=KILL", "twice.service"}},
		{unit: "base.service", text: sleep, code: "closure-protected", then: []string{"systemctl", "start", "kubelet.service"}},
	} {
		t.Run(test.code, func(t *testing.T) {
			if test.unit == "base.service" {
				writeUnit(t, m, "kubelet.service", "[Unit]\nBindsTo=base.service\n"+sleep)
			}
			if test.unit == "hidden-mask.service" {
				// A file in /etc is stronger than a mask in /run.
				if err := m.WriteFile("/usr/lib/systemd/system/"+test.unit, []byte(test.text), 0o644); err != nil {
					t.Fatal(err)
				}
				run(t, m, "systemctl", "daemon-reload")
				run(t, m, "systemctl", "start", test.unit)
			} else {
				startService(t, m, test.unit, test.text)
			}
			r := made(t, m, test.unit)
			if test.then != nil {
				run(t, m, test.then[0], test.then[1:]...)
				if test.code == "auto-restart" {
					eventually(t, patience, func() string {
						if got := show(t, m, test.unit, "SubState"); got != "auto-restart" {
							return test.unit + " is in " + got
						}
						return ""
					})
				}
			}
			r.Owner.Unit = test.unit
			if resp := act(t, m, "restart-unit", r, ""); resp.Result != remediate.Refused || resp.Code != test.code {
				t.Errorf("%+v", resp)
			}
			if test.code != "unit-gone" && test.code != "auto-restart" {
				if got := show(t, m, test.unit, "InvocationID"); got != r.Owner.InvocationID {
					t.Errorf("invocation %s, then %s", r.Owner.InvocationID, got)
				}
			}
		})
	}
	t.Run("scope", func(t *testing.T) {
		run(t, m, "sh", "-c", "systemd-run --scope --unit=batch.scope "+leakerPath+" -unread 8 >/run/batch.log 2>&1 </dev/null &")
		var r *remediate.Request
		eventually(t, patience, func() string {
			out, err := m.Run(t.Context(), actorPath, "request", "system/batch.scope")
			if err != nil {
				return err.Error()
			}
			r = &remediate.Request{}
			if err := json.Unmarshal([]byte(out), r); err != nil {
				return err.Error()
			}
			return ""
		})
		if resp := act(t, m, "restart-unit", r, ""); resp.Code != "scope" {
			t.Errorf("%+v", resp)
		}
		run(t, m, "systemctl", "stop", "batch.scope")
	})
	t.Run("frees-nothing", func(t *testing.T) {
		// The listener is PID 1's: what waits at it outlives the service.
		address := loopback(7104)
		writeUnit(t, m, "drain.socket", "[Socket]\nListenStream="+address+"\n")
		writeUnit(t, m, "drain.service", sleep)
		writeUnit(t, m, "dialer.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -dial "+address+" -count 12 -bytes 0\n")
		run(t, m, "systemctl", "daemon-reload")
		run(t, m, "systemctl", "start", "drain.socket", "dialer.service")
		eventually(t, patience, func() string {
			if got := ask(t, m, "systemctl", "is-active", "drain.service"); got != "active" {
				return "drain.service is " + got
			}
			return ""
		})
		r := measured(t, m, "system/drain.service")
		if resp := act(t, m, "restart-unit", r, ""); resp.Code != "frees-nothing" || r.Owner.Classes["unaccepted"].Sockets != 12 {
			t.Errorf("%+v of %v", resp, r.Owner.Classes)
		}
		run(t, m, "systemctl", "stop", "dialer.service", "drain.socket", "drain.service")
	})
	t.Run("pending-job", func(t *testing.T) {
		startService(t, m, "slow.service", stubborn(3))
		r := made(t, m, "slow.service")
		run(t, m, "systemctl", "restart", "--no-block", "slow.service")
		// While it stops it is no longer active, which is told first.
		if resp := act(t, m, "restart-unit", r, ""); resp.Code != "pending-job" && resp.Code != "not-active" {
			t.Errorf("%+v", resp)
		}
	})
}

// stubborn is not ended by the signal that stops it, so that a stop takes
// TimeoutStopSec=. A shell that traps TERM would still be ended in its first
// moments.
func stubborn(seconds int) string {
	return fmt.Sprintf("[Service]\nTimeoutStopSec=%d\nKillSignal=SIGWINCH\nExecStart=/bin/sleep infinity\n", seconds)
}

// checkSlowStop: a job that is under way when the time is up is left to
// systemd, which brings the unit back. Cancelled, it would stay stopped.
func checkSlowStop(t *testing.T, m *Machine) {
	startService(t, m, "stubborn.service", stubborn(6))
	old := show(t, m, "stubborn.service", "InvocationID")
	if resp := act(t, m, "restart-unit", made(t, m, "stubborn.service"), `{"timeout":"2s"}`); resp.Result != remediate.TimedOut || resp.Code != "job-unfinished" {
		t.Errorf("%+v", resp)
	}
	eventually(t, patience, func() string {
		if state, now := show(t, m, "stubborn.service", "ActiveState"), show(t, m, "stubborn.service", "InvocationID"); state != "active" || now == old {
			return "stubborn.service is " + state
		}
		return ""
	})
	if resp := act(t, m, "restart-unit", made(t, m, "stubborn.service"), `{"timeout":"20s"}`); resp.Result != remediate.Done {
		t.Errorf("%+v", resp)
	}

	// Why: what systemd does with a restart that is cancelled while it stops.
	run(t, m, "systemctl", "restart", "--no-block", "stubborn.service")
	eventually(t, patience, func() string {
		if got := show(t, m, "stubborn.service", "SubState"); got != "stop-sigterm" {
			return "stubborn.service is in " + got
		}
		return ""
	})
	run(t, m, "systemctl", "cancel")
	time.Sleep(7 * time.Second)
	if got := ask(t, m, "systemctl", "is-active", "stubborn.service"); got == "active" {
		t.Errorf("a restart that is cancelled while it stops leaves the unit %s: it could be cancelled", got)
	} else {
		t.Logf("cancelled while it stops, the unit is %s", got)
	}
}

// checkFailsToStart: the answer says that the unit is down, and why.
func checkFailsToStart(t *testing.T, m *Machine) {
	startService(t, m, "fragile.service", "[Service]\nType=notify\nNotifyAccess=all\nTimeoutStartSec=5\n"+
		"ExecStart=/bin/sh -c '[ -e /run/broken ] && exit 3; systemd-notify --ready; exec sleep infinity'\n")
	run(t, m, "touch", "/run/broken")
	if resp := act(t, m, "restart-unit", made(t, m, "fragile.service"), ""); resp.Result != remediate.Failed || resp.Code != "job-failed" || !strings.Contains(resp.Message, "exit-code") {
		t.Errorf("%+v", resp)
	}
}

// checkBusDies: the message bus ends while the job is under way, and stays
// away; systemd is reached by its private socket.
func checkBusDies(t *testing.T, m *Machine) {
	startService(t, m, "stubborn2.service", stubborn(4))
	old := show(t, m, "stubborn2.service", "InvocationID")
	r := made(t, m, "stubborn2.service")
	run(t, m, "sh", "-c", "(sleep 1.5; systemctl stop dbus.socket dbus.service) >/dev/null 2>&1 </dev/null &")
	if resp := act(t, m, "restart-unit", r, ""); resp.Result != remediate.Done {
		t.Errorf("%+v", resp)
	}
	if got := ask(t, m, "systemctl", "is-active", "dbus.service"); got != "inactive" {
		t.Errorf("dbus.service is %s: the bus did not die", got)
	}
	if show(t, m, "stubborn2.service", "InvocationID") == old {
		t.Error("not restarted")
	}
	// And without a bus from the beginning.
	if resp := act(t, m, "restart-unit", made(t, m, "stubborn2.service"), ""); resp.Result != remediate.Done {
		t.Errorf("%+v", resp)
	}
	run(t, m, "systemctl", "start", "dbus.socket")
}
