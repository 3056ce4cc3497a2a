package daemon

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/store"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// leakyHost has one service that holds nearly all, whatever is done.
type leakyHost struct{ *fakeHost }

func (h leakyHost) Scan(ctx context.Context, o scan.Options) (*reading.Reading, error) {
	r, err := h.fakeHost.Scan(ctx, o)
	if err != nil {
		return nil, err
	}
	leak := reading.Owner{
		Key: "system/leak.service", Name: "leak.service", Kind: reading.KindService, Unit: "leak.service", Manager: "system",
		UnitVerified: true, InvocationID: "one", Holders: []reading.Holder{{PID: 7, StartTime: 100}},
		Sum: reading.Tally{Sockets: 10, Bytes: 270 * 4096},
	}
	leak.Evidence[reading.FD] = leak.Sum
	r.Sample, _ = h.Sample(0)
	r.Owners = []reading.Owner{leak}
	r.Ledger = reading.Ledger{Coverage: 1, Seen: leak.Sum.Bytes, Named: leak.Sum.Bytes}
	return r, nil
}

// durable keeps nothing and says that it did.
type durable struct{ unrecorded }

func (durable) Append(_ record.Record, done func(error))          { go done(nil) }
func (durable) SaveBudgets(_ any, done func(error))               { go done(nil) }
func (durable) SaveIncident(_ *record.Incident, done func(error)) { go done(nil) }
func (durable) SaveLeases(_ []store.Lease, done func(error))      { go done(nil) }

// willing says that all is done.
type willing struct{ idle }

func (willing) Run(context.Context, string, *remediate.Request) (*remediate.Response, error) {
	return &remediate.Response{Result: remediate.Done, Message: "so it says"}, nil
}

// TestThreeHours: a leak that no restart ends, for three hours. Who reads the
// warnings afterwards reads a short story, and nothing twice but what was done
// twice.
func TestThreeHours(t *testing.T) {
	for mode, want := range map[policy.Mode][]string{
		policy.Enforce: {"rule-firing", "action-result", "action-effect", "exhausted", "rule-ended"},
		policy.Observe: {"rule-firing", "rule-ended"},
	} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { threeHours(t, mode, want) })
		})
	}
}

func threeHours(t *testing.T, mode policy.Mode, want []string) {
	h := leakyHost{&fakeHost{t: t, used: 280}}
	when, err := policy.Compile(`tcp.fill > 0.7 && owner.share > 0.3`, policy.Unit)
	if err != nil {
		t.Fatal(err)
	}
	rule := &policy.Rule{
		Name: "leak", Severity: policy.Critical, Mode: mode, ForEach: policy.Unit, When: when, For: 30 * time.Second,
		Cooldown: policy.DefaultCooldown, Budget: policy.DefaultRuleBudget, Hash: "1",
		Steps: []policy.Step{{Action: "notify"}, {Action: "restart-unit", After: time.Minute, Budget: policy.Budget{Count: 2, Per: time.Hour}}},
	}
	cfg := Config{
		Sample: time.Second, Calm: calm, Pressed: pressed, CPU: 0.01, Log: slog.New(slog.DiscardHandler), Notify: &fakeNotifier{},
		FirstReading: func(*reading.Reading) {}, Store: durable{}, Runner: willing{},
	}
	cfg.Policy.Config = policy.Config{
		Rules: []*policy.Rule{rule}, Mode: mode, MinCoverage: 0.5, SettleStart: 10 * time.Second, SettleOwner: 10 * time.Second,
		Sample: time.Second, Calm: calm, Pressed: pressed,
		Actions: map[string]policy.ActionInfo{
			"notify":       {Name: "notify", Touches: policy.TouchesNothing},
			"restart-unit": {Name: "restart-unit", Touches: policy.TouchesOwner, Evidence: []string{"fd"}},
		},
	}
	var alerts []string
	levels, all := 0, 0
	cfg.Say = func(text event.Text) {
		all++
		switch {
		case text.Event == event.LevelChanged:
			levels++
		case text.Severity == event.Critical || text.Severity == event.Warning:
			alerts = append(alerts, text.Event)
			t.Logf("%s\n%s", text.Severity, text.Message())
		}
	}
	d := newDaemon(cfg)
	d.reader = newReader(h)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	time.Sleep(3 * time.Hour)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// Once more by the second step's own clock, if at all.
	if got := slices.Compact(slices.Clone(alerts)); !slices.Equal(got, want) || len(alerts) > len(want)+1 {
		t.Errorf("alerts: %s; want %s", strings.Join(alerts, ", "), strings.Join(want, ", "))
	}
	if all > 100 {
		t.Errorf("%d texts, %d of them changes of level", all, levels)
	}
}
