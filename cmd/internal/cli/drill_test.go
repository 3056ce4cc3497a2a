package cli

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/ability"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// TestDrillRefused: it begins on a calm host only, and by root.
func TestDrillRefused(t *testing.T) {
	leak := apitest.Leak() // above calm
	a := serve(t, leak)
	for _, tt := range []struct {
		uid  int
		args []string
		code int
		want string
	}{
		{1000, []string{"drill"}, ExitPermission, "only root"},
		{0, []string{"drill"}, ExitFailure, "refused: the host is not calm, its level is"},
		{0, []string{"drill", "--for", "1s"}, ExitUsage, "want from 20s"},
		{0, []string{"drill", "--direct"}, ExitUsage, "only a daemon knows"},
	} {
		a.uid = tt.uid
		_, stderr, code := a.run(80, tt.args...)
		if code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%v as uid %d: exit %d, %q; want %d, %q", tt.args, tt.uid, code, stderr, tt.code, tt.want)
		}
	}
}

func TestDrillFound(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		found, held, bound int64
		want               bool
	}{
		{9 * mib, 10 * mib, 0, true},
		{8 * mib, 10 * mib, 0, false},
		{8 * mib, 10 * mib, 2 * mib, true},
		{mib, 2 * mib, 64 * mib, true},
		{mib - 1, 2 * mib, 64 * mib, false},
		{12 * mib, 10 * mib, 0, true},
	} {
		if got := foundOf(tt.found, tt.held, tt.bound); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// TestDrillFollows: what was found of a drill's leak, played on until the pool is
// full, fires the rules about leaks and comes to a restart. With less known of it
// that is refused, as it would be.
func TestDrillFollows(t *testing.T) {
	c := &command{Env: Env{Root: t.TempDir(), Abilities: func(ctx context.Context, plugins map[string]config.Plugin) Abilities {
		return ability.New(ctx, "test", plugins, nil)
	}}}
	l, err := c.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.json = true
	found := func(evidence string) *exercise {
		leak := reading.Leak
		o := &api.Owner{
			Key: "system/tcpmemd-drill-7.service", Bytes: 13 << 20, Sockets: 200, ReceiveBytes: 13 << 20, UnreadBytes: 13 << 20,
			Classes:   api.Classes{Hidden: reading.Tally{Sockets: 130, Bytes: 9 << 20}, Owned: reading.Tally{Sockets: 70, Bytes: 4 << 20}},
			Evidence:  map[string]reading.Tally{evidence: {Sockets: 200, Bytes: 13 << 20}},
			Judgement: api.Judgement{Verdict: &leak},
		}
		return &exercise{c: c, doc: drilled{Owner: o}, status: &api.Status{Memory: api.Memory{
			PageSize: 4096, MinPages: 287_000, PressurePages: 383_000, MaxPages: 575_000, UsedBytes: 20 << 20, MaxBytes: 575_000 * 4096, Fill: 0.01,
		}}}
	}
	decided := func(x *exercise, choice record.Choice) []string {
		t.Helper()
		if err := x.follow(l); err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, e := range x.doc.Would.Events {
			if e.Rule == "tcp-leak" && e.Decision != nil && e.Decision.Choice == choice {
				out = append(out, e.Decision.Action)
			}
		}
		return out
	}
	if got := decided(found("fd"), record.ChoseDryRun); !slices.Contains(got, "restart-unit") {
		t.Errorf("the rule about leaks would do %v, want restart-unit among it", got)
	}
	if got := decided(found("cgroup"), record.ChoseDryRun); slices.Contains(got, "restart-unit") {
		t.Errorf("it would do %v by evidence that only tells", got)
	}
}
