// Package kmsg follows the kernel log and counts the records that speak of TCP
// memory and of a full connection tracking table.
//
// The log corroborates, it does not decide: the kernel limits the rate of these
// messages (net_ratelimit), and a flood can push them out of the ring buffer
// before anybody reads them. What was lost is counted.
package kmsg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const (
	// maxRecord is the most that one read returns: CONSOLE_EXT_LOG_MAX of
	// kernel/printk, or the smaller PRINTK_MESSAGE_MAX of newer kernels.
	maxRecord = 8192
	// burst records are read at full speed, then the rest of burstTime is
	// slept: a flood costs records, which are counted as lost, not CPU.
	burst     = 500
	burstTime = 100 * time.Millisecond
)

// source is an open kernel log. Read gives one record, or an error that wraps
// EPIPE where records were overwritten before they could be read.
type source interface {
	io.ReadCloser
	SetReadDeadline(time.Time) error
}

// Log follows a kernel log from where it ended when it was opened.
type Log struct {
	path    string
	src     source
	log     *slog.Logger
	matched chan struct{}
	ready   chan struct{}
	next    uint64 // expected sequence number, 0 before the first record

	mu     sync.Mutex // guards counts
	counts reading.LogCounts
}

// Open opens the kernel log at path, usually /dev/kmsg, and moves to its end,
// so that nothing from before counts. It needs CAP_SYSLOG where
// kernel.dmesg_restrict is set. Run reads and closes it.
func Open(path string, log *slog.Logger) (*Log, error) {
	// Non-blocking, so that the runtime's poller waits for records and a
	// deadline can end the wait.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekEnd); err != nil {
		file.Close()
		return nil, err
	}
	// Without a deadline Run could not be ended: refuse such a file now.
	if err := file.SetReadDeadline(time.Time{}); err != nil {
		file.Close()
		return nil, fmt.Errorf("set deadline of %s: %w", path, bare(err))
	}
	return follow(path, file, log), nil
}

func follow(path string, src source, log *slog.Logger) *Log {
	return &Log{
		path:    path,
		src:     src,
		log:     log,
		matched: make(chan struct{}, 1),
		ready:   make(chan struct{}),
		counts:  reading.LogCounts{Readable: true},
	}
}

// String names the task.
func (l *Log) String() string { return "kernel log " + l.path }

// Ready is closed once Run reads.
func (l *Log) Ready() <-chan struct{} { return l.ready }

// Matched receives a value when a record was counted, not one for each: it
// holds one value until somebody takes it.
func (l *Log) Matched() <-chan struct{} { return l.matched }

// Counts gives the counts since Open. It may be called at any time; for a nil
// Log, where the kernel log could not be opened, nothing is readable.
func (l *Log) Counts() reading.LogCounts {
	if l == nil {
		return reading.LogCounts{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// Run reads until ctx ends, which is no error, or the log breaks. Then it
// closes the log. It may be called once.
func (l *Log) Run(ctx context.Context) error {
	defer l.src.Close()

	// A blocked read ends when its deadline moves into the past.
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = l.src.SetReadDeadline(time.Unix(1, 0)) // fails on a closed file only
	})
	defer func() {
		if !stop() {
			<-interrupted
		}
	}()

	close(l.ready)
	err := l.read(ctx)
	if ctx.Err() != nil {
		return nil
	}
	l.mu.Lock()
	l.counts.Readable = false
	l.mu.Unlock()
	return fmt.Errorf("read %s: %w", l.path, err)
}

// read returns only with an error.
func (l *Log) read(ctx context.Context) error {
	buf := make([]byte, maxRecord)
	start, n := time.Now(), 0
	for {
		if n++; n > burst {
			if err := sleep(ctx, burstTime-time.Since(start)); err != nil {
				return err
			}
			start, n = time.Now(), 0
		}
		size, err := l.src.Read(buf)
		switch {
		case errors.Is(err, unix.EPIPE):
			l.overwritten()
		case err != nil:
			return bare(err)
		case size == 0:
			return errors.New("end of file")
		default:
			l.take(buf[:size])
		}
	}
}

// overwritten handles EPIPE: the kernel has moved on to the oldest record that
// is left. How many are gone shows in the next sequence number, unless no
// record was read yet.
func (l *Log) overwritten() {
	if l.next != 0 {
		return
	}
	l.mu.Lock()
	l.counts.Lost++ // at least
	l.mu.Unlock()
}

// take counts one record.
func (l *Log) take(data []byte) {
	r, err := parseRecord(data)
	if err != nil {
		l.log.Warn("kernel log record not understood", "err", err)
		l.mu.Lock()
		l.counts.Lost++
		l.mu.Unlock()
		l.next = 0 // its number is unknown, so no gap can be measured behind it
		return
	}
	what := other
	if r.facility == facilityKernel {
		what = classify(r.message)
	}

	l.mu.Lock()
	if l.next != 0 && r.seq > l.next {
		l.counts.Lost += int64(min(r.seq-l.next, 1<<32))
	}
	switch what {
	case outOfMemory:
		l.counts.OutOfMemory++
	case tooManyOrphans:
		l.counts.TooManyOrphans++
	case conntrackFull:
		l.counts.ConntrackFull++
	}
	l.mu.Unlock()
	l.next = r.seq + 1

	if what != other {
		select {
		case l.matched <- struct{}{}:
		default: // somebody will look anyway
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// bare takes operation and path off, which Run names itself.
func bare(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}
