package api

import (
	"cmp"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Owners is the document of "tcpmemctl owners --json": one balanced ledger of
// the host's TCP memory and who holds it.
type Owners struct {
	Header
	Memory           Memory        `json:"memory"`
	Orphans          OrphanCount   `json:"orphans"`
	TimeWait         Limited       `json:"time_wait"`
	SocketsAllocated int64         `json:"sockets_allocated"`
	Ledger           Ledger        `json:"ledger"`
	Owners           []Owner       `json:"owners"`
	Truncated        Truncated     `json:"truncated"`
	Gaps             []reading.Gap `json:"gaps"`
}

// Ledger balances the kernel's count against the sockets seen, in bytes.
type Ledger struct {
	SeenBytes       int64   `json:"seen_bytes"`
	NamedBytes      int64   `json:"named_bytes"`
	UnseenBytes     int64   `json:"unseen_bytes"` // used - seen, signed
	ReserveMaxBytes int64   `json:"reserve_max_bytes"`
	Coverage        float64 `json:"coverage"` // named / max(seen, used - reserve, 1 page)
	HiddenEstimate  int64   `json:"hidden_estimate"`
	// IndexAgeSeconds is the age of the oldest look at a process that the owners
	// rest on.
	IndexAgeSeconds float64         `json:"index_age_seconds"`
	Classes         Classes         `json:"classes"`
	Checks          []reading.Check `json:"checks"`
}

// Classes has every class of the ledger, also those without a socket.
type Classes struct {
	Owned      reading.Tally `json:"owned"`
	Unaccepted reading.Tally `json:"unaccepted"`
	Orphan     reading.Tally `json:"orphan"`
	Hidden     reading.Tally `json:"hidden"`
	Kernel     reading.Tally `json:"kernel"`
	Unresolved reading.Tally `json:"unresolved"`
}

// Of returns the tally of one class.
func (c *Classes) Of(class reading.Class) reading.Tally { return *c.at(class) }

// Sum adds the classes up.
func (c *Classes) Sum() reading.Tally {
	var sum reading.Tally
	for class := range reading.NumClasses {
		t := c.at(class)
		sum.Add(t.Sockets, t.Bytes)
	}
	return sum
}

func (c *Classes) at(class reading.Class) *reading.Tally {
	switch class {
	case reading.Owned:
		return &c.Owned
	case reading.Unaccepted:
		return &c.Unaccepted
	case reading.Orphan:
		return &c.Orphan
	case reading.Hidden:
		return &c.Hidden
	case reading.Kernel:
		return &c.Kernel
	default:
		return &c.Unresolved
	}
}

func classesFrom(tallies *[reading.NumClasses]reading.Tally) Classes {
	var c Classes
	for class := range reading.NumClasses {
		*c.at(class) = tallies[class]
	}
	return c
}

// Owner is who holds TCP memory. In Classes every class is present; Evidence
// and States have only what occurs.
type Owner struct {
	Key          string       `json:"key"`
	Name         string       `json:"name"`
	Kind         reading.Kind `json:"kind"`
	Unit         *string      `json:"unit"`
	Manager      *string      `json:"manager"`
	UnitVerified bool         `json:"unit_verified"` // by PID 1; otherwise Unit is a label
	Cgroup       *string      `json:"cgroup"`
	CgroupGone   bool         `json:"cgroup_gone"`
	InvocationID *string      `json:"invocation_id"`
	Container    *Container   `json:"container"`
	Pod          *Pod         `json:"pod"`
	UID          *uint32      `json:"uid"`
	Command      *string      `json:"command"`
	Holders      []Holder     `json:"holders"` // at most reading.MaxHolders
	HolderCount  int          `json:"holder_count"`
	Shared       bool         `json:"shared"`
	Protected    *string      `json:"protected"` // why
	Netns        []Netns      `json:"netns"`

	Sockets       int64 `json:"sockets"`
	Bytes         int64 `json:"bytes"`
	ReceiveBytes  int64 `json:"receive_bytes"`
	SendBytes     int64 `json:"send_bytes"`
	ReservedBytes int64 `json:"reserved_bytes"`

	UnreadBytes  int64  `json:"unread_bytes"`
	StalledBytes *int64 `json:"stalled_bytes"`
	YoungBytes   *int64 `json:"young_bytes"`

	Classes  Classes                  `json:"classes"`
	States   map[string]int64         `json:"states"`
	Evidence map[string]reading.Tally `json:"evidence"`
	Peers    []Peer                   `json:"peers"`
	Judgement
	GrowthBytesPerMinute *int64 `json:"growth_bytes_per_minute"`
}

// Holder is a process with a descriptor of the socket; with StartTime (clock
// ticks since boot) PID is never reused.
type Holder struct {
	PID       int     `json:"pid"`
	StartTime uint64  `json:"start_time"`
	Command   string  `json:"command"`
	Unit      *string `json:"unit"`
}

// Netns names a network namespace; Cookie, unlike Inode, is never reused, and
// null where it could not be read.
type Netns struct {
	Inode  uint32  `json:"inode"`
	Cookie *uint64 `json:"cookie"`
}

// Container names a container; Name is null where no runtime's file told it.
type Container struct {
	ID      string  `json:"id"`
	Runtime string  `json:"runtime"`
	Name    *string `json:"name"`
}

// Pod names a Kubernetes pod; Namespace and Name are null where only its uid
// is known.
type Pod struct {
	Namespace *string `json:"namespace"`
	Name      *string `json:"name"`
	UID       string  `json:"uid"`
}

// Peer is the other end of an owner's send queues: an owner of this host
// (Owner is its key) or a remote address.
type Peer struct {
	Owner   *string `json:"owner"`
	Address *string `json:"address"`
	Sockets int64   `json:"sockets"`
	Bytes   int64   `json:"bytes"`
}

// Truncated counts what a limit cut off the end of a list: how many entries,
// and their bytes.
type Truncated struct {
	Owners int   `json:"owners"`
	Bytes  int64 `json:"bytes"`
}

// OwnersFrom describes a reading.
func OwnersFrom(m Meta, r *reading.Reading) *Owners {
	h := m.header(r)
	seen := r.Ledger.OrphansSeen
	doc := &Owners{
		Header:           h,
		Memory:           memoryFrom(&r.Sample, r.Level, r.Trend, h.Stale),
		Orphans:          OrphanCount{Count: r.Sample.Orphans, Seen: &seen, Limit: r.Sample.MaxOrphans},
		TimeWait:         Limited{Count: r.Sample.TimeWait, Limit: r.Sample.MaxTimeWait},
		SocketsAllocated: r.Sample.Alloc,
		Ledger:           ledgerFrom(r),
		Owners:           make([]Owner, 0, len(r.Owners)),
		Gaps:             gapsFrom(r.Sample.Gaps, r.Gaps),
	}
	for i := range r.Owners {
		doc.Owners = append(doc.Owners, ownerFrom(&r.Owners[i]))
	}
	slices.SortStableFunc(doc.Owners, func(a, b Owner) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Key, b.Key))
	})
	return doc
}

// Keep keeps the n biggest owners and accounts for the rest in Truncated;
// n <= 0 keeps all.
func (o *Owners) Keep(n int) {
	if n <= 0 || len(o.Owners) <= n {
		return
	}
	for i := range o.Owners[n:] {
		o.Truncated.Owners++
		o.Truncated.Bytes += o.Owners[n+i].Bytes
	}
	o.Owners = o.Owners[:n:n]
}

func ledgerFrom(r *reading.Reading) Ledger {
	l := &r.Ledger
	return Ledger{
		SeenBytes:       l.Seen,
		NamedBytes:      l.Named,
		UnseenBytes:     l.Unseen,
		ReserveMaxBytes: l.ReserveMax,
		Coverage:        finite(l.Coverage),
		HiddenEstimate:  l.HiddenEstimate,
		IndexAgeSeconds: r.IndexAge.Seconds(),
		Classes:         classesFrom(&l.Classes),
		Checks:          list(l.Checks),
	}
}

func ownerFrom(o *reading.Owner) Owner {
	out := Owner{
		Key:          o.Key,
		Name:         o.Name,
		Kind:         o.Kind,
		Unit:         known(o.Unit),
		Manager:      known(o.Manager),
		UnitVerified: o.UnitVerified,
		Cgroup:       known(o.Cgroup),
		CgroupGone:   o.CgroupGone,
		InvocationID: known(o.InvocationID),
		UID:          o.UID,
		Command:      known(o.Command),
		Holders:      make([]Holder, 0, len(o.Holders)),
		HolderCount:  o.HolderCount,
		Shared:       o.Shared,
		Protected:    known(o.Protected),
		Netns:        make([]Netns, 0, len(o.Netns)),

		Sockets:       o.Sum.Sockets,
		Bytes:         o.Sum.Bytes,
		ReceiveBytes:  o.Receive,
		SendBytes:     o.Send,
		ReservedBytes: o.Reserved,
		UnreadBytes:   o.Unread,
		StalledBytes:  o.Stalled,
		YoungBytes:    o.Young,

		Classes:  classesFrom(&o.Classes),
		States:   make(map[string]int64),
		Evidence: make(map[string]reading.Tally),
		Peers:    make([]Peer, 0, len(o.Peers)),

		Judgement:            judgementFrom(o.Verdict),
		GrowthBytesPerMinute: o.GrowthPerMinute,
	}
	if c := o.Container; c != nil {
		out.Container = &Container{ID: c.ID, Runtime: c.Runtime, Name: known(c.Name)}
	}
	if p := o.Pod; p != nil {
		out.Pod = &Pod{Namespace: known(p.Namespace), Name: known(p.Name), UID: p.UID}
	}
	for i := range o.Holders {
		out.Holders = append(out.Holders, *holderFrom(&o.Holders[i]))
	}
	for _, n := range o.Netns {
		out.Netns = append(out.Netns, netnsFrom(n))
	}
	for state, n := range o.States {
		if n != 0 {
			out.States[reading.State(state).String()] = n
		}
	}
	for evidence, t := range o.Evidence {
		if t != (reading.Tally{}) {
			out.Evidence[reading.Evidence(evidence).String()] = t
		}
	}
	for _, p := range o.Peers {
		out.Peers = append(out.Peers, Peer{
			Owner: known(p.Owner), Address: known(p.Address), Sockets: p.Sockets, Bytes: p.Bytes,
		})
	}
	return out
}

func holderFrom(h *reading.Holder) *Holder {
	if h == nil {
		return nil
	}
	return &Holder{PID: h.PID, StartTime: h.StartTime, Command: h.Command, Unit: known(h.Unit)}
}

func netnsFrom(n reading.NetnsID) Netns {
	out := Netns{Inode: n.Inode}
	if n.Cookie != 0 {
		out.Cookie = &n.Cookie
	}
	return out
}
