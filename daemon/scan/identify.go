package scan

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/cgroup"
	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/units"
)

// sources names owners: of processes, and of cgroups. It remembers both, so
// that a scan asks only for what is new.
type sources struct {
	s      *Scanner
	fs     procfs.FS
	procs  []processSource // by owner.ProcRef-1
	byPath map[string]groupSource
	byID   map[uint64]cgroupRef
	live   map[owner.Ref]struct{} // owners with a living process that holds sockets
	turn   uint32
	// unheard: PID 1 could not be asked of a cgroup, whose name is a label.
	unheard bool
	// own is the cgroup that tcpmemd runs in, "" in the root, where all may be.
	own string
}

// processSource is a process that holds sockets.
type processSource struct {
	path   string // cgroup path
	base   owner.Source
	at     time.Time
	owner  owner.Ref
	holder reading.Holder
}

// groupSource is what a cgroup path says, and when it was asked.
type groupSource struct {
	source owner.Source
	id     cgroup.ID // of the directory, 0 where it is not known
	at     time.Time
	used   uint32 // turn in which it was last asked for
}

type cgroupRef struct {
	path string
	gone bool
	ref  owner.Ref
	at   time.Time
	used uint32
}

// groupAge is how long an answer about a cgroup or a process is good: a pod's
// name may become known, a process move to another cgroup. A unit that was
// restarted, with another InvocationID, is asked for at once: its directory is
// another one. Whoever acts asks again anyway.
const groupAge = 2 * time.Minute

// errForeign: PID 1 would take the path for another cgroup's.
var errForeign = errors.New("the path is of a foreign cgroup namespace")

func newSources(s *Scanner, fs procfs.FS) *sources {
	c := &sources{s: s, fs: fs, byPath: map[string]groupSource{}, byID: map[uint64]cgroupRef{}, live: map[owner.Ref]struct{}{}}
	if own, _ := c.pathOf(int32(os.Getpid())); own != "/" {
		c.own = own
	}
	return c
}

func (c *sources) of(ref owner.ProcRef) *processSource {
	for len(c.procs) < int(ref) {
		c.procs = append(c.procs, processSource{})
	}
	return &c.procs[ref-1]
}

// identify reads who a process is, and then looks again whether it still holds
// the socket for which it was asked: its pid may be another's by now.
func (c *sources) identify(ctx context.Context, h freshHolder) {
	p := c.s.index.Proc(h.ref)
	if !p.Alive || p.Identified {
		return
	}
	src, ok := c.ask(p.PID)
	if !ok || !c.s.stillHolds(p.PID, h.one) {
		return
	}
	p.Start, p.Identified = src.base.StartTime, true
	*c.of(h.ref) = src
	c.refreshProcess(ctx, h.ref)
}

// ask reads who a process is; ok is false where it has ended.
func (c *sources) ask(pid int32) (src processSource, ok bool) {
	st, err := c.fs.Stat(int(pid))
	if err != nil || st.Zombie() {
		return src, false
	}
	src.at = time.Now()
	src.path, _ = c.pathOf(pid)
	src.base = owner.Source{PID: pid, StartTime: st.StartTime}
	if src.base.Command, err = c.fs.CommandOf(st); err != nil {
		src.base.Command = st.Comm
	}
	if uid, err := c.fs.UID(int(pid)); err == nil {
		src.base.UID = &uid
	}
	return src, true
}

// pathOf is the cgroup of a process, or of a thread of it.
func (c *sources) pathOf(pid int32) (path string, ok bool) {
	cg, err := c.fs.Cgroup(int(pid))
	if err != nil {
		return "", false
	}
	// Where systemd manages a v1 hierarchy, only that one has the units.
	if label := cgroup.Parse(cgroup.Path(cg.V1)); len(cg.Path) <= 1 && label.Kind() != "" {
		return cg.V1, true
	}
	return cg.Path, true
}

// refreshAll brings the owners of all holders up to date, from answers that
// are at most groupAge old.
func (c *sources) refreshAll(ctx context.Context) {
	c.turn++
	clear(c.live)
	if c.unheard {
		c.askAnew(ctx)
	}
	for ref, p := range c.s.index.All {
		if p.Identified {
			c.refreshProcess(ctx, ref)
		}
	}
}

// askAnew asks PID 1, where it is there again, of all that is known by labels:
// they must not last for groupAge, since a label is no target.
func (c *sources) askAnew(ctx context.Context) {
	if _, _, err := c.s.units.Connected(ctx); err != nil {
		return
	}
	c.unheard = false
	for path, g := range c.byPath {
		if !g.source.UnitVerified {
			g.at = time.Time{}
			c.byPath[path] = g
		}
	}
	for id, k := range c.byID {
		k.at = time.Time{}
		c.byID[id] = k
	}
}

func (c *sources) refreshProcess(ctx context.Context, ref owner.ProcRef) {
	src := c.of(ref)
	if time.Since(src.at) > groupAge {
		if now, ok := c.ask(src.base.PID); ok && now.base.StartTime == src.base.StartTime {
			*src = now
		}
	} else if path, ok := c.pathOf(c.s.index.Proc(ref).Task()); ok {
		src.path = path // a login moves from its server's unit to its session's
	}
	who := c.group(ctx, src.path)
	who.PID, who.StartTime = src.base.PID, src.base.StartTime
	who.Command, who.UID = src.base.Command, src.base.UID
	id, _ := owner.Identify(who) // a process is always somebody
	src.owner = c.s.book.Put(id)
	c.live[src.owner] = struct{}{}
	src.holder = reading.Holder{PID: int(src.base.PID), StartTime: src.base.StartTime, Command: src.base.Command, Unit: id.Unit}
}

// cgroup names the owner of a cgroup id, 0 where nobody is known.
func (c *sources) cgroup(ctx context.Context, id uint64) owner.Ref {
	now := time.Now()
	entry, ok := c.s.tree.Resolve(cgroup.ID(id))
	if !ok {
		return 0
	}
	known := c.byID[id]
	if known.ref != 0 && known.gone == entry.Gone && now.Sub(known.at) < groupAge {
		known.used = c.turn
		c.byID[id] = known
		return known.ref
	}
	if known.ref != 0 && known.gone != entry.Gone {
		delete(c.byPath, known.path) // PID 1 may not know the unit any more
	}
	known = cgroupRef{path: string(entry.Path), gone: entry.Gone, at: now, used: c.turn}
	who := c.group(ctx, known.path)
	who.CgroupGone = entry.Gone
	if o, ok := owner.Identify(who); ok {
		known.ref = c.known(o)
	}
	c.byID[id] = known
	return known.ref
}

// known puts an owner that only a cgroup names into the book. What a living
// process says of the same owner stands: the cgroup may be one of an earlier
// start, that is gone.
func (c *sources) known(o reading.Owner) owner.Ref {
	ref, ok := c.s.book.Find(o.Key)
	if ok {
		if _, live := c.live[ref]; live {
			return ref
		}
		before := c.s.book.Get(ref)
		o.UID, o.Command = before.UID, before.Command
	}
	return c.s.book.Put(o)
}

// forget drops what no scan has asked for lately.
func (c *sources) forget() {
	const turns = 20
	for path, g := range c.byPath {
		if c.turn-g.used > turns {
			delete(c.byPath, path)
		}
	}
	for id, k := range c.byID {
		if c.turn-k.used > turns {
			delete(c.byID, id)
		}
	}
}

// group says what is known of a cgroup path: PID 1's word where there is a bus,
// otherwise the path's own as a label.
func (c *sources) group(ctx context.Context, path string) owner.Source {
	now := time.Now()
	g, ok := c.byPath[path]
	id := g.id
	if !ok || g.used != c.turn {
		id = c.s.tree.IDAt(cgroup.Path(path))
	}
	switch {
	case ok && id != g.id && id != 0: // started anew
		g.source, g.at = c.read(ctx, path, c.s.units.ByCgroupNow), now
	case !ok || now.Sub(g.at) >= groupAge:
		g.source, g.at = c.read(ctx, path, c.s.units.ByCgroup), now
	}
	g.id = id
	g.used = c.turn
	c.byPath[path] = g
	return g.source
}

func (c *sources) read(ctx context.Context, path string, ask func(context.Context, string) (units.Unit, error)) owner.Source {
	label := cgroup.Parse(cgroup.Path(path))
	c.s.pods.Name(&label)
	src := owner.Source{
		Cgroup: path, Unit: label.Unit, UnitKind: label.Kind(), Manager: label.Manager,
		Container: label.Container, Pod: label.Pod,
	}
	outer := label.SystemUnit
	// Without PID 1's word, or where it knows no such unit (any more), the name
	// stays a label: good to tell, never a target.
	unit, err := units.Unit{}, errForeign
	if !c.s.foreign {
		unit, err = ask(ctx, path)
	}
	if errors.Is(err, units.ErrNoBus) {
		c.unheard = true
	}
	if err == nil && !unit.IsSlice() {
		outer = unit.Name
		if label.Manager == "system" || label.Manager == "" {
			own := cgroup.Parse(cgroup.Path(unit.ControlGroup))
			src.Unit, src.UnitKind, src.Manager = unit.Name, own.Kind(), "system"
			src.UnitVerified, src.InvocationID = true, unit.InvocationID
			if service, err := c.s.units.ServiceOf(ctx, unit); err == nil {
				src.Service = service.Name
			}
		}
	}
	if path != "" && path == c.own {
		// A unit has its name for that, a container any name.
		src.Protected = "tcpmemd runs in it"
	}
	if src.Protected == "" && outer != "" {
		src.Protected = units.Protected(outer, c.s.cfg.Protect)
	}
	if src.Protected == "" && src.Service != "" {
		src.Protected = units.Protected(src.Service, c.s.cfg.Protect)
	}
	return src
}
