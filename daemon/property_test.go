package daemon

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
)

// How many runs there are, and which one alone.
const (
	runsEnv = "TCPMEMD_PROPERTY_RUNS"
	seedEnv = "TCPMEMD_PROPERTY_SEED"
	// With it the test ends at the first violation, as .ci/guards wants.
	firstEnv = "TCPMEMD_PROPERTY_FIRST"
)

// TestProperty lets daemons live in worlds of many seeds, through the real
// loop, and holds all that they do against what must never happen.
//
// One seed alone, with its story:
//
//	TCPMEMD_PROPERTY_SEED=7 go test -run '^TestProperty$' -v ./daemon
func TestProperty(t *testing.T) {
	if text := os.Getenv(seedEnv); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		w := live(t, seed)
		t.Log(strings.Join(w.trace, "\n"))
		for _, v := range w.wrong {
			t.Error(v)
		}
		return
	}
	runs := uint64(1500)
	if raceEnabled {
		runs = 100
	}
	if text := os.Getenv(runsEnv); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		runs = n
	}
	first := os.Getenv(firstEnv) != ""
	var next atomic.Uint64
	var failed atomic.Bool
	var table tally
	t.Run("worlds", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1); seed <= runs; seed = next.Add(1) {
					w := live(t, seed)
					table.add(w)
					if len(w.wrong) == 0 {
						continue
					}
					if !failed.Swap(true) || !first {
						t.Errorf("seed %d (%s=%d tells its story): violation: %s", seed, seedEnv, seed, strings.Join(w.wrong, "; "))
					}
					if first {
						next.Store(runs)
					}
				}
			})
		}
	})
	if !first {
		table.check(t, runs)
	}
}

// live is one run: a world, its daemons one after the other, and the end.
func live(t *testing.T, seed uint64) (w *world) {
	over := false
	defer func() {
		if !over { // a deadlock in the bubble panics
			fmt.Fprintf(os.Stderr, "seed %d did not end\n", seed)
			for _, line := range w.trace[max(0, len(w.trace)-60):] {
				fmt.Fprintln(os.Stderr, line)
			}
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, seed)
		w.run()
	})
	over = true
	return w
}

func (w *world) run() {
	l := w.begin(w.law())
	total := 0
	for _, h := range happenings {
		total += h.weight
	}
	for range 4 + w.rng.IntN(22) {
		timer := time.NewTimer(time.Duration(w.rng.Int64N(int64(16 * time.Second))))
		select {
		case <-w.doom:
			timer.Stop()
			l = w.again(l, chance(w.rng, 0.7), false)
			continue
		case <-timer.C:
		}
		n := w.rng.IntN(total)
		i := slices.IndexFunc(happenings, func(h happening) bool { n -= h.weight; return n < 0 })
		w.mu.Lock()
		w.note("happens: %s", happenings[i].name)
		w.mu.Unlock()
		l = happenings[i].do(w, l)
	}
	w.calm(l)
	for range 100 {
		time.Sleep(5 * time.Second)
		if w.quiet(l) {
			break
		}
	}
	w.mu.Lock()
	for k := range l.firing {
		w.violation("%s does not end to fire for %s", k.rule, k.key)
	}
	for id := range l.open {
		w.violation("%s does not end", id)
	}
	w.mu.Unlock()
	w.scrape(l)
	l.end()
	w.hands.Wait()
	for _, l := range w.lives {
		<-l.ended
		<-l.store.ended
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.judgeEnd()
	for _, l := range w.lives {
		w.judgeCounts(l)
	}
}

// quiet: nothing fires, nothing runs.
func (w *world) quiet(l *life) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(l.firing) == 0 && len(l.open) == 0 && w.touching == 0
}

// tally counts in how many runs a thing happened.
type tally struct {
	mu   sync.Mutex
	runs int
	of   map[string]int
}

func (t *tally) add(w *world) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = make(map[string]int)
	}
	t.runs++
	for what := range w.seen {
		t.of[what]++
	}
}

// check prints the table, and fails where the worlds are too tame to prove
// anything.
func (t *tally) check(tt *testing.T, runs uint64) {
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(t.of)) {
		fmt.Fprintf(&b, "%6.1f %%  %s\n", t.share(what), what)
	}
	tt.Logf("%d runs, and the share of them in which it happened:\n%s", t.runs, &b)
	if runs < 500 {
		return
	}
	least := map[string]float64{"fired": 30, "acted": 10, "metrics": 90}
	for _, name := range policy.GuardNames() {
		least["guard "+name] = 1
	}
	for what, share := range least {
		if t.share(what) < share {
			tt.Errorf("%s in %.1f %% of the runs, want %.0f %%", what, t.share(what), share)
		}
	}
}

func (t *tally) share(what string) float64 {
	return 100 * float64(t.of[what]) / float64(max(1, t.runs))
}
