package api

import (
	"cmp"
	"container/heap"
	"context"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Sockets is the document of "tcpmemctl sockets --json": the sockets that a
// filter matches, by bytes descending, then cookie.
type Sockets struct {
	Header
	Filter    string        `json:"filter"` // "" matches all
	Matched   reading.Tally `json:"matched"`
	Sockets   []Socket      `json:"sockets"`
	Truncated reading.Tally `json:"truncated"` // matching, cut off by the limit
	Gaps      []reading.Gap `json:"gaps"`
}

// Socket is one socket. Local and Remote are null where they are not known,
// as for hidden sockets. TCPInfo is null unless it was asked for.
type Socket struct {
	Cookie   uint64  `json:"cookie"`
	Netns    Netns   `json:"netns"`
	MPTCP    bool    `json:"mptcp"` // the MPTCP socket itself, not a subflow
	State    string  `json:"state"`
	Local    *string `json:"local"`
	Remote   *string `json:"remote"`
	Inode    uint32  `json:"inode"` // 0: no descriptor refers to it
	UID      uint32  `json:"uid"`
	CgroupID *uint64 `json:"cgroup_id"`

	RecvQ uint32 `json:"recv_q"` // bytes, or a listener's accept queue
	SendQ uint32 `json:"send_q"` // bytes, or the accept queue's limit

	Bytes         int64 `json:"bytes"`
	ReceiveBytes  int64 `json:"receive_bytes"`
	SendBytes     int64 `json:"send_bytes"`
	ReservedBytes int64 `json:"reserved_bytes"`
	SkMem         SkMem `json:"skmem"`

	Class     string   `json:"class"`
	Evidence  string   `json:"evidence"`
	Owner     string   `json:"owner"` // key
	OwnerName string   `json:"owner_name"`
	Unit      *string  `json:"unit"`
	Holder    *Holder  `json:"holder"`
	TCPInfo   *TCPInfo `json:"tcp_info"`
}

// SkMem is INET_DIAG_SKMEMINFO in the kernel's words (SK_MEMINFO_* in
// include/uapi/linux/sock_diag.h): bytes, except Drops, which counts packets.
type SkMem struct {
	RmemAlloc  uint32 `json:"rmem_alloc"`
	Rcvbuf     uint32 `json:"rcvbuf"`
	WmemAlloc  uint32 `json:"wmem_alloc"`
	Sndbuf     uint32 `json:"sndbuf"`
	FwdAlloc   int32  `json:"fwd_alloc"`
	WmemQueued uint32 `json:"wmem_queued"`
	Optmem     uint32 `json:"optmem"`
	Backlog    uint32 `json:"backlog"`
	Drops      uint32 `json:"drops"`
}

// TCPInfo is the part of struct tcp_info (include/uapi/linux/tcp.h) that
// tells whether a connection makes progress. Fields that older kernels do not
// give are null.
type TCPInfo struct {
	RTTMicros        uint32  `json:"rtt_us"`
	RTTVarMicros     uint32  `json:"rttvar_us"`
	RTOMicros        uint32  `json:"rto_us"`
	Cwnd             uint32  `json:"cwnd"`    // segments
	Unacked          uint32  `json:"unacked"` // segments
	Retrans          uint32  `json:"retrans"` // segments in flight again
	TotalRetrans     uint32  `json:"total_retrans"`
	LastDataSent     uint32  `json:"last_data_sent_ms"`
	LastDataReceived uint32  `json:"last_data_received_ms"`
	BytesAcked       *uint64 `json:"bytes_acked"`
	BytesReceived    *uint64 `json:"bytes_received"`
	DeliveryRate     *uint64 `json:"delivery_rate_bytes_per_second"`
}

// SocketFrom describes one socket; owner is the owner its key names, nil where
// the reading has none.
func SocketFrom(s *reading.Socket, owner *reading.Owner) Socket {
	out := Socket{
		Cookie: uint64(s.Cookie),
		Netns:  netnsFrom(s.Netns),
		MPTCP:  s.MPTCP,
		State:  s.State.String(),
		Local:  known(reading.AddressText(s.Local)),
		Remote: known(reading.AddressText(s.Remote)),
		Inode:  s.Inode,
		UID:    s.UID,
		RecvQ:  s.Rqueue,
		SendQ:  s.Wqueue,

		Bytes:         s.Mem.Bytes(),
		ReceiveBytes:  int64(s.Mem.RmemAlloc),
		SendBytes:     int64(s.Mem.WmemQueued),
		ReservedBytes: int64(s.Mem.FwdAlloc),
		SkMem:         SkMem(s.Mem),

		Class:     s.Class.String(),
		Evidence:  s.Evidence.String(),
		Owner:     s.Owner,
		OwnerName: s.Owner,
		Holder:    holderFrom(s.Holder),
	}
	if s.CgroupID != 0 {
		out.CgroupID = &s.CgroupID
	}
	if owner != nil {
		out.OwnerName = owner.Name
		out.Unit = known(owner.Unit)
	}
	return out
}

// HasInfo reports whether the kernel has a TCP_INFO worth reading for the
// socket: a connection that a dump can find.
func HasInfo(s *reading.Socket) bool { return s.State != reading.Listen && s.Remote.IsValid() }

// SortSockets orders rows by bytes descending, then cookie.
func SortSockets(rows []Socket) {
	slices.SortFunc(rows, func(a, b Socket) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Cookie, b.Cookie))
	})
}

// A streamer gives the sockets that want accepts, one after the other. Neither
// function may keep the pointer; an error of yield ends the stream and is
// returned.
type streamer interface {
	Sockets(ctx context.Context, want func(*reading.Socket) bool, yield func(*reading.Socket) error) error
}

// CollectSockets streams the sockets that want accepts from src and keeps the
// limit biggest of them (0: all). r is the reading whose owners the sockets
// name; more, if not nil, may complete each row that is kept.
func CollectSockets(ctx context.Context, m Meta, r *reading.Reading, src streamer,
	want func(*reading.Socket) bool, limit int, more func(*reading.Socket, *Socket),
) (*Sockets, error) {
	doc := SocketsFrom(m, r)
	top := biggest{limit: limit}
	err := src.Sockets(ctx, want, func(s *reading.Socket) error {
		doc.Matched.Add(1, s.Mem.Bytes())
		top.add(s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	owners := OwnerIndex(r)
	doc.Sockets = make([]Socket, 0, len(top.rows))
	kept := doc.Truncated
	for i := range top.rows {
		s := &top.rows[i]
		row := SocketFrom(s, owners[s.Owner])
		if more != nil {
			more(s, &row)
		}
		doc.Sockets = append(doc.Sockets, row)
		kept.Add(1, row.Bytes)
	}
	doc.Truncated = reading.Tally{Sockets: doc.Matched.Sockets - kept.Sockets, Bytes: doc.Matched.Bytes - kept.Bytes}
	SortSockets(doc.Sockets)
	return doc, nil
}

// SocketsFrom begins a document without rows.
func SocketsFrom(m Meta, r *reading.Reading) *Sockets {
	return &Sockets{Header: m.header(r), Sockets: []Socket{}, Gaps: gapsFrom(r.Sample.Gaps, r.Gaps)}
}

// keep keeps the n first rows, 0 for all, and accounts for the rest.
func (s *Sockets) keep(n int) {
	if n <= 0 || len(s.Sockets) <= n {
		return
	}
	for i := range s.Sockets[n:] {
		s.Truncated.Add(1, s.Sockets[n+i].Bytes)
	}
	s.Sockets = s.Sockets[:n:n]
}

// OwnerIndex finds the owners of a reading by key.
func OwnerIndex(r *reading.Reading) map[string]*reading.Owner {
	index := make(map[string]*reading.Owner, len(r.Owners))
	for i := range r.Owners {
		index[r.Owners[i].Key] = &r.Owners[i]
	}
	return index
}

// biggest keeps the sockets of most bytes: a heap with the smallest kept
// socket on top.
type biggest struct {
	limit int
	rows  []reading.Socket
}

func (b *biggest) add(s *reading.Socket) {
	if b.limit > 0 && len(b.rows) == b.limit {
		if compareSockets(s, &b.rows[0]) >= 0 {
			return
		}
		b.rows[0] = detached(s)
		heap.Fix(b, 0)
		return
	}
	if b.limit <= 0 {
		b.rows = append(b.rows, detached(s))
		return
	}
	heap.Push(b, s)
}

// detached copies what the stream may reuse after yield.
func detached(s *reading.Socket) reading.Socket {
	out := *s
	if s.Holder != nil {
		h := *s.Holder
		out.Holder = &h
	}
	return out
}

// compareSockets is negative where a comes before b in a list.
func compareSockets(a, b *reading.Socket) int {
	return cmp.Or(cmp.Compare(b.Mem.Bytes(), a.Mem.Bytes()), cmp.Compare(a.Cookie, b.Cookie))
}

func (b *biggest) Len() int           { return len(b.rows) }
func (b *biggest) Less(i, j int) bool { return compareSockets(&b.rows[i], &b.rows[j]) > 0 }
func (b *biggest) Swap(i, j int)      { b.rows[i], b.rows[j] = b.rows[j], b.rows[i] }
func (b *biggest) Push(x any)         { b.rows = append(b.rows, detached(x.(*reading.Socket))) }
func (b *biggest) Pop() any {
	last := b.rows[len(b.rows)-1]
	b.rows = b.rows[:len(b.rows)-1]
	return last
}
