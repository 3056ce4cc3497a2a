package signalprocess

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"github.com/tcpmemd/tcpmemd/plugins/internal/pidfd"
	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestEnds(t *testing.T) {
	const stubborn = "trap '' TERM; echo >&3; while :; do sleep 0.05; done"
	tests := []struct {
		name, script, settings, says string
		atLeast                      time.Duration
	}{
		{"by TERM", "echo >&3; exec sleep 300", `{}`, "ended by TERM after", 0},
		{"slowly by TERM", "trap 'sleep 0.2; exit' TERM; echo >&3; while :; do sleep 0.05; done", `{}`, "ended by TERM after", 200 * time.Millisecond},
		{"by KILL after the grace", stubborn, `{"grace":"300ms"}`, "ended by KILL after", 300 * time.Millisecond},
		{"by KILL at once", "echo >&3; exec sleep 300", `{"grace":"0s"}`, "ended by KILL after", 0},
		{"stopped", "{ sleep 0.3; echo >&3; } & kill -STOP $$", `{"grace":"100ms"}`, "ended by KILL after", 100 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := shell(t, tt.script)
			before := time.Now()
			resp := run(t, request(tt.settings, p.Holder))
			if took := time.Since(before); took < tt.atLeast || took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
			expect(t, resp, remediate.Done, "", tt.says)
			want := []remediate.Change{{What: fmt.Sprintf("process %d \"sh\"", p.PID), Before: "running", After: "ended"}}
			if p.Command == "sleep" {
				want[0].What = strings.Replace(want[0].What, "sh", "sleep", 1)
			}
			if diff := cmp.Diff(want, resp.Changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			<-p.done
		})
	}
}

func TestDryRun(t *testing.T) {
	p := start(t, "sleep", "300")
	r := request(`{}`, p.Holder)
	r.DryRun = true
	expect(t, run(t, r), remediate.DryRun, "", "would be ended")
	r.Owner.Holders[0].StartTime++
	expect(t, run(t, r), remediate.Refused, "identity-changed", "")
	if !p.alive() {
		t.Error("it was ended")
	}
}

// TestPIDReused: the number belongs to another process by now.
func TestPIDReused(t *testing.T) {
	require.Root(t)
	old := start(t, "sleep", "300")
	_ = old.cmd.Process.Kill()
	<-old.done
	time.Sleep(30 * time.Millisecond) // start times are in ticks of 10 ms
	last := []byte(fmt.Sprint(old.PID - 1))
	for range 500 {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", last, 0); err != nil {
			require.Missing(t, "CONFIG_CHECKPOINT_RESTORE", "no number is reused for real: "+err.Error())
		}
		other := start(t, "sleep", "300")
		if other.PID != old.PID { // somebody else was faster
			_ = other.cmd.Process.Kill()
			continue
		}
		expect(t, run(t, request(`{"grace":"0s"}`, old.Holder)), remediate.Refused, "identity-changed",
			fmt.Sprintf("its number is another's now: started at tick %d, not %d", other.StartTime, old.StartTime))
		if !other.alive() {
			t.Error("the wrong one was ended")
		}
		expect(t, run(t, request(`{"grace":"0s"}`, other.Holder)), remediate.Done, "", "ended by KILL")
		return
	}
	t.Fatal("the number did not come again")
}

// TestBecomesZombie: a process that has ended and was not reaped, and one that
// ends under TERM and is not.
func TestBecomesZombie(t *testing.T) {
	cmd := exec.Command("sleep", "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	zombie := holder(t, cmd.Process.Pid)
	f, err := pidfd.Open(zombie.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_ = cmd.Process.Kill()
	if ended, err := f.Wait(t.Context(), time.Now().Add(10*time.Second)); !ended || err != nil {
		t.Fatal(ended, err)
	}
	expect(t, run(t, request(`{}`, zombie)), remediate.Refused, "zombie", "it has ended and waits for its parent")
	_ = cmd.Wait()
	expect(t, run(t, request(`{}`, zombie)), remediate.Refused, "gone", "it has ended")

	// Of a parent that does not wait either.
	parent := shell(t, "sleep 300 & echo >&3; exec sleep 300")
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent.PID, parent.PID))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(children), &pid); err != nil {
		t.Fatal(err)
	}
	expect(t, run(t, request(`{}`, holder(t, pid))), remediate.Done, "", "ended by TERM")
}

func TestRefused(t *testing.T) {
	gone := start(t, "sleep", "300")
	_ = gone.cmd.Process.Kill()
	<-gone.done
	p := start(t, "sleep", "300")
	with := func(change func(*remediate.Request)) *remediate.Request {
		r := request(`{"grace":"0s"}`, p.Holder)
		change(r)
		return r
	}
	kthread := holder(t, 2)
	tests := []struct {
		name, code string
		r          *remediate.Request
	}{
		{"gone", "gone", request(`{}`, gone.Holder)},
		{"init", "protected", request(`{}`, holder(t, 1))},
		{"pid 0", "protected", request(`{}`, remediate.Holder{})},
		{"negative", "protected", request(`{}`, remediate.Holder{PID: -p.PID})},
		{"ourselves", "protected", request(`{}`, holder(t, os.Getpid()))},
		{"our parent", "protected", request(`{}`, holder(t, os.Getppid()))},
		{"kernel thread", "protected", request(`{}`, kthread)},
		{"protected owner", "protected", with(func(r *remediate.Request) { r.Owner.Protected = "ssh*" })},
		{"shared owner", "shared", with(func(r *remediate.Request) { r.Owner.Shared = true })},
		{"no holder", "no-holder", request(`{}`)},
		{"no owner", "no-holder", with(func(r *remediate.Request) { r.Owner = nil })},
		{"another unit", "identity-changed", with(func(r *remediate.Request) { r.Owner.Unit = "other.service" })},
		{"another container", "identity-changed", with(func(r *remediate.Request) { r.Owner.Key = "container/0123456789abcdef" })},
		{"little time", "too-little-time", with(func(r *remediate.Request) { r.Deadline = time.Now().Add(time.Second) })},
		{"long grace", "too-little-time", request(`{"grace":"19s"}`, p.Holder)},
	}
	for _, tt := range tests {
		expectRefused := run(t, tt.r)
		if expectRefused.Result != remediate.Refused || expectRefused.Code != tt.code || expectRefused.Message == "" {
			t.Errorf("%s: %+v", tt.name, expectRefused)
		}
	}
	if !p.alive() {
		t.Error("it was ended")
	}
	if _, err := New("1", "/proc").Run(t.Context(), request(`{"grace":"x"}`, p.Holder)); err == nil {
		t.Error("no error for bad settings")
	}
}

// TestThreadNumber: the number has become a thread's.
func TestThreadNumber(t *testing.T) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		var tid int
		if _, err := fmt.Sscan(task.Name(), &tid); err != nil || tid == os.Getpid() {
			continue
		}
		resp := run(t, request(`{}`, remediate.Holder{PID: tid}))
		if resp.Result != remediate.Refused || resp.Code != "identity-changed" && resp.Code != "gone" {
			t.Errorf("thread %d: %+v", tid, resp)
		}
	}
}

func TestMovedAway(t *testing.T) {
	require.Root(t)
	unit, other := scene.NewCgroup(t, "leaky.service"), scene.NewCgroup(t, "other.service")
	c := scene.StartT(t, scene.ChildOptions{Cgroup: unit})
	r := request(`{}`, holder(t, c.PID()))
	r.Owner.Unit, r.DryRun = "leaky.service", true
	expect(t, run(t, r), remediate.DryRun, "", "")
	if err := c.MoveTo(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	expect(t, run(t, r), remediate.Refused, "identity-changed", "it has left its owner: it is in cgroup")
}

// TestAll: every holder but those that may not be touched, hostile names and all.
func TestAll(t *testing.T) {
	a, b, spared := shell(t, "trap '' TERM; echo >&3; while :; do sleep 0.05; done"), start(t, "sleep", "300"), start(t, "sleep", "300")
	a.Command = "a\n\x1b[31m(x) R " + strings.Repeat("y", 4<<10)
	changed := spared.Holder
	changed.StartTime++
	resp := run(t, request(`{"holders":"all","grace":"200ms"}`, changed, a.Holder, b.Holder))
	expect(t, resp, remediate.Done, "", "its number is another's now")
	for _, says := range []string{`"a\n\x1b[31m(x) R yyy`, "ended by KILL", "ended by TERM"} {
		expect(t, resp, remediate.Done, "", says)
	}
	if len(resp.Changes) != 2 || a.alive() && !isZombie(a) || !spared.alive() {
		t.Errorf("%+v", resp)
	}
	// The primary alone is the default.
	c, d := start(t, "sleep", "300"), start(t, "sleep", "300")
	expect(t, run(t, request(`{}`, c.Holder, d.Holder)), remediate.Done, "", "ended by TERM")
	if !d.alive() {
		t.Error("the second holder was ended")
	}
	many := make([]remediate.Holder, 1000)
	for i := range many {
		many[i] = changed
	}
	expect(t, run(t, request(`{"holders":"all"}`, many...)), remediate.Refused, "identity-changed", "and 56 more")
}

func isZombie(p *proc) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(5 * time.Second):
		return false
	}
}

// TestGivenUp: a caller that stops waiting gets no KILL sent behind its back.
func TestGivenUp(t *testing.T) {
	p := shell(t, "trap '' TERM; echo >&3; while :; do sleep 0.05; done")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	resp, err := New("1", "/proc").Run(ctx, request(`{"grace":"5s"}`, p.Holder))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, resp, remediate.TimedOut, "given-up", "was sent TERM and has not ended yet")
	if err := unix.Kill(p.PID, 0); err != nil || !p.alive() {
		t.Error("it was ended")
	}
}

func TestValidate(t *testing.T) {
	tests := []struct{ settings, setting, says string }{
		{`{}`, "", ""},
		{`{"grace":"0s","holders":"all"}`, "", ""},
		{`{"grace":"-1s"}`, "grace", "between 0s and 1h"},
		{`{"grace":"2h"}`, "grace", "between 0s and 1h"},
		{`{"holders":"none\n"}`, "holders", `"none\n" is neither "primary" nor "all"`},
		{`{"holder":"all"}`, "holder", "did you mean holders?"},
	}
	for _, tt := range tests {
		problems := New("1", "/proc").Validate(t.Context(), remediate.Settings(tt.settings))
		if tt.says == "" && problems == nil {
			continue
		}
		if len(problems) != 1 || problems[0].Setting != tt.setting || !strings.Contains(problems[0].Message, tt.says) {
			t.Errorf("%s: %v", tt.settings, problems)
		}
	}
}

// TestAnswer: what came of the others does not hide what went wrong with one.
func TestAnswer(t *testing.T) {
	ended := &target{fd: new(pidfd.File), holder: remediate.Holder{PID: 7}, sent: sigKILL, ended: true}
	alive := &target{fd: new(pidfd.File), holder: remediate.Holder{PID: 8}, sent: sigKILL}
	denied := &target{fd: new(pidfd.File), holder: remediate.Holder{PID: 9}, code: "signal", why: "operation not permitted"}
	itself := &target{fd: new(pidfd.File), holder: remediate.Holder{PID: 10}, ended: true}
	gone := &target{holder: remediate.Holder{PID: 11}, code: "gone", why: "it has ended"}
	tests := []struct {
		targets []*target
		result  remediate.Result
		code    string
		changes int
	}{
		{[]*target{ended, gone}, remediate.Done, "", 1},
		{[]*target{gone, itself}, remediate.Done, "", 1},
		{[]*target{ended, alive}, remediate.TimedOut, "kill-pending", 2},
		{[]*target{ended, denied, alive}, remediate.Failed, "signal", 2},
		{[]*target{denied}, remediate.Failed, "signal", 0},
		{[]*target{gone}, remediate.Refused, "gone", 0},
	}
	for i, tt := range tests {
		resp := answer(request(`{}`), tt.targets)
		if resp.Result != tt.result || resp.Code != tt.code || len(resp.Changes) != tt.changes {
			t.Errorf("%d: %+v", i, resp)
		}
	}
}
