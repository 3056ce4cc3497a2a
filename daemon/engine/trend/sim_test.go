package trend_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/engine/trend/trendtest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// The simulator: owners whose sockets fill and drain second by second, and a
// scanner that looks at them at the daemon's pace and reports what the real
// one would, with the same blindness: it sees the queues of a socket at each
// scan and nothing between.

const page = 4096

// socket is one simulated socket.
type socket struct {
	owner      *party
	recv, send int64
	reserve    int64 // kept on top of the rounding
	class      reading.Class
	state      reading.State
	peerOwner  string
	peerAddr   string
	until      float64             // seconds; 0 for ever
	live       func(*socket, *sim) // moves the queues each second, nil: they stand still

	seen       bool
	firstSeen  float64
	quietSince float64
	lastRecv   int64
	lastSend   int64
}

func (s *socket) bytes() int64 { return (s.recv + s.send + s.reserve + page - 1) / page * page }

// party is an owner.
type party struct {
	key        string
	kind       reading.Kind
	invocation int
	holders    [][2]uint64
}

// sim is a host.
type sim struct {
	*rand.Rand
	now     float64 // seconds
	clock   float64 // when the daemon looked, seconds
	mem     [3]int64
	sockets []*socket
	parties map[string]*party
	actors  []func()

	level    reading.Level
	scans    int
	nextScan float64
	nextPID  uint64
	// skip makes the daemon miss scans and samples for a time.
	skip func(now float64) bool
}

func newSim(seed uint64) *sim {
	return &sim{
		Rand: rand.New(rand.NewPCG(seed, 0x7c9)),
		// of a host with 3.6 GB, the one in the story
		mem:     [3]int64{43257, 57676, 86514},
		parties: make(map[string]*party),
		nextPID: 1000,
	}
}

// owner makes a service, or returns the one of this name.
func (s *sim) owner(name string) *party {
	key := "system/" + name + ".service"
	if p := s.parties[key]; p != nil {
		return p
	}
	return s.party(key, reading.KindService)
}

func (s *sim) party(key string, kind reading.Kind) *party {
	p := &party{key: key, kind: kind, invocation: 1}
	s.parties[key] = p
	s.fork(p)
	return p
}

func (s *sim) fork(p *party) {
	s.nextPID++
	p.holders = append(p.holders, [2]uint64{s.nextPID, uint64(s.now*100) + s.nextPID})
}

// restart ends all sockets of an owner but its orphans.
func (s *sim) restart(p *party) {
	s.sockets = slices.DeleteFunc(s.sockets, func(k *socket) bool {
		return k.owner == p && k.class != reading.Orphan
	})
	p.invocation++
	p.holders = nil
	s.fork(p)
}

// each adds an actor that runs every second.
func (s *sim) each(act func()) { s.actors = append(s.actors, act) }

// open adds a socket; life is in seconds, 0 for ever.
func (s *sim) open(p *party, life float64, k socket) *socket {
	k.owner = p
	if k.class == reading.Unresolved {
		k.class = reading.Owned
	}
	if k.state == 0 {
		k.state = reading.Established
	}
	if life > 0 {
		k.until = s.now + life
	}
	out := &k
	if out.live != nil {
		out.live(out, s)
	}
	s.sockets = append(s.sockets, out)
	return out
}

// events draws how many of a rate (per second) happen this second.
func (s *sim) events(rate float64) int {
	if rate <= 0 {
		return 0
	}
	if rate > 30 {
		return max(0, int(math.Round(rate+math.Sqrt(rate)*s.NormFloat64())))
	}
	n, p, limit := 0, 1.0, math.Exp(-rate)
	for {
		p *= s.Float64()
		if p < limit {
			return n
		}
		n++
	}
}

// life draws a lifetime.
func (s *sim) life(mean float64) float64 { return max(0.5, mean*s.ExpFloat64()) }

// amount draws around a mean, in whole segments, never negative.
func (s *sim) amount(mean float64) int64 {
	if mean <= 0 {
		return 0
	}
	return int64(mean*s.ExpFloat64()) / 768 * 768
}

// busy makes queues that change each second around means.
func busy(recv, send float64) func(*socket, *sim) {
	return func(k *socket, s *sim) { k.recv, k.send = s.amount(recv), s.amount(send) }
}

// brim makes a send queue that is always nearly full and always moves.
func brim(full float64) func(*socket, *sim) {
	return func(k *socket, s *sim) { k.send = int64(full*(0.85+0.15*s.Float64())) / 768 * 768 }
}

// web opens short connections at a rate that may change.
func (s *sim) web(p *party, rate func(t float64) float64, life, recv, send float64) {
	s.each(func() {
		for range s.events(rate(s.now)) {
			s.open(p, s.life(life), socket{live: busy(recv, send), peerAddr: s.client()})
		}
	})
}

// pool opens n lasting connections at the start.
func (s *sim) pool(p *party, n int, recv, send float64) {
	for range n {
		s.open(p, 0, socket{live: busy(recv, send), peerAddr: s.client()})
	}
}

func (s *sim) client() string { return fmt.Sprintf("198.51.100.%d", s.IntN(250)) }

// always is a constant rate.
func always(rate float64) func(float64) float64 { return func(float64) float64 { return rate } }

// ramp goes from one rate to another between two times.
func ramp(from, to, start, end float64) func(float64) float64 {
	return func(t float64) float64 {
		return from + (to-from)*min(max((t-start)/(end-start), 0), 1)
	}
}

// run simulates for a time and returns what the daemon saw.
func (s *sim) run(seconds float64) []trendtest.Observation {
	var seen []trendtest.Observation
	for ; s.now < seconds; s.now++ {
		for _, act := range s.actors {
			act()
		}
		s.sockets = slices.DeleteFunc(s.sockets, func(k *socket) bool { return k.until > 0 && k.until <= s.now })
		for _, k := range s.sockets {
			if k.live != nil {
				k.live(k, s)
			}
		}
		if s.skip != nil && s.skip(s.now) {
			continue
		}
		seen = append(seen, s.observe())
	}
	return seen
}

// observe samples, and scans when it is time to.
func (s *sim) observe() trendtest.Observation {
	var bytes int64
	for _, k := range s.sockets {
		bytes += k.bytes()
	}
	used := bytes/page + int64(s.IntN(200)) - 20 // per-CPU reserve
	s.level = s.levelOf(used)
	s.clock = s.now + 0.3*s.Float64() // a tick is never on the dot
	o := trendtest.Observation{Milliseconds: int64(s.clock * 1000), Used: reading.Pages(max(used, 0))}
	if s.now >= s.nextScan {
		o.Level = s.level.String()
		o.Owners = s.scan()
		s.nextScan = s.now + map[reading.Level]float64{reading.Calm: 30, reading.Elevated: 5}[s.level]
		if s.level > reading.Elevated {
			s.nextScan = s.now + 2
		}
	}
	return o
}

func (s *sim) levelOf(used int64) reading.Level {
	switch {
	case used > s.mem[2]*9/10:
		return reading.Critical
	case used > s.mem[1]:
		return reading.Pressure
	case used*10 > s.mem[1]*8, s.level > reading.Calm && used*100 > s.mem[1]*64:
		return reading.Elevated
	}
	return reading.Calm
}

// scan sums the sockets by owner as the scanner does.
func (s *sim) scan() []trendtest.Owner {
	sums := make(map[string]*trendtest.Owner)
	peers := make(map[string]map[trendtest.Peer]*trendtest.Peer)
	compared := s.scans > 0
	after := reading.StalledAfter.Seconds() - 1 // the scanner's tolerance
	s.scans++
	for _, k := range s.sockets {
		if !k.seen {
			k.seen, k.firstSeen, k.quietSince = true, s.clock, s.clock
		} else if k.recv != k.lastRecv || k.send != k.lastSend {
			k.quietSince = s.clock
		}
		k.lastRecv, k.lastSend = k.recv, k.send

		p := k.owner
		o := sums[p.key]
		if o == nil {
			o = &trendtest.Owner{
				Key: p.key, Kind: p.kind, Holders: p.holders, HolderCount: len(p.holders),
				States: make(map[string]int64), Classes: make(map[string][2]int64),
			}
			if p.kind == reading.KindService {
				o.Invocation = fmt.Sprintf("%016x", p.invocation)
			}
			if compared {
				o.Stalled, o.Young = new(int64), new(int64)
				o.StalledReceive, o.StalledSend = new([2]int64), new([2]int64)
			}
			sums[p.key] = o
			peers[p.key] = make(map[trendtest.Peer]*trendtest.Peer)
		}
		b := k.bytes()
		o.Sockets++
		o.Bytes += b
		o.Receive += k.recv
		o.Send += k.send
		o.Reserved += b - k.recv - k.send
		o.States[k.state.String()]++
		c := o.Classes[k.class.String()]
		o.Classes[k.class.String()] = [2]int64{c[0] + 1, c[1] + b}
		if k.class == reading.Owned || k.class == reading.Unaccepted || k.class == reading.Hidden {
			o.Unread += k.recv
		}
		if compared {
			if s.clock-k.quietSince >= after {
				if k.recv > 0 {
					o.StalledReceive[0]++
					o.StalledReceive[1] += k.recv
				}
				if k.send > 0 {
					o.StalledSend[0]++
					o.StalledSend[1] += k.send
				}
				if k.recv|k.send != 0 {
					*o.Stalled += b
				}
			}
			if s.clock-k.firstSeen < after {
				*o.Young += b
			}
		}
		if k.send > 0 {
			id := trendtest.Peer{Owner: k.peerOwner, Address: k.peerAddr}
			peer := peers[p.key][id]
			if peer == nil {
				peer = &trendtest.Peer{Owner: k.peerOwner, Address: k.peerAddr}
				peers[p.key][id] = peer
			}
			peer.Sockets++
			peer.Bytes += k.send
		}
	}
	out := make([]trendtest.Owner, 0, len(sums))
	for _, key := range slices.Sorted(maps.Keys(sums)) {
		o := sums[key]
		for _, p := range peers[key] {
			o.Peers = append(o.Peers, *p)
		}
		slices.SortFunc(o.Peers, func(a, b trendtest.Peer) int {
			return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Address, b.Address))
		})
		o.Peers = o.Peers[:min(len(o.Peers), 4)]
		out = append(out, *o)
	}
	slices.SortStableFunc(out, func(a, b trendtest.Owner) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return out
}
