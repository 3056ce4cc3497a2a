package scan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/fds"
	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Options of one scan.
type Options struct {
	// Thorough reads every process when sockets have no known holder, not
	// only until each socket that matters has one: a person is waiting.
	Thorough bool
	// Budget bounds the time spent on reading processes, 0 for no bound.
	Budget time.Duration
}

// rereadShare is the part of a scan's time that goes into reading processes
// again whose number of descriptors did not change: one may have closed a
// socket and opened another.
const rereadShare = 20 // one in

// search finds the holders of the sockets in the table.
type search struct {
	s        *Scanner
	o        Options
	number   uint32
	found    *owner.Search
	began    time.Time
	deadline time.Time
	reads    int             // processes read
	skipped  []owner.ProcRef // not read: nothing seemed to have changed
	spaces   bool            // it came upon namespaces that were not known
	// complete: every process was read to its end.
	complete   bool
	late       bool // the budget ran out
	early      bool // processes were read before the sockets were dumped
	fresh      []freshHolder
	candidates []candidate // for hidden sockets
}

// freshHolder is a process that was found to hold a socket before its identity
// was read: one of its descriptors proves afterwards that it is still the same.
type freshHolder struct {
	ref owner.ProcRef
	one fds.Descriptor
}

// candidate is a TCP descriptor that no dump shows.
type candidate struct {
	ref owner.ProcRef
	fds.Descriptor
}

// searchHolders keeps the index up to date at the least cost: holders that
// changed are read again, everything only as long as a socket that matters has
// no holder. Others asks for candidates for hidden sockets: every process. Lost
// says that some namespace is out of sight: a process may have a descriptor of
// it. First is what was read early in a first scan, nil otherwise.
func (s *Scanner) searchHolders(ctx context.Context, o Options, others, lost bool, elapsed time.Duration, first *early) *search {
	q := &search{s: s, o: o}
	if o.Budget > 0 {
		q.deadline = time.Now().Add(o.Budget)
	}
	changed := s.changedHolders()
	again := time.Since(s.lastFull) > rereadShare*s.fullTook
	if o.Thorough && again {
		s.table.SearchAgain()
	}
	matter, wanted := s.table.Wants()
	s.credit += elapsed / rereadShare
	all := o.Thorough && wanted > 0
	switch {
	case first != nil && !others:
		q.takeEarly(ctx, first)
	case s.lastFull.IsZero() || others || lost && again:
		q.begin()
		q.walk(ctx, s.index.Order(), fds.Wanted{Others: others}, func() bool { return true })
	case all || matter > 0 || len(changed) > 0:
		q.begin()
		q.walk(ctx, changed, fds.Wanted{}, func() bool { return true })
		// Whoever opened a socket has usually more descriptors than before.
		// Those who closed one for it come last, and only for sockets that
		// last: reading servers with many connections is what costs.
		q.walk(ctx, s.index.Order(), fds.Wanted{SkipUnchanged: true}, func() bool { return all || q.found.Matter > 0 })
		q.walk(ctx, q.skipped, fds.Wanted{}, func() bool { return all || q.found.Overdue > 0 })
	default:
		if turn := s.rereads(); len(turn) > 0 {
			q.begin()
			q.walk(ctx, turn, fds.Wanted{}, func() bool { return true })
		}
	}
	q.end(ctx)
	return q
}

// changedHolders verifies every process that held a socket and returns those
// whose number of descriptors changed.
func (s *Scanner) changedHolders() []owner.ProcRef {
	var holders, changed []owner.ProcRef
	for ref, p := range s.index.All {
		if p.Sockets > 0 {
			holders = append(holders, ref)
		}
	}
	for _, ref := range holders {
		if s.index.Verify(ref) && s.index.Changed(s.index.Proc(ref)) {
			changed = append(changed, ref)
		}
	}
	return changed
}

// rereads takes from the processes read longest ago as many as the credit pays.
func (s *Scanner) rereads() []owner.ProcRef {
	const perDescriptor = 3 * time.Microsecond
	var turn []owner.ProcRef
	var oldest owner.ProcRef
	for ref, p := range s.index.All {
		if p.Sockets > 0 && (oldest == 0 || p.ReadAt.Before(s.index.Proc(oldest).ReadAt)) {
			oldest = ref
		}
	}
	if oldest != 0 {
		if cost := time.Duration(s.index.Proc(oldest).Count) * perDescriptor; cost <= s.credit {
			s.credit -= cost
			turn = append(turn, oldest)
		}
	}
	return turn
}

// begin builds the index of the sockets to look for.
func (q *search) begin() {
	q.found = q.s.table.BeginSearch()
	q.number = q.found.Number()
	q.began = time.Now()
}

// walk reads processes in order while more holds true.
func (q *search) walk(ctx context.Context, order []owner.ProcRef, want fds.Wanted, more func() bool) {
	if q.late || len(order) == 0 || !more() {
		return
	}
	want.Holds = q.found.Holds
	q.s.index.Walk(ctx, order, q.s.cfg.Workers, want, func(f fds.Found) bool {
		if f.Skipped {
			q.skipped = append(q.skipped, f.Proc)
		} else {
			q.take(f)
		}
		q.late = !q.deadline.IsZero() && time.Now().After(q.deadline)
		return !q.late && more()
	})
}

// end names the processes that were found to hold sockets for the first time.
func (q *search) end(ctx context.Context) {
	for _, h := range q.fresh {
		q.s.sources.identify(ctx, h)
	}
	q.complete = q.found != nil && ctx.Err() == nil && q.reads >= q.s.index.Living()-1 // all but ourselves
	if q.complete {
		q.s.lastFull, q.s.fullTook = q.began, time.Since(q.began)
		if !q.early {
			q.found.GaveUp()
		}
	}
}

// take records what one process holds.
func (q *search) take(f fds.Found) {
	s := q.s
	if s.index.Proc(f.Proc).Read != q.number {
		q.reads++ // not one that was read before in this search
	}
	s.index.Record(f, q.number, q.began)
	p := s.index.Proc(f.Proc)
	for _, d := range f.Netns {
		q.spaces = s.netns.Keep(d.Inode, p.PID, d.FD) || q.spaces
	}
	if len(f.Sockets)+len(f.Others) > 0 && !p.Identified {
		q.fresh = append(q.fresh, freshHolder{f.Proc, append(f.Sockets, f.Others...)[0]})
	}
	for _, d := range f.Sockets {
		q.found.Found(f.Proc, d.Inode)
	}
	for _, d := range f.Others {
		q.candidates = append(q.candidates, candidate{f.Proc, d})
	}
}

// blindSpots counts the processes whose descriptors could not be read when last
// tried, in whichever scan that was, with the reason of one of them.
func (s *Scanner) blindSpots() (n int, why error) {
	for _, p := range s.index.All {
		if p.Unread != nil && !procfs.Gone(p.Unread) && !errors.Is(p.Unread, context.Canceled) {
			n++
			why = p.Unread
		}
	}
	return n, why
}

// gaps says what the search could not read and what it costs.
func (q *search) gaps() []reading.Gap {
	var gaps []reading.Gap
	if n, err := q.s.blindSpots(); n > 0 {
		why := err.Error()
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EPERM) {
			why += " (needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH; their sockets are named by cgroup only)"
		}
		gaps = append(gaps, reading.Gap{
			Code: "processes-unreadable",
			What: fmt.Sprintf("descriptors of %d processes", n), Why: why,
		})
	}
	if q.late {
		gaps = append(gaps, reading.Gap{
			Code: "search-over-budget", What: "holders of some sockets",
			Why: fmt.Sprintf("reading processes took longer than %v; the next scan goes on", q.o.Budget),
		})
	}
	return gaps
}

// indexAge is the age of the oldest reading of a process that holds sockets.
func (s *Scanner) indexAge(now time.Time) time.Duration {
	var age time.Duration
	for _, p := range s.index.All {
		if p.Sockets > 0 {
			age = max(age, now.Sub(p.ReadAt))
		}
	}
	return age
}
