package replay_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/engine/replay"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const two = "[[at]]\ntime = \"0s\"\nfill = 0.5\n[[at]]\ntime = \"1m\"\n"

func TestSceneMistakes(t *testing.T) {
	owner := func(key, text string) string {
		return "[[at]]\ntime = \"0s\"\n[at.owner.\"" + key + "\"]\nbytes = \"1M\"\n" + text + "\n[[at]]\ntime = \"1m\"\n"
	}
	for _, tt := range []struct{ text, want string }{
		{"", "at: want two points in time or more"},
		{"abuot = \"x\"\n" + two, `unknown key "abuot"; did you mean about?`},
		{"[[at]]\ntme = \"0s\"\n[[at]]\ntime = \"1m\"\n", `unknown key "at.tme"; did you mean time?`},
		{owner("system/x.service", `verdcit = "leak"`), `did you mean verdict?`},
		{"as = \"enforcing\"\n" + two, `as = "enforcing": want observe or enforce`},
		{"tcp_mem = [3, 2, 1]\n" + two, "tcp_mem: want [min, pressure, max]"},
		{"sample = 5\n" + two, `5 is no duration such as "90s"`},
		{"sample = \"1ms\"\n" + two, "want from 100ms to 1m"},
		{"page_size = 5000\n" + two, "want a power of 2"},
		{"[[at]]\ntime = \"1s\"\n[[at]]\ntime = \"2s\"\n", `the first is "0s"`},
		{"[[at]]\ntime = \"0s\"\n[[at]]\ntime = \"0s\"\n", "each is later than the one before"},
		{"[[at]]\ntime = \"0s\"\n[[at]]\nfill = 0.1\n", "at 2: want a time"},
		{"[[at]]\ntime = \"0s\"\nfill = 0.5\nused = \"1M\"\n[[at]]\ntime = \"1m\"\n", "used and fill: want one of them"},
		{"[[at]]\ntime = \"0s\"\nfill = 3.0\n[[at]]\ntime = \"1m\"\n", "fill = 3: want from 0 to 2"},
		{"[[at]]\ntime = \"0s\"\n[[at]]\ntime = \"9000h\"\n", `set sample = "10s" or more`},
		{owner("x.service", ""), "want a key such as"},
		{owner("user@x/y.service", ""), "want user@UID/UNIT"},
		{owner("system/x.service", `verdict = "guilty"`), "want leak, load, slow-peer or none"},
		{owner("system/x.service", "classes = { orphans = 0.1 }"), `there is none called "orphans"`},
		{owner("system/x.service", "evidence = { fd = 0.9, cgroup = 0.2 }"), "add up to 1.1"},
		{owner("system/x.service", `unread = "1X"`), `"1X" is no size such as "64M"`},
		{owner("system/x.service", `unread = "1MiX"`), `"1MiX" is no size such as "64M"`},
		{owner("system/x.service", `kind = "slice"`), `kind = "slice": no kind of owner`},
		{owner("system/x.service", `pod = "x"`), "want NAMESPACE/NAME"},
		{two + "[[expect]]\nkey = \"x\"\n", "expect 1: want the name of a rule"},
		{two + "[[expect]]\nrule = \"x\"\nchoice = \"acted\"\n", `choice = "acted": want one of act, dry-run`},
		{two + "[[expect]]\nrule = \"x\"\nguard = \"luck\"\n", `guard = "luck": want one of mode, rights`},
		{two + "[[expect]]\nrule = \"x\"\nphase = \"firing\"\nchoice = \"act\"\n", "write two"},
		{"x = [\n", "line 1: "},
		{strings.Repeat("#", replay.MaxScene+1), "longer than"},
	} {
		_, err := replay.ParseScene("s.toml", []byte(tt.text))
		mistake, ok := errors.AsType[*replay.SceneError](err)
		if !ok || !strings.Contains(mistake.Error(), tt.want) || !strings.HasPrefix(mistake.Error(), "s.toml: ") {
			t.Errorf("%.60q: %v, want %q", tt.text, err, tt.want)
		}
	}
}

// TestBetweenPoints: numbers lie on the line between two points, words stay
// until the next.
func TestBetweenPoints(t *testing.T) {
	s := scene(t, `
scan = "10s"
sample = "10s"
tcp_mem = [1000, 2000, 10000]
[[at]]
time = "0s"
used = "4M"
orphans = 10
[at.owner."system/x.service"]
bytes    = "1M"
sockets  = 100
classes  = { orphan = 0.1 }
evidence = { last-seen = 0.1 }
[at.owner.unresolved]
bytes = "1M"
[[at]]
time = "1m"
used = "8M"
orphans = 70
[at.owner."system/x.service"]
bytes   = "7M"
verdict = "leak"
[at.owner."container/abc"]
bytes = "512K"
pod   = "prod/web"
[[at]]
time = "2m"
[at.owner.unresolved]
bytes = "0"
`)
	type moment struct {
		At                        int
		Used, Orphans             int64
		Owner, Growth, Unresolved int64
		Verdict, Pod              string
		OrphanBytes, LastSeen     int64
		Coverage                  float64
	}
	var got []moment
	for e := range s.Entries() {
		m := moment{At: int(e.At.Sub(s.Start()).Seconds()), Used: e.Sample.Used.Bytes(4096) >> 10, Orphans: e.Sample.Orphans}
		if e.Reading == nil {
			t.Fatalf("no reading at %d", m.At)
		}
		for _, o := range e.Reading.Owners {
			var classes, evidence int64
			for _, c := range o.Classes {
				classes += c.Bytes
			}
			for _, c := range o.Evidence {
				evidence += c.Bytes
			}
			if classes != o.Sum.Bytes || evidence != o.Sum.Bytes {
				t.Errorf("%s: classes %d, evidence %d, sum %d", o.Key, classes, evidence, o.Sum.Bytes)
			}
			switch o.Key {
			case "system/x.service":
				m.Owner, m.Growth = o.Sum.Bytes>>10, *o.GrowthPerMinute>>10
				m.OrphanBytes, m.LastSeen = o.Classes[reading.Orphan].Bytes>>10, o.Evidence[reading.LastSeen].Bytes>>10
				if o.Verdict != nil {
					m.Verdict = string(o.Verdict.Kind)
				}
			case "unresolved":
				m.Unresolved = o.Sum.Bytes >> 10
			default:
				m.Pod = o.Pod.Name
			}
		}
		m.Coverage = float64(int(100*e.Reading.Ledger.Coverage)) / 100
		if m.At%30 == 0 {
			got = append(got, m)
		}
	}
	want := []moment{
		{At: 0, Used: 4096, Orphans: 10, Owner: 1024, Growth: 6144, Unresolved: 1024, OrphanBytes: 102, LastSeen: 102, Coverage: 0.5},
		{At: 30, Used: 6144, Orphans: 40, Owner: 4096, Growth: 6144, Unresolved: 768, OrphanBytes: 409, LastSeen: 409, Coverage: 0.84},
		{At: 60, Used: 8192, Orphans: 70, Owner: 7168, Unresolved: 512, Verdict: "leak", Pod: "web", OrphanBytes: 716, LastSeen: 716, Coverage: 0.93},
		{At: 90, Used: 8192, Orphans: 70, Owner: 7168, Unresolved: 256, Verdict: "leak", Pod: "web", OrphanBytes: 716, LastSeen: 716, Coverage: 0.96},
		{At: 120, Used: 8192, Orphans: 70, Owner: 7168, Verdict: "leak", Pod: "web", OrphanBytes: 716, LastSeen: 716, Coverage: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNightsAndDays(t *testing.T) {
	at := func(text string) time.Time {
		when, err := time.Parse("2006-01-02 15:04:05", text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	r := replay.Report{Rules: []replay.RuleReport{{Rule: "leak", Fired: 2, FiringSeconds: 3600, Deeds: []replay.Deed{{
		Action: "restart-unit", Touches: "owner", Target: "x.service",
		Times: []time.Time{at("2026-11-21 23:00:00"), at("2026-11-22 03:00:00"), at("2026-11-23 12:00:00")},
		Not:   map[string]int{"protected": 2, "budget": 1}, Why: "it is protected",
	}}}, {Rule: "load", Pended: 3}}}
	want := []string{
		"leak fired twice, for 1h in all",
		"leak would have done restart-unit on x.service 3 times: twice in the night of 2026-11-21, once on 2026-11-23",
		"leak would not have done restart-unit on x.service once, by the guard budget (it is protected)",
		"leak would not have done restart-unit on x.service twice, by the guard protected (it is protected)",
		"load never fired: its condition held 3 times, and never long enough",
	}
	if diff := cmp.Diff(want, r.Words()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := new(replay.Report).Words(); got[0] != "no rule would have done anything" {
		t.Errorf("nothing: %q", got)
	}
}

func FuzzParseScene(f *testing.F) {
	f.Add(two)
	f.Add("tcp_mem = [1, 2, 3]\n" + two + "[[expect]]\nrule = \"x\"\nwithin = \"1s\"\n")
	f.Add("[[at]]\ntime = \"0s\"\nused = \"1.5G\"\n[at.owner.\"system/x\"]\nbytes = 7\nclasses = { orphan = 1.0 }\n[[at]]\ntime = \"10s\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := replay.ParseScene("s.toml", []byte(text))
		if err != nil {
			if _, ok := errors.AsType[*replay.SceneError](err); !ok {
				t.Fatalf("error of another type: %v", err)
			}
			return
		}
		n := 0
		for e := range s.Entries() {
			if r := e.Reading; r != nil && (r.Ledger.Coverage < 0 || r.Ledger.Seen < 0 || e.Sample.Used < 0) {
				t.Fatalf("an impossible reading: %+v", r.Ledger)
			}
			if n++; n == 100 {
				break
			}
		}
	})
}
