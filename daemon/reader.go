package daemon

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
)

// reader runs what takes long on the scanner, one job after the other.
type reader struct {
	scanner *scan.Scanner
	jobs    chan func(context.Context)
	results chan result
}

type result struct {
	reading *reading.Reading
	err     error
}

func newReader(s *scan.Scanner) *reader {
	return &reader{scanner: s, jobs: make(chan func(context.Context)), results: make(chan result, 1)}
}

func (r *reader) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case job := <-r.jobs:
			job(ctx)
		}
	}
}

// close releases the scanner, after run has ended.
func (r *reader) close() error { return r.scanner.Close() }

// try hands a job over if the reader is idle.
func (r *reader) try(job func(context.Context)) bool {
	select {
	case r.jobs <- job:
		return true
	default:
		return false
	}
}

// do runs a job and waits for its end, or for the end of ctx before it began.
// The job must watch ctx itself.
func (r *reader) do(ctx context.Context, job func()) error {
	done := make(chan struct{})
	select {
	case r.jobs <- func(context.Context) { defer close(done); job() }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// scan starts a scan, whose result comes by results.
func (r *reader) scan(o scan.Options) bool {
	return r.try(func(ctx context.Context) {
		reading, err := r.scanner.Scan(ctx, o)
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
	r.try(func(context.Context) { _ = r.scanner.Refresh() }) // the next scan reports what it cannot read
}
