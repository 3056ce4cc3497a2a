package scene

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestClasses builds every kind in a namespace of its own and compares it with
// the namespace's counters and with ss.
func TestClasses(t *testing.T) {
	const n = 20
	mapped := Spec{Kind: Unread, Pairs: n, Bytes: 3000, Family: Mapped}
	tests := []struct {
		name  string
		spec  Spec
		want  map[reading.Class]int // of the ledger
		inuse int                   // sockstat inuse, both families
		tw    int                   // mini sockets
		rows  map[string]int        // ss states
	}{
		{"idle", Spec{Kind: Idle, Pairs: n}, classes(2*n, 0, 0, 0), 2 * n, 0, rows("ESTAB", 2*n)},
		{
			"idle with listener",
			Spec{Kind: Idle, Pairs: n, KeepListener: true},
			classes(2*n+1, 0, 0, 0), 2*n + 1, 0,
			map[string]int{"ESTAB": 2 * n, "LISTEN": 1},
		},
		{"idle v6", Spec{Kind: Idle, Pairs: n, Family: IPv6}, classes(2*n, 0, 0, 0), 2 * n, 0, rows("ESTAB", 2*n)},
		{"unread", Spec{Kind: Unread, Pairs: n, Bytes: 5000}, classes(2*n, 0, 0, 0), 2 * n, 0, rows("ESTAB", 2*n)},
		{"unread large", Spec{Kind: Unread, Pairs: n, Bytes: 1 << 20}, classes(2*n, 0, 0, 0), 2 * n, 0, rows("ESTAB", 2*n)},
		{"unread v6", Spec{Kind: Unread, Pairs: n, Bytes: 5000, Family: IPv6, Wildcard: true}, classes(2*n, 0, 0, 0), 2 * n, 0, rows("ESTAB", 2*n)},
		{"unread mapped", mapped, classes(2*n, 0, 0, 0), 2 * n, 0, rows("ESTAB", 2*n)},
		{"unsent", Spec{Kind: Unsent, Pairs: n, SendBuffer: 64 << 10}, classes(2*n, 0, 0, 0), 2 * n, 0, rows("ESTAB", 2*n)},
		{
			"close-wait",
			Spec{Kind: CloseWait, Pairs: n, Bytes: 100},
			classes(n, 0, 0, 0), n, n,
			map[string]int{"CLOSE-WAIT": n, "FIN-WAIT-2": n},
		},
		{
			"fin-wait-2",
			Spec{Kind: FinWait2, Pairs: n},
			classes(n, 0, 0, 0), n, n,
			map[string]int{"CLOSE-WAIT": n, "FIN-WAIT-2": n},
		},
		{
			"orphan",
			Spec{Kind: Orphan, Pairs: n},
			classes(n, 0, n, 0), 2 * n, 0,
			map[string]int{"ESTAB": n, "FIN-WAIT-1": n},
		},
		{
			"orphan v6",
			Spec{Kind: Orphan, Pairs: n, Family: IPv6, SendBuffer: 64 << 10},
			classes(n, 0, n, 0), 2 * n, 0,
			map[string]int{"ESTAB": n, "FIN-WAIT-1": n},
		},
		{
			"unaccepted",
			Spec{Kind: Unaccepted, Pairs: n, Bytes: 5000},
			classes(n+1, n, 0, 0), 2*n + 1, 0,
			map[string]int{"ESTAB": 2 * n, "LISTEN": 1},
		},
		{
			"unaccepted v6",
			Spec{Kind: Unaccepted, Pairs: n, Bytes: 5000, Family: IPv6},
			classes(n+1, n, 0, 0), 2*n + 1, 0,
			map[string]int{"ESTAB": 2 * n, "LISTEN": 1},
		},
		{
			"unaccepted mapped on wildcard",
			Spec{Kind: Unaccepted, Pairs: n, Family: Mapped, Wildcard: true},
			classes(n+1, n, 0, 0), 2*n + 1, 0,
			map[string]int{"ESTAB": 2 * n, "LISTEN": 1},
		},
		{
			"unaccepted and finished",
			Spec{Kind: Unaccepted, Pairs: n, Bytes: 5000, Finish: true},
			classes(1, n, 0, 0), n + 1, n,
			map[string]int{"CLOSE-WAIT": n, "LISTEN": 1, "FIN-WAIT-2": n},
		},
		{"hidden by reset", Spec{Kind: Hidden, Pairs: n, Bytes: 5000}, classes(0, 0, 0, n), 0, 0, nil},
		{"hidden by reset v6", Spec{Kind: Hidden, Pairs: n, Bytes: 5000, Family: IPv6}, classes(0, 0, 0, n), 0, 0, nil},
		{
			"hidden by shutdown",
			Spec{Kind: Hidden, Pairs: n, Bytes: 5000, Finish: true},
			classes(0, 0, 0, n), 0, n,
			map[string]int{"TIME-WAIT": n},
		},
		{"listening", Spec{Kind: Listening, Pairs: n}, classes(n, 0, 0, 0), n, 0, rows("LISTEN", n)},
		{"unconnected", Spec{Kind: Unconnected, Pairs: n}, classes(0, 0, 0, n), 0, 0, nil},
		{"bound", Spec{Kind: Bound, Pairs: n}, classes(n, 0, 0, 0), 0, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, ns := isolated(t)
			b := BuildT(t, c, tt.spec)
			check(t, b, tt.want)
			checkPayload(t, b, tt.spec)
			inuse := sockstat(t, ns, "sockstat", "TCP", "inuse") + sockstat(t, ns, "sockstat6", "TCP6", "inuse")
			if inuse != tt.inuse {
				t.Errorf("inuse %d, want %d", inuse, tt.inuse)
			}
			if tw := sockstat(t, ns, "sockstat", "TCP", "tw"); tw != tt.tw {
				t.Errorf("tw %d, want %d", tw, tt.tw)
			}
			t.Run("ss", func(t *testing.T) { compareWithSS(t, ns, b, tt.rows) })
		})
	}
}

func classes(owned, unaccepted, orphan, hidden int) map[reading.Class]int {
	return map[reading.Class]int{reading.Owned: owned, reading.Unaccepted: unaccepted, reading.Orphan: orphan, reading.Hidden: hidden}
}

func rows(state string, n int) map[string]int { return map[string]int{state: n} }

// checkPayload verifies that what was ordered was received, to the byte.
func checkPayload(t *testing.T, b *Built, spec Spec) {
	t.Helper()
	spec, err := spec.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range b.Role(Accepted) {
		switch {
		case s.FD < 0:
		case spec.Kind == Unsent || spec.Kind == Orphan:
			if s.Rqueue == 0 {
				t.Errorf("%v received nothing", s.Local)
			}
		case s.Rqueue != spec.Bytes:
			t.Errorf("%v holds %d bytes unread, want %d", s.Local, s.Rqueue, spec.Bytes)
		}
	}
	for _, s := range b.Role(Dialer) {
		if spec.Kind == Unsent && s.Wqueue == 0 {
			t.Errorf("%v has sent everything", s.Local)
		}
		if spec.Kind == Orphan && (s.BeforeClose == nil || s.BeforeClose.WmemQueued == 0) {
			t.Errorf("%v: nothing unsent before close: %+v", s.Local, s.BeforeClose)
		}
	}
	for _, s := range b.Role(Listener) {
		if spec.Kind == Unaccepted && s.Rqueue != spec.Pairs {
			t.Errorf("accept queue of %d, want %d", s.Rqueue, spec.Pairs)
		}
	}
}

// compareWithSS checks that ss sees the states, and the bytes of all but what
// no dump can show.
func compareWithSS(t *testing.T, ns *Netns, b *Built, want map[string]int) {
	got := make(map[string]int)
	list := ss(t, ns, "-tam")
	for _, r := range list {
		got[r.state]++
	}
	for state, n := range want {
		if got[state] != n {
			t.Errorf("ss shows %d %s, want %d", got[state], state, n)
		}
		delete(got, state)
	}
	if len(got) != 0 {
		t.Errorf("ss also shows %v", got)
	}
	seen := b.Bytes() - b.Tally()[reading.Hidden].Bytes
	if bytes := ssBytes(t, list); bytes != seen {
		t.Errorf("ss sums to %d bytes, the sockets to %d", bytes, seen)
	}
}

// TestHostCounters compares the kernel's host-wide counters with the classes
// that people mistake for each other.
func TestHostCounters(t *testing.T) {
	const n = 400
	tests := []struct {
		name  string
		spec  Spec
		field string
		want  int
	}{
		{"hidden are in alloc", Spec{Kind: Hidden, Bytes: 100}, "alloc", n},
		{"unconnected are in alloc", Spec{Kind: Unconnected}, "alloc", n},
		{"orphans are orphans", Spec{Kind: Orphan, SendBuffer: 64 << 10}, "orphan", n},
		{"mini sockets are none", Spec{Kind: FinWait2}, "orphan", 0},
		{"mini sockets are not in alloc", Spec{Kind: FinWait2}, "alloc", n},
		{"unaccepted are none", Spec{Kind: Unaccepted}, "orphan", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := isolated(t)
			tt.spec.Pairs = n
			var b *Built
			hostCounter(t, tt.field, tt.want,
				func() { b = BuildT(t, c, tt.spec) },
				func() { release(t, c, b) })
		})
	}
}

// TestMemory: what the sockets say they hold is what sockstat counts, up to the
// reserve of each CPU.
func TestMemory(t *testing.T) {
	const n = 500
	for _, kind := range []Kind{Unread, Hidden} {
		t.Run(string(kind), func(t *testing.T) {
			c, _ := isolated(t)
			spec := Spec{Kind: kind, Pairs: n, Bytes: 32 << 10}
			b := BuildT(t, c, spec)
			pages := int(b.Bytes()) / pageSize
			release(t, c, b)
			if pages < n*8 {
				t.Errorf("%d pages for %d x 32 KiB", pages, n)
			}
			hostCounter(t, "mem", pages,
				func() { b = BuildT(t, c, spec) },
				func() { release(t, c, b) })
		})
	}
}

func release(t *testing.T, c *Child, b *Built) {
	t.Helper()
	if err := c.Release(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func TestMPTCP(t *testing.T) {
	c, ns := isolated(t)
	const n, bytes = 10, 20_000
	b, err := c.Build(t.Context(), Spec{Kind: Unread, MPTCP: true, Pairs: n, Bytes: bytes})
	if errors.Is(err, ErrUnavailable) {
		require.Missing(t, "MPTCP in the kernel", "its sockets are not tried")
	}
	if err != nil {
		t.Fatal(err)
	}
	check(t, b, classes(4*n, 0, 0, 0)) // each with its subflow
	checkPayload(t, b, Spec{Kind: Unread, MPTCP: true, Pairs: n, Bytes: bytes})
	if got := len(b.Role(Subflow)); got != 2*n {
		t.Errorf("%d subflows, want %d", got, 2*n)
	}
	var top int64
	for _, s := range b.Role(Accepted) {
		top += s.Bytes()
	}
	if top < n*bytes {
		t.Errorf("the MPTCP sockets hold %d bytes, less than the payload", top)
	}
	t.Run("ss", func(t *testing.T) {
		if got := len(ss(t, ns, "-aM")); got != 2*n {
			t.Errorf("ss -M shows %d, want %d", got, 2*n)
		}
	})
	t.Run("switched off", func(t *testing.T) {
		if err := ns.Do(func() error { return writeFile("/proc/sys/net/mptcp/enabled", "0") }); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Build(t.Context(), Spec{Kind: Idle, MPTCP: true}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v, want ErrUnavailable", err)
		}
		BuildT(t, c, Spec{Kind: Idle}) // the child goes on
	})
}

func TestSpecErrors(t *testing.T) {
	for _, spec := range []Spec{{}, {Kind: "nonsense"}, {Kind: Idle, Pairs: -1}, {Kind: Orphan, MPTCP: true}} {
		if _, err := spec.withDefaults(); err == nil || !strings.HasPrefix(err.Error(), "build ") {
			t.Errorf("%+v: %v", spec, err)
		}
	}
}
