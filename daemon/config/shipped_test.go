package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// host is a scene: a host, and an owner on it.
type host struct {
	facts policy.Facts
	owner *reading.Owner
}

// calmHost is 2 GiB of TCP memory of which a fifth is used, with everything
// known that a kernel can tell.
func calmHost() *host {
	at, no, zero := time.Unix(1000, 0), false, int64(0)
	s := reading.Sample{
		At: at, PageSize: 4096, Mem: reading.TCPMem{Min: 50_000, Pressure: 66_667, Max: 100_000}, Used: 20_000, UnderPressure: &no,
		Orphans: 10, MaxOrphans: 1000, Conntrack: &reading.Usage{Count: 100, Limit: 1000}, Log: reading.LogCounts{Readable: true},
		Kernel: reading.Counters{AbortOnMemory: &zero},
	}
	flat := int64(0)
	o := reading.Owner{
		Key: "system/x.service", Kind: reading.KindService, Unit: "x.service", GrowthPerMinute: &flat,
		Sum: reading.Tally{Sockets: 10, Bytes: 2000 * 4096}, Send: 100 * 4096,
	}
	h := &host{owner: &o, facts: policy.Facts{
		Sample: &s, Level: reading.Calm, Trend: reading.Trend{GrowthPerMinute: &flat},
		Reading: &reading.Reading{Sample: s, Ledger: reading.Ledger{Seen: 20_000 * 4096, Coverage: 0.99}, Owners: []reading.Owner{o}},
	}}
	return h.counted(0, 0)
}

// counted has the kernel count aborts and log records within the window.
func (h *host) counted(aborts int64, log int64) *host {
	var w policy.Window
	before := *h.facts.Sample
	before.At = before.At.Add(-time.Second)
	w.Observe(&before)
	now := *h.facts.Sample
	now.Kernel.AbortOnMemory = &aborts
	now.Log.OutOfMemory, now.Log.ConntrackFull = log, log
	w.Observe(&now)
	h.facts.Rates = w.Rates()
	return h
}

// used sets the use, the level that goes with it, and the owner's part of it.
func (h *host) used(pages reading.Pages) *host {
	h.facts.Sample.Used = pages
	h.facts.Level = reading.Calm
	switch {
	case pages > 90_000:
		h.facts.Level = reading.Critical
	case pages > 66_667:
		h.facts.Level = reading.Pressure
	case pages > 53_333:
		h.facts.Level = reading.Elevated
	}
	h.facts.Reading.Ledger.Seen = pages.Bytes(4096)
	return h
}

func (h *host) owns(share float64, verdict reading.VerdictKind, send float64) *host {
	h.owner.Sum.Bytes = int64(share * float64(h.facts.Reading.Ledger.Seen))
	h.owner.Send = int64(send * float64(h.owner.Sum.Bytes))
	h.owner.Verdict = &reading.Verdict{Kind: verdict}
	return h
}

func (h *host) with(change func(*reading.Sample)) *host { change(h.facts.Sample); return h }

func (h *host) hiding(share float64) *host {
	h.facts.Reading.Ledger.Classes[reading.Hidden].Bytes = int64(share * 100_000 * 4096)
	return h
}

// full is a host whose pool is full and cannot grow: of the owner's share so
// much stands still, and is hidden.
func (h *host) full(stalled, hidden float64) *host {
	bytes := float64(h.owner.Sum.Bytes)
	h.owner.Verdict = nil
	still := int64(stalled * bytes)
	h.owner.Stalled = &still
	h.owner.Classes[reading.Hidden].Bytes = int64(hidden * bytes)
	return h
}

func (h *host) loaded() *host {
	h.facts.Trend.Verdict = &reading.Verdict{Kind: reading.Load}
	return h
}

func (h *host) blinded() *host { h.facts.Blind = []string{"blind-bus"}; return h }

func orphans(n int64) func(*reading.Sample) { return func(s *reading.Sample) { s.Orphans = n } }
func conntrack(n int64) func(*reading.Sample) {
	return func(s *reading.Sample) { s.Conntrack.Count = n }
}
func flagged(s *reading.Sample)     { yes := true; s.UnderPressure = &yes }
func flagUnknown(s *reading.Sample) { s.UnderPressure = nil }

func shipped(t *testing.T) Policy {
	t.Helper()
	return loadPolicy(t, Options{Root: t.TempDir()})
}

// TestShipped evaluates each rule at its threshold.
func TestShipped(t *testing.T) {
	const (
		yes = policy.Yes
		no  = policy.No
	)
	type scene struct {
		name        string
		host        *host
		when, until policy.Truth
	}
	scenes := map[string][]scene{
		"tcp-pressure": {
			{"at pressure", calmHost().used(66_667), no, no},
			{"above", calmHost().used(66_668), yes, no},
			{"by the kernel's flag", calmHost().used(60_000).with(flagged), yes, no},
			{"the flag is not printed", calmHost().used(66_667).with(flagUnknown), no, no},
			{"the flag is not printed, above", calmHost().used(66_668).with(flagUnknown), yes, no},
			{"above min", calmHost().used(50_001), no, no},
			{"at min", calmHost().used(50_000), no, yes},
			{"at min, the flag is not printed", calmHost().used(50_000).with(flagUnknown), no, yes},
		},
		"tcp-critical": {
			{"at 0.9", calmHost().used(90_000), no, no},
			{"above", calmHost().used(90_001), yes, no},
			{"above min", calmHost().used(50_001), no, no},
			{"at min", calmHost().used(50_000), no, yes},
		},
		"kernel-out-of-memory": {
			{"nothing", calmHost().used(99_000), no, no},
			{"one abort", calmHost().counted(1, 0), yes, no},
			{"one record", calmHost().counted(0, 1), yes, no},
			{"one abort, log unreadable", calmHost().with(func(s *reading.Sample) { s.Log.Readable = false }).counted(1, 0), yes, no},
			{"no abort, log unreadable", calmHost().with(func(s *reading.Sample) { s.Log.Readable = false }).counted(0, 0), no, no},
		},
		"tcp-leak": {
			{"at 0.7", calmHost().used(70_000).owns(0.5, reading.Leak, 0), no, no},
			{"above", calmHost().used(70_001).owns(0.31, reading.Leak, 0), yes, no},
			{"a smaller one", calmHost().used(80_000).owns(0.3, reading.Leak, 0), no, no},
			{"load", calmHost().used(80_000).owns(0.9, reading.Load, 0), no, no},
			{"a slow peer", calmHost().used(80_000).owns(0.9, reading.SlowPeer, 0), no, no},
			{"full, a fast leak", calmHost().used(90_001).owns(0.51, "", 0).full(0.51, 0.11), yes, no},
			{"full, at 0.9", calmHost().used(90_000).owns(0.51, "", 0).full(0.51, 0.11), no, no},
			{"full, half of it", calmHost().used(95_000).owns(0.5, "", 0).full(0.9, 0.9), no, no},
			{"full, it moves", calmHost().used(95_000).owns(0.9, "", 0).full(0.5, 0.2), no, no},
			{"full, its peers are there", calmHost().used(95_000).owns(0.9, "", 0).full(0.9, 0.1), no, no},
			{"above 0.5", calmHost().used(50_000).owns(0.9, reading.Leak, 0), no, no},
			{"below 0.5", calmHost().used(49_999).owns(0.9, reading.Leak, 0), no, yes},
			{"small again", calmHost().used(80_000).owns(0.09, reading.Leak, 0), no, yes},
		},
		"slow-peer": {
			{"above", calmHost().used(70_001).owns(0.31, reading.SlowPeer, 0.51), yes, no},
			{"not by what it sends", calmHost().used(70_001).owns(0.31, reading.SlowPeer, 0.5), no, no},
			{"a leak", calmHost().used(80_000).owns(0.9, reading.Leak, 0.9), no, no},
			{"at 0.7", calmHost().used(70_000).owns(0.5, reading.SlowPeer, 0.9), no, no},
			{"below 0.5", calmHost().used(49_999).owns(0.9, reading.SlowPeer, 0.9), no, yes},
		},
		"load": {
			{"at 0.8", calmHost().used(80_000).loaded(), no, no},
			{"above", calmHost().used(80_001).loaded(), yes, no},
			{"no load", calmHost().used(89_000), no, no},
			{"above min", calmHost().used(50_001).loaded(), no, no},
			{"at min", calmHost().used(50_000).loaded(), no, yes},
		},
		"orphans": {
			{"at 0.25", calmHost().with(orphans(250)), no, no},
			{"above", calmHost().with(orphans(251)), yes, no},
			{"at 0.2", calmHost().with(orphans(200)), no, no},
			{"below", calmHost().with(orphans(199)), no, yes},
		},
		"orphans-critical": {
			{"at 0.5", calmHost().with(orphans(500)), no, no},
			{"above", calmHost().with(orphans(501)), yes, no},
			{"at 0.4", calmHost().with(orphans(400)), no, no},
			{"below", calmHost().with(orphans(399)), no, yes},
		},
		"hidden-sockets": {
			{"at a tenth", calmHost().hiding(0.1), no, no},
			{"above", calmHost().hiding(0.101), yes, no},
			{"at half of it", calmHost().hiding(0.05), no, no},
			{"below", calmHost().hiding(0.049), no, yes},
		},
		"conntrack": {
			{"at 0.75", calmHost().with(conntrack(750)), no, no},
			{"above", calmHost().with(conntrack(751)), yes, no},
			{"by the log", calmHost().counted(0, 1), yes, no},
			{"at 0.6", calmHost().with(conntrack(600)), no, no},
			{"below", calmHost().with(conntrack(599)), no, yes},
			{"no such table any more", calmHost().with(func(s *reading.Sample) { s.Conntrack = nil }), no, yes},
		},
		"blind": {
			{"seeing", calmHost(), no, yes},
			{"blind", calmHost().blinded(), yes, no},
		},
	}
	scenes["container-leak"] = scenes["tcp-leak"]
	for _, r := range shipped(t).Rules {
		if len(scenes[r.Name]) == 0 {
			t.Errorf("%s has no scene", r.Name)
		}
		for _, s := range scenes[r.Name] {
			vars := policy.HostVars(&s.host.facts).WithOwner(&s.host.facts, s.host.owner, 1)
			if got := r.When.Eval(vars); got != s.when {
				t.Errorf("%s, %s: when is %v, want %v", r.Name, s.name, got, s.when)
			}
			if r.Until == nil {
				continue
			}
			if got := r.Until.Eval(vars); got != s.until {
				t.Errorf("%s, %s: until is %v, want %v", r.Name, s.name, got, s.until)
			}
		}
	}
}

// TestShippedOnCalmHosts: silence, also where a kernel tells little.
func TestShippedOnCalmHosts(t *testing.T) {
	poor := calmHost().with(func(s *reading.Sample) {
		s.UnderPressure, s.Kernel, s.Log, s.Conntrack = nil, reading.Counters{}, reading.LogCounts{}, nil
	})
	poor.facts.Rates = policy.Rates{}
	for name, h := range map[string]*host{"rich": calmHost(), "poor": poor} {
		for _, r := range shipped(t).Rules {
			got := r.When.Eval(policy.HostVars(&h.facts).WithOwner(&h.facts, h.owner, 1))
			if got != policy.No {
				t.Errorf("%s on a calm, %s host is %v", r.Name, name, got)
			}
		}
	}
}

// TestShippedRules: they touch nothing, say why, and each file is named after
// its rules, so that a link to /dev/null does what one expects. The number has
// files of an operator, of whatever name, laid over them.
func TestShippedRules(t *testing.T) {
	p := shipped(t)
	var all []string
	for _, r := range p.Rules {
		all = append(all, r.Name)
		if r.Mode != policy.Observe || p.Origins["rule."+r.Name+".mode"].Line == 0 {
			t.Errorf("%s is to observe, and to say so", r.Name)
		}
		if r.About == "" || len(r.Steps) == 0 || r.Steps[0].Action != "notify" {
			t.Errorf("%s says nothing, or is not told first", r.Name)
		}
		file := p.Origins["rule."+r.Name+".when"].File
		name, first := strings.CutPrefix(strings.TrimSuffix(filepath.Base(file), ".toml"), "10-")
		if !first || !strings.HasPrefix(r.Name, name) {
			t.Errorf("%s is in %s", r.Name, file)
		}
	}
	want := []string{
		"blind", "conntrack", "container-leak", "hidden-sockets", "kernel-out-of-memory", "load", "orphans", "orphans-critical",
		"slow-peer", "tcp-critical", "tcp-leak", "tcp-pressure",
	}
	if !slices.Equal(want, all) {
		t.Errorf("rules are %v, want %v", all, want)
	}
}

// TestOverride is what an operator does first.
func TestOverride(t *testing.T) {
	root := write(t, map[string]string{"etc/tcpmemd/policy.d/my-host.toml": "[rule.tcp-leak]\nmode = 'enforce'\n"})
	for _, r := range loadPolicy(t, Options{Root: root}).Rules {
		if want := r.Name == "tcp-leak"; want != (r.Mode == policy.Enforce) || r.When == nil {
			t.Errorf("%s is to %s", r.Name, r.Mode)
		}
	}
}

// TestPacked: the embedded rules are packed for an image to look at and to
// lay its own over.
func TestPacked(t *testing.T) {
	list, err := os.ReadFile("../../nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"src: daemon/config/defaults/policy.d/*.toml", "dst: /usr/lib/tcpmemd/policy.d"} {
		if !strings.Contains(string(list), line+"\n") {
			t.Errorf("nfpm.yaml lacks %q", line)
		}
	}
}
