package daemon

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
)

// reader runs what takes long on the host, one job after the other.
type reader struct {
	host    host
	slot    chan struct{}              // a token for who has a job under way
	jobs    chan func(context.Context) // never blocks who has the slot
	idle    chan struct{}              // signalled after each job
	ended   chan struct{}              // closed when no job will run any more
	results chan result
}

type result struct {
	reading *reading.Reading
	err     error
}

var errStopping = errors.New("the daemon is stopping")

func newReader(h host) *reader {
	return &reader{
		host: h,
		slot: make(chan struct{}, 1), jobs: make(chan func(context.Context), 1),
		idle: make(chan struct{}, 1), ended: make(chan struct{}),
		results: make(chan result, 1),
	}
}

func (r *reader) run(ctx context.Context) error {
	defer close(r.ended)
	for {
		select {
		case <-ctx.Done():
			return nil
		case job := <-r.jobs:
			job(ctx)
			<-r.slot
			select {
			case r.idle <- struct{}{}:
			default:
			}
		}
	}
}

// close releases the host, after run has ended.
func (r *reader) close() error { return r.host.Close() }

// try hands a job over if the reader is idle.
func (r *reader) try(job func(context.Context)) bool {
	select {
	case r.slot <- struct{}{}:
		r.jobs <- job
		return true
	default:
		return false
	}
}

// do runs a job and waits for its end, or for the end of ctx before it began.
// The job must watch ctx itself.
func (r *reader) do(ctx context.Context, job func()) error {
	select {
	case r.slot <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	done := make(chan struct{})
	r.jobs <- func(context.Context) { defer close(done); job() }
	select {
	case <-done:
		return nil
	case <-r.ended:
	}
	select {
	case <-done: // it was the last
		return nil
	default:
		return errStopping
	}
}

// scan starts a scan, whose result comes by results.
func (r *reader) scan(o scan.Options) bool {
	return r.try(func(ctx context.Context) {
		reading, err := r.host.Scan(ctx, o)
		if err != nil && ctx.Err() != nil {
			return
		}
		r.results <- result{reading, err}
		if reading != nil && reading.Took > longScan {
			debug.FreeOSMemory() // a large scan leaves more garbage than a calm minute
		}
	})
}

const longScan = 200 * time.Millisecond

// refresh lets go of namespaces that nobody holds any more.
func (r *reader) refresh() {
	r.try(func(context.Context) { _ = r.host.Refresh() }) // the next scan reports what it cannot read
}
