package event_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// TestCatalogueIsWhole holds the constants against the list: each has its
// kind, and no id, nor message id, is there twice.
func TestCatalogueIsWhole(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "catalogue.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var constants []string
	ast.Inspect(file, func(n ast.Node) bool {
		if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
			for _, s := range d.Specs {
				id, _ := strconv.Unquote(s.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value)
				constants = append(constants, id)
			}
		}
		return true
	})
	ids, messages := map[string]bool{}, map[string]bool{}
	for _, k := range event.Catalogue() {
		if ids[k.ID] || messages[k.MessageID] {
			t.Errorf("%s: its id or message id is there twice", k.ID)
		}
		ids[k.ID], messages[k.MessageID] = true, true
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(k.MessageID) || k.Title == "" {
			t.Errorf("%s: message id %q, title %q", k.ID, k.MessageID, k.Title)
		}
		if k.Severity != event.Info && k.Do == "" {
			t.Errorf("%s: nobody is told what to do", k.ID)
		}
	}
	for _, k := range event.Catalogue() {
		if k.EndedBy != "" && !ids[k.EndedBy] {
			t.Errorf("%s: ended by %q, which is none", k.ID, k.EndedBy)
		}
	}
	for _, id := range constants {
		if id != event.Info && id != event.Warning && id != event.Critical && !ids[id] {
			t.Errorf("%s is not in the catalogue", id)
		}
	}
	if k := event.KindOf("of-tomorrow"); k.Severity != event.Warning || k.Title != "of-tomorrow" {
		t.Errorf("unknown id: %+v", k)
	}
}

// TestDaemonTellsOfTheCatalogue looks at what the daemon's source names.
func TestDaemonTellsOfTheCatalogue(t *testing.T) {
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\.(?:event\(|set\(j, )"([a-z-]+)"`).FindAllSubmatch(text, -1) {
			n++
			id := string(m[1])
			if !slices.ContainsFunc(event.Catalogue(), func(k event.Kind) bool { return k.ID == id }) {
				t.Errorf("%s tells of %q, which the catalogue does not have", name, id)
			}
		}
	}
	if n == 0 {
		t.Error("the daemon tells of nothing: look at how")
	}
}

// texts are all that the records of a host bring.
func texts(h *apitest.Host) map[string]event.Text {
	found := make(map[string]event.Text)
	var decided *record.Decision
	for i := len(h.Log) - 1; i >= 0; i-- {
		r := &h.Log[i]
		c := event.CaseOf(r)
		c.Pool, c.Steps = event.Pool{Used: 295 << 20, Pressure: 225 << 20, Max: 337 << 20}, []string{"restart-unit"}
		switch {
		case r.State != nil && r.State.Phase == record.Firing:
			c.Severity, c.About = event.Critical, "one service's share keeps growing"
			found[r.ID] = event.Firing(c)
		case r.State != nil && r.State.Phase == record.Ended:
			found[r.ID] = event.Ended(c, r.State)
		case r.Decision != nil:
			found[r.ID] = event.Decided(c, r.Decision)
		case r.Intent != nil:
			decided = &r.Intent.Decision
			found[r.ID] = event.Decided(c, decided)
		case r.Result != nil:
			found[r.ID] = event.Resulted(c, decided, r.Result)
		case r.Effect != nil:
			found[r.ID] = event.Measured(c, decided, r.Effect)
		case r.Event != nil:
			found[r.ID] = event.Told(r.Event)
		}
	}
	return found
}

func TestTexts(t *testing.T) {
	got := texts(apitest.Acted())
	for id, want := range map[string]string{
		"r-2":  "leaking-service: task-queue.service (pid 412) holds 251.0 MiB (85 %), +12.0 MiB/min, leak; TCP memory is 88 % full (295.0 MiB of 337.0 MiB), above pressure 225.0 MiB",
		"r-3":  "leaking-service: tells by notify",
		"r-4":  "leaking-service: notify: delivered after 300 ms: told the journal and 1 webhook",
		"r-5":  "leaking-service: acts: restart-unit on task-queue.service, which holds 251.0 MiB",
		"r-6":  "leaking-service: restart-unit on task-queue.service: done after 3 s: restarted, and destroyed 2 orphans that it left",
		"r-7":  "leaking-service: restart-unit on task-queue.service: helped, target 251.0 MiB -> 1.0 MiB, pool 295.0 MiB -> 47.0 MiB",
		"r-8":  "leaking-service: over for task-queue.service after 5 min: over: tcp.fill < 0.5",
		"r-9":  "leaking-service: held: restart-unit on task-queue.service: the budget of 1 per 1h is spent: unit system/task-queue.service restart-unit",
		"r-10": `slow-peer: would do destroy-sockets on prod/checkout-7d9f (worker), which holds 40.0 MiB; the rule's mode is "observe"`,
		"r-11": "tcpmemd: paused for 1h: deploying",
	} {
		if got[id].Line != want {
			t.Errorf("%s:\n got %s\nwant %s", id, got[id].Line, want)
		}
	}
	want := `since: 2026-11-22 08:15:00 UTC (60 s), level critical
who: task-queue.service, service, unit task-queue.service, pid 412 task-queue, uid 0
holds: 251.0 MiB in 1203 sockets: owned 98 %, orphan 2 %; known by fd 98 %, last-seen 2 %
verdict: leak: 900 of its sockets are in close-wait; its queues have not moved for 5 min
numbers: owner.share = 0.85, owner.verdict = "leak", tcp.fill = 0.87
what is done: restart-unit
more: tcpmemctl explain i-20261122T081500-leaking-service`
	if diff := cmp.Diff("rule: one service's share keeps growing\n"+want, strings.Join(got["r-2"].More, "\n")); diff != "" {
		t.Errorf("firing: (-want +got)\n%s", diff)
	}
	if s := got["r-2"].Severity; s != event.Critical {
		t.Errorf("the rule's severity is lost: %s", s)
	}
	dry := strings.Join(got["r-10"].More, "\n")
	for _, part := range []string{"runner-up: task-queue.service (pid 412) holds 251.0 MiB", "tcp.eta = unknown", "tcpmemctl explain r-10"} {
		if !strings.Contains(dry, part) {
			t.Errorf("no %q in\n%s", part, dry)
		}
	}
}

func TestOfTheHost(t *testing.T) {
	c := event.Case{
		Rule: "pressure", About: "the kernel saves memory", At: apitest.At, Since: apitest.At.Add(-3 * time.Minute),
		Pool: event.Pool{Used: 90, Max: 100}, Mode: "observe", ModeWhy: "paused: deploying", Steps: []string{"raise-tcp-mem"},
		Others: []record.Suspect{{Name: "b", Bytes: 7}}, MoreOthers: 4, Incident: "i",
	}
	got := event.Firing(c)
	if want := "pressure: TCP memory is 90 % full (90 B of 100 B): the kernel saves memory; and 5 more"; got.Line != want {
		t.Errorf("got %s, want %s", got.Line, want)
	}
	if more := got.String(); !strings.Contains(more, "\nwhat would be done: raise-tcp-mem (observing: paused: deploying)\n") {
		t.Errorf("in observe mode:\n%s", more)
	}
}

// What did not help is louder than what did.
func TestVerdictsHaveTheirSeverity(t *testing.T) {
	for v, want := range map[record.Verdict]string{
		record.Helped: event.Info, record.NoEffect: event.Warning, record.Worse: event.Critical, record.NotMeasured: event.Info,
	} {
		if got := event.Measured(event.Case{}, nil, &record.Effect{Verdict: v, Why: "x"}); got.Severity != want {
			t.Errorf("%s is %s, want %s", v, got.Severity, want)
		}
	}
	for o, want := range map[record.Outcome]string{
		record.Done: event.Info, record.Delivered: event.Info, record.Failed: event.Warning, record.Interrupted: event.Warning,
	} {
		if got := event.Resulted(event.Case{}, nil, &record.Result{Outcome: o}); got.Severity != want {
			t.Errorf("%s is %s, want %s", o, got.Severity, want)
		}
	}
}

// TestHostileNames: no text moves a cursor, and the first line stays one line
// of at most 200 bytes, whatever a process calls itself.
func TestHostileNames(t *testing.T) {
	check := func(what string, x event.Text) {
		t.Helper()
		if len(x.Line) > event.MaxLine || x.Line == "" {
			t.Errorf("%s: first line of %d bytes", what, len(x.Line))
		}
		for _, line := range append(x.More, x.Line) {
			if strings.ContainsFunc(line, func(r rune) bool { return !prose.Visible(r) }) || !utf8.ValidString(line) {
				t.Errorf("%s: %q", what, line)
			}
		}
	}
	for id, x := range texts(apitest.ActedHostile()) {
		check(id, x)
	}
	for _, name := range append(apitest.HostileNames, strings.Repeat("漢", 500), strings.Repeat("\x1b", 5000)) {
		o := &record.Suspect{
			Key: name, Name: name, Unit: name, Command: name, Protected: name, Kind: reading.KindProcess,
			Container: &reading.Container{ID: name}, Pod: &reading.Pod{Namespace: name, Name: name},
			Holders: []reading.Holder{{PID: 1, Command: name}}, Verdict: &reading.Verdict{Kind: reading.SlowPeer, Culprit: name, Reasons: []string{name}},
			Classes: map[string]int64{name: 1}, Evidence: map[string]int64{name: 1},
		}
		c := event.Case{
			Rule: name, Key: name, About: name, Incident: name, Owner: o, Others: []record.Suspect{*o}, RunnersUp: []record.Suspect{*o},
			Numbers: record.Numbers{"owner.name": name, "list": []any{name}}, Condition: name, ModeWhy: name, Steps: []string{name},
		}
		d := &record.Decision{Choice: record.ChoseRefuse, Why: name, Guard: name, Action: name, Owner: o, Numbers: c.Numbers, ModeWhy: name}
		check("firing", event.Firing(c))
		check("ended", event.Ended(c, &record.State{Why: name}))
		for _, choice := range []record.Choice{record.ChoseAct, record.ChoseDryRun, record.ChoseRefuse, record.ChoseHold, record.ChoseWait, record.ChoseNothing} {
			d.Choice = choice
			check(string(choice), event.Decided(c, d))
		}
		check("result", event.Resulted(c, d, &record.Result{Outcome: record.Failed, Code: name, Message: name, Changes: []record.Change{{What: name, Before: name, After: name}}}))
		check("effect", event.Measured(c, d, &record.Effect{Verdict: record.Worse, Why: name}))
		check("told", event.Told(&record.Event{ID: name, Text: name}))
	}
}
