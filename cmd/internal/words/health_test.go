package words

import (
	"strings"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// problem is a host that a leak has filled.
func problem(change func(*api.Health)) *api.Health {
	doc := &api.Health{
		Status: api.HealthProblem, Reasons: []string{api.ReasonLevel, api.ReasonRule}, Rules: []string{"tcp-leak"},
		Memory:   api.Memory{FillLive: 0.94, Level: reading.Critical},
		Owner:    &api.HealthOwner{Name: "task-queue.service", Share: 0.61, ShareTens: new(60), Verdict: new(reading.Leak)},
		FillTens: new(90), ScanAgeSeconds: new(1.0),
	}
	change(doc)
	return doc
}

func TestHealth(t *testing.T) {
	calm := func(doc *api.Health) {
		doc.Status, doc.Memory.Level, doc.Memory.FillLive = api.HealthOK, reading.Calm, 0.12
		doc.Owner = &api.HealthOwner{Name: "api.service", Share: 0.4}
	}
	for _, tt := range []struct {
		name   string
		change func(*api.Health)
		room   int
		steady bool
		want   string
	}{
		{"leak", func(*api.Health) {}, 80, false, "task-queue.service holds 61% of TCP memory; 94% of max used; leak"},
		{"acting", func(d *api.Health) { d.Acting = new("restart-unit") }, 80, false, "task-queue.service holds 61% of TCP memory; 94% of max used; leak; restarting"},
		{"steady", func(d *api.Health) { d.Acting = new("restart-unit") }, 80, true, "task-queue.service holds 60%+ of TCP memory; 90%+ of max used; leak; restarting"},
		{"held", func(d *api.Health) { d.Held = true }, 80, false, "task-queue.service holds 61% of TCP memory; 94% of max used; leak; held"},
		{"elsewhere", func(d *api.Health) { d.ActingElsewhere = true }, 80, false, "task-queue.service holds 61% of TCP memory; 94% of max used; leak; acting"},
		{"out of memory", func(d *api.Health) { d.Reasons = append(d.Reasons, api.ReasonOutOfMemory) }, 80, false, "task-queue.service holds 61% of TCP memory; 94% of max used; out of memory; leak"},
		{"out of memory before", func(d *api.Health) {
			d.Reasons, d.Memory.FillLive, d.Owner.Verdict = []string{api.ReasonOutOfMemory}, 0.04, nil
		}, 80, false, "task-queue.service holds 61% of TCP memory; 4% of max used; was out of memory"},
		{"a rule alone", func(d *api.Health) { d.Reasons, d.Owner.Verdict = []string{api.ReasonRule}, nil }, 80, false, "task-queue.service holds 61% of TCP memory; 94% of max used; rule tcp-leak"},
		{"slow peer", func(d *api.Health) { d.Owner.Verdict = new(reading.SlowPeer) }, 80, false, "task-queue.service holds 61% of TCP memory; 94% of max used; slow peer"},
		{"narrow", func(d *api.Health) { d.Acting = new("restart-unit") }, 62, false, "task-queue.service holds 61%; 94% of max used; leak"},
		{"a pod", func(d *api.Health) {
			d.Owner.Name = "production-payments/checkout-service-7d9f8b6c5d-x2x9z (payment-worker)"
		}, 80, false, "production-payments/checkout-s..payment-worker) holds 61%; 94% of max used; leak"},
		{"nobody", func(d *api.Health) { d.Owner = nil }, 80, false, "TCP memory 94% of max used"},
		{"calm", calm, 80, false, "TCP memory 12% of max; most held by api.service (40%)"},
		{"calm and steady", func(d *api.Health) { calm(d); d.FillTens = nil }, 80, true, "TCP memory 10%+ of max; most held by api.service (40%+)"},
		{"elevated", func(d *api.Health) { calm(d); d.Memory.Level = reading.Elevated }, 80, false, "TCP memory 12% of max, elevated; most held by api.service (40%)"},
		{"calm, not scanned", func(d *api.Health) { calm(d); d.Owner, d.ScanAgeSeconds = nil, nil }, 80, false, "TCP memory 12% of max; who holds it is not known yet"},
		{"idle", func(d *api.Health) { calm(d); d.Owner = nil }, 80, false, "TCP memory 12% of max"},
		{"stale", func(d *api.Health) { d.Status, d.Stale, d.AgeSeconds = api.HealthUnknown, true, 7.2 }, 80, false, "tcpmemd's counters are 7 s old"},
		{"unknown", func(d *api.Health) { d.Status = api.HealthUnknown }, 80, false, "tcpmemd does not know the level of this host"},
		{"no word", func(d *api.Health) { d.Status = "" }, 80, false, "tcpmemd does not know the level of this host"},
	} {
		if got := Health(problem(tt.change), tt.room, tt.steady); plainLine(got, tt.room) != "" || strings.ReplaceAll(tt.want, "'", "?") != got {
			t.Errorf("%s: %s\n%s (%d), want\n%s", tt.name, plainLine(got, tt.room), got, len(got), tt.want)
		}
	}
}

func TestPlain(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"prod/checkout-7d9f (worker)", "prod/checkout-7d9f (worker)"},
		{"\x1b[31mred\x1b[0m\n", "?[31mred?[0m?"},
		{"漢字 🐙", "?? ?"},
		{"bad \xff\xfe", "bad ??"},
		{"a|b;c$d`e<f>&'\"\\", "a?b?c?d?e?f?????"},
		{"  many   blanks  ", "many blanks"},
		{"", "?"},
	} {
		if got := Plain(tt.in); got != tt.want {
			t.Errorf("plain(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// plainLine says what is wrong with a line, "" for nothing.
func plainLine(line string, room int) string {
	switch {
	case len(line) > room:
		return "too long"
	case line == "":
		return "empty"
	case strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' || r == '|' }):
		return "not plain"
	}
	return ""
}

func FuzzHealth(f *testing.F) {
	f.Add("task-queue.service", 0.61, 0.94, "tcp-leak", "leak", "restart-unit", true, 0, 80)
	f.Add("漢字\x1b[31m\xff", 1e300, -1.0, "\n", "slow-peer", "x", false, 3, 62)
	f.Add(strings.Repeat("long ", 2048), 0.5, 0.5, "", "", "", true, 5, 80)
	f.Fuzz(func(t *testing.T, name string, share, fill float64, rule, verdict, acting string, steady bool, kind, room int) {
		room = min(max(room, 62), 80)
		doc := problem(func(d *api.Health) {
			d.Memory.FillLive, d.Owner.Share, d.Owner.Name, d.Rules[0] = fill, share, name, rule
			d.Owner.Verdict, d.Acting = (*reading.VerdictKind)(&verdict), &acting
			d.Status = []api.HealthStatus{api.HealthProblem, api.HealthOK, api.HealthUnknown, ""}[kind&3]
			if kind&4 != 0 {
				d.Reasons = []string{api.ReasonRule}
			}
			if kind&8 != 0 {
				d.FillTens, d.Owner.ShareTens = new(int(fill)), new(int(share))
			}
		})
		for _, line := range []string{Health(doc, room, steady), HealthUnknown(name, room)} {
			if why := plainLine(line, room); why != "" {
				t.Errorf("%s: %q", why, line)
			}
		}
	})
}
