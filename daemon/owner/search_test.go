package owner

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// tableOf makes a table of one scan.
func tableOf(rows ...*reading.Socket) *Table {
	t := NewTable(0)
	t.BeginScan(100)
	for _, r := range rows {
		t.Add(0, r)
	}
	t.EndScan()
	return t
}

func (t *Table) entryOf(cookie reading.Cookie) *entry {
	i, _ := t.find(cookie)
	return t.at(i)
}

func TestSearch(t *testing.T) {
	table := tableOf(
		row(1, 11, reading.Established, 100),
		row(2, 12, reading.Established, 0),
		row(3, 13, reading.Listen, 0),
		row(4, 0, reading.FinWait1, 100), // no inode: nobody can hold it
	)
	want := func(what string, matter, all int) {
		t.Helper()
		if m, a := table.Wants(); m != matter || a != all {
			t.Errorf("%s: %d that matter of %d wanted, want %d of %d", what, m, a, matter, all)
		}
	}
	want("at first", 2, 3) // memory, or an accept queue
	s := table.BeginSearch()
	if s.Matter != 2 || s.Wanted != 3 {
		t.Errorf("the search wants %d of %d, want 2 of 3", s.Matter, s.Wanted)
	}
	if !s.Holds(11) || !s.Holds(12) || s.Holds(0) || s.Holds(14) {
		t.Error("Holds does not know the inodes of the table")
	}
	s.Found(1, 11)
	s.Found(1, 11) // a second descriptor of the same process
	s.Found(2, 14) // of no socket here
	if s.Matter != 1 || s.Wanted != 2 || len(table.shared) != 0 {
		t.Errorf("after one was found: %d of %d, %d shared; want 1 of 2, 0", s.Matter, s.Wanted, len(table.shared))
	}
	want("after one was found", 1, 2)
	s.GaveUp(^uint32(0))
	want("after all was searched", 0, 0)
	if e := table.entryOf(2); e.flags&flagSearched == 0 {
		t.Error("what was not found is not marked")
	}
	table.SearchAgain()
	want("once more", 1, 2)
	s = table.BeginSearch()
	s.Found(3, 12)
	s.Found(3, 13)
	want("all found", 0, 0)
}

// TestSearchSubflow: an MPTCP socket and its subflows have one inode.
func TestSearchSubflow(t *testing.T) {
	mptcp := row(1, 50, reading.Established, 9000)
	mptcp.MPTCP = true
	subflow := row(2, 50, reading.Established, 10)
	table := tableOf(mptcp, subflow)
	s := table.BeginSearch()
	s.Found(4, 50)
	for _, key := range []reading.Cookie{Key(mptcp), Key(subflow)} {
		if got := table.entryOf(key).holder; got != 4 {
			t.Errorf("holder %d of socket %d, want 4", got, key)
		}
	}
	if s.Wanted != 0 || s.Matter != 0 {
		t.Errorf("still wants %d, %d", s.Matter, s.Wanted)
	}
}

// TestSharedIsConfirmed: each search that reads the holders again finds the
// same ones, whichever of them comes first.
func TestSharedIsConfirmed(t *testing.T) {
	w := newWorld(t)
	a, b := w.proc(100, "a.service"), w.proc(200, "b.service")
	w.scan(row(1, 11, reading.Established, 100))
	for range 4 {
		s := w.table.BeginSearch()
		for _, p := range []ProcRef{a, b} {
			s.Found(p, 11)
			w.procs[p-1].Read = s.Number()
		}
		r := w.attribute()
		if o := owner(t, r, "system/a.service"); o.Sum.Sockets != 1 || !o.Shared || o.HolderCount != 2 {
			t.Fatalf("search %d: a.service has %d sockets, shared %v, %d holders; want 1, true, 2",
				s.Number(), o.Sum.Sockets, o.Shared, o.HolderCount)
		}
	}
	// b closed its descriptor: a search that read it did not find it there.
	s := w.table.BeginSearch()
	s.Found(a, 11)
	w.procs[a-1].Read, w.procs[b-1].Read = s.Number(), s.Number()
	if o := owner(t, w.attribute(), "system/a.service"); o.Shared || o.HolderCount != 1 {
		t.Errorf("after b closed it: shared %v, %d holders; want false, 1", o.Shared, o.HolderCount)
	}
}

func TestAddHidden(t *testing.T) {
	w := newWorld(t)
	p, q := w.proc(100, "a.service"), w.proc(200, "b.service")
	hidden := row(7, 70, reading.Close, 4000)
	w.scan(row(1, 11, reading.Established, 100))
	w.table.BeginSearch()
	w.table.AddHidden(0, hidden, p)
	w.table.AddHidden(0, hidden, q) // forked
	w.table.AddHidden(0, row(1, 11, reading.Established, 100), q)
	r := w.attribute()
	if got, want := r.Classes[reading.Hidden], (reading.Tally{Sockets: 1, Bytes: 4000}); got != want {
		t.Errorf("hidden %+v, want %+v: once, and not what the dump had", got, want)
	}
	if o := owner(t, r, "system/a.service"); o.HolderCount != 2 || !o.Shared {
		t.Errorf("%d holders, shared %v; want 2, true", o.HolderCount, o.Shared)
	}
	// Kept over a scan, as long as somebody adds it again.
	w.scan(row(1, 11, reading.Established, 100), hidden)
	w.table.BeginScan(102)
	w.table.Add(0, row(1, 11, reading.Established, 100))
	w.table.AddHidden(0, hidden, p)
	w.table.EndScan()
	if r := w.attribute(); r.Classes[reading.Hidden].Sockets != 1 || w.table.Len() != 2 {
		t.Errorf("hidden %+v of %d sockets, want 1 of 2", r.Classes[reading.Hidden], w.table.Len())
	}
	w.scan(row(1, 11, reading.Established, 100))
	if r := w.attribute(); r.Classes[reading.Hidden].Sockets != 0 {
		t.Errorf("hidden %+v, want none", r.Classes[reading.Hidden])
	}
}
