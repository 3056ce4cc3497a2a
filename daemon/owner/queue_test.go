package owner

import (
	"net/netip"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// TestQueues: whose accept queue a socket waits in, as inet_lookup_listener
// would find the listener.
func TestQueues(t *testing.T) {
	type listens struct {
		addr   string
		unit   string
		cgroup uint64
		ns     uint16
	}
	const none = UnresolvedKey
	tests := []struct {
		name      string
		listeners []listens
		local     string
		cgroup    uint64
		want      string
	}{
		{"exact", []listens{{"127.0.0.1:80", "a", 0, 0}}, "127.0.0.1:80", 0, "a"},
		{"exact before any", []listens{{"0.0.0.0:80", "b", 0, 0}, {"127.0.0.1:80", "a", 0, 0}}, "127.0.0.1:80", 0, "a"},
		{"any of IPv4", []listens{{"0.0.0.0:80", "a", 0, 0}}, "127.0.0.1:80", 0, "a"},
		{"any of IPv4 before IPv6's", []listens{{"[::]:80", "b", 0, 0}, {"0.0.0.0:80", "a", 0, 0}}, "127.0.0.1:80", 0, "a"},
		{"any of IPv6 takes IPv4", []listens{{"[::]:80", "a", 0, 0}}, "[::ffff:127.0.0.1]:80", 0, "a"},
		{"any of IPv4 takes no IPv6", []listens{{"0.0.0.0:80", "a", 0, 0}}, "[::1]:80", 0, none},
		{"any of IPv6", []listens{{"[::]:80", "a", 0, 0}}, "[::1]:80", 0, "a"},
		{"mapped listener", []listens{{"[::ffff:127.0.0.1]:80", "a", 0, 0}}, "127.0.0.1:80", 0, "a"},
		{"mapped child", []listens{{"127.0.0.1:80", "a", 0, 0}}, "[::ffff:127.0.0.1]:80", 0, "a"},
		{"another port", []listens{{"0.0.0.0:81", "a", 0, 0}}, "127.0.0.1:80", 0, none},
		{"another address", []listens{{"127.0.0.2:80", "a", 0, 0}}, "127.0.0.1:80", 0, none},
		{"another namespace", []listens{{"127.0.0.1:80", "a", 0, 1}}, "127.0.0.1:80", 0, none},
		{"SO_REUSEPORT of one owner", []listens{{"127.0.0.1:80", "a", 0, 0}, {"127.0.0.1:80", "a", 0, 0}}, "127.0.0.1:80", 0, "a"},
		{"SO_REUSEPORT of two", []listens{{"127.0.0.1:80", "a", 0, 0}, {"127.0.0.1:80", "b", 0, 0}}, "127.0.0.1:80", 0, none},
		{"told apart by cgroup", []listens{{"127.0.0.1:80", "a", 1, 0}, {"127.0.0.1:80", "b", 2, 0}}, "127.0.0.1:80", 2, "b"},
		{"a cgroup of none of them", []listens{{"127.0.0.1:80", "a", 1, 0}, {"127.0.0.1:80", "b", 2, 0}}, "127.0.0.1:80", 3, none},
		{"a cgroup of neither, one owner", []listens{{"127.0.0.1:80", "a", 1, 0}, {"127.0.0.1:80", "a", 2, 0}}, "127.0.0.1:80", 3, "a"},
		{"exact, opened after the child came to any", []listens{{"127.0.0.1:80", "a", 1, 0}, {"0.0.0.0:80", "b", 2, 0}}, "127.0.0.1:80", 2, "b"},
		{"exact before any, a cgroup of neither", []listens{{"0.0.0.0:80", "b", 2, 0}, {"127.0.0.1:80", "a", 1, 0}}, "127.0.0.1:80", 3, "a"},
		{"one of two unknown", []listens{{"127.0.0.1:80", "a", 0, 0}, {"127.0.0.1:80", "", 0, 0}}, "127.0.0.1:80", 0, none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.table.BeginScan(1)
			for i, l := range tt.listeners {
				s := row(reading.Cookie(i+1), uint32(i+1), reading.Listen, 0)
				s.Local, s.CgroupID = netip.MustParseAddrPort(l.addr), l.cgroup
				w.table.Add(l.ns, s)
				w.queues.Listen(l.ns, s)
			}
			waits := row(99, 0, reading.Established, 500)
			waits.Local, waits.CgroupID = netip.MustParseAddrPort(tt.local), tt.cgroup
			w.table.Add(0, waits)
			w.queues.Unaccepted(w.table, 0, waits)
			w.table.EndScan()
			search := w.table.BeginSearch()
			for i, l := range tt.listeners {
				if l.unit != "" {
					search.Found(w.proc(int32(100+i), l.unit), uint32(i+1))
				}
			}
			r := w.attribute()
			want := verdict{reading.Unaccepted, reading.Listener, "system/" + tt.want}
			if tt.want == none {
				want = verdict{reading.Unaccepted, reading.Netns, none}
			}
			if got := w.verdict(r, waits); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

// TestQueueWithoutRoom: a listener for which the table had no room is nobody
// known, not somebody else.
func TestQueueWithoutRoom(t *testing.T) {
	w := newWorld(t)
	first, second := row(1, 1, reading.Listen, 0), row(2, 2, reading.Listen, 0)
	for _, order := range [][]*reading.Socket{{first, second}, {second, first}} {
		q := NewQueues()
		w.table.BeginScan(5)
		w.table.Add(0, first)
		for _, l := range order {
			q.Listen(0, l)
		}
		waits := row(9, 0, reading.Established, 0)
		w.table.Add(0, waits)
		q.Unaccepted(w.table, 0, waits)
		q.Unaccepted(w.table, 0, row(77, 0, reading.Established, 0)) // itself without room
		w.table.EndScan()
		if got := q.owners(w.table, func(*entry) Ref { return 3 }); len(got) != 1 || got[0] != 0 {
			t.Errorf("owners %v, want nobody", got)
		}
	}
}
