// Package victims finds the sockets that a request named once more, after or
// right before an action, and destroys those of them that may be.
//
// A socket is recognised by its cookie in its network namespace: the cookie
// survives close and the end of its process and is never reused. The
// namespaces are opened before the action, by a process in them; afterwards
// there may be none left, and orphans keep a namespace that no path leads to.
package victims

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/netns"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// Capabilities are what Open and Set.Destroy need: to open another process's
// namespace (CAP_SYS_PTRACE), to enter it (CAP_SYS_ADMIN), and to destroy a
// socket in it (CAP_NET_ADMIN).
func Capabilities() []string {
	return []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}
}

// Set is the sockets of a request in their open namespaces. It is not safe for
// concurrent use, and must be closed: it keeps the namespaces alive.
type Set struct {
	enter     *netns.Enterer
	spaces    []*space
	destroyed map[reading.Cookie]int64 // what each held of the pool
}

// space is one namespace, or why it cannot be entered.
type space struct {
	id      reading.NetnsID
	file    *os.File // nil for the own one
	problem error
	sockets map[reading.Cookie]*remediate.Socket
	mptcp   bool // one of them is an MPTCP socket
	empty   bool // a look has seen none of them: another would see none either
}

// Open opens the namespaces of the sockets. One that cannot be opened is no
// error: its sockets are reported as left, with the reason. Hidden sockets are
// left out: no dump shows them, and only a close frees them.
func Open(fs procfs.FS, sockets []remediate.Socket) (*Set, error) {
	enter, err := netns.NewEnterer()
	if err != nil {
		return nil, err
	}
	s := &Set{enter: enter, destroyed: map[reading.Cookie]int64{}}
	byID := map[reading.NetnsID]*space{}
	pids := map[reading.NetnsID][]int{}
	for i := range sockets {
		sock := &sockets[i]
		if sock.Class == reading.Hidden.String() || sock.Cookie == 0 {
			continue
		}
		id := reading.NetnsID{Inode: sock.NetnsInode, Cookie: sock.NetnsCookie}
		sp, ok := byID[id]
		if !ok {
			sp = &space{id: id, sockets: map[reading.Cookie]*remediate.Socket{}}
			byID[id] = sp
			s.spaces = append(s.spaces, sp)
		}
		sp.sockets[reading.Cookie(sock.Cookie)] = sock
		sp.mptcp = sp.mptcp || sock.MPTCP
		for _, pid := range []int{sock.NetnsPID, sock.HolderPID} {
			if pid > 0 && len(pids[id]) < maxPIDs && !slices.Contains(pids[id], pid) {
				pids[id] = append(pids[id], pid)
			}
		}
	}
	for _, sp := range s.spaces {
		if !enter.Home(sp.id) {
			sp.file, sp.problem = enter.Find(fs, sp.id, pids[sp.id]...)
		}
	}
	return s, nil
}

// maxPIDs is how many processes are tried as a way into one namespace.
const maxPIDs = 8

// Close lets go of the namespaces.
func (s *Set) Close() error {
	errs := []error{s.enter.Close()}
	for _, sp := range s.spaces {
		if sp.file != nil {
			errs = append(errs, sp.file.Close())
		}
	}
	return errors.Join(errs...)
}

// Judge says what speaks against the destruction of a socket, "" for nothing.
// The word is how a person reads the group of sockets in a Report.
type Judge func(was *remediate.Socket, is *reading.Socket) (against string)

// Destroy lists the sockets anew and destroys those that judge says nothing
// against. It may be called again: the Report is of all calls together, as it
// stood in the last one. Beside an error only Destroyed counts. The error is about ctx or this process; what goes
// wrong with one namespace or socket is in the Report.
func (s *Set) Destroy(ctx context.Context, judge Judge) (r Report, err error) {
	r.Left = map[string]reading.Tally{}
	defer func() {
		for _, bytes := range s.destroyed {
			r.Destroyed.Add(1, bytes)
		}
	}()
	for _, sp := range s.spaces {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		sw := sweep{space: sp, judge: judge, done: s.destroyed, report: &r, seen: map[reading.Cookie]bool{}}
		err := sp.problem
		if err == nil && !sp.empty {
			err = s.in(sp, func() error { return sw.run(ctx) })
		}
		if err := ctx.Err(); err != nil {
			return r, err
		}
		sp.empty = err == nil && len(sw.seen) == 0
		sw.account(err)
	}
	return r, nil
}

func (s *Set) in(sp *space, f func() error) error {
	if sp.file == nil {
		return f()
	}
	return s.enter.Do(sp.file, f)
}

// Report says what became of the sockets.
type Report struct {
	// Destroyed were, by this Set; Bytes is what that frees of the pool.
	Destroyed reading.Tally
	// Gone are no longer there without it; Bytes is what they held when the
	// request was made.
	Gone reading.Tally
	// Left are still there, by the reason; Bytes is what they hold.
	Left map[string]reading.Tally
	// Refused is the first error of the kernel, nil where there was none.
	Refused error
	// Unreadable: a namespace could not be opened, entered or listed.
	Unreadable bool
}

// LeftSum is all that is left.
func (r *Report) LeftSum() (sum reading.Tally) {
	for _, t := range r.Left {
		sum.Add(t.Sockets, t.Bytes)
	}
	return sum
}

// Reasons says what is left and why, biggest first: "2 sockets with 64 KiB: still held".
func (r *Report) Reasons() []string {
	whys := slices.SortedFunc(maps.Keys(r.Left), func(a, b string) int {
		return int(r.Left[b].Bytes - r.Left[a].Bytes)
	})
	for i, why := range whys {
		whys[i] = fmt.Sprintf("%s: %s", Sockets(r.Left[why]), why)
	}
	return whys
}
