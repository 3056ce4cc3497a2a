//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event"
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
	installBodies(t, m)
	if err := m.WriteFile("/usr/local/bin/once", []byte(once), 0o755); err != nil {
		t.Fatal(err)
	}
	allowActing(t, m)
	t.Run("Busy", func(t *testing.T) { checkBusy(t, m) })
	t.Run("Observe", func(t *testing.T) { checkIncident(t, m, "observe", 7901) })
	t.Run("Enforce", func(t *testing.T) { checkIncident(t, m, "enforce", 7911) })
}

// incidentPolicy warns of a leak while there is room, and ends it once the
// kernel itself has run out: that order is what the story is to show. The
// conditions do without a verdict, which takes minutes: many sockets, and some
// of them reset by their peers, are a sign at once.
const incidentPolicy = `
[rule.leak-warning]
about = "a service leaks TCP memory"
for_each = "unit"
when = 'tcp.fill > 0.4 && owner.share > 0.3 && owner.hidden_bytes > 1 * MiB && owner.sockets > 100'
for = "2s"
until = 'owner.sockets < 50'
[[rule.leak-warning.step]]
action = "notify"

[rule.tcp-leak]
mode = "enforce"
when = '''
	tcp.fill > 0.7 && owner.share > 0.3 && owner.hidden_bytes > 1 * MiB && owner.sockets > 100 &&
	kernel.aborts_on_memory > 0'''
for = "0s"
cooldown = "1m"
[[rule.tcp-leak.step]]
action = "notify"
[[rule.tcp-leak.step]]
action = "restart-unit"
after = "3s"
budget = "2 per 1h"
`

func checkIncident(t *testing.T, m *Machine, mode string, port int) {
	address, api := loopback(port), loopback(port+1)
	configure(t, m, fmt.Sprintf("mode = %q\nmin_coverage = 0.1\nsettle.start = \"3s\"\nsettle.owner = \"3s\"\nscan.calm = \"5s\"\nscan.pressed = \"2s\"\n", mode), incidentPolicy)
	run(t, m, "systemctl", "restart", "tcpmemd")
	for _, rule := range []string{"leak-warning", "tcp-leak"} {
		run(t, m, "tcpmemctl", "reset", rule) // what it told a minute ago counts else
	}
	units := []string{"tcpmemd", "watch.service", "task-queue.service", "api.service", "reader.service"}
	t.Cleanup(func() { ask(t, m, "systemctl", append([]string{"stop"}, units...)...) })
	startService(t, m, "api.service", "[Service]\nExecStart="+bodiesPath+" -serve "+api+"\n")
	startService(t, m, "reader.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -listen "+address+"\n")
	startService(t, m, "watch.service", "[Service]\nExecStart=/bin/sh -c 'while :; do "+bodiesPath+" -fetch "+api+" -for 1s; done'\n")
	start := time.Now()
	var healthy int64
	eventually(t, patience, func() string {
		fetches := fetched(t, m, start)
		if len(fetches) < 3 {
			return "the API is not fetched from"
		}
		a, b, c := fetches[0].rate, fetches[1].rate, fetches[2].rate
		healthy = max(min(a, b), min(b, c), min(a, c)) // the one between
		return ""
	})
	api1, reader1 := show(t, m, "api.service", "InvocationID"), show(t, m, "reader.service", "InvocationID")

	lease := scene.LowerTCPMemT(t, reading.TCPMem{Min: 5000, Pressure: 8000, Max: 10000})
	start = time.Now()
	startLeak(t, m, address, "/run/leaked-"+mode)
	queue1 := show(t, m, "task-queue.service", "InvocationID")
	eventually(t, patience, func() string {
		owners, err := askOwners(t, m)
		if err != nil {
			return err.Error()
		}
		o, problem := find(owners, name{key: "system/task-queue.service", kind: "service", verified: true})
		if problem == "" && len(o.Netns) < 2 {
			problem = fmt.Sprintf("task-queue.service is known in the network namespaces %s only", text(o.Netns))
		}
		return problem
	})

	// What the host comes to: the kernel ends connections for lack of memory.
	var dry time.Time
	eventually(t, 3*time.Minute, func() string {
		for _, e := range journal(t, m, "--dmesg", fmt.Sprintf("--since=@%d", start.Unix())) {
			if at := e.at(t); at.After(start) && strings.HasPrefix(e.Message, "TCP: out of memory") {
				dry = at
				return ""
			}
		}
		return fmt.Sprintf("the kernel has not run out of TCP memory: %d pages used\n%s", used(t, m), ask(t, m, "tcpmemctl", "owners"))
	})

	for command, exit := range map[string]string{"health": "exit 1", "health --nagios": "exit 2"} {
		got := run(t, m, "sh", "-c", "tcpmemctl "+command+"; echo exit $?")
		if !strings.HasSuffix(got, exit) || !strings.Contains(got, "task-queue.service") {
			t.Errorf("%s while memory is short: %s", command, got)
		}
	}

	want := record.DryRun
	if mode == "enforce" {
		want = record.Done
	}
	var in record.Incident
	var done time.Time
	eventually(t, 2*time.Minute, func() string {
		var ok bool
		if in, ok = incidentOf(t, m, "tcp-leak"); !ok {
			return "no incident of tcp-leak\n" + ask(t, m, "tcpmemctl", "status")
		}
		for i := range in.Records {
			if r := &in.Records[i]; r.Incident == in.ID && r.Result != nil && r.Result.Outcome == want {
				done = r.At
				return ""
			}
		}
		return fmt.Sprintf("no result %s\n%s", want, ask(t, m, "tcpmemctl", "incidents", "show", in.ID))
	})

	warnings := journal(t, m, "TCPMEMD_RULE=leak-warning", "TCPMEMD_EVENT="+event.RuleFiring, fmt.Sprintf("--since=@%d", start.Unix()))
	if len(warnings) == 0 {
		t.Fatal("the journal has no warning")
	}
	warned := warnings[0].at(t)
	if !strings.Contains(warnings[0].Message, "task-queue.service") {
		t.Errorf("the warning: %+v", warnings[0])
	}
	if !warned.Before(dry) {
		t.Errorf("warned at %s, after the kernel had run out at %s", warned, dry)
	}
	during := slices.DeleteFunc(fetched(t, m, warned), func(f fetch) bool { return f.ended.After(done) })
	if len(during) == 0 {
		t.Fatal("nothing was fetched between the warning and the action")
	}
	worst := slices.MinFunc(during, func(a, b fetch) int { return cmp.Compare(a.rate, b.rate) })
	if worst.rate > healthy/4 {
		t.Errorf("downloads ran at %d bytes a second at worst, at %d before the leak: they did not suffer", worst.rate, healthy)
	}
	seconds := func(at time.Time) float64 { return at.Sub(start).Seconds() }
	t.Logf("the leak begins; %.1f s: tcpmemd warns; %.1f s: downloads at %.1f MB/s, of %.1f before; %.1f s: the kernel is out of memory; %.1f s: %s",
		seconds(warned), seconds(worst.ended), float64(worst.rate)/1e6, float64(healthy)/1e6, seconds(dry), seconds(done), want)

	if len(in.Keys) != 1 || in.Keys[0].Key != "system/task-queue.service" {
		t.Fatalf("the incident is about %+v", in.Keys)
	}
	mix := in.Keys[0].Owner
	for _, class := range []string{"owned", "hidden", "orphan"} {
		if mix.Classes[class] == 0 {
			t.Errorf("task-queue.service: %v, nothing of class %s", mix.Classes, class)
		}
	}
	// journalctl -u of the offender shows what was told of it and done to it.
	offender := []string{"--unit=task-queue.service"}
	expectEvents(t, m, start, "leak-warning", offender, event.RuleFiring)
	if mode == "enforce" {
		expectRecovery(t, m, warned, done, healthy, mix.Classes["orphan"])
		eventually(t, time.Minute, func() string {
			if in, _ = incidentOf(t, m, "tcp-leak"); in.Ended == nil || in.End != record.EndCleared {
				return "the incident is not over\n" + ask(t, m, "tcpmemctl", "incidents", "show", in.ID)
			}
			return ""
		})
		if effect := effectIn(&in); effect == nil || effect.Verdict != record.Helped {
			t.Errorf("effect %+v, want one that helped", effect)
		}
		if now := show(t, m, "task-queue.service", "InvocationID"); now == queue1 || ask(t, m, "systemctl", "is-active", "task-queue.service") != "active" {
			t.Error("task-queue.service was not restarted")
		}
		expectEvents(t, m, start, "tcp-leak", offender, event.RuleFiring, event.ActionIntent, event.ActionResult, event.ActionEffect)
		for _, rule := range []string{"leak-warning", "tcp-leak"} {
			expectEvents(t, m, start, rule, nil, event.RuleEnded)
		}
	} else {
		if now := show(t, m, "task-queue.service", "InvocationID"); now != queue1 {
			t.Error("task-queue.service was restarted in observe mode")
		}
		expectEvents(t, m, start, "tcp-leak", offender, event.RuleFiring)
		expectEvents(t, m, start, "tcp-leak", nil, event.WouldAct)
	}
	if show(t, m, "api.service", "InvocationID") != api1 || show(t, m, "reader.service", "InvocationID") != reader1 {
		t.Error("a bystander was touched")
	}
	t.Logf("\n%s", run(t, m, "tcpmemctl", "incidents", "show", in.ID))
	checkPage(t, m, mode, in.ID)
	run(t, m, "systemctl", append([]string{"stop"}, units...)...)
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

// expectRecovery waits until downloads run again after the restart, and checks
// that it left no orphans: what the queue had closed before is not the restart's.
func expectRecovery(t *testing.T, m *Machine, warned, done time.Time, healthy, closedBefore int64) {
	t.Helper()
	eventually(t, time.Minute, func() string {
		after := fetched(t, m, done.Add(time.Second))
		i := slices.IndexFunc(after, func(f fetch) bool { return f.rate > healthy/4 })
		if i < 0 {
			return fmt.Sprintf("downloads do not recover: %v\n%s", after, ask(t, m, "tcpmemctl", "status"))
		}
		t.Logf("downloads at %.1f MB/s %.1f s after the first warning, %.1f s after the restart",
			float64(after[i].rate)/1e6, after[i].ended.Sub(warned).Seconds(), after[i].ended.Sub(done).Seconds())
		return ""
	})
	var orphans struct {
		Owners []owner `json:"owners"`
	}
	if err := json.Unmarshal([]byte(run(t, m, "tcpmemctl", "orphans", "--json")), &orphans); err != nil {
		t.Fatal(err)
	}
	for _, o := range orphans.Owners {
		if o.Key == "system/task-queue.service" {
			t.Logf("it had closed unsent %d bytes before the restart, and %v after", closedBefore, o.tally)
			if o.Bytes > closedBefore+2<<20 {
				t.Errorf("the restart left orphans: %v, %d bytes before", o.tally, closedBefore)
			}
		}
	}
}

// expectEvents waits until the entries of a rule that journalctl finds by match
// are, among others, of the wanted events.
func expectEvents(t *testing.T, m *Machine, since time.Time, rule string, match []string, want ...string) {
	t.Helper()
	args := append([]string{"TCPMEMD_RULE=" + rule, fmt.Sprintf("--since=@%d", since.Unix())}, match...)
	eventually(t, patience, func() string {
		var got []string
		for _, e := range journal(t, m, args...) {
			got = append(got, e.Event)
		}
		for _, event := range want {
			if !slices.Contains(got, event) {
				return fmt.Sprintf("journalctl %s has %q, want %s among them", strings.Join(args, " "), got, event)
			}
		}
		return ""
	})
}

// effectIn is the effect of an incident's own action, nil where none was
// measured.
func effectIn(in *record.Incident) *record.Effect {
	for i := range in.Records {
		if r := &in.Records[i]; r.Incident == in.ID && r.Effect != nil {
			return r.Effect
		}
	}
	return nil
}

// startLeak starts task-queue.service, which leaks in an edge case that a
// restart ends, by and by in each way that a socket can: data that it never
// reads, on sockets that the peer has reset and it keeps; data that the peer
// never reads, on sockets that it keeps or has closed; and in a network
// namespace of its own.
func startLeak(t *testing.T, m *Machine, address, flag string) {
	t.Helper()
	const own = "unshare --net sh -c 'ip link set lo up; exec " + leakerPath + " -comm task-queue -unread 4 -bytes 100000'"
	leak := "#!/bin/sh\nfor i in $(seq 60); do\n" +
		leakerPath + " -comm task-queue -unread 6 -hidden 6 -bytes 100000 &\n" +
		leakerPath + " -dial " + address + " -count 3 -bytes 0 &\n" +
		leakerPath + " -dial " + address + " -count 1 -bytes 0 -leave &\n" +
		own + " &\nsleep 1.5\ndone\nwait\n"
	if err := m.WriteFile("/usr/local/bin/leak-all", []byte(leak), 0o755); err != nil {
		t.Fatal(err)
	}
	writeUnit(t, m, "task-queue.service", "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/local/bin/once "+flag+" /usr/local/bin/leak-all\n")
	run(t, m, "systemctl", "daemon-reload")
	run(t, m, "systemctl", "start", "--no-block", "task-queue.service") // it may never get ready: there is no memory
}

// fetch is a download of a second, as watch.service saw it.
type fetch struct {
	ended time.Time
	rate  int64 // bytes a second
}

// fetched lists those that ended after a time.
func fetched(t *testing.T, m *Machine, after time.Time) (list []fetch) {
	t.Helper()
	for _, e := range journal(t, m, "-u", "watch.service", fmt.Sprintf("--since=@%d", after.Unix())) {
		at := e.at(t)
		if rate, err := strconv.ParseInt(e.Message, 10, 64); err == nil && at.After(after) {
			list = append(list, fetch{at, rate})
		}
	}
	return list
}

// journalEntry has the fields of one that the tests look at.
type journalEntry struct {
	Microseconds string `json:"__REALTIME_TIMESTAMP"`
	Message      string `json:"MESSAGE"`
	Event        string `json:"TCPMEMD_EVENT"`
	Rule         string `json:"TCPMEMD_RULE"`
}

func (e *journalEntry) at(t *testing.T) time.Time {
	t.Helper()
	us, err := strconv.ParseInt(e.Microseconds, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.UnixMicro(us)
}

// journal gives the entries that journalctl(1) finds, the oldest first.
func journal(t *testing.T, m *Machine, args ...string) (list []journalEntry) {
	t.Helper()
	out := run(t, m, "journalctl", append([]string{"--no-pager", "--output=json"}, args...)...)
	for line := range strings.Lines(out) {
		var e journalEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		list = append(list, e)
	}
	return list
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

// installBodies builds packaging/e2e/bodies and copies it into m.
func installBodies(t *testing.T, m *Machine) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "bodies")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./bodies")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build bodies: %v\n%s", err, out)
	}
	if err := m.Copy(bin, bodiesPath, 0o755); err != nil {
		t.Fatal(err)
	}
}
