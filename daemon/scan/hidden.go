package scan

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/fds"
	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// hiddenRef is where a hidden socket was found.
type hiddenRef struct {
	candidate
	socket reading.Socket
}

// askTurn says which of the hidden sockets are asked next.
type askTurn struct {
	next int
	all  bool // in the next scan: what is remembered is more than there is
}

// take begins a scan with n sockets and says which of them are asked in it.
func (t *askTurn) take(n int) (asked func(i int) bool) {
	if n <= maxAsked || t.all {
		return func(int) bool { return true }
	}
	from := t.next % n
	t.next = (from + maxAsked) % n
	return func(i int) bool { return (i-from+n)%n < maxAsked }
}

// maxAsked bounds how many hidden sockets one scan asks again, 6 us each: of
// more than that a scan asks a part, in turn.
const maxAsked = 2000

// keepHidden adds the hidden sockets of earlier scans again, as long as their
// descriptors still lead to them. No peer changes their queues any more, but
// their owner may read what is left in them, or connect them anew.
func (s *Scanner) keepHidden() {
	asked := s.asking.take(len(s.hidden))
	kept := s.hidden[:0]
	var asker asker
	defer asker.close()
	for i, h := range s.hidden {
		if !s.keepOne(&asker, &h, asked(i)) {
			continue
		}
		kept = append(kept, h)
		s.table.AddHidden(s.spaceOf(h.socket), &h.socket, h.ref)
	}
	clear(s.hidden[len(kept):])
	s.hidden = kept
}

// keepOne reports whether a hidden socket is still one, and asks it if it is
// its turn.
func (s *Scanner) keepOne(a *asker, h *hiddenRef, ask bool) bool {
	p := s.index.Proc(h.ref)
	if !p.Alive {
		return false
	}
	if !ask || !a.open(s, h.candidate) {
		return s.stillHolds(p.PID, h.Descriptor)
	}
	now, err := s.fetcher.Fetch(a.pidfd, h.FD)
	switch {
	case errors.Is(err, unix.EBADF) || errors.Is(err, unix.ESRCH):
		return false
	case errors.Is(err, fds.ErrStuck):
		a.stuck = true
		fallthrough
	case err != nil:
		return s.stillHolds(p.PID, h.Descriptor) // as big as when it was last asked
	case now.State != reading.Close || now.Inode != h.Inode || now.Cookie != h.socket.Cookie:
		return false
	}
	h.socket = now
	return true
}

// asker keeps the pidfd of one table of descriptors while its sockets are asked.
type asker struct {
	ref   owner.ProcRef // 0: none yet
	tid   int32
	pidfd int // -1 where the process cannot be asked
	stuck bool
}

// open takes the holder of c if it is not the one already, and reports whether it
// can be asked.
func (a *asker) open(s *Scanner, c candidate) bool {
	if a.stuck {
		return false
	}
	if a.ref != c.ref || a.tid != c.TID {
		a.close()
		a.ref, a.tid = c.ref, c.TID
		pidfd, err := fds.OpenTask(s.index.Proc(c.ref).PID, c.Descriptor)
		if err == nil {
			a.pidfd = pidfd
			// From here the pidfd stands for the process, if it is still the same.
			if !s.index.Verify(c.ref) {
				unix.Close(pidfd)
				a.pidfd = -1
			}
		}
	}
	return a.pidfd >= 0
}

func (a *asker) close() {
	if a.ref != 0 && a.pidfd >= 0 {
		unix.Close(a.pidfd)
	}
	a.ref, a.pidfd = 0, -1
}

func (s *Scanner) stillHolds(pid int32, d fds.Descriptor) bool {
	link, err := os.Readlink(d.Path(s.cfg.Proc, pid))
	return err == nil && link == fmt.Sprintf("socket:[%d]", d.Inode)
}

// unknownSpace is the table's index of a namespace that no sweep has seen. Those
// of the others are smaller: there are at most as many.
const unknownSpace = math.MaxUint16

// spaceOf finds the table's index of a socket's namespace by cookie.
func (s *Scanner) spaceOf(sock reading.Socket) uint16 {
	for i, n := range s.spaces {
		if n.ID.Cookie != 0 && n.ID.Cookie == sock.Netns.Cookie {
			return uint16(i)
		}
	}
	return unknownSpace
}

// wantHidden decides whether to look for sockets that no dump shows. Counting
// them is free (alloc less inuse); finding them means to look at descriptors
// of every process, so the counters and the unseen bytes must ask for it.
func (s *Scanner) wantHidden(w *sweep, host reading.Sample, seen int64) bool {
	var inuse int64
	for _, n := range w.netns {
		inuse += n.After
	}
	known := make(map[reading.Cookie]struct{}, len(s.hidden)) // one may have several holders
	for i := range s.hidden {
		known[owner.Key(&s.hidden[i].socket)] = struct{}{}
	}
	estimate := host.Alloc - inuse - w.boundInactive - int64(len(known))
	unseen := host.Used.Bytes(pageSize) - seen
	s.asking.all = -unseen > host.ReserveMax.Bytes(pageSize)
	if estimate <= s.inVain && time.Since(s.hiddenAt) < rereadShare*s.hiddenTook {
		return false // no more than the last search could not find
	}
	s.inVain = 0
	const many = 64
	return estimate > 0 && (unseen > host.ReserveMax.Bytes(pageSize) || estimate >= many && unseen > 0)
}

// searchedHidden remembers how many sockets a search left unfound, in namespaces
// that cannot be reached or beyond its budget, and what it cost: the next one
// for no more than those has to wait.
func (s *Scanner) searchedHidden(l *reading.Ledger, took time.Duration) {
	s.inVain = max(0, l.HiddenEstimate-l.Classes[reading.Hidden].Sockets)
	s.hiddenAt, s.hiddenTook = time.Now(), took
}

// maxHidden bounds the hidden sockets that are remembered: anybody can open many
// sockets and never connect them.
const maxHidden = 32_768

// addHidden asks the candidates of a search for their state and memory. It
// reports whether it could ask all of them.
func (s *Scanner) addHidden(ctx context.Context, q *search) (all bool, gaps []reading.Gap) {
	known := map[candidate]bool{}
	for _, h := range s.hidden {
		known[h.candidate] = true
	}
	all = true
	out := outOfSight{seen: map[reading.Cookie]struct{}{}}
	for start := 0; start < len(q.candidates); {
		// the candidates of one table of descriptors follow each other
		end, first := start, q.candidates[start]
		for end < len(q.candidates) && q.candidates[end].ref == first.ref && q.candidates[end].TID == first.TID {
			end++
		}
		if err := s.askProcess(ctx, q.candidates[start:end], known, &out); err != nil {
			all = false
			gaps = append(gaps, reading.Gap{
				Code: "hidden-unreadable",
				What: fmt.Sprintf("closed sockets of pid %d", s.index.Proc(first.ref).PID), Why: err.Error(),
			})
			if errors.Is(err, fds.ErrStuck) || ctx.Err() != nil {
				break
			}
		}
		start = end
	}
	return all, append(gaps, out.gaps()...)
}

// outOfSight are sockets in use that a process holds in a namespace which
// nothing shows: no process is in it, but a thread is, or only its sockets are.
type outOfSight struct {
	seen map[reading.Cookie]struct{} // one may have several holders
	sum  reading.Tally
	pid  int32 // of one of the holders
}

func (o *outOfSight) add(sock *reading.Socket, pid int32) {
	if _, twice := o.seen[owner.Key(sock)]; twice {
		return
	}
	o.seen[owner.Key(sock)] = struct{}{}
	o.sum.Add(1, sock.Mem.Bytes())
	o.pid = pid
}

func (o *outOfSight) gaps() []reading.Gap {
	if o.sum.Sockets == 0 {
		return nil
	}
	return []reading.Gap{{
		Code:         "netns-unseen",
		What:         fmt.Sprintf("%d sockets, of pid %d among others", o.sum.Sockets, o.pid),
		Why:          "they are in network namespaces that no process, mount or descriptor shows: only their sockets keep them, or threads",
		MayHideBytes: &o.sum.Bytes,
	}}
}

func (s *Scanner) askProcess(ctx context.Context, list []candidate, known map[candidate]bool, out *outOfSight) error {
	p := s.index.Proc(list[0].ref)
	if !p.Alive || !p.Identified {
		return nil
	}
	pidfd, err := fds.OpenTask(p.PID, list[0].Descriptor)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	// From here the pidfd stands for the process, if it is still the same.
	if !s.index.Verify(list[0].ref) {
		return nil
	}
	var failed error
	for _, c := range list {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if known[c] {
			continue
		}
		if len(s.hidden) >= maxHidden {
			return fmt.Errorf("more than %d are too many to remember", maxHidden)
		}
		sock, err := s.fetcher.Fetch(pidfd, c.FD)
		switch {
		case errors.Is(err, unix.EBADF) || errors.Is(err, unix.ESRCH):
			continue // closed meanwhile
		case errors.Is(err, fds.ErrStuck):
			return err
		case err != nil:
			failed = err
			continue
		case sock.Inode != c.Inode:
			continue // another by now
		case sock.State != reading.Close:
			// Newer than the dump, or in a namespace that was not dumped.
			if sock.Netns.Cookie != 0 && s.spaceOf(sock) == unknownSpace {
				out.add(&sock, p.PID)
			}
			continue
		}
		s.hidden = append(s.hidden, hiddenRef{c, sock})
		s.table.AddHidden(s.spaceOf(sock), &sock, c.ref)
	}
	return failed
}

// procs are the processes of the index as attribution sees them.
func (s *Scanner) procs() []owner.Proc {
	procs := make([]owner.Proc, s.index.Len())
	for ref, p := range s.index.All {
		if p.Sockets == 0 && !p.Identified {
			continue
		}
		src := s.sources.of(ref)
		procs[ref-1] = owner.Proc{
			Owner: src.owner, Alive: p.Alive && p.Identified, PID: p.PID, Read: p.Read, UID: src.base.UID, Holder: src.holder,
		}
	}
	return procs
}
