package top

import (
	"cmp"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Model is what the view knows and shows. Its methods return it changed, and
// what is to be done next.
type Model struct {
	Config
	width, height int
	now           time.Time

	// What was heard last, whole; err is of a question since that had no answer.
	status *api.Status
	owners *api.Owners
	heard  time.Time     // the newest of it
	read   time.Time     // the owners
	took   time.Duration // until the owners were there
	err    error
	asking int       // questions under way
	since  time.Time // of the oldest of them
	frozen bool

	page   page
	order  order
	filter string            // of the owners
	input  *input            // being typed, nil where nothing is
	rows   []int             // of owners, filtered and sorted
	some   [len(orders)]bool // that some owner has some of it
	judged bool              // that some owner has a verdict
	cursor cursor

	list   *list // nil where owners are shown
	scroll int   // of a page of text
}

// page is what is on the screen beside the pool.
type page int

const (
	pageTable  page = iota // owners, or a list of sockets
	pagePolicy             // all that the policy does, and what is not known
	pageKeys
	pageDetails // of what is under the cursor
)

// want is what a change of the model asks for.
type want int

const (
	wantNothing want = iota
	wantStatus
	wantAnswer // the owners and all else
	wantQuit
)

func newModel(cfg Config, first *answer) Model {
	m := Model{Config: cfg, width: 80, height: 24, now: first.at, asking: 1, since: first.at}
	return m.answered(first)
}

func (m Model) resized(width, height int) Model {
	m.width, m.height = width, height
	return m
}

// A view of a host with very many sockets takes a fifth of one CPU at most: as
// long as restShare readings take, nothing is read. But a host that is busy with
// other things makes readings long, too, and that is when somebody looks.
const (
	restShare = 4
	maxRest   = 10 * time.Second
)

// at is the passing of time.
func (m Model) at(now time.Time) (Model, want) {
	m.now = now
	switch {
	case m.asking > 0 || m.frozen || m.recorded() || now.Sub(m.heard) < m.Interval:
		return m, wantNothing
	case now.Sub(m.read) >= min(restShare*m.took, maxRest):
		m.since = now
		return m, wantAnswer
	case m.Direct:
		return m, wantNothing
	}
	m.since = now
	return m, wantStatus
}

// answered takes what was heard. A view that is frozen takes only the sockets
// that it waits for.
func (m Model) answered(a *answer) Model {
	m.asking--
	m.now = a.at
	if a.err != nil {
		m.err, m.took = a.err, 0
		if m.owners == nil {
			m.heard = a.at // nothing is shown whose age that would be
		}
		return m
	}
	if a.sockets != nil && m.list != nil && a.list.is(m.list) && (!m.frozen || m.list.doc == nil) {
		l := *m.list
		l.doc = a.sockets
		m.list = l.sorted()
	}
	if m.frozen && m.owners != nil {
		return m
	}
	m.err, m.status, m.heard = nil, a.status, a.at
	if a.owners == nil {
		return m
	}
	m.owners, m.read, m.took = a.owners, a.at, a.took
	return m.arranged()
}

// arranged filters and sorts the owners anew.
func (m Model) arranged() Model {
	m.rows, m.some, m.judged = nil, [len(orders)]bool{}, false
	if m.owners == nil {
		return m
	}
	keep := m.keeps()
	for i := range m.owners.Owners {
		for o := range orders {
			m.some[o] = m.some[o] || orders[o].has(&m.owners.Owners[i])
		}
		m.judged = m.judged || m.owners.Owners[i].Verdict != nil
		if keep(&m.owners.Owners[i]) {
			m.rows = append(m.rows, i)
		}
	}
	less := m.order.compare()
	slices.SortStableFunc(m.rows, func(a, b int) int { return less(&m.owners.Owners[a], &m.owners.Owners[b]) })
	m.cursor = m.cursor.kept(len(m.rows), m.keyAt)
	return m
}

func (m *Model) keyAt(row int) string { return m.owners.Owners[m.rows[row]].Key }

// chosen is the owner under the cursor, nil where there is none.
func (m *Model) chosen() *api.Owner {
	if m.cursor.row >= len(m.rows) {
		return nil
	}
	return &m.owners.Owners[m.rows[m.cursor.row]]
}

// memory is the newest of the pool. What is too old to be true has no level.
func (m *Model) memory() api.Memory {
	mem := m.owners.Memory
	if m.status != nil {
		mem = m.status.Memory
	}
	if m.age() > staleAfter && !m.Direct && !m.frozen && !m.recorded() {
		mem.Level = reading.Unknown
	}
	return mem
}

// staleAfter is the age at which a level says nothing any more, as the daemon
// sees it.
const staleAfter = 5 * time.Second

// recorded: what is shown is of a file, and will not change.
func (m *Model) recorded() bool { return m.owners != nil && m.owners.Source == api.SourceExport }

// age is that of what is shown.
func (m *Model) age() time.Duration {
	return max(m.now.Sub(m.heard), 0) + time.Duration(m.header().AgeSeconds*float64(time.Second))
}

// header is the newest.
func (m *Model) header() *api.Header {
	if m.status != nil {
		return &m.status.Header
	}
	return &m.owners.Header
}

// order is what owners are sorted by, the most first.
type order int

const (
	byMemory order = iota
	byGrowth
	byOrphans
	byHidden
	byUnread
	byCloseWait
)

// orders are the keys that sort, in the order in which they are shown: by how
// much of it, and whether an owner has it at all.
var orders = [...]struct {
	key, name string
	of        func(*api.Owner) int64
	has       func(*api.Owner) bool
}{
	byMemory: {"m", "memory", func(o *api.Owner) int64 { return o.Bytes }, func(*api.Owner) bool { return true }},
	byGrowth: {"g", "growth", growth, func(o *api.Owner) bool { return o.GrowthBytesPerMinute != nil }},
	byOrphans: {
		"o", "orphans",
		func(o *api.Owner) int64 { return o.Classes.Orphan.Bytes }, func(o *api.Owner) bool { return o.Classes.Orphan.Sockets > 0 },
	},
	byHidden: {
		"h", "hidden",
		func(o *api.Owner) int64 { return o.Classes.Hidden.Bytes }, func(o *api.Owner) bool { return o.Classes.Hidden.Sockets > 0 },
	},
	byUnread:    {"u", "unread", func(o *api.Owner) int64 { return o.UnreadBytes }, func(o *api.Owner) bool { return o.UnreadBytes > 0 }},
	byCloseWait: {"c", "close-wait", closeWait, func(o *api.Owner) bool { return closeWait(o) > 0 }},
}

// growth of an owner; one whose growth is not known comes after all others.
func growth(o *api.Owner) int64 {
	if o.GrowthBytesPerMinute == nil {
		return -1 << 63
	}
	return *o.GrowthBytesPerMinute
}

func closeWait(o *api.Owner) int64 { return o.States[reading.CloseWait.String()] }

func (o order) compare() func(a, b *api.Owner) int {
	of := orders[o].of
	return func(a, b *api.Owner) int { return cmp.Or(cmp.Compare(of(b), of(a)), cmp.Compare(b.Bytes, a.Bytes)) }
}

// cursor is a place in a list. It stays with what it is on when the list
// changes, but on the first row, which is whoever is first.
type cursor struct {
	row int
	key string // what it is on, "" on the first row
}

// kept is the cursor in a list that has changed.
func (c cursor) kept(n int, keyAt func(int) string) cursor {
	if c.key != "" {
		for i := range n {
			if keyAt(i) == c.key {
				c.row = i
				return c
			}
		}
	}
	return c.moved(0, n, keyAt)
}

// moved is the cursor by some rows further down, or up.
func (c cursor) moved(by, n int, keyAt func(int) string) cursor {
	c.row, c.key = max(min(c.row+by, n-1), 0), ""
	if c.row > 0 {
		c.key = keyAt(c.row)
	}
	return c
}
