package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/store"
)

const lendRules = `
[rule.lend]
about = "raises tcp_mem at each start that finds it not raised"
mode = "enforce"
for_each = "process"
when = 'owner.command startsWith "%[1]s" && owner.rank > 0'
cooldown = "0s"
budget = "1000 per 1m"
[[rule.lend.step]]
action = "lender"
budget = "1000 per 1m"
min_available = "1%%"
ceiling = "50%%"
`

// killLender kills daemons that have raised tcp_mem: the next one takes the lease
// over, and gives it back when it ends in order.
func killLender(t *testing.T, l *lab, rng *rand.Rand, k *killed) {
	live := func() reading.TCPMem {
		t.Helper()
		m, err := procfs.New("/proc").TCPMem()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	now := live()
	// Not low: nobody shall notice. It is the lock that is wanted.
	base := reading.TCPMem{Min: now.Min * 9 / 10, Pressure: now.Pressure * 9 / 10, Max: now.Max * 9 / 10}
	lowered := scene.LowerTCPMemT(t, base)
	v := newVictim(t, l, killWorkers, rng, lendRules)
	k.mu.Lock()
	k.end = time.Now().Add(killsTake)
	k.mu.Unlock()
	for row := 0; ; row++ {
		if k.wants(rng, []moment{leaseHeld}) == "" {
			break
		}
		p, err := v.start()
		if err != nil {
			t.Fatal(err)
		}
		wasHeld := live() != base
		ended := false
		// Up to where the lease is taken, or taken over, and some time in it.
		late := time.Now().Add(20 * time.Second)
		taken := v.events("lease-taken") + v.events("lease-adopted")
		for aim := rng.IntN(4); aim > 0 && v.events("lease-taken")+v.events("lease-adopted") == taken; time.Sleep(2 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("no lease in 20 s:\n%s", p.out.String())
			}
			if ended = !p.running(); ended {
				break
			}
		}
		if ended {
			v.lockedOut(p)
			continue
		}
		time.Sleep(time.Duration(rng.Int64N(int64(400 * time.Millisecond))))
		if row%leaseKillsRow == leaseKillsRow-1 {
			p.await(t, "the daemon to answer", 20*time.Second, answers(t))
			p.stop(t)
			v.read(false)
			if m := live(); m != base {
				t.Fatalf("tcp_mem is %v after an end in order, the base is %v\n%s", m, base, p.out.String())
			}
			if open := unfinished(v.records); len(open) > 0 {
				t.Errorf("%d intents have no result after an end in order", len(open))
			}
			continue
		}
		p.kill()
		before := len(v.records)
		m := v.after(p)
		held := v.leases()
		switch raised := live() != base; {
		case raised && len(held) == 0:
			t.Fatalf("tcp_mem is %v, and no lease is recorded", live())
		case raised:
			m = leaseHeld
		}
		k.add(m)
		if wasHeld {
			// It was raised when this one started: it must have taken the lease over,
			// if it came so far.
			started, adopted := false, false
			for _, r := range v.records[before:] {
				started = started || r.Event != nil && r.Event.ID == "daemon-started"
				adopted = adopted || r.Event != nil && r.Event.ID == "lease-adopted"
			}
			if adopted {
				v.adopted++
			}
			if started && !adopted {
				t.Errorf("the daemon started while tcp_mem was raised, and did not take the lease over")
			}
		}
		if t.Failed() {
			return
		}
	}
	v.finish()
	if m := live(); m != base {
		t.Errorf("tcp_mem is %v in the end, the base is %v", m, base)
	}
	if held := v.leases(); len(held) > 0 {
		t.Errorf("leases are left: %+v", held)
	}
	t.Logf("%d leases were taken, %d times one was taken over", v.events("lease-taken"), v.adopted)
	if v.adopted == 0 {
		t.Error("no lease was taken over")
	}
	if err := lowered.Restore(); err != nil {
		t.Error(err)
	}
}

// events counts those of a kind in the log.
func (v *victim) events(id string) int {
	data, _ := os.ReadFile(v.logPath())
	return bytes.Count(data, []byte(`"event":{"id":"`+id+`"`))
}

func (v *victim) leases() []store.Lease {
	var all store.Leases
	data, err := os.ReadFile(filepath.Join(v.state, "leases.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		v.t.Fatalf("read leases: %v", err)
	}
	return all.Leases
}
