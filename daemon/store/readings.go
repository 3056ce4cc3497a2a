package store

import (
	"path/filepath"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// maxReadings bounds the readings in memory that wait for the disk: a minute.
const maxReadings = 60

// readings wait to be written.
type readings struct {
	waiting []*history.Entry
	dropped uint64
}

// AppendHistory keeps one moment of the pool, each second or less often. Only
// e itself is copied: what it points to must not change any more. It never
// waits; where the disk does not take it, the oldest moments are dropped.
func (s *Store) AppendHistory(e *history.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wakeWriter()
	if s.closing {
		return
	}
	entry := *e
	if r := &s.readings; len(r.waiting) == maxReadings {
		r.waiting = slices.Delete(r.waiting, 0, 1)
		r.dropped++
	}
	s.readings.waiting = append(s.readings.waiting, &entry)
}

// writeHistory writes one moment, in the writer. One that fails is lost, and
// the others wait for the next attempt.
func (s *Store) writeHistory() error {
	s.mu.Lock()
	e := s.readings.waiting[0]
	s.readings.waiting = slices.Delete(s.readings.waiting, 0, 1)
	s.mu.Unlock()
	err := s.history.Append(e)
	if err != nil {
		s.mu.Lock()
		s.readings.dropped++
		s.mu.Unlock()
	}
	return err
}

// openHistory repairs the ring.
func (s *Store) openHistory() {
	var err error
	s.history, err = history.Open(filepath.Join(s.dir, history.Name), s.opts.MaxBytes/4)
	s.note("history-damaged", history.Name, err)
}
