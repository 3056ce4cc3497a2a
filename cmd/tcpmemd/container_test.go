package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

const containerSettings = `
mode = "enforce"
settle.start = "0s"
settle.owner = "1s"
scan.calm = "5s"
scan.pressed = "1s"
scan.cpu = "100%"
`

const (
	containerBudget   = 2
	containerCooldown = 45 * time.Second // a new worker takes about 20 s to leak as much
)

const containerRules = `
[rule.supervised]
about = "a container holds more than it should"
mode = "enforce"
for_each = "container"
when = 'owner.container == "%s" && owner.bytes > 8 * MiB'
until = 'owner.bytes < 5 * MiB'
cooldown = "%s"
[[rule.supervised.step]]
action = "signal-process"
grace = "1s"
budget = "%d per 1h"
`

// TestContainer: a container's supervisor brings its worker back each time it
// was ended, and the worker leaks again: the daemon ends it as often as cooldown
// and budget allow, and then says that it holds.
func TestContainer(t *testing.T) {
	require.Root(t)
	l := openLab(t)
	group, id := containerGroup(t)
	bystander := scene.StartT(t, scene.ChildOptions{Comm: "st-bystander", Cgroup: scene.NewCgroup(t, "bystander")})
	theirs := scene.BuildT(t, bystander, scene.Spec{Kind: scene.Unread, Pairs: 5, Bytes: 16 << 10})
	supervisor, lines := helper(t, "supervisor", group, nil)
	var workers []int
	next := func() int {
		t.Helper()
		select {
		case line := <-lines:
			pid, err := strconv.Atoi(line)
			if err != nil {
				t.Fatalf("supervisor: %q", line)
			}
			workers = append(workers, pid)
			return pid
		case <-time.After(time.Minute):
			t.Fatalf("the supervisor starts no worker; so far: %v", workers)
		}
		return 0
	}
	next()
	p := newHost(t, l, containerSettings, fmt.Sprintf(containerRules, id, containerCooldown, containerBudget)).startT(t)
	for range containerBudget {
		gone := workers[len(workers)-1]
		next()
		if alive(gone) {
			t.Errorf("worker %d lives on beside the next", gone)
		}
	}
	p.await(t, "the budget to hold", 2*time.Minute, func(*api.Client) bool {
		return slices.ContainsFunc(p.records(t, api.RecordQuery{Rule: "supervised", Kind: record.KindDecision}), func(r record.Record) bool {
			return r.Decision.Choice == record.ChoseHold && r.Decision.Guard == "budget"
		})
	})
	time.Sleep(2 * time.Second) // it goes on holding
	records := p.records(t, api.RecordQuery{Rule: "supervised"})
	var began []time.Time
	cooled := false
	for i := range records {
		r := &records[i]
		switch {
		case r.Intent != nil:
			began = append(began, r.At)
		case r.Decision != nil && r.Decision.Guard == "cooldown":
			cooled = true
		case r.Result != nil && r.Result.Outcome != record.Done:
			t.Errorf("result %+v", r.Result)
		}
		if r.Effect != nil {
			t.Logf("effect %s: %s", r.Effect.Verdict, r.Effect.Why)
		}
	}
	if len(began) != containerBudget || !cooled {
		t.Fatalf("%d actions, cooldown held: %v", len(began), cooled)
	}
	if apart := began[1].Sub(began[0]); apart < containerCooldown {
		t.Errorf("the second action came after %s, the cooldown is %s", apart, containerCooldown)
	}
	if worker := workers[len(workers)-1]; !alive(worker) || !alive(supervisor.Process.Pid) {
		t.Errorf("worker %d or supervisor %d is gone, though the budget is spent", worker, supervisor.Process.Pid)
	}
	untouched(t, bystander, theirs)
	c := api.Dial(p.host.socket)
	defer c.Close()
	rules, err := c.Rules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(rules.Rules, func(r api.RuleState) bool { return r.Name == "supervised" }); i < 0 || len(rules.Rules[i].Keys) != 1 || rules.Rules[i].Keys[0].Choice != record.ChoseHold {
		t.Errorf("the rule does not say that it holds: %+v", rules.Rules)
	}
	p.stop(t)
}

// alive: there is a process of this number that has not ended.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !slices.Contains(splitLines(stat), "State:\tZ (zombie)")
}

func splitLines(text []byte) (lines []string) {
	for line := range bytes.Lines(text) {
		lines = append(lines, string(bytes.TrimRight(line, "\n")))
	}
	return lines
}
