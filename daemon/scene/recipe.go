package scene

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// batch is how many connections are dialed before they are accepted: fewer
// than the smallest backlog in use (somaxconn was 128 before Linux 5.4).
const batch = 100

// stage is a scene in the making. The dialer's and the accepting side may be
// the same process.
type stage struct {
	spec             Spec
	dialer, acceptor endpoint

	listeners []int // at acceptor
	addr      netip.AddrPort
	dialed    []int // at dialer
	accepted  []int // at acceptor
	unheld    []int // at acceptor: what waits in the accept queue
	lone      []int // at dialer
}

// build makes the scene and reports both sides; for one process in both parts
// the two reports are one.
func build(ctx context.Context, dialer, acceptor endpoint, spec Spec) (d, a *Built, err error) {
	spec, err = spec.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	st := &stage{spec: spec, dialer: dialer, acceptor: acceptor}
	defer func() {
		if err != nil {
			err = fmt.Errorf("build %s: %w", spec.Kind, err)
			st.undo(context.WithoutCancel(ctx))
		}
	}()
	if err := st.make(ctx); err != nil {
		return nil, nil, err
	}
	if d, a, err = st.reports(ctx); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(d.verify(spec.Kind), a.verify(spec.Kind)); err != nil {
		return nil, nil, err
	}
	return d, a, nil
}

func (st *stage) make(ctx context.Context) (err error) {
	s := st.spec
	switch s.Kind {
	case Bound, Unconnected:
		var rep reply
		rep, err = st.dialer.call(ctx, request{Op: opOpen, N: s.Pairs, Family: s.Family, MPTCP: s.MPTCP, Bind: s.Kind == Bound})
		st.lone = rep.IDs
		return err
	case Listening:
		return st.listen(ctx, s.Pairs)
	}
	if err := st.listen(ctx, 1); err != nil {
		return err
	}
	if err := st.connect(ctx); err != nil {
		return err
	}
	if err := st.act(ctx); err != nil {
		return err
	}
	if s.KeepListener || s.Kind == Unaccepted {
		return nil
	}
	_, err = st.acceptor.call(ctx, request{Op: opForget, IDs: st.listeners})
	st.listeners = nil
	return err
}

func (st *stage) listen(ctx context.Context, n int) error {
	s := st.spec
	rep, err := st.acceptor.call(ctx, request{
		Op: opListen, N: n, Family: s.Family, MPTCP: s.MPTCP,
		Wildcard: s.Wildcard, Receive: s.ReceiveBuffer,
	})
	st.listeners, st.addr = rep.IDs, rep.Addr
	return err
}

func (st *stage) connect(ctx context.Context) error {
	s := st.spec
	for left := s.Pairs; left > 0; left -= batch {
		n := min(left, batch)
		rep, err := st.dialer.call(ctx, request{
			Op: opDial, N: n, Addr: st.addr, Family: s.Family, MPTCP: s.MPTCP,
			Send: s.SendBuffer, Receive: s.ReceiveBuffer,
		})
		if err != nil {
			return err
		}
		st.dialed = append(st.dialed, rep.IDs...)
		if s.Kind == Unaccepted {
			continue
		}
		if rep, err = st.acceptor.call(ctx, request{Op: opAccept, N: n, IDs: st.listeners}); err != nil {
			return err
		}
		st.accepted = append(st.accepted, rep.IDs...)
	}
	if s.Kind != Unaccepted {
		return nil
	}
	rep, err := st.dialer.call(ctx, request{Op: opReport, IDs: st.dialed})
	if err != nil {
		return err
	}
	st.unheld, err = expect(ctx, st.acceptor, st.addr, rep.Sockets)
	return err
}

// group makes unaccepted connections to listeners that share an address.
func group(ctx context.Context, dialer endpoint, listeners []endpoint, spec Spec) (*Built, []*Built, error) {
	spec, err := spec.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	req := request{Op: opListen, Family: spec.Family, Shared: true, Receive: spec.ReceiveBuffer}
	var ids [][]int
	for _, l := range listeners {
		rep, err := l.call(ctx, req)
		if err != nil {
			return nil, nil, err
		}
		req.Addr, ids = rep.Addr, append(ids, rep.IDs)
	}
	rep, err := dialer.call(ctx, request{Op: opDial, N: spec.Pairs, Addr: req.Addr, Family: spec.Family, Send: spec.SendBuffer})
	if err != nil {
		return nil, nil, err
	}
	dialed := rep.IDs
	if _, err := dialer.call(ctx, request{Op: opWrite, IDs: dialed, N: spec.Bytes}); err != nil {
		return nil, nil, err
	}
	if rep, err = dialer.call(ctx, request{Op: opReport, IDs: dialed}); err != nil {
		return nil, nil, err
	}
	unheld, err := expect(ctx, dialer, req.Addr, rep.Sockets)
	if err != nil {
		return nil, nil, err
	}
	d, err := report(ctx, dialer, append(dialed, unheld...))
	if err == nil {
		err = d.verify(spec.Kind)
	}
	if err != nil {
		return nil, nil, err
	}
	var listening []*Built
	for i, l := range listeners {
		b, err := report(ctx, l, ids[i])
		if err != nil {
			return nil, nil, err
		}
		listening = append(listening, b)
	}
	return d, listening, nil
}

// expect books the other ends of the dialers at the acceptor.
func expect(ctx context.Context, acceptor endpoint, addr netip.AddrPort, dialers []Socket) ([]int, error) {
	req := request{Op: opExpect, Addr: addr}
	for i := range dialers {
		req.Remotes = append(req.Remotes, dialers[i].Local)
	}
	rep, err := acceptor.call(ctx, req)
	return rep.IDs, err
}

// act does to the connections what the kind says.
func (st *stage) act(ctx context.Context) error {
	var steps []step
	s := st.spec
	write := step{st.dialer, request{Op: opWrite, IDs: st.dialed, N: s.Bytes}}
	fill := step{st.dialer, request{Op: opFill, IDs: st.dialed}}
	fin := step{st.dialer, request{Op: opClose, IDs: st.dialed}}
	// An ACK of the FIN that comes while close still holds the socket leaves a
	// full one in FIN_WAIT2 for a minute (tcp_rcv_state_process from the
	// backlog). After a shutdown that was acknowledged close always makes it
	// a mini socket (__tcp_close).
	half := []step{
		{st.dialer, request{Op: opFinish, IDs: st.dialed}},
		{st.dialer, request{Op: opAwait, IDs: st.dialed, State: int(reading.FinWait2)}},
	}
	awaitHeld := func(state reading.State) step {
		return step{st.acceptor, request{Op: opAwait, IDs: st.accepted, State: int(state)}}
	}
	switch s.Kind {
	case Unread:
		steps = []step{write}
	case Unsent:
		steps = []step{fill}
	case CloseWait:
		fin.Linger2 = 1
		steps = append(append(steps, write), half...)
		steps = append(steps, fin, awaitHeld(reading.CloseWait))
	case FinWait2:
		mini := request{Op: opAwait, IDs: st.dialed, State: int(reading.FinWait2), Mini: true}
		steps = append(append(steps, write), half...)
		steps = append(steps, fin, awaitHeld(reading.CloseWait), step{st.dialer, mini})
	case Orphan:
		steps = []step{fill, fin, {st.dialer, request{Op: opAwait, IDs: st.dialed, State: int(reading.FinWait1)}}}
	case Unaccepted:
		steps = []step{write}
		if s.Finish {
			steps = append(append(steps, half...), fin,
				step{st.acceptor, request{Op: opAwait, IDs: st.unheld, State: int(reading.CloseWait)}})
		}
	case Hidden:
		steps = []step{write}
		if s.Finish {
			steps = append(append(steps, half...), fin, awaitHeld(reading.CloseWait),
				step{st.acceptor, request{Op: opFinish, IDs: st.accepted}})
		} else {
			fin.Reset = true
			steps = append(steps, fin)
		}
		steps = append(steps, awaitHeld(reading.Close))
	}
	for _, step := range steps {
		if _, err := step.at.call(ctx, step.request); err != nil {
			return err
		}
	}
	return nil
}

// step is one request to one side.
type step struct {
	at endpoint
	request
}

func (st *stage) reports(ctx context.Context) (d, a *Built, err error) {
	atDialer := append(st.lone, st.dialed...)
	atAcceptor := append(append(st.listeners, st.accepted...), st.unheld...)
	if st.dialer == st.acceptor {
		d, err = report(ctx, st.dialer, append(atDialer, atAcceptor...))
		return d, d, err
	}
	if d, err = report(ctx, st.dialer, atDialer); err == nil {
		a, err = report(ctx, st.acceptor, atAcceptor)
	}
	return d, a, err
}

func report(ctx context.Context, at endpoint, ids []int) (*Built, error) {
	rep, err := at.call(ctx, request{Op: opReport, IDs: ids, Settle: true})
	if err != nil {
		return nil, err
	}
	return &Built{PID: rep.PID, Sockets: rep.Sockets, Settled: rep.Settled}, nil
}

// verify refuses a scene that is not what was ordered. What is gone or hidden
// is let pass: out of memory the kernel resets connections on its own account,
// and Built says which.
func (b *Built) verify(kind Kind) error {
	for i := range b.Sockets {
		s := &b.Sockets[i]
		if want := classOf(kind, s.Role); s.Class != want && !s.Gone && !s.Mini && s.Class != reading.Hidden {
			return fmt.Errorf("%s socket %v to %v is %v in %v, not %v", s.Role, s.Local, s.Remote, s.Class, s.State, want)
		}
	}
	return nil
}

// classOf is the class that sockets of the role end in, as long as they live.
func classOf(kind Kind, role Role) reading.Class {
	switch {
	case kind == Orphan && role == Dialer:
		return reading.Orphan
	case kind == Unaccepted && role == Accepted:
		return reading.Unaccepted
	case kind == Hidden && role == Accepted, kind == Unconnected:
		return reading.Hidden
	}
	return reading.Owned
}

// undo frees what a scene that could not be made left behind; there is nobody
// to tell if that does not work either.
func (st *stage) undo(ctx context.Context) {
	_, _ = st.acceptor.call(ctx, request{Op: opForget, IDs: append(append(st.accepted, st.unheld...), st.listeners...)})
	_, _ = st.dialer.call(ctx, request{Op: opForget, IDs: append(st.dialed, st.lone...)})
}
