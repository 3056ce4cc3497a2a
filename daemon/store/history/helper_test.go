package history

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

var epoch = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

func stamp(seconds float64) record.Stamp {
	return record.Stamp{At: epoch.Add(time.Duration(seconds * float64(time.Second))), BootID: "boot", BootSeconds: seconds, Synced: true}
}

// host is a host whose pool changes as one does: a third of the owners move
// between two scans, some come and go, one grows.
type host struct {
	rand   *rand.Rand
	owners []reading.Owner
	kernel [3]int64
	used   int64
	born   int
}

func newHost(owners int) *host {
	h := &host{rand: rand.New(rand.NewPCG(1, 2)), used: 20000}
	for range owners {
		h.owners = append(h.owners, h.owner())
	}
	return h
}

func (h *host) owner() reading.Owner {
	h.born++
	unit := fmt.Sprintf("workload-%d.service", h.born)
	o := reading.Owner{
		Key: "system/" + unit, Name: unit, Kind: reading.KindService, Unit: unit, Manager: "system", UnitVerified: true,
		Cgroup: "/system.slice/" + unit, InvocationID: fmt.Sprintf("%032x", h.rand.Uint64()), UID: new(uint32(1000)),
		Command: "worker", HolderCount: 4,
		Holders: []reading.Holder{{PID: 1000 + h.born, StartTime: h.rand.Uint64N(1e9), Command: "worker", Unit: unit}},
		Netns:   []reading.NetnsID{{Inode: 4026531840, Cookie: 1}},
	}
	if h.born%3 == 0 {
		o.Kind, o.Container = reading.KindContainer, &reading.Container{ID: fmt.Sprintf("%064x", h.rand.Uint64()), Runtime: "containerd"}
		o.Pod = &reading.Pod{Namespace: "default", Name: fmt.Sprintf("web-%d", h.born), UID: fmt.Sprintf("%032x", h.rand.Uint64())}
	}
	h.move(&o)
	return o
}

// move gives an owner other numbers.
func (h *host) move(o *reading.Owner) {
	n, b := h.rand.Int64N(50), h.rand.Int64N(1<<20)
	o.Sum = reading.Tally{Sockets: n + 3, Bytes: b + 4096}
	o.Receive, o.Send, o.Reserved, o.Unread = b/2, b/2, 4096, b/4
	o.Classes[reading.Owned] = o.Sum
	o.Evidence[reading.FD] = reading.Tally{Sockets: n, Bytes: b}
	o.Evidence[reading.LastSeen] = reading.Tally{Sockets: 3, Bytes: 4096}
	o.States[reading.Established], o.States[reading.CloseWait] = n, 3
	o.Stalled, o.Young, o.StalledReceive = new(b/8), new(int64(0)), &reading.Tally{Sockets: 1, Bytes: b / 8}
	o.GrowthPerMinute = new(b - 1<<19)
	o.Peers = []reading.Peer{{Address: "10.0.0.7:443", Tally: reading.Tally{Sockets: 2, Bytes: b / 3}}}
}

func (h *host) sample(seconds float64) reading.Sample {
	h.used += h.rand.Int64N(200) - 100
	for i := range h.kernel {
		h.kernel[i] += h.rand.Int64N(3)
	}
	return reading.Sample{
		At: stamp(seconds).At, PageSize: 4096, Mem: reading.TCPMem{Min: 43257, Pressure: 57676, Max: 86514},
		Used: reading.Pages(h.used), ReserveMax: 512, UnderPressure: new(false), Orphans: h.rand.Int64N(4), MaxOrphans: 65536,
		Alloc: 800 + h.rand.Int64N(40), TimeWait: h.rand.Int64N(100), MaxTimeWait: new(int64(65536)), Inuse: 800, Namespaces: 12,
		Kernel:    reading.Counters{MemoryPressures: new(h.kernel[0]), PruneCalled: new(h.kernel[1]), ListenDrops: new(h.kernel[2])},
		Conntrack: &reading.Usage{Count: 900 + h.rand.Int64N(90), Limit: 262144}, Files: &reading.Usage{Count: 4000 + h.rand.Int64N(90), Limit: 1 << 20},
		Log: reading.LogCounts{Readable: true},
	}
}

func (h *host) reading(s reading.Sample) *reading.Reading {
	for i := range h.owners {
		if h.rand.IntN(3) == 0 {
			h.move(&h.owners[i])
		}
	}
	if len(h.owners) > 0 {
		if h.rand.IntN(20) == 0 {
			h.owners[h.rand.IntN(len(h.owners))] = h.owner()
		}
		h.owners[0].Verdict = &reading.Verdict{Kind: reading.Leak, Reasons: []string{
			fmt.Sprintf("grew by %d KB a minute for %d minutes", h.rand.IntN(900), h.rand.IntN(90)), "nothing was read for 30 s",
		}}
	}
	r := &reading.Reading{
		Sample: s, Level: reading.Calm, Took: time.Duration(h.rand.IntN(1e8)),
		Ledger: reading.Ledger{
			Seen: int64(s.Used) * 4096, Named: int64(s.Used) * 4000, Unseen: h.rand.Int64N(1 << 20), ReserveMax: 2 << 20, Coverage: 0.9 + h.rand.Float64()/10,
			Checks: []reading.Check{
				{Name: "inuse", Scope: "host", Before: s.Inuse, After: s.Inuse, Seen: s.Inuse, Status: reading.CheckOK},
				{Name: "alloc", Scope: "host", Before: s.Alloc, After: s.Alloc, Seen: s.Alloc - 1, Tolerance: 4, Status: reading.CheckUnsure},
			},
		},
		Owners: append([]reading.Owner(nil), h.owners...),
	}
	r.Ledger.Classes[reading.Owned] = reading.Tally{Sockets: s.Inuse, Bytes: r.Ledger.Seen}
	return r
}

// entry is the moment so many seconds after the beginning; each scan-th has a
// reading.
func (h *host) entry(seconds, scan int) *Entry {
	e := &Entry{Stamp: stamp(float64(seconds)), Level: reading.Calm, Sample: h.sample(float64(seconds))}
	if scan > 0 && seconds%scan == 0 {
		e.Reading = h.reading(e.Sample)
	}
	return e
}

func collect(t testing.TB, dir string, since, until time.Time) (list []*Entry) {
	t.Helper()
	return collectFrom(t, Dir(dir), since, until)
}

func collectFrom(t testing.TB, from Segments, since, until time.Time) (list []*Entry) {
	t.Helper()
	for e, err := range Read(from, since, until) {
		if err != nil {
			t.Error(err)
			continue
		}
		list = append(list, e)
	}
	return list
}

func diff(want, got any) string { return cmp.Diff(want, got, cmpopts.EquateEmpty()) }
