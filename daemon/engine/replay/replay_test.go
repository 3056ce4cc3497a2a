package replay_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/engine/replay"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// leak is a rule that tells, and a minute later restarts.
func leak(t *testing.T) *policy.Rule {
	return &policy.Rule{
		Name: "leak", Hash: "leak-1", Mode: policy.Observe, ForEach: policy.Unit, For: 30 * time.Second, Cooldown: 15 * time.Minute,
		When:  condition(t, `tcp.fill > 0.7 && owner.share > 0.3 && owner.verdict == "leak"`, policy.Unit),
		Until: condition(t, `tcp.fill < 0.5`, policy.Unit),
		Steps: []policy.Step{{Action: "notify"}, {Action: "restart-unit", After: time.Minute, Budget: policy.Budget{Count: 2, Per: time.Hour}}},
	}
}

func condition(t *testing.T, text string, s policy.Scope) *policy.Condition {
	t.Helper()
	c, err := policy.Compile(text, s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func config(rules ...*policy.Rule) policy.Config {
	return policy.Config{
		Rules: rules, MinCoverage: 0.8, SettleStart: 2 * time.Minute, SettleOwner: 5 * time.Minute,
		Sample: time.Second, Calm: 30 * time.Second, Pressed: 5 * time.Second,
		Actions: map[string]policy.ActionInfo{
			"notify":          {Name: "notify", Touches: policy.TouchesNothing},
			"restart-unit":    {Name: "restart-unit", Touches: policy.TouchesOwner, Evidence: []string{"fd"}, EvidenceShare: 0.5},
			"destroy-sockets": {Name: "destroy-sockets", Touches: policy.TouchesOwner, Evidence: []string{"fd"}, EvidenceShare: 0.5, Connections: true},
			"raise-tcp-mem":   {Name: "raise-tcp-mem", Touches: policy.TouchesHost, Lease: true},
		},
	}
}

func scene(t *testing.T, text string) *replay.Scene {
	t.Helper()
	s, err := replay.ParseScene("scene.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func play(t *testing.T, s *replay.Scene, enforce bool, rules ...*policy.Rule) ([]replay.Event, replay.Report) {
	t.Helper()
	p := replay.New(replay.Config{Policy: config(rules...), Enforce: enforce})
	var events []replay.Event
	for e := range s.Entries() {
		events = append(events, p.Play(e)...)
	}
	return events, p.Report()
}

// lines writes events as "SECONDS KEY WHAT".
func lines(start time.Time, events []replay.Event) []string {
	var out []string
	for _, e := range events {
		var what string
		if e.State != nil {
			what = strings.TrimSpace(string(e.State.Phase) + " " + string(e.State.End))
		} else {
			what = strings.TrimSpace(strings.Join([]string{string(e.Decision.Choice), e.Decision.Action, e.Decision.Guard}, " "))
		}
		out = append(out, fmt.Sprintf("%.0f %s %s", e.At.Sub(start).Seconds(), e.Key, what))
	}
	return out
}

func leakScene(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/leak.toml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestScene(t *testing.T) {
	s := scene(t, leakScene(t))
	events, report := play(t, s, s.Enforce, leak(t))
	for _, x := range s.Expect {
		if found := x.Check(s.Start(), events); found != "" {
			t.Errorf("%s: %s", x, found)
		}
	}
	const key = "system/task-queue.service"
	want := []string{
		"120 " + key + " pending", "150 " + key + " firing", "150 " + key + " act notify", "210 " + key + " act restart-unit",
		"215 " + key + " nothing", "365 " + key + " ended cleared",
	}
	if diff := cmp.Diff(want, lines(s.Start(), events)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	words := []string{
		"leak fired once, for 3m35s in all",
		"leak would have told of task-queue.service by notify once: on 2026-01-01 at 12:02:30",
		"leak would have done restart-unit on task-queue.service once: on 2026-01-01 at 12:03:30",
		"leak came to the end of its steps once, and still fired",
	}
	if diff := cmp.Diff(words, report.Words()); diff != "" {
		t.Errorf("words: (-want +got)\n%s", diff)
	}

	events, _ = play(t, s, false, leak(t))
	if got := lines(s.Start(), events); len(got) < 4 || got[3] != "210 "+key+" dry-run restart-unit" {
		t.Errorf("observing: %q", got)
	}
}

// TestGuards: what a scene says of an owner meets the guard that is there for
// it.
func TestGuards(t *testing.T) {
	for _, tt := range []struct{ guard, owner, host string }{
		{"protected", `protected = "matches ssh*"`, ""},
		{"shared", "shared = true", ""},
		{"unit", "unit_verified = false", ""},
		{"evidence", "evidence = { last-seen = 0.7 }", ""},
		{"young", `age = "10s"`, ""},
		{"coverage", "", "coverage = 0.5"},
	} {
		text := fmt.Sprintf("[[at]]\ntime = \"0s\"\nfill = 0.8\n%s\n[at.owner.\"system/x.service\"]\nbytes = \"260M\"\nverdict = \"leak\"\n%s\n[[at]]\ntime = \"3m\"\n", tt.host, tt.owner)
		events, _ := play(t, scene(t, text), true, leak(t))
		x := replay.Expect{Rule: "leak", Action: "restart-unit", Guard: tt.guard}
		if found := x.Check(scene(t, text).Start(), events); found != "" {
			t.Errorf("%s: %s", x, found)
		}
		x = replay.Expect{Rule: "leak", Action: "restart-unit", Choice: record.ChoseAct, Never: true, Within: 100 * time.Second}
		if found := x.Check(scene(t, text).Start(), events); found != "" {
			t.Errorf("%s: %s", x, found)
		}
	}
}

func TestOptOut(t *testing.T) {
	s := scene(t, leakScene(t))
	p := replay.New(replay.Config{Policy: config(leak(t)), Enforce: true, OptOut: func(*reading.Owner) string { return "opted out" }})
	for e := range s.Entries() {
		for _, e := range p.Play(e) {
			if d := e.Decision; d != nil && d.Choice == record.ChoseAct && d.Touches != "nothing" {
				t.Errorf("acts on who opted out: %s", e.Words())
			}
		}
	}
}

// TestChecksFail: an expectation that does not hold says what came instead.
func TestChecksFail(t *testing.T) {
	s := scene(t, leakScene(t))
	events, _ := play(t, s, true, leak(t))
	for _, tt := range []struct {
		x    replay.Expect
		want string
	}{
		{replay.Expect{Rule: "leak", Action: "restart-unit", Within: time.Minute}, "it did at 3m30s"},
		{replay.Expect{Rule: "leak", Action: "restart-unit", Never: true}, "it did, at 3m30s"},
		{replay.Expect{Rule: "leak", Choice: record.ChoseHold}, "the nearest it did was at 6m5s: ended (cleared): over: tcp.fill < 0.5"},
		{replay.Expect{Rule: "load"}, "the rule did nothing"},
		{replay.Expect{Rule: "leak", Phase: record.Firing, After: 3 * time.Minute}, "the nearest it did was at 2m30s: firing: the condition has held for 30s"},
		{replay.Expect{Rule: "leak", Action: "notify", After: time.Minute, Within: 3 * time.Minute}, ""},
		{replay.Expect{Rule: "load", Never: true}, ""},
		{replay.Expect{Rule: "leak", Action: "restart-unit", Within: time.Minute, Never: true}, ""},
	} {
		if got := tt.x.Check(s.Start(), events); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.x, got, tt.want)
		}
	}
}

// TestHistory: what the daemon stores, sent as the daemon sends it, decides as
// the moments themselves do.
func TestHistory(t *testing.T) {
	s := scene(t, leakScene(t))
	want, _ := play(t, s, true, leak(t))
	p := replay.New(replay.Config{Policy: config(leak(t)), Enforce: true})
	var got []replay.Event
	for e := range s.Entries() {
		text, err := json.Marshal(&history.Entry{Stamp: e.Stamp, Level: e.Level, Sample: e.Sample, Reading: e.Reading, Events: []string{"i-1"}})
		if err != nil {
			t.Fatal(err)
		}
		read := new(replay.Entry)
		if err := json.Unmarshal(text, read); err != nil {
			t.Fatal(err)
		}
		got = append(got, p.Play(read)...)
	}
	if diff := cmp.Diff(lines(s.Start(), want), lines(s.Start(), got)); diff != "" || len(got) == 0 {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// every gives one entry of the scene in so many.
func every(s *replay.Scene, n int, from, to time.Duration) []*replay.Entry {
	var kept []*replay.Entry
	i := 0
	for e := range s.Entries() {
		if at := e.At.Sub(s.Start()); i%n == 0 && (at < from || at >= to) {
			kept = append(kept, e)
		}
		i++
	}
	return kept
}

// TestThinnedOut: entries a minute apart are as the recorder meant them, and
// no gap; where some are missing among close ones, it is one.
func TestThinnedOut(t *testing.T) {
	const key = "system/task-queue.service"
	s := scene(t, leakScene(t))
	replayed := func(entries []*replay.Entry) ([]string, replay.Report) {
		p := replay.New(replay.Config{Policy: config(leak(t))})
		var events []replay.Event
		for _, e := range entries {
			events = append(events, p.Play(e)...)
		}
		return lines(s.Start(), events), p.Report()
	}
	got, report := replayed(every(s, 60, 0, 0))
	want := []string{
		"120 " + key + " pending", "180 " + key + " firing", "180 " + key + " act notify", "240 " + key + " dry-run restart-unit",
		"300 " + key + " nothing", "420 " + key + " ended cleared",
	}
	if diff := cmp.Diff(want, got); diff != "" || len(report.Gaps) != 0 || report.Coarse == 0 {
		t.Errorf("a minute apart, %d gaps: (-want +got)\n%s", len(report.Gaps), diff)
	}
	got, report = replayed(every(s, 1, 130*time.Second, 180*time.Second))
	if diff := cmp.Diff([]string{"120 " + key + " pending", "180 " + key + " ended gap", "180 " + key + " pending", "210 " + key + " firing"}, got[:4]); diff != "" {
		t.Errorf("a gap: (-want +got)\n%s", diff)
	}
	if len(report.Gaps) != 1 || report.Gaps[0].Seconds != 51 {
		t.Errorf("gaps: %+v", report.Gaps)
	}
	// The two tiers of a recording, one after the other.
	both := append(every(s, 60, 3*time.Minute, time.Hour), every(s, 1, 0, 3*time.Minute)...)
	if got, report = replayed(both); len(report.Gaps) != 0 || got[1] != "180 "+key+" firing" {
		t.Errorf("from coarse to fine: %d gaps, %q", len(report.Gaps), got)
	}
}

// TestSilence: a scene can hold its breath, as a suspended host does.
func TestSilence(t *testing.T) {
	text := strings.Replace(leakScene(t), `time = "2m"`, "time = \"2m\"\nsilent = false", 1)
	text = strings.Replace(text, "[[at]]\ntime = \"6m\"", "[[at]]\ntime = \"2m10s\"\nsilent = true\n[[at]]\ntime = \"3m\"\nsilent = false\n[[at]]\ntime = \"6m\"", 1)
	s := scene(t, text)
	events, report := play(t, s, false, leak(t))
	if got := lines(s.Start(), events); len(report.Gaps) != 1 || !strings.HasSuffix(got[1], "ended gap") {
		t.Errorf("%d gaps, %q", len(report.Gaps), got)
	}
}

func TestTimeGoesOneWay(t *testing.T) {
	s := scene(t, leakScene(t))
	p := replay.New(replay.Config{Policy: config(leak(t))})
	entries := every(s, 1, 0, 0)
	for _, e := range []*replay.Entry{entries[0], entries[10], entries[5], entries[10], entries[11]} {
		p.Play(e)
	}
	if r := p.Report(); r.Entries != 3 {
		t.Errorf("%d entries counted, want the 3 that are later than the one before", r.Entries)
	}
}

// TestRatesAndLevels: counters of a scene make rates, its use makes levels.
func TestRatesAndLevels(t *testing.T) {
	text := `
tcp_mem = [100, 200, 300]
[[at]]
time = "0s"
used = "400K"
aborts_on_memory = 0
[[at]]
time = "20s"
aborts_on_memory = 0
[[at]]
time = "30s"
aborts_on_memory = 10
[[at]]
time = "2m"
used = "1200K"
`
	rule := &policy.Rule{Name: "oom", Hash: "1", ForEach: policy.Host, When: condition(t, "known(kernel.aborts_on_memory) && kernel.aborts_on_memory > 5", policy.Host)}
	pressure := &policy.Rule{Name: "p", Hash: "2", ForEach: policy.Host, When: condition(t, `tcp.level >= "pressure" && tcp.under_pressure`, policy.Host)}
	s := scene(t, text)
	events, _ := play(t, s, false, rule, pressure)
	for _, x := range []replay.Expect{
		{Rule: "oom", Phase: record.Firing, After: 20 * time.Second, Within: 31 * time.Second},
		{Rule: "oom", Phase: record.Ended, After: 60 * time.Second},
		{Rule: "p", Phase: record.Firing, After: 60 * time.Second, Within: 62 * time.Second},
	} {
		if found := x.Check(s.Start(), events); found != "" {
			t.Errorf("%s: %s: %q", x, found, lines(s.Start(), events))
		}
	}
}

// BenchmarkMinute plays an entry as the daemon sends it: a sample and a scan
// with as many owners as a recording keeps.
func BenchmarkMinute(b *testing.B) {
	var points strings.Builder
	for _, at := range []string{"0s", "10s"} {
		fmt.Fprintf(&points, "[[at]]\ntime = %q\nfill = 0.5\n", at)
		for i := range 64 {
			fmt.Fprintf(&points, "[at.owner.\"system/worker@%d.service\"]\nbytes = \"2M\"\nverdict = \"load\"\n", i)
		}
	}
	s, err := replay.ParseScene("s", []byte(points.String()))
	if err != nil {
		b.Fatal(err)
	}
	var text []byte
	for e := range s.Entries() {
		if text, err = json.Marshal(e); err != nil {
			b.Fatal(err)
		}
		break
	}
	when, err := policy.Compile(`tcp.fill > 0.7 && owner.share > 0.3 && owner.verdict == "leak"`, policy.Unit)
	if err != nil {
		b.Fatal(err)
	}
	p := replay.New(replay.Config{Policy: config(&policy.Rule{Name: "leak", Hash: "1", ForEach: policy.Unit, When: when})})
	at := s.Start()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		e := new(replay.Entry)
		if err := json.Unmarshal(text, e); err != nil {
			b.Fatal(err)
		}
		at = at.Add(time.Minute)
		e.At, e.Sample.At, e.BootSeconds = at, at, e.BootSeconds+at.Sub(s.Start()).Seconds()
		p.Play(e)
	}
}
