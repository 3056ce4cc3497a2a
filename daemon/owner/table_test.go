package owner

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// row is a socket of a dump.
func row(cookie reading.Cookie, inode uint32, state reading.State, bytes uint32) *reading.Socket {
	return &reading.Socket{
		Cookie: cookie, Inode: inode, State: state, Mem: reading.SkMem{RmemAlloc: bytes},
		Local: netip.MustParseAddrPort("127.0.0.1:80"), Remote: netip.MustParseAddrPort("127.0.0.2:5000"),
	}
}

// check verifies what must hold of a table at any time.
func (t *Table) check() error {
	used := 0
	for _, ref := range t.index {
		if ref != 0 {
			used++
		}
	}
	if used != t.n {
		return fmt.Errorf("%d of %d entries are in the index", used, t.n)
	}
	if have := len(t.chunks) * chunkSize; have < t.n || have > t.n+3*chunkSize {
		return fmt.Errorf("%d chunks for %d entries", len(t.chunks), t.n)
	}
	for i := range t.n {
		e := t.at(i)
		if j, _ := t.find(e.key); j != i {
			return fmt.Errorf("entry %d, key %d, is found at %d", i, e.key, j)
		}
		if int(e.cgroup) >= len(t.cgroups) {
			return fmt.Errorf("entry %d has cgroup %d of %d", i, e.cgroup, len(t.cgroups))
		}
		if _, ok := t.shared[e.key]; ok != (e.flags&flagShared != 0) {
			return fmt.Errorf("entry %d: shared %v, flag %x", i, ok, e.flags)
		}
	}
	for key := range t.shared {
		if i, _ := t.find(key); i < 0 {
			return fmt.Errorf("holders of a socket that is gone: %d", key)
		}
	}
	return nil
}

// model plays operations on a table and on a map. Each scan is a run of
// cookies; the ones not shown vanish.
type model struct {
	t    *Table
	want map[reading.Cookie]uint32 // bytes
}

func (m *model) scan(t testing.TB, second uint32, show []reading.Cookie, bytes uint32) {
	t.Helper()
	m.t.BeginScan(second)
	now := map[reading.Cookie]uint32{}
	var sum int64
	for _, c := range show {
		_, twice := now[c]
		if news := m.t.Add(0, row(c, uint32(c), reading.Established, bytes)); news == twice {
			t.Fatalf("cookie %d: news %v, shown before %v", c, news, twice)
		}
		if !twice {
			now[c] = bytes
			sum += int64(bytes)
		}
	}
	if got := m.t.EndScan(); got != sum {
		t.Fatalf("bytes %d, want %d", got, sum)
	}
	m.want = now
	if err := m.t.check(); err != nil {
		t.Fatal(err)
	}
	if m.t.Len() != len(m.want) {
		t.Fatalf("%d sockets, want %d", m.t.Len(), len(m.want))
	}
	for c := range m.want {
		if i, _ := m.t.find(c); i < 0 || m.t.at(i).rmem != bytes {
			t.Fatalf("cookie %d not found or with other bytes", c)
		}
	}
}

// TestTableAgainstMap lets tables grow, shrink and churn at random.
func TestTableAgainstMap(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		m := model{t: NewTable(4 << 20)}
		// Few distinct cookies collide a lot; per-CPU batches are sequences.
		space := []uint64{64, 5000, 1 << 40}[random.IntN(3)]
		for second := range uint32(8) {
			show := make([]reading.Cookie, random.IntN(12_000))
			for i := range show {
				show[i] = reading.Cookie(1 + random.Uint64N(space))
			}
			m.scan(t, second, show, second+1)
			s := m.t.BeginSearch()
			for _, c := range show[:len(show)/3] {
				s.Found(ProcRef(1+random.IntN(5)), uint32(c))
				s.Found(ProcRef(1+random.IntN(5)), uint32(c))
			}
			if err := m.t.check(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0xff, 2, 3, 4, 0xff, 0xff, 9})
	f.Fuzz(func(t *testing.T, ops []byte) {
		m := model{t: NewTable(0)}
		var show []reading.Cookie
		second := uint32(0)
		for len(ops) > 0 {
			if ops[0] == 0xff || len(ops) < 3 {
				m.scan(t, second, show, 7)
				show = show[:0]
				second++
				ops = ops[1:]
				continue
			}
			// 16 bits, shifted to where the hash looks: long probe chains.
			show = append(show, reading.Cookie(binary.LittleEndian.Uint16(ops[1:]))<<(ops[0]%48))
			ops = ops[3:]
		}
	})
}

// TestTableRemoves takes entries out one by one, first, last and in the
// middle, over a chunk's boundary: the last one takes each place.
func TestTableRemoves(t *testing.T) {
	const n = chunkSize + 3
	m := model{t: NewTable(4 << 20)}
	all := make([]reading.Cookie, n)
	for i := range all {
		all[i] = reading.Cookie(i + 1)
	}
	m.scan(t, 0, all, 1)
	s := m.t.BeginSearch()
	for _, c := range all {
		s.Found(1, uint32(c))
		s.Found(2, uint32(c)) // shared: the list must move with its socket
	}
	for second, gone := range []int{0, n - 2, chunkSize - 1, chunkSize / 2, 1, 0} {
		all = append(all[:gone:gone], all[gone+1:]...)
		m.scan(t, uint32(second+1), all, 1)
	}
	if got, want := len(m.t.shared), len(all); got != want {
		t.Errorf("%d sockets have several holders, want %d", got, want)
	}
	m.scan(t, 10, nil, 1)
	if got := len(m.t.chunks); got > 2 {
		t.Errorf("an empty table keeps %d chunks", got)
	}
	if got := len(m.t.index); got != chunkSize {
		t.Errorf("an empty table keeps an index of %d slots", got)
	}
}

// TestTableBound: what does not fit is tallied, never lost.
func TestTableBound(t *testing.T) {
	table := NewTable(5000 * entryCost)
	const n = 6000
	for scan := range uint32(2) {
		table.BeginScan(scan)
		for c := range reading.Cookie(n) {
			table.Add(0, row(c+1, 1, reading.Established, 10))
		}
		if got := table.EndScan(); got != n*10 {
			t.Errorf("scan %d: %d bytes, want %d with those that did not fit", scan, got, n*10)
		}
		if want := (reading.Tally{Sockets: 1000, Bytes: 10_000}); table.Len() != 5000 || table.Overflow != want {
			t.Errorf("scan %d: %d sockets, overflow %+v; want 5000, %+v", scan, table.Len(), table.Overflow, want)
		}
	}
	if table.Evicted != 2000 {
		t.Errorf("evicted %d over the table's life, want 2000", table.Evicted)
	}
	if err := table.check(); err != nil {
		t.Error(err)
	}
	if NewTable(1).limit != chunkSize {
		t.Error("a bound too small to be of use is taken at its word")
	}
}

// TestEntryCost: the bound in bytes is as true as this constant.
func TestEntryCost(t *testing.T) {
	const slots = 2 * 4 // the index is between 5/16 and 5/8 full
	if want := int(unsafe.Sizeof(entry{})) + slots; entryCost != want {
		t.Errorf("entryCost is %d, an entry costs %d", entryCost, want)
	}
}

// TestTableForgetsCgroups: ids of jobs that are long over must not pile up.
func TestTableForgetsCgroups(t *testing.T) {
	table := NewTable(1 << 20)
	id := uint64(0)
	for second := range uint32(200) {
		table.BeginScan(second)
		kept := row(1, 1, reading.Established, 1)
		kept.CgroupID = 42
		table.Add(0, kept)
		for c := range reading.Cookie(50) {
			id++
			s := row(reading.Cookie(id)+100, uint32(c), reading.Established, 1)
			s.CgroupID = 1000 + id
			table.Add(0, s)
		}
		table.EndScan()
		if err := table.check(); err != nil {
			t.Fatal(err)
		}
	}
	if len(table.cgroups) > 2000 || len(table.cgroupIdx) != len(table.cgroups) {
		t.Errorf("%d cgroup ids are kept for %d sockets", len(table.cgroups), table.Len())
	}
	i, _ := table.find(1)
	if got := table.cgroups[table.at(i).cgroup]; got != 42 {
		t.Errorf("the socket that stayed has cgroup %d, want 42", got)
	}
}

// TestTableFollows: what changes between scans, and what must not survive.
func TestTableFollows(t *testing.T) {
	table := NewTable(0)
	scan := func(second uint32, s *reading.Socket) *entry {
		table.BeginScan(second)
		table.Add(0, s)
		table.EndScan()
		i, _ := table.find(Key(s))
		return table.at(i)
	}
	e := scan(10, row(1, 0, reading.Established, 5)) // in an accept queue
	if e.first != 10 || e.changed != 10 {
		t.Errorf("first seen at %d, changed at %d; want 10", e.first, e.changed)
	}
	e.holder = 7                                       // its queue
	e = scan(20, row(1, 99, reading.Established, 500)) // accepted
	if e.holder != 0 || e.changed != 20 || e.first != 10 {
		t.Errorf("accepted: holder %d, changed %d, first %d; want 0, 20, 10", e.holder, e.changed, e.first)
	}
	s := table.BeginSearch()
	s.Found(1, 99)
	s.Found(2, 99)
	e.owner = 3
	e = scan(30, row(1, 99, reading.CloseWait, 500))
	if e.holder != 1 || len(table.shared) != 1 || e.changed != 20 {
		t.Errorf("unchanged: holder %d, %d shared, changed %d; want 1, 1, 20", e.holder, len(table.shared), e.changed)
	}
	e = scan(40, row(1, 0, reading.FinWait1, 500)) // closed: an orphan
	if e.holder != 0 || len(table.shared) != 0 || e.owner != 3 {
		t.Errorf("closed: holder %d, %d shared, owner %d; want 0, 0 and the last owner 3", e.holder, len(table.shared), e.owner)
	}
}

// TestKey: accepted MPTCP sockets have their listener's cookie.
func TestKey(t *testing.T) {
	plain := row(5, 1, reading.Established, 0)
	if Key(plain) != 5 {
		t.Errorf("key %d of a TCP socket, want its cookie", Key(plain))
	}
	keys := map[reading.Cookie]string{5: "the TCP socket"}
	for _, c := range []struct {
		name   string
		change func(*reading.Socket)
	}{
		{"listener", func(s *reading.Socket) { s.Remote = netip.MustParseAddrPort("0.0.0.0:0") }},
		{"one", func(*reading.Socket) {}},
		{"other port", func(s *reading.Socket) { s.Remote = netip.MustParseAddrPort("127.0.0.2:5001") }},
		{"other address", func(s *reading.Socket) { s.Remote = netip.MustParseAddrPort("127.0.0.3:5000") }},
		{"ends swapped", func(s *reading.Socket) { s.Local, s.Remote = s.Remote, s.Local }},
		{"hidden", func(s *reading.Socket) { s.Local, s.Remote = netip.AddrPort{}, netip.AddrPort{} }},
		{"hidden, other inode", func(s *reading.Socket) { s.Local, s.Remote, s.Inode = netip.AddrPort{}, netip.AddrPort{}, 2 }},
	} {
		s := row(5, 1, reading.Established, 0)
		s.MPTCP = true
		c.change(s)
		if other, ok := keys[Key(s)]; ok {
			t.Errorf("%s has the key of %s", c.name, other)
		}
		keys[Key(s)] = c.name
	}
}
