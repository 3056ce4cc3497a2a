package scan

import (
	"context"
	"errors"
	"fmt"
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

// keepHidden adds the hidden sockets of earlier scans again, as long as their
// descriptors still lead to them. A closed socket's queues do not move: it is
// not asked again.
func (s *Scanner) keepHidden() {
	kept := s.hidden[:0]
	for _, h := range s.hidden {
		p := s.index.Proc(h.ref)
		if !p.Alive || !s.stillHolds(p.PID, h.Descriptor) {
			continue
		}
		kept = append(kept, h)
		s.table.AddHidden(s.spaceOf(h.socket), &h.socket, h.ref)
	}
	clear(s.hidden[len(kept):])
	s.hidden = kept
}

func (s *Scanner) stillHolds(pid int32, d fds.Descriptor) bool {
	link, err := os.Readlink(fmt.Sprintf("%s/%d/fd/%d", s.cfg.Proc, pid, d.FD))
	return err == nil && link == fmt.Sprintf("socket:[%d]", d.Inode)
}

// spaceOf finds the table's index of a socket's namespace by cookie.
func (s *Scanner) spaceOf(sock reading.Socket) uint16 {
	for i, n := range s.spaces {
		if n.ID.Cookie != 0 && n.ID.Cookie == sock.Netns.Cookie {
			return uint16(i)
		}
	}
	return uint16(len(s.spaces)) // a namespace that is not known
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
	if estimate <= s.inVain && time.Since(s.lastFull) < rereadShare*s.fullTook {
		return false // no more than the last search could not find
	}
	s.inVain = 0
	const many = 64
	return estimate > 0 && (unseen > host.ReserveMax.Bytes(pageSize) || estimate >= many && unseen > 0)
}

// searchedHidden remembers how many sockets a complete search left unfound: in
// namespaces that cannot be reached, or unconnected ones of the kernel's own.
func (s *Scanner) searchedHidden(l *reading.Ledger) {
	s.inVain = max(0, l.HiddenEstimate-l.Classes[reading.Hidden].Sockets)
}

// addHidden asks the candidates of a search for their state and memory. It
// reports whether it could ask all of them.
func (s *Scanner) addHidden(ctx context.Context, q *search) (all bool, gaps []reading.Gap) {
	known := map[candidate]bool{}
	for _, h := range s.hidden {
		known[h.candidate] = true
	}
	all = true
	for start := 0; start < len(q.candidates); {
		// the candidates of one process follow each other
		end := start
		for end < len(q.candidates) && q.candidates[end].ref == q.candidates[start].ref {
			end++
		}
		if err := s.askProcess(ctx, q.candidates[start:end], known); err != nil {
			all = false
			gaps = append(gaps, reading.Gap{
				Code: "hidden-unreadable",
				What: fmt.Sprintf("closed sockets of pid %d", s.index.Proc(q.candidates[start].ref).PID), Why: err.Error(),
			})
			if errors.Is(err, fds.ErrStuck) || ctx.Err() != nil {
				break
			}
		}
		start = end
	}
	return all, gaps
}

func (s *Scanner) askProcess(ctx context.Context, list []candidate, known map[candidate]bool) error {
	p := s.index.Proc(list[0].ref)
	if !p.Alive || !p.Identified {
		return nil
	}
	pidfd, err := fds.OpenProcess(p.PID)
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
		sock, err := s.fetcher.Fetch(pidfd, c.FD)
		switch {
		case errors.Is(err, unix.EBADF) || errors.Is(err, unix.ESRCH):
			continue // closed meanwhile
		case errors.Is(err, fds.ErrStuck):
			return err
		case err != nil:
			failed = err
			continue
		case sock.State != reading.Close || sock.Inode != c.Inode:
			continue // newer than the dump, or another by now
		}
		s.hidden = append(s.hidden, hiddenRef{c, sock})
		s.table.AddHidden(s.spaceOf(sock), &sock, c.ref)
	}
	return failed
}

// holderOf is for owner.Inputs: the processes of the index as attribution sees
// them.
func (s *Scanner) procs() []owner.Proc {
	procs := make([]owner.Proc, s.index.Len())
	for ref, p := range s.index.All {
		if p.Sockets == 0 && !p.Identified {
			continue
		}
		src := s.sources.of(ref)
		procs[ref-1] = owner.Proc{
			Owner: src.owner, Alive: p.Alive && p.Identified, PID: p.PID, Read: p.Read, Holder: src.holder,
		}
	}
	return procs
}
