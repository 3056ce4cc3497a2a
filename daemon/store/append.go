package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
)

// Append puts rec at the end of the action log, with its version and number
// filled in. It never waits, and rec is free to change when it returns.
//
// done, where not nil, is called exactly once, by the writer: with nil when
// the record is durable, with an error when a first attempt to write it
// failed, or when it had no room in memory. After an error the record may
// still be written later; an intent's action must not be started then, and
// wants a result that says so. done must not block, and is not called at all
// while the disk is stuck: who waits for it needs a deadline.
func (s *Store) Append(rec record.Record, done func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wakeWriter()
	if s.closing {
		s.refuse(done, ErrClosed)
		return
	}
	s.append(rec, done)
}

func (s *Store) append(rec record.Record, done func(error)) {
	rec.Version, rec.Seq = record.Version, s.seq+1
	text, err := json.Marshal(&rec)
	if err != nil {
		plain(&rec)
		text, err = json.Marshal(&rec)
	}
	if err == nil && len(text) >= s.maxLine() {
		err = fmt.Errorf("%d bytes are too many", len(text))
	}
	if err != nil {
		err = fmt.Errorf("encode record %s: %w", rec.ID, err)
		s.log.Error("record is lost", "err", err)
		s.refuse(done, err)
		return
	}
	s.seq++
	keep := rec.Kind == record.KindIntent || rec.Kind == record.KindResult || rec.Kind == record.KindEffect
	s.records.push(line{text: append(text, '\n'), keep: keep, since: time.Now(), done: done})
}

func (s *Store) maxLine() int { return min(actions.MaxLine, s.actions.MaxBatch()) }

func (s *Store) refuseNow(done func(error), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse(done, err)
	s.wakeWriter()
}

// refuse has done called by the writer.
func (s *Store) refuse(done func(error), err error) {
	if done == nil {
		return
	}
	if s.closing {
		go done(err) // the writer may have ended
		return
	}
	s.records.refused = append(s.records.refused, func(error) { done(err) })
}

// plain turns values into null that have no form in JSON, such as the infinite
// share of nothing: the record itself matters more.
func plain(rec *record.Record) {
	if rec.State != nil {
		state := *rec.State
		state.Numbers = plainMap(state.Numbers)
		rec.State = &state
	}
	if rec.Decision != nil {
		decision := *rec.Decision
		decision.Numbers = plainMap(decision.Numbers)
		rec.Decision = &decision
	}
	if rec.Intent != nil {
		intent := *rec.Intent
		intent.Decision.Numbers = plainMap(intent.Decision.Numbers)
		rec.Intent = &intent
	}
	if rec.Event != nil {
		event := *rec.Event
		event.Details = plainMap(event.Details)
		rec.Event = &event
	}
}

func plainMap[M ~map[string]any](m M) M {
	clean := make(M, len(m))
	for name, value := range m {
		if _, err := json.Marshal(value); err != nil {
			value = nil
		}
		clean[name] = value
	}
	return clean
}

// writeRecords writes the next batch, in the writer, and gives who is to be
// told.
func (s *Store) writeRecords() (told []func(error), err error) {
	s.mu.Lock()
	text := s.records.batch(s.actions.MaxBatch())
	s.mu.Unlock()

	err = s.actions.Write(text)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		return s.records.failed(), err
	}
	told = s.records.written()
	s.tellDropped()
	return told, nil
}

// tidyLog compresses what a rotation left, after all who waited were told.
func (s *Store) tidyLog() {
	if err := s.actions.Tidy(); err != nil {
		s.log.Warn("rotated action log stays as it is", "err", err)
	}
}

// tellDropped records, once the disk works again, what it cost that it did not.
func (s *Store) tellDropped() {
	n := s.records.untold
	if n == 0 {
		return
	}
	s.records.untold = 0
	s.append(record.Record{
		ID: "dropped-" + strconv.FormatUint(s.seq+1, 10), Stamp: s.opts.Now(), Kind: record.KindEvent,
		Event: &record.Event{
			ID: "records-dropped", Severity: "warning",
			Text:    fmt.Sprintf("%d records were dropped: the action log could not be written for too long", n),
			Details: map[string]any{"dropped": n},
		},
	}, nil)
}

// Records gives the records that q selects, those that wait to be written
// included. It reads the disk: not for the loop. The last that comes may be an
// error, of type *actions.SkippedError where only some lines were no records.
func (s *Store) Records(ctx context.Context, q actions.Query) iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		s.mu.Lock()
		queued := make([][]byte, len(s.records.items))
		for i, l := range s.records.items {
			queued[i] = bytes.TrimSuffix(l.text, []byte("\n"))
		}
		s.mu.Unlock()
		s.actions.Records(ctx, q, queued)(yield)
	}
}
