// Package victimstest writes requests about sockets that a scene made, for
// tests of actions on the real kernel, and looks what became of them.
package victimstest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// Place is a namespace with sockets.
type Place struct {
	ID  reading.NetnsID
	PID int // a process in it, and the holder of what is held; 0 for none
	Do  func(func() error) error
}

// Inside is the namespace as seen by a process in it.
func Inside(ns *scene.Netns, pid int) Place { return Place{ns.NetnsID, pid, ns.Do} }

// Rows dumps the namespace by cookie, MPTCP too.
func (p Place) Rows(t testing.TB) map[reading.Cookie]reading.Socket {
	t.Helper()
	all := map[reading.Cookie]reading.Socket{}
	err := p.Do(func() error {
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

// Request names sockets as a request of tcpmemd does. Hidden ones have no row
// and are named by what the scene knows.
func (p Place) Request(t testing.TB, made ...scene.Socket) []remediate.Socket {
	t.Helper()
	rows := p.Rows(t)
	var sockets []remediate.Socket
	for _, m := range made {
		s := remediate.Socket{
			NetnsInode: p.ID.Inode, NetnsCookie: p.ID.Cookie, NetnsPID: p.PID,
			Cookie: uint64(m.Cookie), Class: m.Class.String(), State: m.State.String(),
		}
		if row, ok := rows[m.Cookie]; ok {
			s.MPTCP, s.State, s.Interface = row.MPTCP, row.State.String(), row.Interface
			s.Local, s.Remote, s.Inode, s.CgroupID = row.Local.String(), row.Remote.String(), row.Inode, row.CgroupID
			s.Receive, s.Send, s.Bytes = int64(row.Mem.RmemAlloc), int64(row.Mem.WmemQueued), row.Mem.Bytes()
		} else if m.Class != reading.Hidden {
			t.Fatalf("no row for %+v", m)
		} else {
			s.Bytes, s.Receive, s.Inode = m.Bytes(), m.Bytes(), m.Inode
		}
		if s.Inode != 0 {
			s.HolderPID = p.PID
		}
		sockets = append(sockets, s)
	}
	return sockets
}

// Standing fails the test for each of the sockets that is no longer there.
func (p Place) Standing(t testing.TB, made ...scene.Socket) {
	t.Helper()
	rows := p.Rows(t)
	for _, m := range made {
		if _, ok := rows[m.Cookie]; !ok && m.Class != reading.Hidden {
			t.Errorf("gone: %+v", m)
		}
	}
}

// Gone fails the test for each of the sockets that is still there.
func (p Place) Gone(t testing.TB, made ...scene.Socket) {
	t.Helper()
	rows := p.Rows(t)
	for _, m := range made {
		if row, ok := rows[m.Cookie]; ok {
			t.Errorf("still there: %+v", row)
		}
	}
}

// Bytes is what the sockets of the namespace hold of the pool.
func (p Place) Bytes(t testing.TB) (sum int64) {
	t.Helper()
	for _, row := range p.Rows(t) {
		sum += row.Mem.Bytes()
	}
	return sum
}

// UsedPages is sockstat's mem: of the whole host, so of whatever else runs on
// it too. To be shown, not to be relied on.
func UsedPages(t testing.TB) (pages int64) {
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
