package policy

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

func compiled(t testing.TB, text string, scope Scope) *Condition {
	t.Helper()
	c, err := Compile(text, scope)
	if err != nil {
		t.Fatalf("compile %s: %v", text, err)
	}
	return c
}

// scene is a host at 0.8 of its maximum, one owner of which leaks.
func scene() (*Facts, *reading.Owner) {
	under, growth, eta := true, int64(60<<20), 9*time.Minute+30*time.Second
	mem := reading.TCPMem{Min: 500, Pressure: 700, Max: 1000}
	o := reading.Owner{
		Key: "system/task-queue.service", Name: "task-queue.service", Kind: reading.KindService, Unit: "task-queue.service",
		Sum: reading.Tally{Sockets: 40, Bytes: 600 * 4096}, Send: 150 * 4096, Unread: 400 * 4096,
		Peers:           []reading.Peer{{Address: "192.0.2.1", Tally: reading.Tally{Sockets: 4, Bytes: 120 * 4096}}},
		GrowthPerMinute: &growth, Verdict: &reading.Verdict{Kind: reading.Leak},
	}
	o.Evidence[reading.FD].Bytes = 300 * 4096
	o.States[reading.CloseWait] = 30
	s := reading.Sample{
		At: time.Unix(1000, 0), PageSize: 4096, Mem: mem, Used: 800, UnderPressure: &under,
		Orphans: 30, MaxOrphans: 100,
	}
	return &Facts{
		Sample: &s, Level: reading.Pressure, Base: mem, Trend: reading.Trend{GrowthPerMinute: &growth, EtaMax: &eta},
		Reading: &reading.Reading{Sample: s, Ledger: reading.Ledger{Seen: 800 * 4096, Coverage: 0.9}, Owners: []reading.Owner{o}},
		Blind:   []string{"log-lost"},
	}, &o
}

func TestEval(t *testing.T) {
	facts, owner := scene()
	v := HostVars(facts).WithOwner(facts, owner, 1)
	for text, want := range map[string]Truth{
		`tcp.fill > 0.7 && owner.share > 0.3 && owner.verdict == "leak"`: Yes,
		`tcp.fill < 0.5`:                         No,
		`tcp.fill == 0.8 and tcp.fill_live <= 1`: Yes,
		`tcp.used > tcp.pressure`:                Yes,
		`tcp.used >= 3 * MiB`:                    Yes,
		`tcp.used > 100 * GiB`:                   No,
		`tcp.used - tcp.min == 300 * 4 * KiB`:    Yes,
		`tcp.used / tcp.max > 0.79`:              Yes,
		`tcp.growth > 50 * MiB`:                  Yes,
		`tcp.growth > 0`:                         Yes,
		`tcp.fill_pressure > 1`:                  Yes,
		`tcp.level >= "elevated"`:                Yes,
		`tcp.level > "pressure"`:                 No,
		`"critical" > tcp.level`:                 Yes,
		`tcp.level in ["pressure", "critical"]`:  Yes,
		`tcp.level not in ["calm"]`:              Yes,
		`tcp.under_pressure`:                     Yes,
		`tcp.under_pressure == false`:            No,
		`not tcp.under_pressure`:                 No,
		`tcp.eta < duration("10m")`:              Yes,
		`tcp.eta < duration("9m")`:               No,
		`tcp.eta * 2 > duration("15m")`:          Yes,
		`orphans.share > 0.25`:                   Yes,
		`abs(orphans.count - 50) == 20`:          Yes,
		`min(tcp.fill, 0.5, 0.6) == 0.5`:         Yes,
		`max(0, tcp.min) == tcp.min`:             Yes,
		`-tcp.fill < 0`:                          Yes,
		`daemon.blind > 0`:                       Yes,
		`"log-lost" in daemon.blind_ids`:         Yes,
		`"other" in daemon.blind_ids`:            No,
		`owner.close_wait == 30 && owner.unread_bytes > owner.send_bytes`:                Yes,
		`owner.evidence_fd_share == 0.5 && owner.top_remote_share == 0.8`:                Yes,
		`owner.unit startsWith "task-" && owner.name endsWith ".service"`:                Yes,
		`owner.name matches "^[a-z-]+[.]service$" && !(owner.name contains "x")`:         Yes,
		`owner.kind in ["service", "container"]`:                                         Yes,
		`owner.rank == 1 && !owner.protected && owner.pod == "" && owner.sockets != 100`: Yes,
		`0.5 < tcp.fill < 0.9`: Yes,

		// What is not known.
		`conntrack.share > 0.75`:                             Unknown,
		`conntrack.share <= 0.75`:                            Unknown,
		`!(conntrack.share > 0.75)`:                          Unknown,
		`conntrack.share > 0.75 && true`:                     Unknown,
		`conntrack.share > 0.75 || false`:                    Unknown,
		`false && conntrack.share > 0.75`:                    No,
		`conntrack.share > 0.75 && false`:                    No,
		`true || conntrack.share > 0.75`:                     Yes,
		`conntrack.share > 0.75 || true`:                     Yes,
		`conntrack.count + 1 > 0`:                            Unknown,
		`kernel.prunes == 0`:                                 Unknown,
		`owner.stalled_bytes == 0`:                           Unknown,
		`tcp.fill / (tcp.fill - tcp.fill) > 0`:               Yes, // without end
		`(tcp.fill - tcp.fill) / (tcp.fill - tcp.fill) == 0`: Unknown,
		`max(conntrack.share, tcp.fill) > 0`:                 Unknown,
		`known(tcp.fill) && known(tcp.level) && known(tcp.under_pressure) && known(daemon.blind_ids)`: Yes,
		`known(conntrack.share) && conntrack.share > 0.75`:                                            No,
		`!known(conntrack.share) || conntrack.share > 0.75`:                                           Yes,
		`(conntrack.share > 0) == true`:                                                               Unknown,
	} {
		if got := compiled(t, text, Unit).Eval(v); got != want {
			t.Errorf("%s is %v, want %v", text, got, want)
		}
	}
}

// TestNothingKnown: without sample, reading or owner nothing is a value.
func TestNothingKnown(t *testing.T) {
	facts, owner := scene()
	facts.Blind = nil
	for _, tt := range []struct {
		name  string
		v     *Vars
		known func(*Variable) bool
	}{
		{"before the first sample", HostVars(&Facts{}).WithOwner(&Facts{}, nil, 0), func(*Variable) bool { return false }},
		{"stale", HostVars(&Facts{Sample: facts.Sample, Trend: facts.Trend}), func(*Variable) bool { return false }},
		{"no reading", HostVars(&Facts{Sample: facts.Sample, Level: facts.Level}), func(v *Variable) bool {
			return v.Cadence == EachSample && !strings.HasPrefix(v.Name, "kernel.") && !v.Nullable
		}},
		{"all", HostVars(facts).WithOwner(facts, owner, 1), func(v *Variable) bool { return !v.Nullable }},
	} {
		for i := range variables {
			v := &variables[i]
			got := v.value(tt.v)
			if v.isKnown(tt.v) != (got != nil) {
				t.Errorf("%s: known(%s) is %v, the value %v", tt.name, v.Name, v.isKnown(tt.v), got)
			}
			switch {
			case strings.HasPrefix(v.Name, "daemon."): // its own state is always known
				if got == nil {
					t.Errorf("%s: %s is unknown", tt.name, v.Name)
				}
			case tt.known(v) && got == nil:
				t.Errorf("%s: %s is unknown", tt.name, v.Name)
			case tt.name != "all" && !tt.known(v) && !(v.Nullable && tt.name == "no reading") && got != nil:
				t.Errorf("%s: %s = %v, want unknown", tt.name, v.Name, got)
			}
		}
	}
}

func TestVerdictAndEta(t *testing.T) {
	facts, owner := scene()
	owner.Verdict, facts.Trend.EtaMax = nil, nil
	eval := func(text string) Truth {
		return compiled(t, text, Unit).Eval(HostVars(facts).WithOwner(facts, owner, 1))
	}
	// Watched, and nothing found: no verdict, no end in sight.
	for text, want := range map[string]Truth{
		`owner.verdict == "none"`: Yes, `owner.verdict == "leak"`: No, `tcp.verdict != "leak"`: Yes,
		`tcp.eta < duration("1000h")`: No, `tcp.eta > duration("1000h")`: Yes,
	} {
		if got := eval(text); got != want {
			t.Errorf("watched: %s is %v, want %v", text, got, want)
		}
	}
	if got := compiled(t, "tcp.eta > 0", Host).Numbers(HostVars(facts)); got["tcp.eta"] != "never" {
		t.Errorf("numbers = %v, want never", got)
	}
	// Not watched for long enough.
	owner.GrowthPerMinute, facts.Trend.GrowthPerMinute = nil, nil
	for _, text := range []string{`owner.verdict == "none"`, `owner.verdict != "leak"`, `tcp.verdict != "leak"`, `tcp.eta < duration("1h")`, `tcp.eta > 0`} {
		if got := eval(text); got != Unknown {
			t.Errorf("not watched: %s is %v, want unknown", text, got)
		}
	}
}

// TestLease: a lease raises what is live, and is no cure.
func TestLease(t *testing.T) {
	facts, _ := scene()
	facts.Sample.Mem = reading.TCPMem{Min: 1000, Pressure: 1400, Max: 2000}
	for text, want := range map[string]Truth{
		"tcp.fill == 0.8": Yes, "tcp.fill_live == 0.4": Yes, "tcp.fill_pressure > 1": Yes, "tcp.used <= tcp.min": No,
	} {
		if got := compiled(t, text, Host).Eval(HostVars(facts)); got != want {
			t.Errorf("%s is %v, want %v", text, got, want)
		}
	}
	facts.Base = reading.TCPMem{}
	if got := compiled(t, "tcp.fill == 0.4", Host).Eval(HostVars(facts)); got != Yes {
		t.Errorf("without a base tcp.fill == 0.4 is %v", got)
	}
	facts.Sample.Mem = reading.TCPMem{}
	if got := compiled(t, "tcp.fill < 1", Host).Eval(HostVars(facts)); got != Unknown {
		t.Errorf("without a limit tcp.fill < 1 is %v", got)
	}
}

func TestNumbers(t *testing.T) {
	facts, owner := scene()
	c := compiled(t, `tcp.fill > 0.7 && tcp.eta < duration("10m") && tcp.fill < 2 && owner.verdict == "leak" && tcp.under_pressure && conntrack.count > 1 && tcp.level > "calm" && "x" in daemon.blind_ids`, Unit)
	want := record.Numbers{
		"tcp.fill": 0.8, "tcp.eta": "9m30s", "owner.verdict": "leak", "tcp.under_pressure": true,
		"conntrack.count": nil, "tcp.level": "pressure", "daemon.blind_ids": []string{"log-lost"},
	}
	if diff := cmp.Diff(want, c.Numbers(HostVars(facts).WithOwner(facts, owner, 1))); diff != "" {
		t.Errorf("numbers (-want +got):\n%s", diff)
	}
	if !c.NeedsReading() || compiled(t, "tcp.fill > 1", Unit).NeedsReading() {
		t.Error("NeedsReading: owner.verdict needs one, tcp.fill does not")
	}
}

func TestCompileErrors(t *testing.T) {
	tests := []struct {
		text   string
		offset int
		want   string
	}{
		{`tcp.fill > 0.7 && owner.shre > 0.3`, 18, `unknown variable "owner.shre"; did you mean owner.share?`},
		{`fill > 0.7`, 0, `unknown variable "fill"; did you mean tcp.fill?`},
		{`"é" != owner.nme`, 8, `unknown variable "owner.nme"; did you mean owner.name?`},
		{`webhooks > 1`, 0, `unknown variable "webhooks"`},
		{`tcp > 1`, 0, `unknown variable "tcp"; did you mean tcp.used?`},
		{`tcp.fill`, 4, "must be true or false, and is a share"},
		{`tcp.fill + 1`, 9, "must be true or false, and is a number"},
		{`tcp.fill > 70`, 9, "tcp.fill is a share: write 0.3 for 30 %"},
		{`tcp.used > 86514`, 9, "a size needs a unit: 100 * MiB"},
		{`tcp.eta < 600`, 8, `a duration needs a unit: duration("10m")`},
		{`tcp.eta < "10m"`, 8, "< does not go with a duration and a string"},
		{`tcp.eta < duration("10")`, 10, `"10" is no duration, e.g. duration("10m")`},
		{`tcp.eta < duration(tcp.eta)`, 10, `duration takes a constant, e.g. duration("10m")`},
		{`tcp.used * tcp.used > 0`, 9, "* does not go with a bytes and a bytes"},
		{`tcp.used / 0 > 1 * MiB`, 9, "divides by 0"},
		{`tcp.used > tcp.fill`, 9, "> does not go with a bytes and a share"},
		{`owner.verdict == "leek"`, 14, `owner.verdict is never "leek"; did you mean "leak"?`},
		{`"swap" == owner.verdict`, 7, `owner.verdict is never "swap", it is one of none, leak, load, slow-peer`},
		{`owner.kind in ["service", "podd"]`, 11, `owner.kind is never "podd", it is one of service, user-service, session, scope, container, process, kernel, unresolved`},
		{`tcp.level > "hot"`, 10, `tcp.level is never "hot", it is one of calm, elevated, pressure, critical`},
		{`owner.verdict > "leak"`, 14, "> does not go with a string and a string"},
		{`owner.name matches "("`, 11, `regular expression "(": malformed`},
		{`owner.name matches "([a-z]{1000}|x{999})"`, 11, `regular expression "([a-z]{1000}|x{999})": too large`},
		{`owner.name matches owner.unit`, 11, "matches needs a constant on its right"},
		{`tcp.fill > 0.7 &&`, 16, "ends where something has to follow"},
		{`tcp.fill > 70%`, 13, "a share is a number: write 0.3 for 30 %"},
		{`tcp.eta < 10m`, 12, `a duration is written duration("10m"), a size 100 * MiB`},
		{`tcp.used > 500MiB`, 14, "a size is written 500 * MiB (or KiB, GiB)"},
		{`tcp.used > 500 MiB`, 15, "a size is a product: 100 * MiB (or KiB, GiB)"},
		{`tcp.fill > 0.7 AND tcp.fill < 1`, 15, `unexpected "AND"; did you mean and?`},
		{`tcp.fill > 0.7)`, 14, `unexpected ")"`},
		{`tcp.fill = 0.7`, 9, "= compares nothing: write =="},
		{`any(daemon.blind_ids, # == "x")`, 0, "any is no function here: there are known, min, max, abs and duration"},
		{`len(daemon.blind_ids) > 1`, 0, "len is no function here: there are known, min, max, abs and duration"},
		{`now() > 1`, 0, "now is no function here: there are known, min, max, abs and duration"},
		{`tcp.used() > 1`, 4, "tcp.used is no function here: there are known, min, max, abs and duration"},
		{`(tcp.growth ?? 0) > 1`, 12, "the operator ?? has no use here"},
		{`tcp.eta != nil`, 11, "nil has no use here: ask known(tcp.eta)"},
		{`tcp.under_pressure ? true : false`, -1, "a choice has no use here: write && and ||"},
		{`let x = 1; x > 0`, 4, "only variables, constants, operators, known, min, max, abs and duration may be used"},
		{`true; false`, 0, "only variables, constants, operators, known, min, max, abs and duration may be used"},
		{`daemon.blind_ids[0] == "x"`, 16, "is no variable"},
		{`{"a": 1}`, 0, "only variables, constants, operators, known, min, max, abs and duration may be used"},
		{`1..3 == [1]`, 1, ""},
		{`2 ** 3 > 1`, 2, "the operator ** has no use here"},
		{`!tcp.fill`, 0, "! does not go with a share"},
		{`-tcp.under_pressure`, 0, "- does not go with a bool"},
		{`tcp.fill && true`, 9, "&& does not go with a share and a bool"},
		{`known(1)`, 0, "known takes a variable"},
		{`abs("x") > 1`, 0, "abs takes one number"},
		{`min(tcp.fill) > 1`, 0, "min takes two numbers or more"},
		{`min(tcp.fill, tcp.used) > 1`, 0, "min takes numbers of one type, not a share and a bytes"},
		{``, 0, "is empty"},
		{"tcp.fill > 0.7\x1b", 14, "holds a control character"},
		{"\xff", 0, "is not UTF-8"},
		{strings.Repeat("(", 2001), 2000, "longer than 2000 bytes"},
		{strings.Repeat("!", 1000) + "true", -1, ""},
		{strings.Repeat("(", 1000), -1, ""},
	}
	for _, tt := range tests {
		c, err := Compile(tt.text, Unit)
		e, ok := err.(*ConditionError) //nolint:errorlint // the type is promised, not wrapped
		if !ok {
			t.Errorf("%.60q: %v, %v", tt.text, c, err)
			continue
		}
		if tt.want != "" && e.Error() != tt.want {
			t.Errorf("%.60q: %s\nwant %s", tt.text, e, tt.want)
		}
		if tt.offset >= 0 && e.Offset != tt.offset {
			t.Errorf("%.60q: %s: at %d, want %d", tt.text, e, e.Offset, tt.offset)
		}
	}
}

func TestOwnerInHostRule(t *testing.T) {
	_, err := Compile("tcp.fill > 0.7 && owner.share > 0.3", Host)
	want := `owner.share is not known in a rule for the host: set for_each to owner, unit or another`
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	for _, s := range Scopes()[1:] {
		compiled(t, "owner.share > 0.3", s)
	}
}

// TestUnknownIsSound: what a condition says while something is unknown it would
// say whatever the unknown turned out to be.
func TestUnknownIsSound(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	names := []string{"conntrack.share", "orphans.rise", "owner.growth", "tcp.under_pressure", "tcp.verdict", "tcp.eta"}
	// host makes each of them unknown or one of some values.
	host := func(values []int) *Vars {
		facts, owner := scene()
		facts.Rates, facts.Sample.Conntrack, facts.Sample.UnderPressure = Rates{}, nil, nil
		facts.Trend, owner.GrowthPerMinute, owner.Verdict = reading.Trend{}, nil, nil
		n := func(i int) int64 { return int64(values[i]) }
		if n(0) > 0 {
			facts.Sample.Conntrack = &reading.Usage{Count: n(0), Limit: 4}
		}
		if n(1) > 0 {
			facts.Rates.rises[orphanCount] = rise{n(1) - 2, true}
		}
		growth := n(2) - 2
		if n(2) > 0 {
			owner.GrowthPerMinute = &growth
		}
		if yes := n(3) > 1; n(3) > 0 {
			facts.Sample.UnderPressure = &yes
		}
		if n(4) > 0 {
			facts.Trend.Verdict = &reading.Verdict{Kind: []reading.VerdictKind{reading.Leak, reading.Load, reading.SlowPeer}[n(4)-1]}
		}
		if eta := time.Duration(n(5)) * time.Minute; n(5) > 0 {
			facts.Trend.EtaMax = &eta
		}
		return HostVars(facts).WithOwner(facts, owner, 1)
	}
	leaves := []string{
		"conntrack.share > 0.5", "conntrack.share * 2 <= 1", "orphans.rise >= 0", "orphans.rise / (orphans.rise + 1) > 0.3", "owner.growth > 0",
		"max(owner.growth, 0) == 0", "tcp.under_pressure", `tcp.verdict == "leak"`, `tcp.verdict in ["load", "slow-peer"]`,
		`tcp.eta < duration("90s")`, `(tcp.eta > 0) == tcp.under_pressure`, "true", "false",
	}
	var expression func(depth int) string
	expression = func(depth int) string {
		if depth == 0 || r.IntN(4) == 0 {
			return leaves[r.IntN(len(leaves))]
		}
		a, b := expression(depth-1), expression(depth-1)
		return []string{"!(" + a + ")", "(" + a + ") && (" + b + ")", "(" + a + ") || (" + b + ")", "(" + a + ") != (" + b + ")"}[r.IntN(4)]
	}
	counts := map[Truth]int{}
	for range 20_000 {
		text := expression(3)
		c := compiled(t, text, Unit)
		values, full := make([]int, len(names)), make([]int, len(names))
		for i := range values {
			full[i] = 1 + r.IntN(3)
			if r.IntN(2) > 0 {
				values[i] = full[i]
			}
		}
		got, all := c.Eval(host(values)), c.Eval(host(full))
		counts[got]++
		if got != Unknown && got != all {
			t.Fatalf("%s is %v with %v of %v, and %v with %v", text, got, values, names, all, full)
		}
	}
	for _, truth := range []Truth{No, Yes, Unknown} {
		if counts[truth] < 1000 {
			t.Errorf("%d of the conditions are %v", counts[truth], truth)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		`tcp.fill > 0.7 && owner.share > 0.3`, `tcp.eta < duration("10m") || !(tcp.level in ["calm"])`, `a.b.c[1:2]?.d`, `1 | min(2)`,
		`not not in`, `"\u00e9" + 'x'`, `[1, "a"]`, `{a: 1}`, `let a = 1; a`, `#.x`, `::min(1, 2) > 0`, `1_000e400 > 0x`, `b"ab"`, "`x`", `filter(1, {#})`,
	} {
		f.Add(text)
	}
	facts, owner := scene()
	all := HostVars(facts).WithOwner(facts, owner, 1)
	none := HostVars(&Facts{})
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Compile(text, Unit)
		if err != nil {
			if e, ok := err.(*ConditionError); !ok || e.Offset < 0 || e.Offset > len(text) { //nolint:errorlint // as above
				t.Errorf("%q: error %#v", text, err)
			}
			return
		}
		if c.String() != text {
			t.Errorf("text is %q, want %q", c, text)
		}
		for _, v := range []*Vars{all, none} {
			if got := c.Eval(v); got > Unknown {
				t.Errorf("%q is %d", text, got)
			}
			c.Numbers(v)
		}
		// What names a variable and knows none may only be Yes or No where the
		// constants decide, and then it is the same for every host.
		if got := c.Eval(none); got != Unknown && c.Eval(all) != got && !strings.Contains(text, "daemon.") && !strings.Contains(text, "known") {
			t.Errorf("%q is %v where nothing is known, and %v where all is", text, got, c.Eval(all))
		}
	})
}

// BenchmarkEval is a turn: ten rules on 5,000 owners.
func BenchmarkEval(b *testing.B) {
	facts, owner := scene()
	c := compiled(b, `tcp.fill > 0.7 && owner.share > 0.3 && owner.verdict == "leak" && owner.kind in ["service", "container"]`, Unit)
	host := HostVars(facts)
	b.ReportAllocs()
	for b.Loop() {
		for range 5000 {
			v := host.WithOwner(facts, owner, 1)
			for range 10 {
				if c.Eval(v) != Yes {
					b.Fatal("not yes")
				}
			}
		}
	}
}
