package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/runner"
)

const (
	actRuns   = 5
	readyRuns = 25
	// What makes the condition true, many that hold little: under pressure the
	// kernel lets a few big ones take no more. The threshold is well within.
	leakPairs, leakBytes = 2000, 4000
	leakMiB              = 8
)

// act measures how fast an action starts, and what the processes of actions
// cost.
func (b *bench) act() error {
	dir, err := b.install()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := b.startPlugin(dir); err != nil {
		return err
	}
	if err := b.react(dir, "cold", false); err != nil {
		return err
	}
	// The same above calm, where the actions are kept started.
	fleet, err := scene.NewFleet(b.ctx, scene.FleetOptions{Sockets: 10_000, BytesEach: 1})
	if err != nil {
		return err
	}
	defer fleet.Stop()
	used, err := usedPages()
	if err != nil {
		return err
	}
	lowered, err := scene.LowerTCPMem(b.ctx, reading.TCPMem{Min: used, Pressure: used * 11 / 10, Max: 4 * used})
	if err != nil {
		return err
	}
	defer func() { _ = lowered.Restore() }()
	if err := b.react(dir, "ready", true); err != nil {
		return err
	}
	return lowered.Restore()
}

// startPlugin measures the start of a built-in action: by the runner, without
// a daemon.
func (b *bench) startPlugin(dir string) error {
	r, err := runner.New(runner.Config{
		Dir: filepath.Join(dir, "plugins"), Launcher: filepath.Join(dir, "tcpmemd-action"), Log: slog.New(slog.DiscardHandler),
		Plugins: []runner.Plugin{{Name: "run-command", Path: filepath.Join(dir, "tcpmemd-action"), Args: []string{"run-command"}, BuiltIn: true}},
	})
	if err != nil {
		return err
	}
	defer func() { _ = r.Close(context.WithoutCancel(b.ctx)) }()
	call := func() (time.Duration, error) {
		start := time.Now()
		_, err := r.Run(b.ctx, "run-command", &remediate.Request{
			ActionID: "bench", DryRun: true, Settings: remediate.Settings(`{"command":["/bin/true"]}`), Deadline: time.Now().Add(10 * time.Second),
		})
		return time.Since(start), err
	}
	first, err := call() // it describes itself first, in another process
	if err != nil {
		return err
	}
	var cold, ready []time.Duration
	for range actRuns {
		if err := r.Ready(b.ctx); err != nil { // none is kept
			return err
		}
		d, err := call()
		if err != nil {
			return err
		}
		cold = append(cold, d)
	}
	if err := r.Ready(b.ctx, "run-command"); err != nil {
		return err
	}
	for range readyRuns {
		d, err := call()
		if err != nil {
			return err
		}
		ready = append(ready, d)
	}
	c, w := median(cold), median(ready)
	b.add("an action's first answer, its process not started", "<= 500 ms", c <= 500*time.Millisecond,
		"%v; the very first time, with its description: %v", round(c), round(first))
	b.add("an action's answer, its process ready", "<= 10 ms", w <= 10*time.Millisecond, "%v", w.Round(10*time.Microsecond))
	return nil
}

const actSettings = `
mode = "enforce"
settle.start = "0s"
settle.owner = "0s"
budget.host = "1000 per 1m"
`

// actRules has one rule that fires when this host's use rises by some MiB, and
// one that never does but may need every action there is.
const actRules = `
[rule.bench]
about = "the bench made it true"
mode = "enforce"
when = 'tcp.used > %d * MiB'
until = 'tcp.used <= %d * MiB'
cooldown = "0s"
budget = "1000 per 1m"
[[rule.bench.step]]
action = "run-command"
command = ["/usr/bin/touch", "%s"]
budget = "1000 per 1m"
[rule.never]
about = "needs every action, and never fires"
mode = "enforce"
for_each = "process"
when = 'owner.bytes < 0'
step = [{action = "notify"}, {action = "signal-process"}, {action = "destroy-sockets"}, {action = "restart-unit"}, {action = "raise-tcp-mem"}]
`

// react measures, with a daemon, the time from when the condition is true in
// the kernel to when the program of the action runs.
func (b *bench) react(dir, name string, above bool) error {
	used, err := usedPages()
	if err != nil {
		return err
	}
	ran := filepath.Join(dir, name+".ran")
	low := used.Bytes(os.Getpagesize())>>20 + 1
	high := low + leakMiB
	conf := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Join(conf, "policy.d"), 0o755); err != nil {
		return err
	}
	config := filepath.Join(conf, "tcpmemd.toml")
	for path, text := range map[string]string{
		config: actSettings, filepath.Join(conf, "policy.d", "bench.toml"): fmt.Sprintf(actRules, high, high-leakMiB/2, ran),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	d, err := b.start(dir, config)
	if err != nil {
		return err
	}
	defer d.stop()
	time.Sleep(8 * time.Second) // first scan; the processes of actions, where they are wanted
	if above {
		b.actionMemory(d)
	}
	var whole, decided []time.Duration
	for range actRuns {
		w, dec, err := b.reactOnce(d, ran, high<<20)
		if err != nil {
			return err
		}
		whole, decided = append(whole, w), append(decided, dec)
	}
	w, dec := median(whole), median(decided)
	b.add("condition true to action runs, "+name, "<= 2.5 s", w <= 2500*time.Millisecond,
		"%v (%v to %v), of which %v from the decision", round(w), round(slices.Min(whole)), round(slices.Max(whole)), round(dec))
	return nil
}

// reactOnce makes the condition true, waits for the action, and for the end.
func (b *bench) reactOnce(d *running, ran string, threshold int64) (whole, decided time.Duration, err error) {
	if err := os.Remove(ran); err != nil && !os.IsNotExist(err) {
		return 0, 0, err
	}
	c, err := scene.Start(b.ctx, scene.ChildOptions{Comm: "bench-leak"})
	if err != nil {
		return 0, 0, err
	}
	defer c.Kill()
	before := time.Now()
	built := make(chan error, 1)
	go func() {
		_, err := c.Build(b.ctx, scene.Spec{Kind: scene.Unread, Pairs: leakPairs, Bytes: leakBytes})
		built <- err
	}()
	if err := b.poll("the condition", func() bool {
		used, err := usedPages()
		return err == nil && used.Bytes(os.Getpagesize()) > threshold
	}); err != nil {
		return 0, 0, err
	}
	trueAt := time.Now()
	var ranAt time.Time
	if err := b.poll("the action to run", func() bool {
		st, err := os.Stat(ran)
		if err == nil {
			ranAt = st.ModTime()
		}
		return err == nil
	}); err != nil {
		return 0, 0, err
	}
	if err := <-built; err != nil {
		return 0, 0, err
	}
	asked := api.Dial(d.socket)
	defer asked.Close()
	last := func(phase record.Phase) (at time.Time) {
		for rec, err := range asked.Records(b.ctx, api.RecordQuery{Rule: "bench", Kind: record.KindState, Since: before}) {
			if err == nil && rec.State.Phase == phase {
				at = rec.At
			}
		}
		return at
	}
	fired := last(record.Firing)
	if fired.IsZero() {
		return 0, 0, errors.New("measure reaction: it ran, and no rule fired")
	}
	c.Kill()
	return ranAt.Sub(trueAt), ranAt.Sub(fired), b.poll("the end of the incident", func() bool {
		time.Sleep(100 * time.Millisecond)
		return !last(record.Ended).IsZero()
	})
}

// poll waits for what is asked for.
func (b *bench) poll(what string, so func() bool) error {
	for deadline := time.Now().Add(2 * time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for %s: in vain", what)
		}
		if err := b.ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// actionMemory measures the daemon beside the processes of its actions.
func (b *bench) actionMemory(d *running) {
	var n int
	var anon, rss int64
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", d.cmd.Process.Pid))
	for _, t := range tasks {
		children, _ := os.ReadFile(t)
		for field := range strings.FieldsSeq(string(children)) {
			pid, _ := strconv.Atoi(field)
			a, r, _ := memoryOf(pid)
			n++
			anon, rss = anon+a, rss+r
		}
	}
	own, ownRSS, _ := d.memory()
	b.add(fmt.Sprintf("above calm, 10,000 sockets, %d actions started: memory of the daemon", n), "RssAnon <= 10 MiB, VmRSS <= 28 MiB",
		own <= 10<<10 && ownRSS <= 28<<10 && n > 0, "RssAnon %.1f MiB, VmRSS %.1f MiB; beside it each action RssAnon %.1f MiB, VmRSS %.1f MiB (one file, shared)",
		float64(own)/1024, float64(ownRSS)/1024, float64(anon)/1024/float64(max(1, n)), float64(rss)/1024/float64(max(1, n)))
}

func usedPages() (reading.Pages, error) {
	f, err := procfs.New("/proc").OpenSockstat()
	if err != nil {
		return 0, err
	}
	s, err := f.Read()
	return s.Mem, errors.Join(err, f.Close())
}
