package runner

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	pb "google.golang.org/protobuf/proto"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/internal/wire"
	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

// slot is a plugin with what is known of it.
type slot struct {
	plugin Plugin
	// turn is held by who uses or changes acting.
	turn   chan struct{}
	acting atomic.Pointer[process] // with its capabilities

	// Guarded by Runner.mu.
	wanted        bool // Ready
	described     *remediate.Description
	describedRaw  *proto.Description
	describedFile identity
	state         state
}

// take waits for the slot's turn.
func (r *Runner) take(ctx context.Context, s *slot) (release func(), err error) {
	switch err := ctx.Err(); {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fail(KindTimedOut, "its time was over before it began")
	case err != nil:
		return nil, fail(KindCanceled, "you cancelled: %w", err)
	}
	select {
	case <-s.turn:
		return func() { s.turn <- struct{}{} }, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, fail(KindBusy, "it is busy with another call")
		}
		return nil, fail(KindCanceled, "you cancelled: %w", ctx.Err())
	}
}

// ask makes one call to a process without capabilities, started for it.
func (r *Runner) ask(ctx context.Context, s *slot, phase Phase, f func(context.Context, *process) error) error {
	if r.closing.Err() != nil {
		return &Error{s.plugin.Name, phase, KindClosed, errors.New("the daemon is ending")}
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Ask)
	defer cancel()
	defer context.AfterFunc(r.closing, cancel)()
	p, err := r.start(ctx, s, nil)
	if err != nil {
		return err
	}
	if err := p.call(ctx, func(ctx context.Context) error { return f(ctx, p) }); err != nil {
		return wrap(s.plugin.Name, phase, err)
	}
	r.end(s, p)
	return nil
}

// describe returns the description of the plugin's file as it is now.
func (r *Runner) describe(ctx context.Context, s *slot) (*remediate.Description, *proto.Description, error) {
	f, err := open(s.plugin.Path)
	if err != nil {
		return nil, nil, wrap(s.plugin.Name, PhaseVerify, err)
	}
	id := f.id
	f.Close()
	r.mu.Lock()
	d, raw, known := s.described, s.describedRaw, s.described != nil && s.describedFile == id
	r.mu.Unlock()
	if known {
		return d, raw, nil
	}
	err = r.ask(ctx, s, PhaseDescribe, func(ctx context.Context, p *process) error {
		id = p.file
		var err error
		if raw, err = p.client.Describe(ctx, &proto.DescribeRequest{}); err == nil {
			d, err = wire.Description(s.plugin.Name, raw)
			err = invalid(err)
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	s.described, s.describedRaw, s.describedFile = d, raw, id
	r.mu.Unlock()
	return d, raw, nil
}

// act makes one call to a process with the plugin's capabilities, and leaves
// it started where it is wanted.
func (r *Runner) act(ctx context.Context, s *slot, phase Phase, deadline time.Time,
	f func(context.Context, *process, *remediate.Description, time.Time) error,
) (err error) {
	defer func() { r.note(s, phase, err) }()
	if r.closing.Err() != nil {
		return &Error{s.plugin.Name, phase, KindClosed, errors.New("the daemon is ending")}
	}
	if deadline.IsZero() {
		deadline = time.Now().Add(s.plugin.Timeout)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(answerTime))
	defer cancel()
	defer context.AfterFunc(r.closing, cancel)()
	release, err := r.take(ctx, s)
	if err != nil {
		return wrap(s.plugin.Name, phase, err)
	}
	defer release()
	d, err := r.raise(ctx, s)
	if err != nil {
		return err
	}
	p := s.acting.Load()
	err = p.call(ctx, func(ctx context.Context) error { return f(ctx, p, d, deadline) })
	if err != nil {
		s.acting.Store(nil)
		return wrap(s.plugin.Name, phase, err)
	}
	if r.isWanted(s) {
		r.family.reap()
		return nil
	}
	s.acting.Store(nil)
	r.end(s, p)
	return nil
}

// raise makes sure that the acting process is there, is alive and is of the
// file as it is now. The caller has the turn.
func (r *Runner) raise(ctx context.Context, s *slot) (*remediate.Description, error) {
	d, raw, err := r.describe(ctx, s)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	id := s.describedFile
	r.mu.Unlock()
	if p := s.acting.Load(); p != nil {
		if p.alive.Err() == nil && p.file == id {
			return d, nil
		}
		s.acting.Store(nil)
		r.end(s, p)
	}
	p, err := r.start(ctx, s, d.Capabilities)
	if err != nil {
		return nil, err
	}
	err = p.call(ctx, func(ctx context.Context) error {
		again, err := p.client.Describe(ctx, &proto.DescribeRequest{})
		if err == nil && (!pb.Equal(again, raw) || p.file != id) {
			err = fail(KindChanged, "it describes itself differently with its rights than without")
		}
		return err
	})
	if err != nil {
		return nil, wrap(s.plugin.Name, PhaseDescribe, err)
	}
	s.acting.Store(p)
	return d, nil
}

// settle makes the acting process be there or not, as it is wanted.
func (r *Runner) settle(ctx context.Context, s *slot) error {
	release, err := r.take(ctx, s)
	if err != nil {
		return wrap(s.plugin.Name, PhaseStart, err)
	}
	defer release()
	if r.isWanted(s) && r.closing.Err() == nil {
		_, err = r.raise(ctx, s)
		r.note(s, PhaseStart, err)
		return err
	}
	if p := s.acting.Load(); p != nil {
		s.acting.Store(nil)
		r.end(s, p)
	}
	return nil
}

func (r *Runner) isWanted(s *slot) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.wanted
}

// end stops a process that has behaved so far. That it had to be killed is
// told, and no failure of the call that it answered.
func (r *Runner) end(s *slot, p *process) {
	if err := wrap(s.plugin.Name, PhaseEnd, p.stop(r.cfg.Stop)); err != nil {
		r.cfg.Log.Warn("plugin did not end well", "plugin", s.plugin.Name, "err", err)
		r.note(s, PhaseEnd, err)
	}
}
