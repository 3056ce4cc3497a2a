package owner

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// balanced checks what holds of every attribution: owners, classes and evidence
// sum up to what was seen.
func balanced(r *Result) error {
	var errs []error
	want := func(what string, got, want any) {
		if got != want {
			errs = append(errs, fmt.Errorf("%s: %v, want %v", what, got, want))
		}
	}
	var classes, owners reading.Tally
	var named int64
	for _, c := range r.Classes {
		classes.Add(c.Sockets, c.Bytes)
	}
	keys := map[string]bool{}
	for _, o := range r.Owners {
		owners.Add(o.Sum.Sockets, o.Sum.Bytes)
		var own, evidence reading.Tally
		for _, c := range o.Classes {
			own.Add(c.Sockets, c.Bytes)
		}
		for _, e := range o.Evidence {
			evidence.Add(e.Sockets, e.Bytes)
		}
		want(o.Key+" by class", own, o.Sum)
		want(o.Key+" by evidence", evidence, o.Sum)
		if o.Kind != reading.KindUnresolved {
			named += o.Sum.Bytes
			want(o.Key+" without evidence", o.Evidence[reading.NoEvidence].Sockets+o.Evidence[reading.Netns].Sockets, int64(0))
			want(o.Key+" by parts", o.Receive+o.Send+o.Reserved, o.Sum.Bytes)
		}
		if o.Kind == reading.KindUnresolved {
			nothing := o.Evidence[reading.NoEvidence].Sockets + o.Evidence[reading.Netns].Sockets
			want("unresolved with evidence", o.Sum.Sockets-nothing, int64(0))
		}
		want(o.Key+" named twice", keys[o.Key], false)
		keys[o.Key] = true
		if len(o.Holders) > reading.MaxHolders || o.HolderCount < len(o.Holders) {
			errs = append(errs, fmt.Errorf("%s: %d of %d holders", o.Key, len(o.Holders), o.HolderCount))
		}
		if o.Shared && o.HolderCount < 2 {
			errs = append(errs, fmt.Errorf("%s: shared by %d holders", o.Key, o.HolderCount))
		}
	}
	want("owners", owners, r.Seen)
	want("classes", classes, r.Seen)
	want("named bytes", named, r.Named)
	if !slices.IsSortedFunc(r.Owners, func(x, y reading.Owner) int {
		return cmp.Or(-cmp.Compare(x.Sum.Bytes, y.Sum.Bytes), cmp.Compare(x.Key, y.Key))
	}) {
		errs = append(errs, errors.New("owners are not sorted"))
	}
	return errors.Join(errs...)
}

// life is a host on which sockets and processes come and go at random.
type life struct {
	*world
	*rand.Rand
	sockets map[reading.Cookie]*reading.Socket
	holders map[uint32][]ProcRef // by inode
	next    uint32
}

var states = []reading.State{reading.Established, reading.CloseWait, reading.FinWait1, reading.LastAck, reading.Listen, reading.Close, reading.SynSent}

func (l *life) born() {
	l.next++
	s := row(reading.Cookie(l.next), l.next, states[l.IntN(len(states))], uint32(l.IntN(100_000)))
	s.Local = netip.AddrPortFrom(s.Local.Addr(), uint16(1+l.IntN(5)))
	s.Remote = netip.AddrPortFrom(s.Remote.Addr(), uint16(l.next))
	s.Mem.WmemQueued, s.Mem.FwdAlloc = uint32(l.IntN(100_000)), int32(l.IntN(4096))-1000
	s.CgroupID = uint64(l.IntN(6))
	s.MPTCP = l.IntN(10) == 0
	if l.IntN(3) == 0 && s.State != reading.Listen {
		s.Inode = 0
	}
	l.sockets[Key(s)] = s
	for range l.IntN(4) {
		if s.Inode != 0 {
			l.holders[s.Inode] = append(l.holders[s.Inode], ProcRef(1+l.IntN(len(l.procs))))
		}
	}
}

// turn is one scan with some search or none, as budgets allow.
func (l *life) turn() *Result {
	for range l.IntN(60) {
		l.born()
	}
	for key, s := range l.sockets {
		switch l.IntN(12) {
		case 0:
			delete(l.sockets, key)
		case 1: // closed
			if s.State != reading.Listen && !s.MPTCP {
				s.Inode, s.State = 0, reading.FinWait1
			}
		case 2:
			s.Mem.RmemAlloc = uint32(l.IntN(100_000))
		}
	}
	rows := make([]*reading.Socket, 0, len(l.sockets))
	for _, s := range l.sockets {
		rows = append(rows, s)
		if l.IntN(20) == 0 {
			rows = append(rows, s) // the kernel repeats rows under churn
		}
	}
	l.scan(rows...)
	if i := l.IntN(len(l.procs)); l.IntN(2) == 0 {
		l.procs[i].Alive = l.procs[i].PID == 1 || !l.procs[i].Alive
	}
	search := l.table.BeginSearch()
	whole := l.IntN(2) == 0
	for i := range l.procs {
		if !whole && l.IntN(2) == 0 {
			continue
		}
		for inode, holders := range l.holders {
			if search.Holds(inode) && slices.Contains(holders, ProcRef(i+1)) {
				search.Found(ProcRef(i+1), inode)
			}
		}
		l.procs[i].Read = search.Number()
	}
	if whole {
		search.GaveUp(^uint32(0))
	}
	for range l.IntN(3) {
		l.next++
		l.table.AddHidden(0, row(reading.Cookie(l.next), l.next, reading.Close, 5000), ProcRef(1+l.IntN(len(l.procs))))
	}
	l.complete = l.IntN(4) > 0
	return l.attribute()
}

// TestInvariants lives many random lives: whatever happens, the sums balance,
// every look-up agrees with them, and the sums over it are the owners'.
func TestInvariants(t *testing.T) {
	for seed := range uint64(40) {
		l := &life{
			world: newWorld(t), Rand: rand.New(rand.NewPCG(seed, 1)),
			sockets: map[reading.Cookie]*reading.Socket{}, holders: map[uint32][]ProcRef{},
		}
		for i := range int32(6) {
			l.proc(1+i*100, fmt.Sprintf("unit-%d.service", i%4))
		}
		for id := range uint64(4) {
			l.cgroup(id+1, fmt.Sprintf("unit-%d.service", id))
		}
		for range 25 {
			r := l.turn()
			if err := l.table.check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			sums := map[string]reading.Tally{}
			for i := range l.table.n {
				e := l.table.at(i)
				s := reading.Socket{Cookie: e.key}
				r.Lookup(&s)
				sum := sums[s.Owner]
				sum.Add(1, e.bytes())
				sums[s.Owner] = sum
				if (s.Holder != nil) != (s.Evidence == reading.FD) {
					t.Fatalf("seed %d: holder %v by evidence %v", seed, s.Holder, s.Evidence)
				}
				if s.Holder != nil && !l.procs[e.holder-1].Alive {
					t.Fatalf("seed %d: a dead process holds socket %d", seed, e.key)
				}
				if s.Evidence == reading.FD && s.Owner != l.book.Get(l.procs[e.holder-1].Owner).Key {
					t.Fatalf("seed %d: owner %s, holder %+v", seed, s.Owner, s.Holder)
				}
			}
			for _, o := range r.Owners {
				if o.Sum != sums[o.Key] {
					t.Fatalf("seed %d: %s holds %+v, its sockets %+v", seed, o.Key, o.Sum, sums[o.Key])
				}
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
