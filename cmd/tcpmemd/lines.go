package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// Bounds of what waits to be written.
const (
	maxLines     = 1024
	maxLineBytes = 1 << 20
)

// lines writes without making the writer wait: the daemon's loop speaks, and a
// terminal, a pipe or a journal that takes nothing must not stop it. What has
// no room is dropped, and counted.
type lines struct {
	to      io.Writer
	waiting chan line
	bytes   atomic.Int64 // of what waits
	dropped atomic.Int64
}

type line struct {
	text []byte
	out  chan<- struct{} // closed when all before is written, nil in a line
}

func newLines(to io.Writer) *lines {
	l := &lines{to: to, waiting: make(chan line, maxLines)}
	go l.run()
	return l
}

// Write implements io.Writer; it never fails.
func (l *lines) Write(text []byte) (int, error) {
	if l.bytes.Add(int64(len(text))) <= maxLineBytes {
		select {
		case l.waiting <- line{text: append([]byte(nil), text...)}:
			return len(text), nil
		default:
		}
	}
	l.bytes.Add(-int64(len(text)))
	l.dropped.Add(1)
	return len(text), nil
}

// flush waits until what was written is out, and no longer than that.
func (l *lines) flush(within time.Duration) {
	late := time.After(within)
	out := make(chan struct{})
	select {
	case l.waiting <- line{out: out}:
	case <-late:
		return
	}
	select {
	case <-out:
	case <-late:
	}
}

func (l *lines) run() {
	for next := range l.waiting {
		if n := l.dropped.Swap(0); n > 0 {
			_, _ = fmt.Fprintf(l.to, "tcpmemd: %d lines were dropped: nobody took them\n", n) // nobody to tell
		}
		if next.out != nil {
			close(next.out)
			continue
		}
		_, _ = l.to.Write(next.text)
		l.bytes.Add(-int64(len(next.text)))
	}
}
