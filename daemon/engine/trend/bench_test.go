package trend_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/trend"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// manyOwners is a reading of n owners of falling size, all moving.
func manyOwners(n int, rng *rand.Rand, at time.Time) *reading.Reading {
	r := &reading.Reading{Level: reading.Elevated, Owners: make([]reading.Owner, n)}
	r.Sample = reading.Sample{At: at, PageSize: 4096, Mem: reading.TCPMem{Min: 43257, Pressure: 57676, Max: 86514}, Used: 50000}
	for i := range r.Owners {
		o := &r.Owners[i]
		o.Key = fmt.Sprintf("system/service-%d.service", i)
		o.Kind = reading.KindService
		o.Sum = reading.Tally{Sockets: 40, Bytes: int64((n-i)*4096) + rng.Int64N(1<<16)}
		o.Receive, o.Send = o.Sum.Bytes/2, o.Sum.Bytes/2
		o.Stalled, o.Young = new(o.Sum.Bytes/8), new(o.Sum.Bytes/4)
		o.StalledReceive, o.StalledSend = &reading.Tally{Sockets: 5, Bytes: o.Sum.Bytes / 16}, &reading.Tally{Sockets: 5, Bytes: o.Sum.Bytes / 16}
	}
	return r
}

func BenchmarkObserve(b *testing.B) {
	for _, n := range []int{50, 1000, 5000} {
		b.Run(fmt.Sprintf("owners=%d", n), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			tracker := trend.New(trend.Config{})
			at := time.Now()
			full := manyOwners(n, rng, at)
			for range 200 { // fill the windows
				at = at.Add(5 * time.Second)
				full.Sample.At = at
				tracker.Observe(full)
			}
			b.ReportAllocs()
			for b.Loop() {
				at = at.Add(5 * time.Second)
				full.Sample.At = at
				for i := range full.Owners {
					full.Owners[i].Sum.Bytes += rng.Int64N(8192) - 4096
				}
				tracker.Observe(full)
			}
		})
	}
}

// TestMemory checks what a full tracker costs: about 1.5 kB an owner, and no
// more owners than the bound, however many there are.
func TestMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	tracker := trend.New(trend.Config{})
	at := time.Now()
	full := manyOwners(5000, rng, at)
	before := heap()
	for range 400 {
		at = at.Add(5 * time.Second)
		full.Sample.At = at
		tracker.Observe(full)
	}
	used := heap() - before
	runtime.KeepAlive(tracker)
	runtime.KeepAlive(full)
	t.Logf("1,000 remembered of 5,000 owners: %d bytes each", used/1000)
	if most := int64(2_000_000); used > most {
		t.Errorf("a tracker of 1,000 owners holds %d bytes, want at most %d", used, most)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
