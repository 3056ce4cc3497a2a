package reading

import "time"

// Kind is the flat partition of owners.
type Kind string

// Kinds of owner.
const (
	KindService     Kind = "service"
	KindUserService Kind = "user-service"
	KindSession     Kind = "session"
	KindScope       Kind = "scope"
	KindContainer   Kind = "container"
	KindProcess     Kind = "process"
	KindKernel      Kind = "kernel"
	KindUnresolved  Kind = "unresolved"
)

// Container names a container; Name is empty where no runtime's file told it.
type Container struct {
	ID      string `json:"id"`
	Runtime string `json:"runtime"` // containerd, cri-o, docker, podman
	Name    string `json:"name,omitempty"`
}

// Pod names a Kubernetes pod; Namespace and Name are empty where
// /var/log/pods did not tell them.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
}

// Holder is a process with a descriptor of the socket. StartTime is field 22
// of /proc/PID/stat (clock ticks since boot): with PID it is never reused.
// Command is comm plus the base name of argv[0] where they differ; processes
// choose it, so it is data and must be escaped before a person sees it.
type Holder struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"start_time"`
	Command   string `json:"command"`
	Unit      string `json:"unit"`
}

// Tally counts sockets and their bytes of the tcp_mem pool.
type Tally struct {
	Sockets int64 `json:"sockets"`
	Bytes   int64 `json:"bytes"`
}

// Add adds n sockets of together bytes.
func (t *Tally) Add(n, bytes int64) { t.Sockets += n; t.Bytes += bytes }

// Owner is who holds TCP memory: a systemd unit, a container, a process, or
// one of the two owners that stand for "kernel" and "nobody known".
type Owner struct {
	Key          string // stable and unique in a reading, e.g. "system/task-queue.service"
	Name         string // the name a person knows
	Kind         Kind
	Unit         string // "" where it has none
	Manager      string // "system", "user@UID", or "" without a unit
	UnitVerified bool   // PID 1 said so; false: a label read from the cgroup path
	Cgroup       string // path in the v2 hierarchy, "" where unknown
	CgroupGone   bool   // its directory no longer exists
	InvocationID string
	Container    *Container
	Pod          *Pod
	UID          *uint32  // of the primary holder
	Command      string   // of the primary holder
	Holders      []Holder // at most MaxHolders, primary holder of most bytes first
	HolderCount  int
	Shared       bool   // holders of one socket are in several units
	Protected    string // why it is protected, "" where it is not
	Netns        []NetnsID

	Sum      Tally
	Receive  int64 // rmem_alloc
	Send     int64 // wmem_queued
	Reserved int64 // fwd_alloc, may be negative
	Classes  [NumClasses]Tally
	Evidence [NumEvidence]Tally
	States   [NumStates]int64

	// Unread is the receive memory of connected and hidden sockets a process
	// holds or has not accepted.
	Unread int64
	// Stalled is the part of Sum.Bytes on sockets whose queues have not
	// changed for StalledAfter or longer; Young the part on sockets first
	// seen less than StalledAfter ago. Both nil before a first comparison.
	Stalled, Young *int64
	// StalledReceive and StalledSend are the sockets with a receive queue, or a
	// send queue, that stands still so long, and the bytes in those queues
	// (Tally.Bytes: rmem_alloc, wmem_queued).
	StalledReceive, StalledSend *Tally

	// Peers says who is at the other end of this owner's largest send queues,
	// biggest first: an owner of this host, or a remote address.
	Peers []Peer

	// Filled by the trend, nil where it has too little data.
	GrowthPerMinute *int64 // bytes
	Verdict         *Verdict
}

// MaxHolders bounds Owner.Holders.
const MaxHolders = 16

// StalledAfter is how long a socket's queues stand still to count as stalled.
const StalledAfter = 30 * time.Second

// Peer is one other end of an owner's send queues.
type Peer struct {
	Owner   string // key of a local owner, "" for a remote host
	Address string // remote address, or the local socket's address
	Tally          // this owner's sockets to it and their bytes
}

// VerdictKind says what the growth looks like.
type VerdictKind string

// Verdicts.
const (
	Leak     VerdictKind = "leak"
	Load     VerdictKind = "load"
	SlowPeer VerdictKind = "slow-peer"
)

// Verdict is a judgement with its reasons in words. Culprit is the owner's
// key, or the remote address, that does not read (slow-peer only).
type Verdict struct {
	Kind    VerdictKind `json:"kind"`
	Reasons []string    `json:"reasons"`
	Culprit string      `json:"culprit,omitempty"`
}

// Reading is one full scan: a balanced ledger of the host's TCP memory, and
// its owners in order of bytes descending, then key.
type Reading struct {
	Sample Sample // as taken at the end of the scan
	Level  Level
	// Took covers the scan; IndexAge says how old the oldest process
	// entry is that the owners rest on.
	Took     time.Duration
	IndexAge time.Duration
	// Partial: the scan ended early (budget or cancellation), so more may be
	// unresolved than need be.
	Partial bool

	Ledger Ledger
	Owners []Owner
	Gaps   []Gap

	// Filled by the trend.
	Trend Trend
}

// Trend is the judgement over the whole host. Times to a limit are nil where
// the pool does not grow.
type Trend struct {
	GrowthPerMinute *int64 // bytes
	EtaPressure     *time.Duration
	EtaMax          *time.Duration
	Verdict         *Verdict
}

// Ledger balances what the kernel counts against what the scan saw, in bytes.
type Ledger struct {
	Seen       int64 // over all sockets found, hidden ones included
	Named      int64 // of those, with a unit, container, process or kernel owner
	Unseen     int64 // used - seen; within ReserveMax it is no finding
	ReserveMax int64
	Coverage   float64 // named / max(seen, used - reserve, 1 page)
	// HiddenEstimate is alloc - inuse: sockets that no dump can show.
	HiddenEstimate int64
	OrphansSeen    int64
	Classes        [NumClasses]Tally
	Checks         []Check
}

// CheckStatus is the outcome of one identity check.
type CheckStatus string

// Outcomes. Unsure means that the counter moved while the scan ran.
const (
	CheckOK       CheckStatus = "ok"
	CheckUnsure   CheckStatus = "unsure"
	CheckMismatch CheckStatus = "mismatch"
	CheckSkipped  CheckStatus = "skipped"
)

// Check compares a kernel counter, read before and after the scan, with what
// the scan saw. The JSON shape is part of the commands' contract.
type Check struct {
	Name      string      `json:"name"`  // inuse, orphan, alloc, memory
	Scope     string      `json:"scope"` // host, or netns INODE
	Before    int64       `json:"before"`
	After     int64       `json:"after"`
	Seen      int64       `json:"seen"`
	Tolerance int64       `json:"tolerance"`
	Status    CheckStatus `json:"status"`
}
