package scene

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const (
	// patience bounds every wait for another socket or process.
	patience = 10 * time.Second
	// settleQuiet is how long all numbers must stand still; longer than a
	// delayed ACK (TCP_DELACK_MIN, 40 ms).
	settleQuiet = 60 * time.Millisecond
	// settleWait is when settling is given up.
	settleWait = 3 * time.Second
	pollEvery  = 5 * time.Millisecond
)

// workshop holds the sockets of one process. It is used by one goroutine.
type workshop struct {
	pid     int
	sockets map[int]*Socket
	lastID  int
	fleet   []int // descriptors that are nothing but held
	buffer  []byte
}

func newWorkshop() *workshop {
	return &workshop{pid: os.Getpid(), sockets: make(map[int]*Socket), buffer: make([]byte, 64<<10)}
}

// call implements endpoint for what concerns sockets only.
func (w *workshop) call(ctx context.Context, req request) (reply, error) {
	rep := reply{PID: w.pid}
	var err error
	first := w.lastID + 1
	switch req.Op {
	case opListen:
		rep.IDs, rep.Addr, err = w.listen(req)
	case opOpen:
		rep.IDs, err = w.open(req)
	case opDial:
		rep.IDs, err = w.dial(req)
	case opAccept:
		rep.IDs, err = w.accept(ctx, req)
	case opExpect:
		rep.IDs = w.expect(req)
	case opWrite:
		err = w.write(ctx, req)
	case opFill:
		err = w.fill(ctx, req.IDs)
	case opAwait:
		err = w.await(ctx, req)
	case opFinish:
		err = w.each(req.IDs, func(s *Socket) error {
			return os.NewSyscallError("shutdown", unix.Shutdown(s.FD, unix.SHUT_WR))
		})
	case opClose:
		err = w.each(req.IDs, func(s *Socket) error { return w.close(s, req.Reset, req.Linger2) })
	case opForget:
		err = w.forget(req.IDs)
	case opReport:
		rep.Sockets, rep.Settled, err = w.report(ctx, req.IDs, req.Settle)
	case opFleet:
		err = w.buildFleet(ctx, req)
	default:
		err = fmt.Errorf("no such operation: %q", req.Op)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", req.Op, err)
		// Nobody was told of what was made before it failed.
		for id := first; id <= w.lastID; id++ {
			err = errors.Join(err, w.forget([]int{id}))
		}
	}
	return rep, err
}

func (w *workshop) add(s *Socket) int {
	w.lastID++
	s.ID = w.lastID
	w.sockets[s.ID] = s
	return s.ID
}

// adopt takes a descriptor over, also when it fails.
func (w *workshop) adopt(fd int, role Role, mptcp bool) (*Socket, error) {
	s := &Socket{FD: fd, Role: role, MPTCP: mptcp, Class: reading.Owned}
	w.add(s)
	var errs [3]error
	s.Cookie, errs[0] = cookieOf(fd)
	s.Inode, errs[1] = inodeOf(fd)
	s.Local, errs[2] = localAddr(fd)
	if role == Dialer || role == Accepted {
		var err error
		if s.Remote, err = remoteAddr(fd); err != nil {
			errs[2] = err
		}
	}
	return s, errors.Join(errs[:]...)
}

// get gives a socket that this process knows.
func (w *workshop) get(id int) (*Socket, error) {
	s := w.sockets[id]
	if s == nil {
		return nil, fmt.Errorf("no socket %d", id)
	}
	return s, nil
}

// each calls f for every one of the sockets, all of them held.
func (w *workshop) each(ids []int, f func(*Socket) error) error {
	for _, id := range ids {
		s, err := w.get(id)
		if err != nil {
			return err
		}
		if s.FD < 0 {
			return fmt.Errorf("socket %d: its descriptor is closed", id)
		}
		if err := f(s); err != nil {
			return fmt.Errorf("socket %d: %w", id, err)
		}
	}
	return nil
}

// close keeps the entry: the kernel may go on working on the socket.
func (w *workshop) close(s *Socket, reset bool, linger2 int) error {
	if mem, err := skMem(s.FD); err == nil {
		s.BeforeClose = &mem
	}
	if reset {
		if err := setReset(s.FD); err != nil {
			return os.NewSyscallError("setsockopt SO_LINGER", err)
		}
	}
	if linger2 != 0 {
		if err := unix.SetsockoptInt(s.FD, unix.IPPROTO_TCP, unix.TCP_LINGER2, linger2); err != nil {
			return os.NewSyscallError("setsockopt TCP_LINGER2", err)
		}
	}
	err := unix.Close(s.FD)
	s.FD, s.Inode = -1, 0
	return os.NewSyscallError("close", err)
}

// forget closes with a reset and drops the entries. Accepted sides go first:
// their reset also ends the orphans that they face.
func (w *workshop) forget(ids []int) error {
	ids = slices.Clone(ids)
	slices.SortStableFunc(ids, func(a, b int) int { return w.forgetRank(a) - w.forgetRank(b) })
	var errs []error
	for _, id := range ids {
		if s := w.sockets[id]; s != nil && s.FD >= 0 {
			errs = append(errs, w.close(s, true, 0))
		}
		delete(w.sockets, id)
	}
	return errors.Join(errs...)
}

func (w *workshop) forgetRank(id int) int {
	if s := w.sockets[id]; s != nil && s.Role == Accepted {
		return 0
	}
	return 1
}

// forgetAll frees all that is held and leaves no TIME_WAIT behind.
func (w *workshop) forgetAll() error {
	var ids []int
	for id := range w.sockets {
		ids = append(ids, id)
	}
	err := w.forget(ids)
	for _, fd := range w.fleet {
		unix.Close(fd) // SO_LINGER is set
	}
	w.fleet = nil
	return err
}

// expect books the connections that wait at addr in the accept queue: no
// descriptor leads to them, but their addresses name them.
func (w *workshop) expect(req request) []int {
	var ids []int
	for _, remote := range req.Remotes {
		ids = append(ids, w.add(&Socket{FD: -1, Role: Accepted, Local: req.Addr, Remote: remote}))
	}
	return ids
}

// poll waits for f to say true, at most patience.
func poll(ctx context.Context, what string, f func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := f(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// report reads the truth about the sockets as it is now.
func (w *workshop) report(ctx context.Context, ids []int, settle bool) (sockets []Socket, settled bool, err error) {
	if sockets, err = w.truth(ids); err != nil || !settle {
		return sockets, false, err
	}
	quiet := time.NewTimer(settleQuiet)
	defer quiet.Stop()
	for deadline := time.Now().Add(settleWait); time.Now().Before(deadline); quiet.Reset(settleQuiet) {
		select {
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-quiet.C:
		}
		before := sockets
		if sockets, err = w.truth(ids); err != nil {
			return nil, false, err
		}
		if slices.EqualFunc(before, sockets, sameBytes) {
			return sockets, true, nil
		}
	}
	return sockets, false, nil
}

func sameBytes(a, b Socket) bool {
	if (a.Mem == nil) != (b.Mem == nil) {
		return false
	}
	return a.Mem == nil || *a.Mem == *b.Mem
}

// truth fills in the entries what the kernel says, and copies them out.
func (w *workshop) truth(ids []int) ([]Socket, error) {
	sockets := make([]Socket, 0, len(ids))
	for _, id := range ids {
		s, err := w.get(id)
		if err != nil {
			return nil, err
		}
		if s.FD >= 0 {
			err = w.lookAtHeld(s)
		} else {
			err = w.lookAtUnheld(s)
		}
		if err != nil {
			return nil, fmt.Errorf("socket %d: %w", id, err)
		}
		sockets = append(sockets, *s)
		if s.MPTCP && s.FD >= 0 && s.Remote.IsValid() {
			sub := Socket{ID: s.ID, Role: Subflow, FD: -1, Local: s.Local, Remote: s.Remote}
			if err := w.lookAtUnheld(&sub); err != nil {
				return nil, fmt.Errorf("subflow of socket %d: %w", id, err)
			}
			sockets = append(sockets, sub)
		}
	}
	return sockets, nil
}

func (w *workshop) lookAtHeld(s *Socket) error {
	mem, err := skMem(s.FD)
	if err != nil {
		return err
	}
	s.Mem, s.Class = &mem, reading.Owned
	if info, err := unix.GetsockoptTCPInfo(s.FD, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
		s.State = reading.State(info.State)
		if s.State == reading.Listen {
			// tcp_get_info: the accept queue's length and its limit.
			s.Rqueue, s.Wqueue = int(info.Unacked), int(info.Sacked)
			return nil
		}
	} else if !s.MPTCP {
		return os.NewSyscallError("getsockopt TCP_INFO", err)
	}
	if s.Role == Lone {
		if s.Local.Port() == 0 {
			s.Class = reading.Hidden // held, and in no dump
		}
		return nil
	}
	if s.State == reading.Close && s.Remote != (netip.AddrPort{}) {
		s.Class = reading.Hidden
	}
	s.Rqueue, _ = unix.IoctlGetInt(s.FD, unix.TIOCINQ) // SIOCINQ
	s.Wqueue, _ = unix.IoctlGetInt(s.FD, unix.TIOCOUTQ)
	return nil
}

func (w *workshop) lookAtUnheld(s *Socket) error {
	f, err := lookup(s.Local, s.Remote, s.Cookie)
	if errors.Is(err, errNoSocket) {
		s.Gone, s.Mini, s.Mem, s.State, s.Class = true, false, nil, reading.Close, reading.Unresolved
		return nil
	}
	if err != nil {
		return err
	}
	s.Gone, s.State, s.Mini, s.Mem, s.Cookie, s.Inode = false, f.state, f.mini, f.mem, f.cookie, f.inode
	switch {
	case f.mini:
		s.Class = reading.Unresolved
	case s.Role == Subflow:
		s.Class = reading.Owned
	case f.state == reading.Established || f.state == reading.CloseWait:
		s.Class = reading.Unaccepted
	default:
		s.Class = reading.Orphan
	}
	return nil
}
