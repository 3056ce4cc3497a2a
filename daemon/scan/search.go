package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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

// rereadWait is the same part of the time between two scans, for a calm host
// that scans seldom and fast.
const rereadWait = 3000 // one in

// search finds the holders of the sockets in the table.
type search struct {
	s        *Scanner
	o        Options
	number   uint32
	found    *owner.Search
	began    time.Time
	deadline time.Time
	spaces   bool // it came upon namespaces that were not known
	// complete: with this search every process was read once more.
	complete   bool
	late       bool // the budget ran out
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
	s.credit += max(elapsed/rereadShare, time.Since(s.searched)/rereadWait)
	s.searched = time.Now()
	full := s.lastFull.IsZero() || others || lost && again
	thorough := o.Thorough && wanted > 0
	always := func() bool { return true }
	switch {
	case first != nil && !others:
		q.takeEarly(ctx, first)
	case full || thorough || matter > 0 || len(changed) > 0:
		q.begin()
		// New ones may take half of the time: who keeps starting processes must
		// not keep the others from their turn.
		half := time.Now().Add(o.Budget / 2)
		q.walk(ctx, s.neverRead(), fds.Wanted{Others: others, Threads: full || thorough}, func() bool {
			return o.Budget == 0 || time.Now().Before(half)
		})
		q.walk(ctx, changed, fds.Wanted{Others: others, Threads: full || thorough}, always)
		// Whoever opened a socket has usually more descriptors than before.
		// Those who closed one for it come last, and only for sockets that
		// last: reading servers with many connections is what costs.
		if !full {
			q.walk(ctx, q.rest(), fds.Wanted{SkipUnchanged: true, Threads: thorough}, func() bool { return thorough || q.found.Matter > 0 })
		}
		q.walk(ctx, q.rest(), fds.Wanted{Others: others, Threads: true}, func() bool { return full || thorough || q.found.Overdue > 0 })
		q.finish(ctx, fds.Wanted{Others: others, Threads: true})
	}
	q.reread(ctx)
	q.end(ctx)
	return q
}

// neverRead lists the processes that are new to the index.
func (s *Scanner) neverRead() []owner.ProcRef {
	var list []owner.ProcRef
	for ref, p := range s.index.All {
		if p.Tried.IsZero() && !p.Own {
			list = append(list, ref)
		}
	}
	slices.SortFunc(list, s.longestWaiting)
	return list
}

// longestWaiting puts a process that the budget has interrupted behind those
// that had no turn yet, and otherwise first the one read longest ago.
func (s *Scanner) longestWaiting(a, b owner.ProcRef) int {
	p, q := s.index.Proc(a), s.index.Proc(b)
	return cmp.Or(cmp.Compare(p.Interrupted, q.Interrupted), p.ReadAt.Compare(q.ReadAt))
}

// changedHolders verifies every process that held a socket and returns those
// whose number of descriptors changed, the one read longest ago first: where
// the budget ends before the list does, each has its turn.
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
	slices.SortFunc(changed, s.longestWaiting)
	return changed
}

// rest lists what this search has not read: first what the round has not
// reached, so that searches that end early get through all in the end.
func (q *search) rest() []owner.ProcRef {
	order := slices.DeleteFunc(q.s.index.Order(), func(ref owner.ProcRef) bool {
		return !q.s.index.Proc(ref).Tried.Before(q.began)
	})
	reached := func(ref owner.ProcRef) int {
		if q.s.index.Proc(ref).Tried.Before(q.s.round.began) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(order, func(a, b owner.ProcRef) int { return cmp.Compare(reached(a), reached(b)) })
	return order
}

// reread reads holders again whose number of descriptors did not change, those
// read longest ago, as far as the credit pays: one may have closed a socket and
// opened another.
func (q *search) reread(ctx context.Context) {
	s := q.s
	const perDescriptor = 3 * time.Microsecond
	var holders []owner.ProcRef
	for ref, p := range s.index.All {
		if p.Sockets > 0 && (q.found == nil || p.Tried.Before(q.began)) {
			holders = append(holders, ref)
		}
	}
	slices.SortFunc(holders, func(a, b owner.ProcRef) int {
		return s.index.Proc(a).ReadAt.Compare(s.index.Proc(b).ReadAt)
	})
	var turn []owner.ProcRef
	for _, ref := range holders {
		cost := time.Duration(s.index.Proc(ref).Count) * perDescriptor
		if cost > s.credit {
			break // saved up for: smaller ones must not take its turn for ever
		}
		s.credit -= cost
		turn = append(turn, ref)
	}
	if len(turn) > 0 {
		if q.found == nil {
			q.begin()
		}
		q.walk(ctx, turn, fds.Wanted{}, func() bool { return true })
	}
}

// round is one reading of every process, which may take several scans.
type round struct {
	began  time.Time
	second uint32 // sockets first seen later are not missing at its end
	took   time.Duration
}

// begin builds the index of the sockets to look for, and begins a round if none
// is under way.
func (q *search) begin() {
	q.found = q.s.table.BeginSearch()
	q.number = q.found.Number()
	q.began = time.Now()
	if q.s.round.began.IsZero() {
		q.s.round = round{began: q.began, second: q.s.table.Second()}
	}
}

// walk reads processes in order while more holds true and the budget lasts.
func (q *search) walk(ctx context.Context, order []owner.ProcRef, want fds.Wanted, more func() bool) {
	if q.late || len(order) == 0 || !more() {
		return
	}
	if !q.deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, q.deadline)
		defer cancel()
	}
	q.read(ctx, order, want, more)
	q.late = !q.deadline.IsZero() && !time.Now().Before(q.deadline)
}

func (q *search) read(ctx context.Context, order []owner.ProcRef, want fds.Wanted, more func() bool) {
	start := time.Now()
	want.Holds = q.found.Holds
	q.s.index.Walk(ctx, order, q.s.cfg.Workers, want, func(f fds.Found) bool {
		if !f.Skipped {
			q.take(f)
		}
		return more()
	})
	q.s.round.took += time.Since(start)
}

// patience is how often the budget may interrupt the reading of one process.
const patience = 3

// finish reads one process that the budget has interrupted time and again to
// its end: else its later descriptors would never be seen, and no round would
// end.
func (q *search) finish(ctx context.Context, want fds.Wanted) {
	for ref, p := range q.s.index.All {
		if p.Interrupted < patience {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, finishTime)
		defer cancel()
		q.read(ctx, []owner.ProcRef{ref}, want, func() bool { return true })
		if ctx.Err() != nil {
			q.s.index.GiveUp(ref, errTooMany, q.began)
		}
		return
	}
}

// finishTime bounds finish: somebody may open descriptors by the million.
const finishTime = 5 * time.Second

var errTooMany = fmt.Errorf("it has more descriptors than can be read in %v", finishTime)

// end names the processes that were found to hold sockets for the first time,
// and ends the round if every process has been read since it began.
func (q *search) end(ctx context.Context) {
	for _, h := range q.fresh {
		q.s.sources.identify(ctx, h)
	}
	if q.found == nil || ctx.Err() != nil {
		return
	}
	s := q.s
	for _, p := range s.index.All {
		if !p.Own && p.Tried.Before(s.round.began) {
			return
		}
	}
	q.complete = true
	s.lastFull, s.fullTook = s.round.began, s.round.took
	q.found.GaveUp(s.round.second)
	s.round = round{}
}

// take records what one process holds.
func (q *search) take(f fds.Found) {
	s := q.s
	s.index.Record(f, q.number, q.began)
	p := s.index.Proc(f.Proc)
	for _, d := range f.Netns {
		q.spaces = s.netns.Keep(d.Inode, d.Task(p.PID), d.FD) || q.spaces
	}
	for _, n := range f.ThreadNetns {
		q.spaces = s.netns.KeepThread(n.Inode, n.TID) || q.spaces
	}
	if len(f.Sockets)+len(f.Others) > 0 && !p.Identified {
		q.fresh = append(q.fresh, freshHolder{f.Proc, append(f.Sockets, f.Others...)[0]})
	}
	for _, d := range f.Sockets {
		q.found.Found(f.Proc, d.Inode)
	}
	for _, d := range f.Others {
		if len(q.candidates) == 2*maxHidden {
			break // addHidden takes no more, and says so
		}
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
			Why: fmt.Sprintf("reading processes took longer than %v; the next scan goes on with the others", q.o.Budget),
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
