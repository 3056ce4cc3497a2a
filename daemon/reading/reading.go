// Package reading holds the plain values that the rooms of the daemon hand to
// each other: what a sample measured, what a scan found, who owns what. It
// has no behaviour beyond arithmetic and names, and imports nothing of this
// module.
//
// A value that a kernel may omit is a pointer: nil is "not known", never zero.
package reading

import "time"

// Pages counts memory in kernel pages, the unit of net.ipv4.tcp_mem and of
// the mem column of /proc/net/sockstat.
type Pages int64

// Bytes converts a count of pages with the host's page size (in bytes).
func (p Pages) Bytes(pageSize int) int64 { return int64(p) * int64(pageSize) }

// TCPMem is the triple of net.ipv4.tcp_mem (tcp(7), Documentation/networking/ip-sysctl.rst).
type TCPMem struct {
	Min, Pressure, Max Pages
}

// SkMem is the INET_DIAG_SKMEMINFO attribute, in bytes, in the order and
// words of SK_MEMINFO_* in include/uapi/linux/sock_diag.h. Backlog is bytes,
// Drops counts packets.
type SkMem struct {
	RmemAlloc  uint32
	Rcvbuf     uint32
	WmemAlloc  uint32
	Sndbuf     uint32
	FwdAlloc   int32 // reserved ahead; the kernel's int, may be negative
	WmemQueued uint32
	Optmem     uint32
	Backlog    uint32
	Drops      uint32
}

// Bytes is what the socket holds of the tcp_mem pool: receive queue, send
// queue and reserve. Over all sockets the sum is sockstat's mem up to the
// per-CPU reserve (sk_mem_charge, __sk_mem_schedule in net/core/sock.c).
func (m SkMem) Bytes() int64 {
	return int64(m.RmemAlloc) + int64(m.WmemQueued) + int64(m.FwdAlloc)
}

// Level is what the host is, without any policy.
type Level uint8

// Levels, in order of severity; Unknown means that the last sample is too old.
const (
	Unknown Level = iota
	Calm
	Elevated
	Pressure
	Critical
)

var levelNames = [...]string{"unknown", "calm", "elevated", "pressure", "critical"}

func (l Level) String() string { return nameOf(levelNames[:], int(l)) }

// MarshalText gives the level's name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText accepts the names that String gives; any other name is Unknown.
func (l *Level) UnmarshalText(text []byte) error {
	*l = Level(indexOf(levelNames[:], string(text)))
	return nil
}

// Sample is one reading of the host's counters. It is cheap: the daemon takes
// one each second.
type Sample struct {
	At       time.Time // with monotonic clock
	PageSize int       // bytes

	Mem  TCPMem
	Used Pages // sockstat TCP mem, whole host
	// ReserveMax is how far Used may differ from the sum over all sockets:
	// net.core.mem_pcpu_rsv pages for each possible CPU (256 where the sysctl
	// does not exist).
	ReserveMax    Pages
	UnderPressure *bool // column press of /proc/net/protocols

	Orphans    int64 // sockstat orphan, whole host
	MaxOrphans int64 // net.ipv4.tcp_max_orphans
	Alloc      int64 // sockstat alloc, whole host

	// TimeWait and MaxTimeWait are of the daemon's own namespace: the limit
	// net.ipv4.tcp_max_tw_buckets is per namespace since Linux 4.1.
	TimeWait    int64
	MaxTimeWait *int64

	// Inuse is the sum over all namespaces that were read of TCP and TCP6
	// inuse; the values of namespaces read in turn may be some seconds old.
	Inuse int64
	// Namespaces counts the network namespaces behind Inuse and Kernel.
	Namespaces int
	// MPTCP counts MPTCP sockets over the same namespaces; nil where the
	// kernel has no MPTCP.
	MPTCP *int64

	// Kernel sums the TcpExt counters over all namespaces since the daemon
	// started: it only rises, also when a namespace goes away.
	Kernel Counters

	Conntrack *Usage
	Files     *Usage // file handles of the host: /proc/sys/fs/file-nr

	Log  LogCounts
	Gaps []Gap
}

// Fill is used / max, the whole-host fill level; 0 where max is 0.
func (s *Sample) Fill() float64 {
	if s.Mem.Max <= 0 {
		return 0
	}
	return float64(s.Used) / float64(s.Mem.Max)
}

// Usage is a count beside its limit.
type Usage struct {
	Count, Limit int64
}

// Counters are the TcpExt counters of /proc/net/netstat that speak of TCP
// memory. Each is nil where the kernel does not print it. PressuresChrono is
// in milliseconds, the others count events.
type Counters struct {
	MemoryPressures, MemoryPressuresChrono *int64
	AbortOnMemory, AbortOnTimeout          *int64
	PruneCalled, RcvPruned, OfoPruned      *int64
	RcvCollapsed, RcvQDrop, ZeroWindowDrop *int64
	BacklogDrop, WqueueTooBig              *int64
	ListenOverflows, ListenDrops           *int64
}

// LogCounts counts kernel log records since the daemon opened the log. Readable is
// false where /dev/kmsg could not be opened; Lost counts records that the
// ring buffer overwrote before they were read.
type LogCounts struct {
	Readable       bool
	OutOfMemory    int64 // "TCP: out of memory -- consider tuning tcp_mem" (tcp_check_oom)
	TooManyOrphans int64 // "TCP: too many orphaned sockets" (tcp_check_oom)
	ConntrackFull  int64 // "nf_conntrack: table full, dropping packet"
	Lost           int64
}

// Gap is something that could not be read, and what it costs. MayHideBytes is
// nil where the size of the loss is unknown.
type Gap struct {
	Code         string `json:"code"` // stable, e.g. "netns-unreadable"
	What         string `json:"what"` // e.g. "netns 4026532000"
	Why          string `json:"why"`
	MayHideBytes *int64 `json:"may_hide_bytes"`
}

func nameOf(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return "unknown"
	}
	return names[i]
}

func indexOf(names []string, name string) int {
	for i, n := range names {
		if n == name {
			return i
		}
	}
	return 0
}
