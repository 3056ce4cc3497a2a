package daemon

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// life is one run of the daemon in a world.
type life struct {
	w         *world
	d         *Daemon
	store     *shelf
	stop      context.CancelFunc
	recounted recounted     // the loop's
	ended     chan struct{} // closed when the daemon ended
	died      chan struct{} // closed when nothing of it counts any more

	// Guarded by the world's lock.
	law       *lawSpec
	started   time.Duration
	given     *reading.Reading // the last one that it was told
	givenAt   time.Duration
	sample    reading.Sample
	sampledAt time.Duration
	firing    map[firingKey]firing
	open      map[string]bool // actions whose last record is to come
	dead      bool
	killed    bool
	written   bool // its store kept all that it was given
}

// begin starts a daemon with what the ones before left.
func (w *world) begin(law *lawSpec) *life {
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{
		w: w, stop: cancel, ended: make(chan struct{}), died: make(chan struct{}),
		law: law, firing: make(map[firingKey]firing), open: make(map[string]bool),
	}
	w.mu.Lock()
	l.started = w.truth()
	w.note("the daemon starts, mode %s", law.Mode)
	cfg := Config{
		Version: "1", Sample: law.Sample, Calm: law.Calm, Pressed: law.Pressed, CPU: 0.01,
		Log: slog.New(slog.DiscardHandler), Notify: silent{}, FirstReading: func(*reading.Reading) {},
		Policy: law.Policy, Memory: w.kept.memory(), Unfinished: w.kept.unfinished(), Leases: w.kept.leases, Outbox: w.kept.waiting(),
		Runner: hands{l},
		Clock:  func() record.Stamp { w.mu.Lock(); defer w.mu.Unlock(); return w.stamp() },
		Paused: func() PauseState { w.mu.Lock(); defer w.mu.Unlock(); return PauseState{Why: w.paused} },
		Stop:   func() string { w.mu.Lock(); defer w.mu.Unlock(); return w.stop },
		Say:    func(event.Text) {},
	}
	if w.lost {
		now := w.stamp()
		cfg.Memory, w.lost = policy.Memory{Distrusted: &now}, false
	}
	for i := range cfg.Unfinished {
		l.recounted.count(&cfg.Unfinished[i])
	}
	w.lives = append(w.lives, l)
	w.mu.Unlock()
	l.store = newShelf(l)
	cfg.Store, cfg.Archive = l.store, l.store
	l.d = newDaemon(cfg)
	l.d.trend = &toldTrend{}
	l.d.reader = newReader(watched{l})
	go func() {
		defer close(l.ended)
		if err := l.d.Run(ctx); err != nil {
			w.mu.Lock()
			w.note("the daemon ended: %v", err)
			w.mu.Unlock()
		}
	}()
	return l
}

type silent struct{}

func (silent) Ready(string) error  { return nil }
func (silent) Status(string) error { return nil }
func (silent) Reloading() error    { return nil }
func (silent) Stopping() error     { return nil }
func (silent) Watchdog() error     { return nil }

// end stops a daemon in order and waits for it.
func (l *life) end() {
	w := l.w
	w.mu.Lock()
	good := w.bad == (runnerHabits{})
	w.mu.Unlock()
	l.stop()
	<-l.ended
	l.die("has stopped")
	w.mu.Lock()
	defer w.mu.Unlock()
	if good && w.live != w.base && w.bad == (runnerHabits{}) {
		w.violation("the daemon stopped, and net.ipv4.tcp_mem is still %s", w.live)
	}
}

// kill ends a daemon as kill -9 does: what it does from now on changes nothing.
func (l *life) kill() {
	l.w.mu.Lock()
	l.killed = true
	l.w.seen["kill"] = true
	if l.w.touching > 0 {
		l.w.seen["kill while an action runs"] = true
	}
	if len(l.open) > 0 {
		l.w.seen["kill between intent and result, or effect"] = true
	}
	if l.w.live == l.w.raised {
		l.w.seen["kill while tcp_mem is raised"] = true
	}
	l.w.mu.Unlock()
	l.die("is killed")
	l.stop()
}

func (l *life) die(how string) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.note("the daemon %s", how)
	l.dead = true
	close(l.died)
}

func (l *life) reload(law *lawSpec) {
	_ = l.d.inLoop(context.Background(), func() {
		l.w.mu.Lock()
		l.law = law
		l.w.note("reloads, mode %s", law.Mode)
		l.w.mu.Unlock()
		l.d.judge.reload(law.Policy, nil)
	})
}

func (l *life) reset(rule string) {
	w := l.w
	err := (&source{l.d}).Reset(context.Background(), rule, record.Caller{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("reset of %s: %v", rule, err)
	if err == nil {
		for _, n := range w.intents {
			if n.rec.Rule == rule || w.seen["budgets lost"] { // who resets one trusts all again
				n.forget = true
			}
		}
	}
}

// byHand asks for a step as a person does, of a rule that fires.
func (l *life) byHand(rng *rand.Rand) {
	w := l.w
	w.mu.Lock()
	var keys []firingKey
	for k := range l.firing {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b firingKey) int { return l.firing[a].n - l.firing[b].n })
	var incident string
	var k firingKey
	if len(keys) > 0 {
		k = pick(rng, keys...)
		incident = l.firing[k].incident
	}
	w.mu.Unlock()
	if incident == "" {
		return
	}
	r := api.ActRequest{Incident: incident, Key: k.key, Step: rng.IntN(4), DryRun: chance(rng, 0.1)}
	w.hands.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := (&source{l.d}).Act(ctx, r, record.Caller{PID: 7})
		w.mu.Lock()
		defer w.mu.Unlock()
		w.note("by hand, step %d of %s for %s: %v", r.Step, k.rule, k.key, err)
	})
}
