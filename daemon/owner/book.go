package owner

import (
	"fmt"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Ref is an owner of a Book plus one; 0 is nobody.
type Ref uint32

// Book keeps the identities of owners across scans: the last-seen evidence of
// an orphan names an owner whose processes may all be gone.
type Book struct {
	owners []reading.Owner // identity only, no sums
	byKey  map[string]Ref
}

// NewBook returns an empty book.
func NewBook() *Book { return &Book{byKey: map[string]Ref{}} }

// Put records or refreshes an identity and returns its reference.
func (b *Book) Put(o reading.Owner) Ref {
	if r, ok := b.byKey[o.Key]; ok {
		b.owners[r-1] = o
		return r
	}
	b.owners = append(b.owners, o)
	r := Ref(len(b.owners))
	b.byKey[o.Key] = r
	return r
}

// Find returns the reference of an owner that the book knows.
func (b *Book) Find(key string) (Ref, bool) {
	r, ok := b.byKey[key]
	return r, ok
}

// Get returns the identity behind a reference that Put returned.
func (b *Book) Get(r Ref) *reading.Owner { return &b.owners[r-1] }

// Compact forgets the owners that no socket and none of the kept references
// name, once there are many of them. It returns the new reference for each
// old one, or nil where nothing changed. A Result of before is void then: compact
// before Attribute, not after it.
func (b *Book) Compact(t *Table, keep func(yield func(Ref))) []Ref {
	const few = 4096
	if len(b.owners) < few {
		return nil
	}
	used := make([]bool, len(b.owners)+1)
	for i := range t.n {
		used[t.at(i).owner] = true
	}
	keep(func(r Ref) { used[r] = true })
	moved := make([]Ref, len(b.owners)+1)
	kept := b.owners[:0]
	for i, o := range b.owners {
		if !used[i+1] {
			delete(b.byKey, o.Key)
			continue
		}
		kept = append(kept, o)
		moved[i+1] = Ref(len(kept))
		b.byKey[o.Key] = moved[i+1]
	}
	clear(b.owners[len(kept):])
	b.owners = kept
	for i := range t.n {
		e := t.at(i)
		e.owner = moved[e.owner]
	}
	return moved
}

// Source is what is known about a process or a cgroup that may own sockets.
// The scan fills it from /proc, the cgroup tree and PID 1.
type Source struct {
	Cgroup     string // path, "" where unknown
	CgroupGone bool

	Unit         string // "" where it belongs to none
	UnitKind     reading.Kind
	Manager      string // "system", "user@UID"
	UnitVerified bool
	InvocationID string
	Service      string // the service that a .socket unit triggers
	Container    *reading.Container
	Pod          *reading.Pod
	Protected    string

	PID       int32 // 0 for a cgroup without a process
	StartTime uint64
	Command   string
	UID       *uint32
}

// Identify names the owner that a source stands for; ok is false where it
// names nobody (the root of the cgroup tree without a process).
func Identify(s Source) (o reading.Owner, ok bool) {
	o = reading.Owner{
		Unit: s.Unit, Manager: s.Manager, UnitVerified: s.UnitVerified,
		Cgroup: s.Cgroup, CgroupGone: s.CgroupGone, InvocationID: s.InvocationID,
		Container: s.Container, Pod: s.Pod, Protected: s.Protected,
		UID: s.UID, Command: s.Command,
	}
	if s.Service != "" {
		// The socket unit listens for the service that it triggers.
		o.Unit, o.Name = s.Service, s.Service
		s.Unit, s.UnitKind = s.Service, reading.KindService
	}
	switch {
	case s.Container != nil:
		o.Kind, o.Key = reading.KindContainer, "container/"+s.Container.ID
		o.Name = containerName(s.Container, s.Pod)
	case s.Unit != "":
		o.Kind, o.Key, o.Name = s.UnitKind, s.Manager+"/"+s.Unit, s.Unit
	case s.PID != 0:
		o.Kind, o.Key, o.Name = reading.KindProcess, fmt.Sprintf("process/%d/%d", s.PID, s.StartTime), s.Command
	case s.Cgroup != "" && s.Cgroup != "/":
		// A group of processes that no unit names: all that is known is its path.
		o.Kind, o.Key, o.Name = reading.KindScope, "cgroup"+s.Cgroup, s.Cgroup
	default:
		return o, false
	}
	return o, true
}

func containerName(c *reading.Container, p *reading.Pod) string {
	name := c.Name
	if name == "" {
		name = c.ID[:min(len(c.ID), 12)]
	}
	if p != nil && p.Name != "" {
		return p.Namespace + "/" + p.Name + "/" + name
	}
	return name
}
