package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

const storySettings = `
mode = "%s"
settle.start = "0s"
settle.owner = "1s"
scan.calm = "5s"
scan.pressed = "1s"
scan.cpu = "100%%"
`

// storyRules: as the shipped rule container-leak, for this one container and with
// the clean-up of what its end leaves behind. A leak so fast that it has filled
// the pool before there is a trend shows by what stands still. Telling goes to a
// file.
const storyRules = `
[rule.story]
about = "a container leaks TCP memory and the host nears its limit"
severity = "critical"
mode = "enforce"
for_each = "container"
when = '''
owner.container == "%[1]s" &&
(tcp.fill > 0.7 && owner.share > 0.3 && (owner.verdict == "leak" || owner.stalled_bytes > 16 * MiB) || owner.orphan_bytes > 4 * MiB && owner.evidence_fd_share < 0.5)'''
for = "%[2]s"
until = 'owner.share < 0.05'
cooldown = "15m"
[[rule.story.step]]
action = "notify"
command = ["/usr/bin/tee", "-a", "%[3]s"]
[[rule.story.step]]
action = "signal-process"
after = "2s"
grace = "1s"
budget = "2 per 1h"
[[rule.story.step]]
action = "destroy-sockets"
budget = "2 per 1h"
`

// TestStory: a task queue leaks TCP memory until the connections of others
// starve. A daemon that observes says what it would do, and touches nothing; one
// that enforces warns, ends the leak and what it leaves behind, and the others
// go on.
func TestStory(t *testing.T) {
	require.Root(t)
	l := openLab(t)
	before := usedPages(t)
	lowered := scene.LowerTCPMemT(t, reading.TCPMem{Min: before + 12_000, Pressure: before + 18_000, Max: before + 24_000})
	timeline := newTimeline(t)
	timeline.note("tcp_mem lowered to %d %d %d pages, %d used", before+12_000, before+18_000, before+24_000, before)
	ns := scene.NewNetns(t)
	group, id := containerGroup(t)
	bystander := scene.StartT(t, scene.ChildOptions{Comm: "st-bystander", Netns: ns, Cgroup: scene.NewCgroup(t, "bystander")})
	theirs := scene.BuildT(t, bystander, scene.Spec{Kind: scene.Unread, Pairs: 5, Bytes: 16 << 10})
	_, upstream := helper(t, "upstream", nil, ns)
	_, lines := helper(t, "api", nil, nil)
	traffic := watchTraffic(lines)
	heard := filepath.Join(l.dir, "heard")
	observer := newHost(t, l, fmt.Sprintf(storySettings, "enforce"), strings.Replace(
		fmt.Sprintf(storyRules, id, "1s", heard+"-observer"), `mode = "enforce"`, `mode = "observe"`, 1)).startT(t)
	actor := newHost(t, l, fmt.Sprintf(storySettings, "enforce"), fmt.Sprintf(storyRules, id, "15s", heard)).startT(t)
	time.Sleep(3 * time.Second)
	healthy := traffic.rate(2 * time.Second)

	queue, _ := helper(t, "queue", group, ns, envUpstream+"="+<-upstream)
	// The observing daemon comes to its end of the ladder.
	observer.await(t, "what the observing daemon would have done", 4*time.Minute, func(*api.Client) bool {
		return len(dryRuns(observer.records(t, api.RecordQuery{Rule: "story"}))) == 2
	})
	starving := traffic.rate(2 * time.Second)
	full := usedPages(t)
	timeline.note("%d pages used; the api moves %.1f MB/s, it was %.1f", full, starving, healthy)
	tellObserved(t, observer, queue.Process.Pid, theirs, bystander, timeline)
	observer.stop(t)

	actor.await(t, "the effect of the first step", 2*time.Minute, func(*api.Client) bool {
		return len(effects(actor.records(t, api.RecordQuery{Rule: "story"}))) == 1
	})
	timeline.note("the leaker is ended, %d pages are used: its orphans'; the api moves %.1f MB/s", usedPages(t), traffic.rate(2*time.Second))
	actor.await(t, "the effect of the last step", 3*time.Minute, func(*api.Client) bool {
		return len(effects(actor.records(t, api.RecordQuery{Rule: "story"}))) == 2
	})
	relieved := usedPages(t)
	recovered := traffic.rate(2 * time.Second)
	timeline.note("%d pages used; the api moves %.1f MB/s", relieved, recovered)
	actor.await(t, "the all-clear", time.Minute, func(*api.Client) bool {
		return slices.ContainsFunc(actor.records(t, api.RecordQuery{Rule: "story"}), func(r record.Record) bool {
			return r.State != nil && r.State.Phase == record.Ended
		})
	})
	timeline.print(actor.records(t, api.RecordQuery{}))
	tellActed(t, actor, id, timeline)

	if starving > healthy/2 {
		t.Errorf("the api did not starve: %.1f MB/s before, %.1f then", healthy, starving)
	}
	if recovered < healthy/2 {
		t.Errorf("the api does not work again: %.1f MB/s before, %.1f now", healthy, recovered)
	}
	if traffic.brokenNow() > 0 {
		t.Errorf("%d connections of the api broke", traffic.brokenNow())
	}
	if text, err := os.ReadFile(heard); err != nil || !strings.Contains(string(text), id[:12]) {
		t.Errorf("what was told: %q, %v", text, err)
	}
	untouched(t, bystander, theirs)
	actor.stop(t)
	if left := l.pluginProcesses(); len(left) > 0 {
		t.Errorf("plugin processes are left: %v", left)
	}
	if err := lowered.Restore(); err != nil {
		t.Error(err)
	}
	if now, err := procfs.New("/proc").TCPMem(); err != nil || now != lowered.Before {
		t.Errorf("tcp_mem is %v, %v; it was %v", now, err, lowered.Before)
	}
}

// tellObserved checks what the observing daemon did: nothing, and that it says
// what it would have done.
func tellObserved(t *testing.T, p *process, queue int, theirs *scene.Built, bystander *scene.Child, tl *timeline) {
	t.Helper()
	records := p.records(t, api.RecordQuery{Rule: "story"})
	for _, r := range records {
		if r.Intent != nil && r.Intent.Decision.Touches != "nothing" {
			t.Errorf("the observing daemon meant to act: %+v", r)
		}
	}
	for _, r := range dryRuns(records) {
		tl.note("observing: %s", r.Result.Message)
	}
	for _, r := range records {
		if r.Decision != nil && r.Decision.Choice == record.ChoseDryRun {
			tl.note("observing: step %d %s on %s: %s", r.Decision.Step, r.Decision.Action, r.Key, r.Decision.Why)
		}
	}
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", queue)); err != nil || string(comm) != "st-queue\n" || !alive(queue) {
		t.Errorf("the leaker was touched: %q, %v", comm, err)
	}
	untouched(t, bystander, theirs)
}

// tellActed checks that the documents tell the story.
func tellActed(t *testing.T, p *process, id string, tl *timeline) {
	t.Helper()
	c := api.Dial(p.host.socket)
	defer c.Close()
	all, err := c.Incidents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all.Incidents, func(s api.IncidentSummary) bool { return s.Rule == "story" })
	if i < 0 {
		t.Fatalf("no incident of the rule: %+v", all.Incidents)
	}
	in, err := c.Incident(t.Context(), all.Incidents[i].ID)
	if err != nil {
		t.Fatal(err)
	}
	tl.note("incident %s: %d records, %d readings, %d sockets sampled, worst fill %.2f, ended %s",
		in.ID, len(in.Records), len(in.Readings), len(in.Sample), *all.Incidents[i].WorstFill, in.End)
	if in.Ended == nil || len(in.Keys) != 1 || in.Keys[0].Key != "container/"+id || in.Worst == nil || len(in.Readings) == 0 || len(in.Sample) == 0 {
		t.Errorf("the incident does not tell it: %+v", all.Incidents[i])
	}
	if in.Worst != nil && (len(in.Worst.Owners) == 0 || in.Worst.Owners[0].Key != "container/"+id) {
		t.Errorf("the ledger at the worst does not name the leaker first")
	}
	var acted, done []string
	for _, r := range in.Records {
		switch {
		case r.Intent != nil:
			acted = append(acted, r.Intent.Decision.Action)
			if o := r.Intent.Decision.Owner; o == nil || o.Key != "container/"+id || o.Bytes == 0 || len(r.Intent.Decision.Numbers) == 0 {
				t.Errorf("intent without the numbers of its owner: %+v", r.Intent.Decision)
			}
		case r.Result != nil:
			done = append(done, string(r.Result.Outcome))
		}
	}
	// The last telling is of the end.
	if got := strings.Join(acted, " "); !strings.HasPrefix(got, "notify signal-process destroy-sockets") {
		t.Errorf("it did %q", got)
	}
	if got := strings.Join(done, " "); !strings.HasPrefix(got, "delivered done done") {
		t.Errorf("the results are %q", got)
	}
}

func dryRuns(records []record.Record) []record.Record {
	return slices.DeleteFunc(records, func(r record.Record) bool { return r.Result == nil || r.Result.Outcome != record.DryRun })
}

func effects(records []record.Record) []record.Record {
	return slices.DeleteFunc(records, func(r record.Record) bool { return r.Effect == nil })
}

// untouched checks that a scene is as it was made.
func untouched(t *testing.T, c *scene.Child, b *scene.Built) {
	t.Helper()
	bytes := b.Bytes()
	if err := c.Refresh(t.Context(), b); err != nil {
		t.Errorf("the bystander: %v", err)
	}
	for _, s := range b.Sockets {
		if s.Gone {
			t.Errorf("a socket of the bystander is gone: %+v", s)
		}
	}
	if b.Bytes() != bytes {
		t.Errorf("the bystander holds %d bytes, it held %d", b.Bytes(), bytes)
	}
}

func usedPages(t *testing.T) reading.Pages {
	t.Helper()
	f, err := procfs.New("/proc").OpenSockstat()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := f.Read()
	if err != nil {
		t.Fatal(err)
	}
	return s.Mem
}

// traffic is what the api moves.
type traffic struct {
	mu     sync.Mutex
	ticks  []int64
	broken int
}

func watchTraffic(lines <-chan string) *traffic {
	tr := &traffic{}
	go func() {
		for line := range lines {
			var n int64
			var broken int
			_, _ = fmt.Sscan(line, &n, &broken)
			tr.mu.Lock()
			tr.ticks = append(tr.ticks, n)
			tr.broken = broken
			tr.mu.Unlock()
		}
	}()
	return tr
}

// rate is the traffic of the time that begins now, in MB/s.
func (tr *traffic) rate(over time.Duration) float64 {
	tr.mu.Lock()
	from := len(tr.ticks)
	tr.mu.Unlock()
	time.Sleep(over)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var sum int64
	for _, n := range tr.ticks[from:] {
		sum += n
	}
	return float64(sum) / 1e6 / over.Seconds()
}

func (tr *traffic) brokenNow() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.broken
}

// timeline prints what happened, by the time from the start.
type timeline struct {
	t     *testing.T
	began time.Time
}

func newTimeline(t *testing.T) *timeline { return &timeline{t, time.Now()} }

func (tl *timeline) note(format string, args ...any) {
	tl.t.Helper()
	tl.t.Logf("%6.1f s  %s", time.Since(tl.began).Seconds(), fmt.Sprintf(format, args...))
}

// print tells the records, by the time from the first warning.
func (tl *timeline) print(records []record.Record) {
	tl.t.Helper()
	var text strings.Builder
	var first time.Time
	for i := range records {
		r := &records[i]
		if r.Rule != "story" {
			continue
		}
		if first.IsZero() && r.Intent != nil {
			first = r.At
		}
		what := ""
		switch {
		case r.State != nil:
			what = fmt.Sprintf("%s: %s %v", r.State.Phase, r.State.Why, r.State.Numbers)
		case r.Decision != nil:
			what = fmt.Sprintf("decision %s %s: %s", r.Decision.Choice, r.Decision.Action, r.Decision.Why)
		case r.Intent != nil:
			what = "intent " + r.Intent.Decision.Action
		case r.Result != nil:
			what = fmt.Sprintf("%s after %.2f s: %s", r.Result.Outcome, r.Result.TookSeconds, r.Result.Message)
		case r.Effect != nil:
			what = fmt.Sprintf("effect %s: %s", r.Effect.Verdict, r.Effect.Why)
		}
		at := "        "
		if !first.IsZero() {
			at = fmt.Sprintf("%+7.2fs", r.At.Sub(first).Seconds())
		}
		fmt.Fprintf(&text, "%s %s\n", at, what)
	}
	tl.t.Logf("from the first warning on:\n%s", text.String())
}
