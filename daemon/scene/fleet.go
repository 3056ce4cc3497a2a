package scene

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// spareFDs is what a child of a fleet keeps free below RLIMIT_NOFILE.
const spareFDs = 64

// FleetOptions order many connections in many processes.
type FleetOptions struct {
	Sockets   int // both ends count
	Processes int // 0 means 10,000 sockets in each
	BytesEach int // written by each dialer, never read
	Family    Family
	Netns     *Netns
	Cgroup    *Cgroup
}

// Fleet is what a bench runs beside.
type Fleet struct {
	Children []*Child
	Sockets  int
	Took     time.Duration
}

// NewFleet starts the processes, fills them, a few at a time, and returns once
// all sockets exist. They are set to reset on close, so that even a killed
// fleet leaves no TIME_WAIT behind. A socket costs about 4 kB of memory.
func NewFleet(ctx context.Context, o FleetOptions) (*Fleet, error) {
	begin := time.Now()
	if o.Processes == 0 {
		o.Processes = max(1, (o.Sockets+9_999)/10_000)
	}
	if o.Family == "" {
		o.Family = IPv4
	}
	f := &Fleet{Children: make([]*Child, o.Processes)}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	pairs := o.Sockets / 2
	for i := range f.Children {
		n := pairs/o.Processes + min(1, max(0, pairs%o.Processes-i))
		f.Sockets += 2 * n
		group.Go(func() error {
			c, err := Start(ctx, ChildOptions{Netns: o.Netns, Cgroup: o.Cgroup, Comm: fmt.Sprintf("fleet-%d", i)})
			if err != nil {
				return err
			}
			f.Children[i] = c
			_, err = c.call(groupCtx, request{Op: opFleet, N: n, Bytes: o.BytesEach, Family: o.Family})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		f.Stop()
		return nil, fmt.Errorf("build fleet: %w", err)
	}
	f.Took = time.Since(begin)
	return f, nil
}

// Stop ends all processes and waits until they are gone.
func (f *Fleet) Stop() {
	var group errgroup.Group
	group.SetLimit(8)
	for _, c := range f.Children {
		if c != nil {
			group.Go(func() error {
				c.Kill() // SO_LINGER frees as Stop would, and faster
				return nil
			})
		}
	}
	_ = group.Wait()
}

// buildFleet is what a child of a fleet does.
func (w *workshop) buildFleet(ctx context.Context, req request) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	if need := uint64(2*req.N + spareFDs); limit.Cur < need {
		return fmt.Errorf("%d pairs need %d descriptors, RLIMIT_NOFILE is %d: use more processes", req.N, need, limit.Cur)
	}
	listener, err := openSocket(req.Family, false)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	from := home(req.Family, w.pid)
	if err := bindAndListen(listener, req, netip.AddrPortFrom(from, 0)); err != nil {
		return err
	}
	if req.Addr, err = localAddr(listener); err != nil {
		return err
	}
	for range req.N {
		if err := w.fleetPair(ctx, listener, req, from); err != nil {
			return err
		}
	}
	return nil
}

func (w *workshop) fleetPair(ctx context.Context, listener int, req request, from netip.Addr) error {
	dialer, err := openSocket(req.Family, false)
	if err != nil {
		return err
	}
	w.fleet = append(w.fleet, dialer)
	if err := connect(dialer, req, from); err != nil {
		return err
	}
	accepted, err := acceptOne(ctx, listener)
	if err != nil {
		return err
	}
	w.fleet = append(w.fleet, accepted)
	if err := errors.Join(setReset(dialer), setReset(accepted)); err != nil {
		return os.NewSyscallError("setsockopt SO_LINGER", err)
	}
	n, err := writeSome(dialer, w.buffer, req.Bytes)
	if err == nil && n < req.Bytes {
		err = fmt.Errorf("write %d bytes: the queues hold %d", req.Bytes, n)
	}
	return err
}
