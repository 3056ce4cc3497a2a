package event_test

import (
	"bytes"
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
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(k.MessageID) || k.Title == "" || k.Means == "" {
			t.Errorf("%s: message id %q, title %q, meaning %q", k.ID, k.MessageID, k.Title, k.Means)
		}
		if (k.Severity == event.Warning || k.Severity == event.Critical) && k.Do == "" {
			t.Errorf("%s: nobody is told what to do", k.ID)
		}
	}
	for _, k := range event.Catalogue() {
		if k.EndedBy != "" && !ids[k.EndedBy] {
			t.Errorf("%s: ended by %q, which is none", k.ID, k.EndedBy)
		}
	}
	for _, id := range constants {
		severities := []string{event.Critical, event.Warning, event.Info, event.Notice, event.Debug}
		if !slices.Contains(severities, id) && !ids[id] {
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
		"r-8":  "leaking-service: over for task-queue.service after 5 min: tcp.fill < 0.5",
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
what is done, while it lasts: restart-unit
more: tcpmemctl incidents show i-20261122T081500-leaking-service`
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
	c.Condition, c.RunnersUp = "\ta ||\n\tb", []record.Suspect{{Name: "c", Bytes: 9}}
	got := event.Firing(c)
	if want := "pressure: TCP memory is 90 % full (90 B of 100 B): the kernel saves memory; and 5 more"; got.Line != want {
		t.Errorf("got %s, want %s", got.Line, want)
	}
	for _, line := range []string{"condition: a || b", "most is held by: c holds 9 B"} {
		if !slices.Contains(got.More, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	if strings.Contains(got.String(), "\nrule: ") {
		t.Errorf("it says twice what the rule is about:\n%s", got)
	}
	if more := got.String(); !strings.Contains(more, "\nwhat would be done: raise-tcp-mem (observing: paused: deploying)\n") {
		t.Errorf("in observe mode:\n%s", more)
	}
}

// What did not help is louder than what did.
func TestVerdictsHaveTheirSeverity(t *testing.T) {
	for v, want := range map[record.Verdict]string{
		record.Helped: event.Notice, record.NoEffect: event.Warning, record.Worse: event.Critical, record.NotMeasured: event.Notice,
	} {
		if got := event.Measured(event.Case{}, nil, &record.Effect{Verdict: v, Why: "x"}); got.Severity != want {
			t.Errorf("%s is %s, want %s", v, got.Severity, want)
		}
	}
	for o, want := range map[record.Outcome]string{
		record.Done: event.Warning, record.Delivered: event.Info, record.Failed: event.Warning, record.Interrupted: event.Warning,
	} {
		if got := event.Resulted(event.Case{}, nil, &record.Result{Outcome: o}); got.Severity != want {
			t.Errorf("%s is %s, want %s", o, got.Severity, want)
		}
	}
}

// What an action answers is told in whole, though a first line is short.
func TestLongAnswerIsWhole(t *testing.T) {
	answer := strings.Repeat("a long reason ", 30)
	for _, message := range []string{answer, "a short one"} {
		got := event.Resulted(event.Case{}, nil, &record.Result{Outcome: record.Refused, Message: message})
		if n := strings.Count(got.String(), message); n != 1 {
			t.Errorf("the answer is there %d times in\n%s", n, got.String())
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

// TestEnded: how long, what was done, whether it helped; in the line the newest.
func TestEnded(t *testing.T) {
	owner := &record.Suspect{Key: "system/x.service", Name: "x.service", Unit: "x.service", Manager: "system", UnitVerified: true, Bytes: 200 << 20}
	d := &record.Decision{Action: "restart-unit", Touches: "owner", Owner: owner, Step: 2}
	c := event.Case{
		Incident: "i-1", Rule: "leak", Key: owner.Key, Owner: owner, At: apitest.At, Since: apitest.At.Add(-time.Hour),
		Pool: event.Pool{Used: 10 << 20, Pressure: 225 << 20, Max: 337 << 20}, Worst: event.Pool{Used: 300 << 20, Pressure: 225 << 20, Max: 337 << 20},
		Others: []record.Suspect{{Name: "y.service", Bytes: 1 << 20}}, MoreOthers: 2, MoreDeeds: 1,
		Deeds: []event.Deed{{
			ID: "a-1", Decision: d, Result: &record.Result{Outcome: record.Refused, Code: "coverage", Message: "too little is known"},
		}, {
			ID: "a-2", Decision: d, Result: &record.Result{Outcome: record.Done, Message: "restarted", TookSeconds: 2},
			Effect: &record.Effect{Verdict: record.Helped, TargetBefore: new(int64(200 << 20)), TargetAfter: new(int64(1 << 20))},
		}},
	}
	got := event.Ended(c, &record.State{End: record.EndCleared, Why: "over: tcp.fill < 0.5"})
	got.Severity = event.Warning
	want := `leak: over for x.service and 3 more after 60 min: restart-unit on x.service helped
over: tcp.fill < 0.5
at its worst: x.service holds 200.0 MiB
also: y.service holds 1.0 MiB
at the worst: TCP memory is 89 % full (300.0 MiB of 337.0 MiB), above pressure 225.0 MiB
done: restart-unit on x.service: refused (coverage): too little is known
done: restart-unit on x.service: done after 2 s: restarted; helped, target 200.0 MiB -> 1.0 MiB
done: 1 action more
now: TCP memory is 3 % full (10.0 MiB of 337.0 MiB)
more: tcpmemctl incidents show i-1`
	if diff := cmp.Diff(want, got.Message()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	fields := make(map[string]string)
	for _, f := range got.Fields {
		fields[f.Name] = f.Value
	}
	for name, want := range map[string]string{
		"RULE": "leak", "INCIDENT": "i-1", "END": "cleared", "DURATION_SECONDS": "3600", "KEYS": "4", "ACTIONS": "3",
		"RESULT": "done", "EFFECT": "helped", "OWNER_BYTES": "209715200", "UNIT": "x.service",
	} {
		if fields[name] != want {
			t.Errorf("%s = %q, want %q", name, fields[name], want)
		}
	}
	if !slices.Equal(got.Units, []string{"x.service"}) { // of the other nobody but itself says so
		t.Errorf("units %v", got.Units)
	}
	if got := event.Ended(event.Case{Rule: "leak"}, &record.State{Why: "gone"}); !strings.Contains(got.String(), "\ndone: nothing was touched") {
		t.Errorf("nothing was done: %s", got)
	}
}

// TestCatalogIsCurrent: what is packed is what go generate makes.
func TestCatalogIsCurrent(t *testing.T) {
	got, err := os.ReadFile("../../packaging/root/usr/lib/systemd/catalog/tcpmemd.catalog")
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	event.WriteCatalog(&want)
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("run go generate ./daemon/event (-want +got):\n%s", diff)
	}
}

// TestMessageIDsAreStable: who filters by one must not be told something else by
// it. Add to this list, and change nothing in it.
func TestMessageIDsAreStable(t *testing.T) {
	want := map[string]string{
		"rule-firing":         "15eec3b4bdd34e59ad0062b97f262c91",
		"rule-ended":          "d49787eb98ee4b55b860d7cd7648a807",
		"action-intent":       "b868cb017c5b42abbe8b44f18af7c985",
		"action-result":       "84248592c4f8446fbbc4eae376cfeb88",
		"action-effect":       "b6a2e585ee734c6687dba02a8a2bb66b",
		"would-act":           "2062450744f44a28adc44c65fb4bd437",
		"refused":             "febae181925b451ca862c6500f1ad22b",
		"held":                "b1b6eadd19eb4cd2a892bdb80aa8e90a",
		"waiting":             "1e1a82949ba040b781d3fb5b7ce2db0d",
		"exhausted":           "192319ebffa646d78eb7ac15cf89ad0f",
		"undelivered":         "04945f72f727411597b7196666d1dbe7",
		"daemon-started":      "bbdabefc9bc24401b00c53af2ab2ef62",
		"daemon-stopped":      "f6a0db1074914d9386dce604b1ab3ec7",
		"metrics-unavailable": "f3684a46470a71aef49f30babd4008ee",
		"paused":              "d80c691ca0c7404eb89d9ed7a1a188e0",
		"resumed":             "d9dad97703a245b1a0d7f52abe69047f",
		"emergency-stop":      "18d83059f17c499fa7300fc55c77f1f5",
		"reset":               "166ef2e680424ea89e54d1c6ed23e98d",
		"reloaded":            "139e9d5073f34a97a4a1b20a5acadf30",
		"reload-failed":       "5952726a647747aab5823202f805a5a6",
		"lease-taken":         "0f2e8c867cda480bb2a6d0952dd09f2f",
		"lease-extended":      "842d94267c3b4cc7bcd5201fed1a1c4d",
		"lease-adopted":       "26a8926ab5484cccb001ce44ec32fdf4",
		"lease-ended":         "fd1529a467e14970afc51cb876181206",
		"lease-rival":         "9ea2959829ef4db29b94cc3a33307ea9",
		"lease-stuck":         "53f86e436f1b42e7854e1563d963b3f4",
		"level-changed":       "5945f48f73254f6f9cba3d289bba1d96",
		"tcp-mem-changed":     "d5c15d830a454ff1ab2581df56dd1add",
		"gap":                 "bdf521f2b8694c1682787042f91205e8",
		"repaired":            "0d32eca666104a60bed76b08339ff51d",
		"blind-coverage":      "399b30e4452f423e862ffeb85ea4330b",
		"blind-netns":         "26155cc4d91f47b9bbd2184df5f2a2c4",
		"blind-kernel-log":    "f4527f7b07e44378b1e42ac0f43caab3",
		"blind-bus":           "01c0d28115ce4119a80a3e5dfdd812e5",
		"blind-sample":        "dcb47d9d3f82457890a1d176718850f4",
		"log-unwritable":      "38fb47c8647142a4afb80b7dfd9aeeca",
		"budgets-lost":        "1964a3531a234d539386dba8869e5872",
		"rights-missing":      "d0576d22deab4922afb3c8af7a71a93a",
		"policy-broken":       "9591b206794d4bdda3f2df4004c5086b",
		"plugin-broken":       "7c5eb9b9b5844b1dbde51dde06ce5900",
		"journal-late":        "98dc8ae1ee0d4f7a98551ab29a1345fb",
	}
	got := make(map[string]string)
	for _, k := range event.Catalogue() {
		got[k.ID] = k.MessageID
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestLouder: the end of a warning is one, and nothing else that is none.
func TestLouder(t *testing.T) {
	for id, want := range map[string]string{
		event.Resumed: event.Warning, event.LeaseEnded: event.Warning, event.BlindBus: event.Warning,
		event.Reloaded: event.Info, event.DaemonStarted: event.Info, event.LeaseAdopted: event.Info,
	} {
		if got := event.Louder(id, event.Info); got != want {
			t.Errorf("%s is %s, want %s", id, got, want)
		}
	}
	if got := event.Louder(event.LogUnwritable, event.Critical); got != event.Critical {
		t.Errorf("a beginning became %s", got)
	}
}

// TestPodIsNamed: an alert about a container says whose it is, in its first line
// and to programs; without names, by uid and id.
func TestPodIsNamed(t *testing.T) {
	const id, uid = "aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999", "8dbc5577-d0e2-4706-8787-57d52c03ddf2"
	for _, tt := range []struct {
		name, line string
		owner      record.Suspect
		want       map[string]string
	}{
		{
			"named", "shop/queue-0/worker",
			record.Suspect{
				Name: "shop/queue-0/worker", Container: &reading.Container{ID: id, Name: "worker"},
				Pod: &reading.Pod{Namespace: "shop", Name: "queue-0", UID: uid},
			},
			map[string]string{"NAMESPACE": "shop", "POD": "queue-0", "CONTAINER": "worker"},
		},
		{
			"names not known", "aaaabbbbcccc",
			record.Suspect{Name: "aaaabbbbcccc", Container: &reading.Container{ID: id}, Pod: &reading.Pod{UID: uid}},
			map[string]string{"POD": uid, "CONTAINER": id},
		},
		{"a container of docker", "aaaabbbbcccc", record.Suspect{Name: "aaaabbbbcccc", Container: &reading.Container{ID: id}}, map[string]string{"CONTAINER": id}},
		{"a service", "queue.service", record.Suspect{Name: "queue.service", Unit: "queue.service", UnitVerified: true}, map[string]string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := event.Firing(event.Case{Rule: "container-leak", About: "it leaks", Incident: "i1", Owner: &tt.owner})
			got := map[string]string{}
			for _, f := range text.Fields {
				if slices.Contains([]string{"NAMESPACE", "POD", "CONTAINER"}, f.Name) {
					got[f.Name] = f.Value
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			if !strings.Contains(text.Line, tt.line) {
				t.Errorf("%q does not name %s", text.Line, tt.line)
			}
		})
	}
}
