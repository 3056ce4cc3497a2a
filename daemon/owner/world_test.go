package owner

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// world is a host in miniature: a table, processes, cgroups.
type world struct {
	t       *testing.T
	table   *Table
	book    *Book
	queues  *Queues
	procs   []Proc
	cgroups map[uint64]Ref
	kernel  map[reading.Cookie]Ref
	ends    []End
	second  uint32
	// complete: every process could be read.
	complete bool
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, table: NewTable(0), book: NewBook(), queues: NewQueues(),
		cgroups: map[uint64]Ref{}, kernel: map[reading.Cookie]Ref{}, second: 100, complete: true,
	}
}

// unit names a system unit's owner.
func (w *world) unit(name string) Ref {
	o, ok := Identify(Source{Unit: name, UnitKind: reading.KindService, Manager: "system"})
	if !ok {
		w.t.Fatalf("unit %s names nobody", name)
	}
	return w.book.Put(o)
}

// cgroup makes the unit the owner of a cgroup id.
func (w *world) cgroup(id uint64, unit string) { w.cgroups[id] = w.unit(unit) }

// proc starts a process of a unit.
func (w *world) proc(pid int32, unit string) ProcRef {
	w.procs = append(w.procs, Proc{
		Owner: w.unit(unit), Alive: true, PID: pid,
		Holder: reading.Holder{PID: int(pid), StartTime: uint64(pid), Command: unit, Unit: unit},
	})
	return ProcRef(len(w.procs))
}

// scan shows these rows as the scanner would.
func (w *world) scan(rows ...*reading.Socket) {
	w.second++
	w.queues = NewQueues()
	w.table.BeginScan(w.second)
	for _, r := range rows {
		if !w.table.Add(0, r) {
			continue
		}
		switch {
		case r.State == reading.Listen:
			w.queues.Listen(0, r)
		case r.Inode == 0 && !IsOrphanState(r.State):
			w.queues.Unaccepted(w.table, 0, r)
		}
	}
	w.table.EndScan()
}

// hold lets processes hold a socket.
func (w *world) hold(inode uint32, procs ...ProcRef) {
	s := w.table.BeginSearch()
	for _, p := range procs {
		s.Found(p, inode)
	}
}

func (w *world) attribute() *Result {
	w.t.Helper()
	r := Attribute(w.table, w.book, Inputs{
		Procs: w.procs, Queues: w.queues, Ends: w.ends, KernelUse: w.kernel, Complete: w.complete,
		Cgroup:     func(id uint64) Ref { return w.cgroups[id] },
		Namespaces: []reading.NetnsID{{Inode: 1}},
	})
	if err := balanced(r); err != nil {
		w.t.Error(err)
	}
	return r
}

func owner(t *testing.T, r *Result, key string) reading.Owner {
	t.Helper()
	for _, o := range r.Owners {
		if o.Key == key {
			return o
		}
	}
	t.Fatalf("no owner %s among %d", key, len(r.Owners))
	return reading.Owner{}
}
