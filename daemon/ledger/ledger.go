// Package ledger balances what the kernel counts against what a scan saw. It
// is pure: every number comes in, findings go out.
package ledger

import (
	"fmt"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Counters are what the kernel says of the whole host at one moment.
type Counters struct {
	Used   reading.Pages // sockstat mem
	Orphan int64         // sockstat orphan
	Alloc  int64         // sockstat alloc
}

// Netns is one namespace's part: its inuse before and after its dump, and the
// sockets seen that inuse counts.
type Netns struct {
	ID            reading.NetnsID
	Before, After int64
	Seen          int64
	// Recount is a second look taken because the first did not fit; nil
	// where none was needed.
	Recount *Recount
}

// Recount repeats a count between two readings of its counter.
type Recount struct {
	Before, After int64
	Seen          int64
}

// Input is everything that the balance rests on.
type Input struct {
	PageSize      int
	ReserveMax    reading.Pages
	Before, After Counters // around the dumps
	End           Counters // after the search for hidden sockets, which comes last
	Classes       [reading.NumClasses]reading.Tally
	Named         int64 // bytes
	Netns         []Netns
	// Blind: some namespace could not be read, so that fewer sockets than
	// counted are no contradiction.
	Blind         bool
	OrphanRecount *Recount
	OrphansSeen   int64 // TCP sockets; an MPTCP socket is none of sockstat's orphans
	// BoundInactive sockets are allocated and dumped, but not in inuse.
	BoundInactive int64
	// HiddenSearched: the search for hidden sockets ran to its end.
	HiddenSearched bool
}

// Balance computes the ledger and its checks.
func Balance(in Input) reading.Ledger {
	l := reading.Ledger{Classes: in.Classes, Named: in.Named, OrphansSeen: in.OrphansSeen}
	for _, t := range in.Classes {
		l.Seen += t.Bytes
	}
	used := in.End.Used.Bytes(in.PageSize)
	l.ReserveMax = in.ReserveMax.Bytes(in.PageSize)
	l.Unseen = used - l.Seen
	l.Coverage = float64(l.Named) / float64(max(l.Seen, used-l.ReserveMax, int64(in.PageSize)))
	// Rows are read without the sockets' locks, so the sum may exceed the
	// counter a little: never more than everything is explained.
	l.Coverage = min(max(l.Coverage, 0), 1)

	var before, after, seen int64
	worst := reading.CheckOK
	for _, n := range in.Netns {
		c := inuseCheck(n)
		before, after, seen = before+n.Before, after+n.After, seen+n.Seen
		if c.Status != reading.CheckOK {
			l.Checks = append(l.Checks, c)
			worst = worse(worst, c.Status)
		}
	}
	host := reading.Check{Name: "inuse", Scope: "host", Before: before, After: after, Seen: seen, Status: worst}
	l.HiddenEstimate = max(0, in.After.Alloc-after-in.BoundInactive)
	l.Checks = append([]reading.Check{
		host, orphanCheck(in, l.OrphansSeen), allocCheck(in, before, after),
		memoryCheck(in, l, worst),
	}, l.Checks...)
	return l
}

func inuseCheck(n Netns) reading.Check {
	c := reading.Check{
		Name: "inuse", Scope: fmt.Sprintf("netns %d", n.ID.Inode),
		Before: n.Before, After: n.After, Seen: n.Seen,
	}
	c.Status = judge(n.Before, n.After, n.Seen, 0, n.Recount)
	return c
}

func orphanCheck(in Input, seen int64) reading.Check {
	c := reading.Check{Name: "orphan", Scope: "host", Before: in.Before.Orphan, After: in.After.Orphan, Seen: seen}
	c.Status = judge(c.Before, c.After, seen, 0, in.OrphanRecount)
	return c
}

// allocCheck compares the sockets that no dump can show with the hidden ones
// found. The estimate is an upper bound where namespaces could not be read.
func allocCheck(in Input, inuseBefore, inuseAfter int64) reading.Check {
	c := reading.Check{
		Name: "alloc", Scope: "host", Seen: in.Classes[reading.Hidden].Sockets,
		Before: in.Before.Alloc - inuseBefore - in.BoundInactive,
		After:  in.After.Alloc - inuseAfter - in.BoundInactive,
	}
	lo, hi := min(c.Before, c.After), max(c.Before, c.After)
	switch {
	case lo <= c.Seen && c.Seen <= hi:
		c.Status = reading.CheckOK
	case !in.HiddenSearched:
		c.Status = reading.CheckSkipped
	case lo != hi || in.After.Alloc != in.End.Alloc || in.Blind:
		c.Status = reading.CheckUnsure
	default:
		c.Status = reading.CheckMismatch
	}
	return c
}

// memoryCheck compares the pool with the sum over all sockets. The per-CPU
// reserve is its tolerance; beyond that it is a mismatch only on a host that
// stood still.
func memoryCheck(in Input, l reading.Ledger, inuse reading.CheckStatus) reading.Check {
	c := reading.Check{
		Name: "memory", Scope: "host", Tolerance: l.ReserveMax, Seen: l.Seen,
		Before: in.Before.Used.Bytes(in.PageSize), After: in.End.Used.Bytes(in.PageSize),
	}
	c.Status = judge(c.Before, c.After, c.Seen, c.Tolerance, nil)
	// Less than the pool is no contradiction where sockets are known to be out
	// of sight.
	outOfSight := in.Blind || !in.HiddenSearched && l.HiddenEstimate > in.Classes[reading.Hidden].Sockets
	short := c.Seen < c.Before
	if c.Status == reading.CheckUnsure && in.Before == in.After && in.After == in.End && inuse != reading.CheckUnsure && !(short && outOfSight) {
		c.Status = reading.CheckMismatch
	}
	return c
}

// judge compares a counter, read before and after, with what was seen. A
// difference is a mismatch only where the counter stood still and a second
// look between two equal readings found the same difference again: everything
// else may be churn, and the honest word is unsure.
func judge(before, after, seen, tolerance int64, again *Recount) reading.CheckStatus {
	lo, hi := min(before, after)-tolerance, max(before, after)+tolerance
	switch {
	case lo <= seen && seen <= hi:
		return reading.CheckOK
	case before != after || again == nil:
		return reading.CheckUnsure
	case again.Before != again.After || again.Before != before:
		return reading.CheckUnsure
	case again.Seen == again.Before:
		return reading.CheckOK // the dump had skipped or repeated a row
	case again.Seen == seen:
		return reading.CheckMismatch
	}
	return reading.CheckUnsure
}

func worse(a, b reading.CheckStatus) reading.CheckStatus {
	if a == reading.CheckMismatch || b == reading.CheckMismatch {
		return reading.CheckMismatch
	}
	return b
}
