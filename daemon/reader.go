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
	scans   chan scan.Options          // at most one
	jobs    chan func(context.Context) // taken by turns with scans
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
		host:  h,
		scans: make(chan scan.Options, 1), jobs: make(chan func(context.Context)),
		ended: make(chan struct{}), results: make(chan result, 1),
	}
}

// run works until ctx ends. Where both wait, scans and other jobs take turns:
// neither many lists nor scans that take longer than their interval may starve
// the other.
func (r *reader) run(ctx context.Context) {
	defer close(r.ended)
	afterScan := false
	for ctx.Err() == nil {
		if afterScan {
			select {
			case job := <-r.jobs:
				job(ctx)
				afterScan = false
				continue
			default:
			}
		}
		select {
		case o := <-r.scans:
			r.runScan(ctx, o)
			afterScan = true
			continue
		default:
		}
		select {
		case <-ctx.Done():
		case o := <-r.scans:
			r.runScan(ctx, o)
			afterScan = true
		case job := <-r.jobs:
			job(ctx)
			afterScan = false
		}
	}
}

// close releases the host, after run has ended.
func (r *reader) close() error { return r.host.Close() }

// do runs a job and waits for its end, or for the end of ctx before it began.
// The job must watch ctx itself.
func (r *reader) do(ctx context.Context, job func()) error {
	done := make(chan struct{})
	select {
	case r.jobs <- func(context.Context) { defer close(done); job() }:
		<-done
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.ended:
		return errStopping
	}
}

// scan starts a scan as soon as what runs has ended; the one before must have
// given its result, as this one will by results.
func (r *reader) scan(o scan.Options) { r.scans <- o }

func (r *reader) runScan(ctx context.Context, o scan.Options) {
	reading, err := r.host.Scan(ctx, o)
	if err != nil && ctx.Err() != nil {
		return
	}
	r.results <- result{reading, err}
	if reading != nil && reading.Took > longScan {
		debug.FreeOSMemory() // a large scan leaves more garbage than a calm minute
	}
}

const longScan = 200 * time.Millisecond

// refresh lets go of namespaces that nobody holds any more, unless the reader is
// busy.
func (r *reader) refresh() {
	select {
	case r.jobs <- func(context.Context) { _ = r.host.Refresh() }: // the next scan reports what it cannot read
	default:
	}
}
