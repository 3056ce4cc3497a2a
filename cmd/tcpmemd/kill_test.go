package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// moment is when a daemon was killed, by what it left behind.
type moment string

const (
	beforeIntent   moment = "before intent"
	intentToStart  moment = "intent to start"
	pluginRunning  moment = "plugin running"
	resultToRecord moment = "result to record"
	leaseHeld      moment = "lease held"
	afterResult    moment = "after result" // not asked for, and yet it comes
)

var moments = []moment{beforeIntent, intentToStart, pluginRunning, resultToRecord, leaseHeld}

const (
	killsInAll    = 200
	killsEach     = 30
	killWorkers   = 3 // beside the one that lends
	scarceBudget  = 2
	probeHold     = 0.15 // seconds
	killsTake     = 150 * time.Second
	pluginsGone   = 5 * time.Second
	leaseKillsRow = 12 // before the daemon ends in order
)

const killSettings = `
mode = "enforce"
settle.start = "0s"
settle.owner = "0s"
min_coverage = "0%%"
scan.calm = "5s"
scan.pressed = "1s"
scan.cpu = "100%%"
budget.host = "1000 per 1m"
[plugin.probe]
path = "%s"
[plugin.lender]
path = "%s"
`

const killRules = `
[rule.a-scarce]
about = "two actions an hour, however often the daemon is killed"
mode = "enforce"
for_each = "process"
when = 'owner.command startsWith "%[1]s" && owner.rank > 0'
cooldown = "0s"
budget = "%[3]d per 1h"
[[rule.a-scarce.step]]
action = "probe"
budget = "1000 per 1m"
dir = "%[2]s"
hold = %[4]g
[rule.b-plenty]
about = "an action at each start"
mode = "enforce"
for_each = "process"
when = 'owner.command startsWith "%[1]s" && owner.rank > 0'
cooldown = "0s"
budget = "1000 per 1m"
[[rule.b-plenty.step]]
action = "probe"
budget = "1000 per 1m"
dir = "%[2]s"
hold = %[4]g
`

// killed counts the kills of all workers.
type killed struct {
	mu    sync.Mutex
	count map[moment]int
	sum   int
	end   time.Time
}

// wants gives the moment that lacks most of those that a worker can aim at, ""
// when all is done.
func (k *killed) wants(rng *rand.Rand, among []moment) moment {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Now().After(k.end) {
		return ""
	}
	var lacking []moment
	for _, m := range among {
		if k.count[m] < killsEach {
			lacking = append(lacking, m)
		}
	}
	switch {
	case len(lacking) > 0:
		return slices.MinFunc(lacking, func(a, b moment) int { return k.count[a] - k.count[b] })
	case k.sum >= killsInAll || slices.Equal(among, []moment{leaseHeld}):
		return ""
	}
	return among[rng.IntN(len(among))]
}

func (k *killed) add(m moment) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.count[m]++
	k.sum++
}

// TestKill kills the daemon in every moment of an action, and looks each time
// whether what it left is whole, and whether the next one goes on from there:
// nothing twice, nothing without a result, no budget spent anew, no plugin left.
func TestKill(t *testing.T) {
	require.Root(t)
	l := openLab(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	k := &killed{count: make(map[moment]int), end: time.Now().Add(killsTake)}
	began := time.Now()
	t.Run("workers", func(t *testing.T) {
		for i := range killWorkers {
			t.Run(fmt.Sprintf("probe%d", i), func(t *testing.T) {
				t.Parallel()
				newVictim(t, l, i, rand.New(rand.NewPCG(seed, uint64(i))), killRules).kill(k, []moment{beforeIntent, intentToStart, pluginRunning, resultToRecord})
			})
		}
		t.Run("lender", func(t *testing.T) {
			t.Parallel()
			killLender(t, l, rand.New(rand.NewPCG(seed, killWorkers)), k)
		})
	})
	for _, m := range append(slices.Clone(moments), afterResult) {
		t.Logf("%4d killed %s", k.count[m], m)
	}
	t.Logf("%4d killed in all, in %s, seed %d", k.sum, time.Since(began).Round(time.Second), seed)
	for _, m := range moments {
		if k.count[m] < killsEach {
			t.Errorf("only %d were killed %s, %d are wanted", k.count[m], m, killsEach)
		}
	}
	if k.sum < killsInAll {
		t.Errorf("only %d kills", k.sum)
	}
	if left := l.pluginProcesses(); len(left) > 0 {
		t.Errorf("plugin processes are left: %v", left)
	}
}
