package scan

import (
	"context"
	"fmt"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/ledger"
	"github.com/tcpmemd/tcpmemd/daemon/netns"
	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Scan reads every socket of the host and names its owner. An error means that
// there is no reading at all; what could not be read is in its gaps.
func (s *Scanner) Scan(ctx context.Context, o Options) (*reading.Reading, error) {
	start := time.Now()
	r := &reading.Reading{}
	if err := s.Refresh(); err != nil {
		return nil, fmt.Errorf("scan sockets: %w", err)
	}
	// Remember which cgroup has which id while it lives: a socket may carry the
	// id long after the directory is gone.
	stats, err := s.tree.Refresh(start)
	if err != nil {
		r.Gaps = append(r.Gaps, reading.Gap{Code: "cgroup-unreadable", What: "the cgroup tree", Why: err.Error()})
	}
	if stats.Truncated || stats.Unreadable > 0 || stats.Rejected > 0 {
		r.Gaps = append(r.Gaps, reading.Gap{
			Code: "cgroup-incomplete", What: "names of some cgroups",
			Why: fmt.Sprintf("of %d directories %d could not be read, %d found no room", stats.Directories, stats.Unreadable, stats.Rejected),
		})
	}
	if err := s.pods.Refresh(start); err != nil {
		r.Gaps = append(r.Gaps, reading.Gap{Code: "pod-names-unreadable", What: "names of pods", Why: err.Error()})
	}
	before, err := s.host.read()
	if err != nil {
		return nil, fmt.Errorf("scan sockets: %w", err)
	}

	s.table.BeginScan(1 + uint32(start.Sub(s.started)/time.Second))
	var first *early
	if s.lastFull.IsZero() && s.cfg.Workers > 1 {
		first = s.readEarly(ctx)
		defer first.stop()
	}
	w, err := s.sweep(ctx)
	first.wait()
	if err != nil {
		return nil, fmt.Errorf("scan sockets: %w", err)
	}
	s.keepHidden()
	seen := s.table.EndScan()
	s.recount(ctx, w)
	after, err := s.host.read()
	if err != nil {
		return nil, fmt.Errorf("scan sockets: %w", err)
	}
	var orphans *ledger.Recount
	if before.Orphans == after.Orphans && w.orphans != after.Orphans && !w.blind {
		orphans = s.recountOrphans(ctx, w)
	}

	others := s.wantHidden(w, after, seen)
	searching := time.Now()
	lost := orphans != nil && orphans.Before == orphans.After && orphans.Seen < orphans.After
	q := s.searchHolders(ctx, o, others, lost, time.Since(start), first)
	if q.spaces && s.sweepFound(ctx, w) {
		again := s.searchHolders(ctx, o, false, false, 0, nil)
		q.late = q.late || again.late
	}
	unreadable, _ := s.blindSpots()
	if unreadable > 0 {
		// Their namespaces are not known, either: fewer sockets and orphans
		// than the kernel counts say nothing.
		w.blind, orphans = true, nil
	}
	hiddenSearched, end := false, after
	if others {
		var gaps []reading.Gap
		hiddenSearched, gaps = s.addHidden(ctx, q)
		hiddenSearched = hiddenSearched && q.complete && !q.late && unreadable == 0
		r.Gaps = append(r.Gaps, gaps...)
		if end, err = s.host.read(); err != nil {
			return nil, fmt.Errorf("scan sockets: %w", err)
		}
	}
	s.progress(ctx, w)
	s.compact()
	s.sources.refreshAll(ctx)
	s.last = owner.Attribute(s.table, s.book, owner.Inputs{
		Procs: s.procs(), Queues: w.queues, Ends: w.ends.Pair(s.finder(ctx)),
		Cgroup:     func(id uint64) owner.Ref { return s.sources.cgroup(ctx, id) },
		KernelUse:  s.kernelOwners(w),
		Namespaces: namespaceIDs(s.spaces),
		Complete:   unreadable == 0 && s.hostPIDs,
	})
	s.sources.forget()
	s.index.Settled()
	s.finders.close()

	r.Sample = s.complete(end)
	r.Owners = s.last.Owners
	r.Ledger = ledger.Balance(ledger.Input{
		PageSize: pageSize, ReserveMax: after.ReserveMax,
		Before:  ledger.Counters{Used: before.Used, Orphan: before.Orphans, Alloc: before.Alloc},
		After:   ledger.Counters{Used: after.Used, Orphan: after.Orphans, Alloc: after.Alloc},
		End:     ledger.Counters{Used: end.Used, Orphan: end.Orphans, Alloc: end.Alloc},
		Classes: s.last.Classes, Named: s.last.Named,
		Netns: w.netns, Blind: w.blind,
		OrphansSeen: w.orphans, OrphanRecount: orphans,
		BoundInactive: w.boundInactive, HiddenSearched: hiddenSearched,
	})
	if others {
		s.searchedHidden(&r.Ledger, time.Since(searching))
	}
	r.Gaps = append(r.Gaps, w.gaps...)
	r.Gaps = append(r.Gaps, q.gaps()...)
	r.Gaps = append(r.Gaps, s.standingGaps(ctx)...)
	r.Gaps = append(r.Gaps, unseenNetns(&r.Ledger)...)
	r.Partial = q.late || ctx.Err() != nil
	r.IndexAge = s.indexAge(time.Now())
	r.Took = time.Since(start)
	return r, nil
}

func namespaceIDs(list []*netns.Namespace) []reading.NetnsID {
	ids := make([]reading.NetnsID, len(list))
	for i, n := range list {
		ids[i] = n.ID
	}
	return ids
}

// compact forgets owners that nothing names any more.
func (s *Scanner) compact() {
	moved := s.book.Compact(s.table, func(keep func(owner.Ref)) {
		for i := range s.sources.procs {
			keep(s.sources.procs[i].owner)
		}
		for _, c := range s.sources.byID {
			keep(c.ref)
		}
	})
	if moved == nil {
		return
	}
	for i := range s.sources.procs {
		s.sources.procs[i].owner = moved[s.sources.procs[i].owner]
	}
	for id, c := range s.sources.byID {
		c.ref = moved[c.ref]
		s.sources.byID[id] = c
	}
}

// unseenNetns sizes what lies in namespaces that nothing shows us: the kernel
// counts orphans over the whole host, so orphans that no dump listed are in
// namespaces without process, mount or descriptor.
func unseenNetns(l *reading.Ledger) []reading.Gap {
	for _, c := range l.Checks {
		if c.Name != "orphan" || c.Status != reading.CheckMismatch || c.Seen >= c.After {
			continue
		}
		hidden := max(0, l.Unseen)
		return []reading.Gap{{
			Code: "netns-unseen", What: fmt.Sprintf("%d orphans", c.After-c.Seen),
			Why:          "they are in network namespaces that no process, mount or descriptor shows",
			MayHideBytes: &hidden,
		}}
	}
	return nil
}

// standingGaps are what this daemon cannot see, scan after scan.
func (s *Scanner) standingGaps(ctx context.Context) []reading.Gap {
	var gaps []reading.Gap
	if ok, why := s.tree.Available(); !ok {
		gaps = append(gaps, reading.Gap{
			Code: "cgroup-v2-missing", What: "the cgroup of each socket",
			Why: why + ": orphans of ended processes have no name",
		})
	}
	if !s.hostPIDs {
		gaps = append(gaps, reading.Gap{
			Code: "pid-namespace", What: "processes outside this PID namespace",
			Why: "only a tcpmemd in the host's PID namespace sees them: their sockets are named by cgroup only",
		})
	}
	if s.foreign {
		gaps = append(gaps, reading.Gap{
			Code: "cgroup-namespace", What: "names of other control groups",
			Why: "tcpmemd runs in a cgroup namespace of its own and could not join PID 1's: services and containers are named by process only",
		})
	}
	if _, _, err := s.units.Connected(ctx); err != nil || s.sources.unheard {
		gaps = append(gaps, reading.Gap{
			Code: "bus-missing", What: "units by PID 1's word",
			Why: "PID 1 cannot be asked: unit names are labels read from cgroup paths",
		})
	}
	if t := s.table.Overflow; t.Sockets > 0 {
		gaps = append(gaps, reading.Gap{
			Code: "table-full", What: fmt.Sprintf("owners of %d sockets", t.Sockets),
			Why: fmt.Sprintf("the socket table is at its bound (state.table_size): %d rows found no room so far", s.table.Evicted), MayHideBytes: &t.Bytes,
		})
	}
	return gaps
}
