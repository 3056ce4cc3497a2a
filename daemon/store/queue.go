package store

import (
	"errors"
	"slices"
	"time"
)

// ErrDropped is what a callback gets whose record or file had no room in
// memory, while the disk did not take it.
var ErrDropped = errors.New("dropped: the disk has not taken anything for too long")

// ErrClosed is what a callback gets after Close.
var ErrClosed = errors.New("state is closed")

// queue holds the lines that are not durable yet, in the order of their
// numbers.
type queue struct {
	maxItems, maxBytes int

	items   []line
	bytes   int
	writing int // the first ones are the writer's at the moment

	dropped uint64 // in all
	untold  uint64 // of those, without a record that tells
	refused []func(error)
}

// line is one record to write. done is nil where nobody asked, or was told.
type line struct {
	text  []byte // with its newline
	keep  bool   // intent, result or effect
	since time.Time
	done  func(error)
}

// push appends a line. Beyond the bound the oldest one goes that is not to be
// kept; beyond twice the bound, the new one.
func (q *queue) push(l line) {
	q.items = append(q.items, l)
	q.bytes += len(l.text)
	for q.over(1) {
		at := slices.IndexFunc(q.items[q.writing:], func(l line) bool { return !l.keep })
		switch {
		case at >= 0:
			q.drop(q.writing + at)
		case q.over(2) && len(q.items) > q.writing:
			q.drop(len(q.items) - 1)
		default:
			return
		}
	}
}

func (q *queue) over(times int) bool {
	return len(q.items) > times*q.maxItems || q.bytes > times*q.maxBytes
}

func (q *queue) drop(i int) {
	q.bytes -= len(q.items[i].text)
	if done := q.items[i].done; done != nil {
		q.refused = append(q.refused, done)
	}
	q.items = slices.Delete(q.items, i, i+1)
	q.dropped++
	q.untold++
}

// batch hands the writer the first lines, of at most about size bytes.
func (q *queue) batch(size int) (text []byte) {
	q.writing = 0
	for _, l := range q.items {
		if q.writing > 0 && len(text)+len(l.text) > size {
			break
		}
		text = append(text, l.text...)
		q.writing++
	}
	return text
}

// written takes the batch off the queue, and gives who is to be told.
func (q *queue) written() (told []func(error)) {
	for _, l := range q.items[:q.writing] {
		q.bytes -= len(l.text)
		if l.done != nil {
			told = append(told, l.done)
		}
	}
	q.items = slices.Delete(q.items, 0, q.writing)
	if len(q.items) == 0 && cap(q.items) > 64 {
		q.items = nil // a burst is over: give its memory back
	}
	q.writing = 0
	return told
}

// failed gives who is to be told that a write failed: as lines are written in
// order, all that wait.
func (q *queue) failed() (told []func(error)) {
	for i := range q.items {
		if l := &q.items[i]; l.done != nil {
			told = append(told, l.done)
			l.done = nil
		}
	}
	q.writing = 0
	return told
}
