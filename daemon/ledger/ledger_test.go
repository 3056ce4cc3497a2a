package ledger

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const page = 4096

// TestJudge: a difference is a mismatch only where the counter stood still and
// a second look found the same difference; all else may be churn.
func TestJudge(t *testing.T) {
	type args struct {
		before, after, seen, tolerance int64
		again                          *Recount
	}
	same := func(n, seen int64) *Recount { return &Recount{Before: n, After: n, Seen: seen} }
	tests := []struct {
		name string
		args args
		want reading.CheckStatus
	}{
		{"equal", args{10, 10, 10, 0, nil}, reading.CheckOK},
		{"between, rising", args{10, 14, 12, 0, nil}, reading.CheckOK},
		{"between, falling", args{14, 10, 12, 0, nil}, reading.CheckOK},
		{"at the edge", args{10, 14, 14, 0, nil}, reading.CheckOK},
		{"beyond, moving", args{10, 14, 15, 0, nil}, reading.CheckUnsure},
		{"beyond, moving, again", args{10, 14, 15, 0, same(14, 15)}, reading.CheckUnsure},
		{"within tolerance", args{10, 10, 13, 3, nil}, reading.CheckOK},
		{"within tolerance below", args{10, 10, 7, 3, nil}, reading.CheckOK},
		{"beyond tolerance", args{10, 10, 14, 3, nil}, reading.CheckUnsure},
		{"standing, no second look", args{10, 10, 8, 0, nil}, reading.CheckUnsure},
		{"standing, the same again", args{10, 10, 8, 0, same(10, 8)}, reading.CheckMismatch},
		{"standing, more than counted again", args{10, 10, 12, 0, same(10, 12)}, reading.CheckMismatch},
		{"standing, right again", args{10, 10, 8, 0, same(10, 10)}, reading.CheckOK},
		{"standing, another difference", args{10, 10, 8, 0, same(10, 9)}, reading.CheckUnsure},
		{"moved during the second look", args{10, 10, 8, 0, &Recount{10, 11, 8}}, reading.CheckUnsure},
		{"moved before the second look", args{10, 10, 8, 0, same(11, 8)}, reading.CheckUnsure},
		{"moved there and back", args{10, 10, 8, 0, &Recount{9, 10, 8}}, reading.CheckUnsure},
		{"nothing at all", args{}, reading.CheckOK},
	}
	for _, tt := range tests {
		a := tt.args
		if got := judge(a.before, a.after, a.seen, a.tolerance, a.again); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestJudgeNeverAccusesChurn tries every small combination.
func TestJudgeNeverAccusesChurn(t *testing.T) {
	const n = 4
	for i := range n * n * n * n * n * n {
		v := func(place int) int64 { return int64(i / place % n) }
		before, after, seen := v(1), v(n), v(n*n)
		again := Recount{Before: v(n * n * n), After: v(n * n * n * n), Seen: v(n * n * n * n * n)}
		got := judge(before, after, seen, 0, &again)
		moved := before != after || again.Before != again.After || before != again.Before
		if got == reading.CheckMismatch && (moved || seen == before || again.Seen != seen) {
			t.Errorf("mismatch for %d..%d seen %d, again %+v", before, after, seen, again)
		}
		if again := judge(before, after, seen, 0, nil); again == reading.CheckMismatch {
			t.Errorf("mismatch without a second look: %d..%d seen %d", before, after, seen)
		}
	}
}

// still is a host that stands still: 2 namespaces, 10 sockets, 1 orphan, 2 hidden
// ones, everything explained.
func still() Input {
	c := Counters{Used: 100, Orphan: 1, Alloc: 12}
	in := Input{
		PageSize: page, ReserveMax: 8, Before: c, After: c, End: c,
		Named: 95 * page, OrphansSeen: 1, HiddenSearched: true,
		Netns: []Netns{{ID: reading.NetnsID{Inode: 1}, Before: 6, After: 6, Seen: 6}, {ID: reading.NetnsID{Inode: 2}, Before: 4, After: 4, Seen: 4}},
	}
	in.Classes[reading.Owned].Add(9, 50*page)
	in.Classes[reading.Orphan].Add(1, 25*page)
	in.Classes[reading.Hidden].Add(2, 25*page)
	return in
}

func statuses(l reading.Ledger) map[string]reading.CheckStatus {
	m := map[string]reading.CheckStatus{}
	for _, c := range l.Checks {
		m[c.Name+" "+c.Scope] = c.Status
	}
	return m
}

func TestBalance(t *testing.T) {
	const ok, unsure, mismatch, skipped = reading.CheckOK, reading.CheckUnsure, reading.CheckMismatch, reading.CheckSkipped
	type want = map[string]reading.CheckStatus
	tests := []struct {
		name   string
		change func(*Input)
		want   want // what differs from ok
	}{
		{"still", func(*Input) {}, nil},
		{"a namespace lost sockets", func(in *Input) {
			in.Netns[1].Seen, in.Netns[1].Recount = 3, &Recount{4, 4, 3}
		}, want{"inuse host": mismatch, "inuse netns 2": mismatch}},
		{
			"a namespace churns", func(in *Input) { in.Netns[1].Seen = 3 },
			want{"inuse host": unsure, "inuse netns 2": unsure},
		},
		{"one churns, one lost", func(in *Input) {
			in.Netns[0].Seen, in.Netns[0].Recount = 5, &Recount{6, 6, 5}
			in.Netns[1].Seen = 3
		}, want{"inuse host": mismatch, "inuse netns 1": mismatch, "inuse netns 2": unsure}},
		{"a row was skipped once", func(in *Input) { in.Netns[1].Seen, in.Netns[1].Recount = 3, &Recount{4, 4, 4} }, nil},
		{"an orphan unseen", func(in *Input) { in.OrphansSeen, in.OrphanRecount = 0, &Recount{1, 1, 0} }, want{"orphan host": mismatch}},
		{"orphans come and go", func(in *Input) { in.After.Orphan, in.OrphansSeen = 2, 3 }, want{"orphan host": unsure}},
		{"hidden not searched", func(in *Input) {
			in.HiddenSearched = false
			in.Classes[reading.Hidden] = reading.Tally{Sockets: 0, Bytes: 25 * page}
		}, want{"alloc host": skipped}},
		{"hidden not all found", func(in *Input) { in.Classes[reading.Hidden].Sockets = 1 }, want{"alloc host": mismatch}},
		{"more hidden than counted", func(in *Input) { in.Classes[reading.Hidden].Sockets = 3 }, want{"alloc host": mismatch}},
		{"hidden, some namespace unread", func(in *Input) { in.Classes[reading.Hidden].Sockets, in.Blind = 1, true }, want{"alloc host": unsure}},
		{"alloc moved during the scan", func(in *Input) { in.After.Alloc, in.End.Alloc, in.Classes[reading.Hidden].Sockets = 14, 14, 1 }, want{"alloc host": unsure}},
		{"alloc moved during the search", func(in *Input) { in.End.Alloc, in.Classes[reading.Hidden].Sockets = 13, 1 }, want{"alloc host": unsure}},
		{"bound sockets are not hidden", func(in *Input) {
			in.BoundInactive = 3
			in.Before.Alloc, in.After.Alloc, in.End.Alloc = 15, 15, 15
		}, nil},
		{"memory within the reserve", func(in *Input) { in.Classes[reading.Owned].Bytes -= 8 * page }, nil},
		{"memory unseen", func(in *Input) { in.Classes[reading.Owned].Bytes -= 9 * page }, want{"memory host": mismatch}},
		{"more memory than there is", func(in *Input) { in.Classes[reading.Owned].Bytes += 9 * page }, want{"memory host": mismatch}},
		{"memory moves", func(in *Input) { in.Classes[reading.Owned].Bytes -= 12 * page; in.End.Used-- }, want{"memory host": unsure}},
		{"orphans move, memory differs", func(in *Input) {
			in.Classes[reading.Owned].Bytes -= 9 * page
			in.End.Orphan++
		}, want{"memory host": unsure}},
		{"sockets churn, memory differs", func(in *Input) {
			in.Classes[reading.Owned].Bytes -= 9 * page
			in.Netns[0].Seen--
		}, want{"memory host": unsure, "inuse host": unsure, "inuse netns 1": unsure}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := still()
			tt.change(&in)
			l := Balance(in)
			want := want{"inuse host": ok, "orphan host": ok, "alloc host": ok, "memory host": ok}
			maps.Copy(want, tt.want)
			if diff := cmp.Diff(want, statuses(l)); diff != "" {
				t.Errorf("checks (-want +got):\n%s", diff)
			}
			var sum int64
			for _, c := range l.Classes {
				sum += c.Bytes
			}
			if l.Seen != sum || l.Seen+l.Unseen != in.End.Used.Bytes(page) {
				t.Errorf("seen %d and unseen %d of %d, classes %d", l.Seen, l.Unseen, in.End.Used.Bytes(page), sum)
			}
			if l.Coverage < 0 || l.Coverage > 1 {
				t.Errorf("coverage %v", l.Coverage)
			}
		})
	}
}

// TestChecksOrder: whole-host checks come first, in the order people read them.
func TestChecksOrder(t *testing.T) {
	in := still()
	in.Netns[1].Seen = 3
	var got []string
	for _, c := range Balance(in).Checks {
		got = append(got, c.Name+" "+c.Scope)
	}
	want := []string{"inuse host", "orphan host", "alloc host", "memory host", "inuse netns 2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCoverage(t *testing.T) {
	tests := []struct {
		name             string
		used, reserve    reading.Pages
		seen, named      int64
		want             float64
		unseen, reserved int64 // pages
	}{
		{"all named", 100, 8, 100 * page, 100 * page, 1, 0, 8},
		{"half named", 100, 0, 100 * page, 50 * page, 0.5, 0, 0},
		{"half seen, all of it named", 100, 0, 50 * page, 50 * page, 0.5, 50, 0},
		{"the reserve is nobody's", 100, 20, 80 * page, 80 * page, 1, 20, 20},
		{"more seen than used", 50, 8, 100 * page, 100 * page, 1, -50, 8},
		{"more named than seen", 100, 0, 100 * page, 120 * page, 1, 0, 0},
		{"a negative reserve ahead", 100, 0, 100 * page, -page, 0, 0, 0},
		{"nothing used", 0, 8, 0, 0, 0, 0, 8},
		{"reserve larger than use", 4, 256, page, page, 1, 3, 256},
		{"a page hardly used", 0, 0, 100, 100, 100. / page, 0, 0},
	}
	for _, tt := range tests {
		c := Counters{Used: tt.used}
		in := Input{PageSize: page, ReserveMax: tt.reserve, Before: c, After: c, End: c, Named: tt.named}
		in.Classes[reading.Owned].Add(1, tt.seen)
		l := Balance(in)
		if l.Coverage != tt.want || l.ReserveMax != tt.reserved*page {
			t.Errorf("%s: coverage %v, reserve %d; want %v, %d", tt.name, l.Coverage, l.ReserveMax, tt.want, tt.reserved*page)
		}
		if tt.name != "a page hardly used" && l.Unseen != tt.unseen*page {
			t.Errorf("%s: unseen %d, want %d pages", tt.name, l.Unseen, tt.unseen)
		}
	}
}

// TestHiddenEstimate: allocated, but in no inuse; sockets that are bound and
// nothing more are shown by a dump all the same.
func TestHiddenEstimate(t *testing.T) {
	tests := []struct{ alloc, inuse, bound, want int64 }{
		{12, 10, 0, 2}, {12, 10, 2, 0}, {12, 10, 1, 1}, {10, 10, 0, 0}, {9, 10, 0, 0}, {12, 10, 3, 0}, {0, 0, 0, 0},
	}
	for _, tt := range tests {
		in := Input{
			PageSize: page, After: Counters{Alloc: tt.alloc}, BoundInactive: tt.bound,
			Netns: []Netns{{Before: 1, After: tt.inuse - 1}, {Before: 1, After: 1}},
		}
		if got := Balance(in).HiddenEstimate; got != tt.want {
			t.Errorf("alloc %d, inuse %d, bound %d: %d hidden, want %d", tt.alloc, tt.inuse, tt.bound, got, tt.want)
		}
	}
}
