package scan

import (
	"context"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/fds"
)

// early reads every process while the sockets are still being dumped: in a
// first scan all of them must be read anyway, and a dump keeps only one CPU
// busy. Which of their sockets matter is known afterwards.
type early struct {
	began  time.Time
	cancel context.CancelFunc
	done   chan struct{}
	found  []fds.Found
}

// readEarly starts reading. Until wait has returned nobody may change the index.
func (s *Scanner) readEarly(ctx context.Context) *early {
	ctx, cancel := context.WithCancel(ctx)
	e := &early{began: time.Now(), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(e.done)
		every := fds.Wanted{Threads: true, Holds: func(uint32) bool { return true }}
		s.index.Walk(ctx, s.index.Order(), s.cfg.Workers, every, func(f fds.Found) bool {
			e.found = append(e.found, f)
			return true
		})
	}()
	return e
}

// wait waits until all is read.
func (e *early) wait() {
	if e != nil {
		<-e.done
		e.cancel()
	}
}

// stop ends the reading early; after wait it does nothing.
func (e *early) stop() {
	if e != nil {
		e.cancel()
		<-e.done
	}
}

// takeEarly records what was read while the sockets were dumped. Sockets newer
// than that are looked for in processes that have more descriptors by now; the
// others keep their cgroup as evidence until the next scan.
func (q *search) takeEarly(ctx context.Context, e *early) {
	q.begin()
	// What was read was read before the dump ended: newer sockets are not missing.
	q.began = e.began
	q.s.round = round{began: e.began, second: q.s.table.Second() - 1, took: time.Since(e.began)}
	for _, f := range e.found {
		f.Sockets = slices.DeleteFunc(f.Sockets, func(d fds.Descriptor) bool { return !q.found.Holds(d.Inode) })
		q.take(f)
	}
	q.walk(ctx, q.s.index.Order(), fds.Wanted{SkipUnchanged: true}, func() bool { return q.found.Wanted > 0 })
}
