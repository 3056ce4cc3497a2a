package victims

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	goleak.VerifyTestMain(m)
}

// in is where a test's sockets are.
type in struct {
	id  reading.NetnsID
	pid int
	do  func(func() error) error
}

func inside(ns *scene.Netns, pid int) in { return in{ns.NetnsID, pid, ns.Do} }

// rows dumps the namespace by cookie.
func (n in) rows(t *testing.T) map[reading.Cookie]reading.Socket {
	t.Helper()
	all := map[reading.Cookie]reading.Socket{}
	err := n.do(func() error {
		c, err := sockdiag.Open(sockdiag.NewBuffer())
		if err != nil {
			return err
		}
		defer c.Close()
		keep := func(s *reading.Socket) { all[s.Cookie] = *s }
		if err := c.DumpTCP(t.Context(), keep); err != nil {
			return err
		}
		return c.DumpMPTCP(t.Context(), keep)
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// request gives sockets as a request names them.
func (n in) request(t *testing.T, made []scene.Socket) []remediate.Socket {
	t.Helper()
	rows := n.rows(t)
	var sockets []remediate.Socket
	for _, m := range made {
		row, ok := rows[m.Cookie]
		if !ok {
			t.Fatalf("no row for %+v", m)
		}
		s := remediate.Socket{
			NetnsInode: n.id.Inode, NetnsCookie: n.id.Cookie, NetnsPID: n.pid,
			Cookie: uint64(row.Cookie), MPTCP: row.MPTCP, State: row.State.String(), Class: m.Class.String(),
			Local: row.Local.String(), Remote: row.Remote.String(), Interface: row.Interface,
			Inode: row.Inode, CgroupID: row.CgroupID,
			Receive: int64(row.Mem.RmemAlloc), Send: int64(row.Mem.WmemQueued), Bytes: row.Mem.Bytes(),
		}
		if row.Inode != 0 {
			s.HolderPID = n.pid
		}
		sockets = append(sockets, s)
	}
	return sockets
}

// standing fails the test for each of the sockets that is no longer there.
func (n in) standing(t *testing.T, made []scene.Socket) {
	t.Helper()
	rows := n.rows(t)
	for _, m := range made {
		if _, ok := rows[m.Cookie]; !ok {
			t.Errorf("gone: %+v", m)
		}
	}
}

func open(t *testing.T, sockets []remediate.Socket) *Set {
	t.Helper()
	s, err := Open(procfs.New("/proc"), sockets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// used is sockstat's mem, in pages: of the whole host.
func used(t *testing.T) (pages int) {
	t.Helper()
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), " mem ")
	if _, err := fmt.Sscan(rest, &pages); err != nil {
		t.Fatal(err)
	}
	return pages
}
