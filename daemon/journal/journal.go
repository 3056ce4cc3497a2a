// Package journal gives what tcpmemd tells to systemd-journald, with the fields
// that a program reads, and without ever making the caller wait: texts go into a
// bounded queue, and a goroutine of their own brings them over, in order, for as
// long as it takes. What has no room is counted.
package journal

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Socket is journald's, see systemd-journald.service(8).
const Socket = "/run/systemd/journal/socket"

const (
	// maxWaiting bounds the queue. An incident of hours tells some dozens.
	maxWaiting = 1000
	// sendTime is what one try may take where journald's own queue is full.
	sendTime = time.Second
	// Between two tries.
	retryFirst = 50 * time.Millisecond
	retryMost  = 2 * time.Second
	// lateAfter is what nobody would call late.
	lateAfter = 2 * time.Second
)

// Writer brings texts to the journal.
type Writer struct {
	socket string
	alive  func(pid int, start uint64) bool

	mu      sync.Mutex
	waiting []entry // the first is being sent
	serial  uint64
	lost    int64 // since the last delivery, and not told yet
	allLost int64

	wake  chan struct{}
	stop  chan struct{}
	until time.Time // set before stop is closed
	ended chan struct{}

	// Of the goroutine: since when nothing is taken, and how much came late.
	stuck time.Time
	late  int
}

// New starts a writer to the journal's socket. alive tells whether a number is
// still that of the process which started then, in clock ticks since boot.
func New(socket string, alive func(pid int, start uint64) bool) *Writer {
	w := &Writer{
		socket: socket, alive: alive,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
	}
	go w.run()
	return w
}

// Tell queues a text; it does not wait.
func (w *Writer) Tell(t event.Text) {
	t.Line, t.More = t.Message(), nil // no more of it is kept
	w.mu.Lock()
	w.serial++
	w.waiting = append(w.waiting, entry{t, time.Now(), w.serial})
	if len(w.waiting) > maxWaiting {
		w.drop()
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// drop makes room: the oldest of the least weight goes, so that alerts stay. The
// first may be out already.
func (w *Writer) drop() {
	least := 1
	for i := range w.waiting[1:] {
		if weight(&w.waiting[i+1]) < weight(&w.waiting[least]) {
			least = i + 1
		}
	}
	w.waiting = slices.Delete(w.waiting, least, least+1)
	w.lost++
	w.allLost++
}

// weight orders what may go first: what is no alert, then alerts.
func weight(e *entry) int {
	if Priority(e.text.Severity) > Priority(event.Warning) {
		return 0
	}
	return 1
}

// Undelivered says how many texts the journal has not taken yet, and how many
// were lost since the start.
func (w *Writer) Undelivered() (waiting int, lost int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting), w.allLost
}

// Close brings over what waits, and ends after that time at the latest. Nothing
// may be told after it.
func (w *Writer) Close(within time.Duration) {
	w.until = time.Now().Add(within)
	close(w.stop)
	<-w.ended
}

func (w *Writer) run() {
	defer close(w.ended)
	retry := retryFirst
	for {
		e, ok := w.first()
		switch {
		case !ok && w.report():
			continue
		case !ok:
			select {
			case <-w.wake:
				continue
			case <-w.stop:
			}
			if e, ok = w.first(); !ok {
				return
			}
		}
		err := w.send(&e)
		if err == nil || errors.Is(err, syscall.EMSGSIZE) { // never the latter: entries are bounded
			if time.Since(e.queued) > lateAfter && e.text.Event != event.JournalLate {
				w.late++
			}
			w.took(e.serial)
			retry = retryFirst
			continue
		}
		if w.stuck.IsZero() {
			w.stuck = e.queued
		}
		select {
		case <-time.After(retry):
		case <-w.stop:
			if time.Now().After(w.until) {
				return
			}
			time.Sleep(min(retryFirst, time.Until(w.until)))
		}
		retry = min(2*retry, retryMost)
	}
}

// first gives the one whose turn it is.
func (w *Writer) first() (entry, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		return entry{}, false
	}
	return w.waiting[0], true
}

func (w *Writer) took(serial uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) > 0 && w.waiting[0].serial == serial {
		w.waiting = slices.Delete(w.waiting, 0, 1)
	}
}

// report queues what is to be said once all is over, and whether there was
// something: how long nothing was taken, and what became of it.
func (w *Writer) report() bool {
	w.mu.Lock()
	lost := w.lost
	w.lost = 0
	w.mu.Unlock()
	stuck, late := w.stuck, w.late
	w.stuck, w.late = time.Time{}, 0
	if late == 0 && lost == 0 {
		return false
	}
	if stuck.IsZero() { // it took them, and not as fast as they came
		stuck = time.Now()
	}
	t := event.Told(&record.Event{ID: event.JournalLate, Text: fmt.Sprintf(
		"the journal took nothing for %s: %s came late, %d lost", prose.Duration(time.Since(stuck)),
		prose.Plural(int64(late), "message"), lost)})
	t.At = time.Now()
	t.Fields = append(t.Fields, event.Field{Name: "LATE", Value: fmt.Sprint(late)}, event.Field{Name: "LOST", Value: fmt.Sprint(lost)})
	w.Tell(t)
	return true
}

// send makes one try. A connection for each: after a restart journald's socket
// may be another one at the same path.
func (w *Writer) send(e *entry) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: w.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the entry is out, or its error known
	deadline := time.Now().Add(sendTime)
	select {
	case <-w.stop:
		if w.until.Before(deadline) {
			deadline = w.until
		}
	default:
	}
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err = conn.Write(encode(&e.text, time.Since(e.queued) > lateAfter, w.alive))
	return err
}
