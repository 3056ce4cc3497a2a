package scan

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/ledger"
	"github.com/tcpmemd/tcpmemd/daemon/netns"
	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
)

// sweep is what one pass over all namespaces gathers beside the table.
type sweep struct {
	queues         *owner.Queues
	ends           owner.Ends
	kernelUse      map[reading.Cookie]string // by whom
	netns          []ledger.Netns            // namespaces that have or had sockets
	at             []*netns.Namespace        // beside netns
	sets           []uint64                  // beside netns: sums of the cookies counted
	left           []leftOut                 // beside netns
	orphans        int64
	set, orphanSet uint64 // sums of cookies: of the namespace being dumped, of orphans
	boundInactive  int64
	undumped       int64 // MPTCP sockets that this kernel does not list
	blind          bool  // some namespace could not be read, or not all of it
	gaps           []reading.Gap
}

// leftOut is what a dump does not show of its namespace.
type leftOut struct {
	rows  int   // rows without memory
	mptcp int64 // MPTCP sockets
}

// sweep dumps every namespace that has sockets into the table.
func (s *Scanner) sweep(ctx context.Context) (*sweep, error) {
	w := &sweep{queues: owner.NewQueues(), kernelUse: map[reading.Cookie]string{}}
	s.kernel.refresh()
	s.finders.locals = locals{}
	s.retryMPTCP()
	s.spaces = s.netns.All()
	s.used = make([]bool, len(s.spaces))
	if n := len(s.spaces); n > math.MaxUint16 {
		s.spaces = s.spaces[:math.MaxUint16]
		w.blind = true
		w.gaps = append(w.gaps, reading.Gap{
			Code: "netns-too-many", What: fmt.Sprintf("%d network namespaces", n-math.MaxUint16),
			Why: fmt.Sprintf("the table tells no more than %d apart", math.MaxUint16),
		})
	}
	for i, n := range s.spaces {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.sweepOne(ctx, w, uint16(i), n)
	}
	return w, ctx.Err()
}

// sweepFound dumps the namespaces that the search for holders came upon: those
// that nothing but a descriptor keeps. It reports whether there were sockets.
func (s *Scanner) sweepFound(ctx context.Context, w *sweep) bool {
	before := s.table.Len()
	for _, n := range s.netns.All() {
		if slices.Contains(s.spaces, n) || len(s.spaces) == math.MaxUint16 || ctx.Err() != nil {
			continue
		}
		s.spaces, s.used = append(s.spaces, n), append(s.used, false)
		s.sweepOne(ctx, w, uint16(len(s.spaces)-1), n)
	}
	return s.table.Len() > before
}

func (s *Scanner) sweepOne(ctx context.Context, w *sweep, ns uint16, n *netns.Namespace) {
	before, err := s.netns.Inuse(n)
	if err != nil {
		s.unreadable(w, n, err)
		return
	}
	if before == 0 {
		return // a walk of the whole hash table for nothing
	}
	s.used[ns] = true
	count := ledger.Netns{Before: before}
	w.set = 0
	left, err := s.list(ctx, n, func(sock *reading.Socket) {
		s.row(w, ns, &count, sock)
	})
	count.ID = n.ID
	if err != nil {
		s.unreadable(w, n, err)
		return
	}
	if count.After, err = s.netns.Inuse(n); err != nil {
		s.unreadable(w, n, err)
		return
	}
	w.netns = append(w.netns, count)
	w.at = append(w.at, n)
	w.sets = append(w.sets, w.set)
	w.left = append(w.left, left)
	w.leave(n, left)
}

// leave notes what a dump did not show.
func (w *sweep) leave(n *netns.Namespace, left leftOut) {
	if left.rows > 0 {
		w.blind = true
		w.gaps = append(w.gaps, reading.Gap{
			Code: "sockets-unreadable", What: fmt.Sprintf("%d sockets of netns %d", left.rows, n.ID.Inode),
			Why: "the kernel told nothing of their memory",
		})
	}
	if left.mptcp == 0 {
		return
	}
	const code = "mptcp-undumpable"
	w.blind = true
	w.undumped += left.mptcp
	i := slices.IndexFunc(w.gaps, func(g reading.Gap) bool { return g.Code == code })
	if i < 0 {
		i = len(w.gaps)
		w.gaps = append(w.gaps, reading.Gap{Code: code, Why: "this kernel has MPTCP but does not list it: load the module mptcp_diag"})
	}
	w.gaps[i].What = fmt.Sprintf("%d MPTCP sockets", w.undumped)
}

// unreadable notes a namespace that could not be dumped, or not to the end. One
// that vanished took its sockets with it and is no gap.
func (s *Scanner) unreadable(w *sweep, n *netns.Namespace, err error) {
	if s.netns.Gone(n) {
		return
	}
	w.blind = true
	w.gaps = append(w.gaps, reading.Gap{Code: "netns-unreadable", What: fmt.Sprintf("netns %d", n.ID.Inode), Why: err.Error()})
}

// dump lists the TCP and MPTCP sockets of a namespace.
func (s *Scanner) dump(ctx context.Context, n *netns.Namespace, yield func(*reading.Socket)) error {
	_, err := s.list(ctx, n, yield)
	return err
}

// list is dump for who needs to know what it does not show.
func (s *Scanner) list(ctx context.Context, n *netns.Namespace, yield func(*reading.Socket)) (left leftOut, err error) {
	conn, err := s.connect(n)
	if err != nil {
		return left, err
	}
	defer conn.Close()
	defer func() { left.rows = conn.Skipped() }()
	const batch = 1024 // rows that are counted at once
	var rows int64
	defer func() { s.read.Add(rows % batch) }()
	err = conn.DumpTCP(ctx, func(sock *reading.Socket) {
		if rows++; rows%batch == 0 {
			s.read.Add(batch)
		}
		if sock.State == reading.Close && sock.Inode != 0 {
			// Shown under bit 13, but with the state it has: tcp_diag walks the
			// table of bound ports for it (inet_diag_dump_icsk). A connection
			// that is closed is in no table.
			sock.State = reading.BoundInactive
		}
		yield(sock)
	})
	if err != nil {
		return left, err
	}
	// A dump walks the whole table of MPTCP tokens, also where there are none.
	count, err := s.netns.MPTCP(n)
	if err == nil && count != nil && *count == 0 {
		return left, nil
	}
	if !s.noMPTCP {
		err = conn.DumpMPTCP(ctx, yield)
		if !errors.Is(err, sockdiag.ErrUnsupported) {
			return left, err
		}
		s.noMPTCP, s.mptcp = true, 0
	}
	if count != nil {
		left.mptcp = *count
	}
	return left, nil
}

// retryMPTCP asks again, now and then, for what the kernel could not list: a
// module may be loaded by now, and one odd answer must not last for ever.
func (s *Scanner) retryMPTCP() {
	const rest = 100 // scans
	if s.mptcp++; s.mptcp >= rest {
		s.noMPTCP, s.mptcp = false, 0
	}
}

// connect opens a sock_diag connection inside a namespace.
func (s *Scanner) connect(n *netns.Namespace) (conn *sockdiag.Conn, err error) {
	err = s.netns.Do(n, func() (err error) {
		conn, err = sockdiag.Open(s.buf)
		return err
	})
	return conn, err
}

// row takes one socket of a dump.
func (s *Scanner) row(w *sweep, ns uint16, count *ledger.Netns, sock *reading.Socket) {
	if sock.State == reading.TimeWait || !s.table.Add(ns, sock) {
		return
	}
	switch {
	case sock.MPTCP:
	case sock.State == reading.BoundInactive:
		w.boundInactive++
	default:
		count.Seen++
		w.set += uint64(sock.Cookie)
	}
	switch {
	case sock.State == reading.Listen:
		w.queues.Listen(ns, sock)
	case sock.Inode != 0:
	case !owner.IsOrphanState(sock.State):
		w.queues.Unaccepted(s.table, ns, sock)
	case !sock.MPTCP: // the kernel counts its subflows, not the MPTCP socket
		w.orphans++
		w.orphanSet += uint64(sock.Cookie)
	}
	w.ends.Offer(ns, sock)
	s.finders.locals.add(ns, sock)
	if who := s.kernel.match(sock); who != "" {
		w.kernelUse[owner.Key(sock)] = who
	}
}

// recount looks again at the namespaces whose sockets do not fit their
// counter: only a difference that stays is a finding, and only in the same
// sockets. One connection that replaces another while a dump runs leaves the
// counter as it was, and both may be seen, twice in a row.
func (s *Scanner) recount(ctx context.Context, w *sweep) {
	for i := range w.netns {
		n := &w.netns[i]
		if n.Before != n.After || n.Seen == n.Before || w.left[i].rows > 0 {
			continue
		}
		var again ledger.Recount
		var set uint64
		var err error
		if again.Before, err = s.netns.Inuse(w.at[i]); err != nil {
			continue
		}
		err = s.dump(ctx, w.at[i], func(sock *reading.Socket) {
			if !sock.MPTCP && sock.State != reading.TimeWait && sock.State != reading.BoundInactive {
				again.Seen++
				set += uint64(sock.Cookie)
			}
		})
		if err != nil {
			continue
		}
		if again.After, err = s.netns.Inuse(w.at[i]); err == nil && (again.Seen != n.Seen || set == w.sets[i]) {
			n.Recount = &again
		}
	}
}

// recountOrphans counts the orphans of all namespaces once more, as recount.
func (s *Scanner) recountOrphans(ctx context.Context, w *sweep) *ledger.Recount {
	before, err := s.host.read()
	if err != nil {
		return nil
	}
	again := ledger.Recount{Before: before.Orphans}
	set := uint64(0)
	for _, n := range s.spaces {
		if inuse, err := s.netns.Inuse(n); err != nil || inuse == 0 {
			continue
		}
		err := s.dump(ctx, n, func(sock *reading.Socket) {
			if sock.Inode == 0 && !sock.MPTCP && owner.IsOrphanState(sock.State) {
				again.Seen++
				set += uint64(sock.Cookie)
			}
		})
		if err != nil {
			return nil
		}
	}
	after, err := s.host.read()
	if err != nil {
		return nil
	}
	again.After = after.Orphans
	if again.Seen == w.orphans && set != w.orphanSet {
		return nil // others than before
	}
	return &again
}
