package daemon

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// happening is what may happen to a world, and how often.
type happening struct {
	name   string
	weight int
	do     func(w *world, l *life) *life // the daemon that lives on
}

// on makes a happening of a change to the world that a later one takes back.
func on(do func(w *world, rng *rand.Rand) (undo func())) func(*world, *life) *life {
	return func(w *world, l *life) *life {
		w.mu.Lock()
		defer w.mu.Unlock()
		if undo := do(w, w.rng); undo != nil {
			w.later(time.Duration(2+w.rng.IntN(40))*time.Second, undo)
		}
		return l
	}
}

// later has something done, unless the end has begun. mu is held, then too.
func (w *world) later(d time.Duration, do func()) {
	time.AfterFunc(d+time.Duration(w.fate.IntN(1_000_000)), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.calmed {
			do()
		}
	})
}

var happenings = []happening{
	{"spoil", 6, on(func(w *world, rng *rand.Rand) func() {
		o := w.any(rng)
		w.note("%s is now %s", o.Key, w.spoil(o, rng))
		return o.heal
	})},
	{"heal", 4, on(func(w *world, rng *rand.Rand) func() { w.any(rng).heal(); return nil })},
	{"restart", 3, on(func(w *world, rng *rand.Rand) func() {
		o := w.any(rng)
		w.note("%s starts anew", o.Key)
		w.spawn(o, 0)
		return nil
	})},
	{"come", 3, on(func(w *world, rng *rand.Rand) func() { w.add(pick(rng, "", w.any(rng).work)); return nil })},
	{"go", 2, on(func(w *world, rng *rand.Rand) func() {
		o := w.any(rng)
		w.note("%s is gone", o.Key)
		w.remove(o)
		return func() { w.appear(o) }
	})},
	{"empty", 2, on(func(w *world, _ *rand.Rand) func() { w.empty = true; return func() { w.empty = false } })},
	{"grow", 6, on(func(w *world, rng *rand.Rand) func() {
		w.set(w.any(rng), float64(rng.IntN(1500))*1024, float64(rng.IntN(60)-10)*1024)
		return nil
	})},
	{"shrink", 3, on(func(w *world, rng *rand.Rand) func() { w.set(w.any(rng), 8192, 0); return nil })},
	{"verdict", 2, on(func(w *world, rng *rand.Rand) func() { w.verdict = verdict(rng); return func() { w.verdict = nil } })},
	{"pause", 2, on(func(w *world, _ *rand.Rand) func() { w.paused = "lunch"; return func() { w.paused = "" } })},
	{"stop", 1, on(func(w *world, _ *rand.Rand) func() { w.stop = "stop"; return func() { w.stop = "" } })},
	{"coverage", 2, on(func(w *world, rng *rand.Rand) func() {
		w.coverage = rng.Float64()
		return func() { w.coverage = 0.95 }
	})},
	{"partial", 2, on(func(w *world, _ *rand.Rand) func() { w.partial = true; return func() { w.partial = false } })},
	{"old index", 2, on(func(w *world, _ *rand.Rand) func() { w.indexAge = 40 * time.Second; return func() { w.indexAge = 0 } })},
	{"slow scans", 2, on(func(w *world, rng *rand.Rand) func() {
		w.scanTakes = time.Duration(1+rng.IntN(15)) * time.Second
		return func() { w.scanTakes = 50 * time.Millisecond }
	})},
	{"failing scans", 2, on(func(w *world, _ *rand.Rand) func() { w.scanFails = true; return func() { w.scanFails = false } })},
	{"no samples", 1, on(func(w *world, _ *rand.Rand) func() { w.blind = true; return func() { w.blind = false } })},
	{"orphans", 1, on(func(w *world, rng *rand.Rand) func() { w.orphans = int64(rng.IntN(60)); return nil })},
	{"suspend", 2, on(func(w *world, rng *rand.Rand) func() {
		d := pick(rng, 10*time.Second, time.Minute, time.Hour+time.Minute, 3*time.Hour)
		w.note("suspended for %s", d)
		w.slept += d
		w.sleptEver += d
		return nil
	})},
	{"set back", 1, on(func(w *world, rng *rand.Rand) func() {
		w.offset -= time.Duration(rng.IntN(7200)) * time.Second
		return nil
	})},
	{"clock lost", 1, on(func(w *world, rng *rand.Rand) func() {
		w.loseClock(rng)
		return w.findClock
	})},
	{"rival", 1, on(func(w *world, rng *rand.Rand) func() { w.rival(rng); return nil })},
	{"bad plugins", 6, on(func(w *world, rng *rand.Rand) func() {
		w.bad = habits(rng)
		return func() { w.bad = runnerHabits{} }
	})},
	{"bad disk", 4, func(w *world, l *life) *life {
		l.store.mu.Lock()
		defer l.store.mu.Unlock()
		l.store.takes = time.Duration(w.rng.IntN(2500)) * time.Millisecond
		l.store.fails[w.rng.IntN(numLanes)] = chance(w.rng, 0.4)
		l.store.stuck = chance(w.rng, 0.2)
		return l
	}},
	{"good disk", 4, func(_ *world, l *life) *life { l.store.good(); return l }},
	{"reload", 4, func(w *world, l *life) *life { l.reload(w.another(l.law)); return l }},
	{"by hand", 14, func(w *world, l *life) *life { l.byHand(w.rng); return l }},
	{"reset", 1, func(w *world, l *life) *life { l.reset(pick(w.rng, l.law.Rules...).Name); return l }},
	{"restart", 2, func(w *world, l *life) *life { return w.again(l, false, false) }},
	{"kill", 3, func(w *world, l *life) *life { return w.again(l, true, false) }},
	{"reboot", 1, func(w *world, l *life) *life { return w.again(l, chance(w.rng, 0.5), true) }},
}

// loseClock: while nobody keeps it the clock says anything, and says so.
func (w *world) loseClock(rng *rand.Rand) {
	if !w.unsynced {
		w.unsynced, w.saved = true, w.offset
		w.offset += time.Duration(rng.IntN(200_000)-100_000) * time.Second
		w.seen["clock lost"] = true
	}
}

func (w *world) findClock() {
	if w.unsynced {
		w.unsynced, w.offset = false, w.saved
	}
}

// rival sets net.ipv4.tcp_mem, as somebody who knows of no lease.
func (w *world) rival(rng *rand.Rand) {
	n := reading.Pages(900 + rng.IntN(500))
	w.base = triple{n / 2, n * 7 / 10, n}
	w.live = w.base
	w.seen["rival"] = true
	w.note("somebody sets tcp_mem to %s", w.live)
}

// habits draws how plugins behave badly.
func habits(rng *rand.Rand) runnerHabits {
	return runnerHabits{hang: pick(rng, 0, 0.4), fail: pick(rng, 0, 0.6), slow: time.Duration(rng.IntN(8)) * time.Second}
}

// any is one of the owners but for the bystander.
func (w *world) any(rng *rand.Rand) *who {
	list := slices.DeleteFunc(slices.Clone(w.owners), func(o *who) bool { return o.work == "bystander" })
	if len(list) == 0 {
		return w.add("")
	}
	return pick(rng, list...)
}

// again has another daemon follow, on the same host or on one booted anew.
func (w *world) again(l *life, kill, boot bool) *life {
	if kill {
		l.kill()
	} else {
		l.end()
	}
	time.Sleep(time.Duration(50+w.rng.IntN(20_000)) * time.Millisecond)
	w.mu.Lock()
	w.seen["restart"] = true
	if chance(w.rng, 0.08) {
		w.lost = true
		w.seen["budgets lost"] = true
		w.note("the file of budgets is lost")
	}
	if boot {
		w.seen["reboot"] = true
		w.note("the host boots anew")
		w.boot++
		w.booted, w.slept = time.Now(), 0
		w.base = triple{500, 700, 1000}
		w.live, w.raised = w.base, triple{}
		if chance(w.rng, 0.4) {
			w.loseClock(w.rng) // until it is set right
			w.later(time.Duration(20+w.rng.IntN(60))*time.Second, w.findClock)
		}
		for _, o := range slices.Clone(w.owners) {
			if o.work != "bystander" {
				w.remove(o)
				w.add(o.work)
			}
		}
	}
	w.mu.Unlock()
	law := l.law
	if chance(w.rng, 0.4) {
		law = w.another(law)
	}
	return w.begin(law)
}

func (s *shelf) good() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes, s.stuck, s.fails = time.Millisecond, false, [numLanes]bool{}
}

// meddle has something change between an intent and its action, and makes that
// time longer. mu is held.
func (w *world) meddle(l *life, n *intended) {
	rng := w.fate
	if w.calmed || chance(rng, 0.4) {
		return
	}
	if chance(rng, 0.7) {
		takes := time.Duration(rng.IntN(1050)) * time.Millisecond // for the intent, and for the budgets
		w.listTakes = time.Duration(rng.IntN(5500)) * time.Millisecond
		if chance(rng, 0.5) { // together so long that it has to be looked at anew
			takes, w.listTakes = time.Duration(700+rng.IntN(250))*time.Millisecond, time.Duration(3700+rng.IntN(1200))*time.Millisecond
		}
		w.later(6*time.Second, func() { w.listTakes = 0 })
		l.store.mu.Lock()
		l.store.takes = takes
		l.store.mu.Unlock()
		w.later(2*time.Second, l.store.good)
	}
	key := n.rec.Key
	if o := n.rec.Intent.Decision.Owner; o != nil {
		key = o.Key
	}
	o := w.find(key)
	if o == nil {
		return
	}
	what := pick(rng, "spoil", "spoil", "spoil", "identity", "identity", "identity", "identity", "gone", "empty", "shrink", "shrink", "top", "top", "top",
		"leak", "leak", "pause", "stop", "observe", "rights", "coverage", "partial", "index", "suspend", "kill", "kill", "kill")
	if n.rec.Intent.Decision.Action == "raise-tcp-mem" && chance(rng, 0.3) {
		what = "rival"
	}
	undo := func() {}
	w.later(time.Duration(rng.IntN(2500))*time.Millisecond, func() {
		w.note("meddles with %s: %s", key, what)
		switch what {
		case "spoil":
			w.note("it is %s", w.spoil(o, rng))
			undo = o.heal
		case "identity":
			w.spawn(o, 0)
		case "gone":
			w.remove(o)
		case "empty":
			w.empty, undo = true, func() { w.empty = false }
		case "rival":
			w.rival(rng)
		case "kill":
			select {
			case w.doom <- struct{}{}:
			default:
			}
		case "shrink":
			w.set(o, 8192, 0)
		case "top":
			w.set(w.any(rng), 2<<20, 0)
		case "leak":
			w.verdict, undo = &reading.Verdict{Kind: reading.Leak}, func() { w.verdict = nil }
		case "pause":
			w.paused, undo = "lunch", func() { w.paused = "" }
		case "stop":
			w.stop, undo = "stop", func() { w.stop = "" }
		case "observe", "rights":
			law := *l.law
			if what == "observe" {
				law.Mode = policy.Observe
			} else {
				law.Actions = make(map[string]policy.ActionInfo)
				for name, info := range l.law.Actions {
					if name == n.rec.Intent.Decision.Action {
						info.Missing = "it lost a right"
					}
					law.Actions[name] = info
				}
			}
			go l.reload(&law)
		case "coverage":
			w.coverage, undo = 0.1, func() { w.coverage = 0.95 }
		case "partial":
			w.partial, undo = true, func() { w.partial = false }
		case "index":
			w.indexAge, undo = time.Minute, func() { w.indexAge = 0 }
		case "suspend":
			w.slept += 10 * time.Second
			w.sleptEver += 10 * time.Second
		}
	})
	w.later(time.Duration(8+rng.IntN(30))*time.Second, func() { undo() })
}

// calm ends all trouble, for good.
func (w *world) calm(l *life) {
	w.mu.Lock()
	w.note("the world calms")
	w.calmed = true
	for _, o := range w.owners {
		if o.work != "bystander" {
			w.set(o, 8192, 0)
		}
	}
	w.empty, w.partial, w.indexAge, w.coverage = false, false, 0, 0.95
	w.scanTakes, w.scanFails, w.blind, w.listTakes = 10*time.Millisecond, false, false, 0
	w.paused, w.stop, w.verdict, w.bad, w.orphans = "", "", nil, runnerHabits{}, 0
	w.findClock()
	w.other = 0
	close(w.release)
	w.mu.Unlock()
	l.store.good()
}
