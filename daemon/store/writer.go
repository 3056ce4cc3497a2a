package store

import (
	"errors"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// The lanes of the writer, the most urgent first: an intent waits for at most
// one file.
const (
	laneRecords = iota // the action log
	laneState          // leases and budgets
	laneHistory
	laneFiles // outbox and incidents
	numLanes
)

// Pauses between attempts. A caller that waits for an intent has given up by
// the time of the longest but one more attempt.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = time.Second
)

// lane is how one kind of writing goes.
type lane struct {
	err   error         // of the last attempt
	since record.Stamp  // when the first of the failures in a row was
	pause time.Duration // before the next attempt
	next  time.Time
}

func (l *lane) failed(err error, at record.Stamp, now time.Time) {
	if l.err == nil {
		l.since, l.pause = at, firstRetry
	} else {
		l.pause = min(2*l.pause, lastRetry)
	}
	l.err, l.next = err, now.Add(l.pause)
}

// run is the writer. It ends when the store is closing and each lane is empty
// or has failed once more.
func (s *Store) run() {
	defer close(s.ended)
	gaveUp := [numLanes]bool{}
	for {
		lane, wait, closing := s.next(&gaveUp)
		if lane < numLanes {
			if err := s.attempt(lane); err != nil && closing {
				gaveUp[lane] = true
			}
			continue
		}
		if closing {
			return
		}
		s.rest(wait)
	}
}

// next is the first lane that has work and may try, else numLanes and how long
// until one may; 0 is until there is work.
func (s *Store) next(gaveUp *[numLanes]bool) (ready int, wait time.Duration, closing bool) {
	s.mu.Lock()
	refused := s.records.refused
	s.records.refused = nil
	defer func() {
		s.mu.Unlock()
		for _, done := range refused {
			done(ErrDropped)
		}
	}()
	now := time.Now()
	for i := range numLanes {
		if !s.hasWork(i) || gaveUp[i] {
			continue
		}
		pause := s.state[i].next.Sub(now)
		if s.state[i].err == nil || pause <= 0 || s.closing {
			return i, 0, s.closing
		}
		if wait == 0 || pause < wait {
			wait = pause
		}
	}
	return numLanes, wait, s.closing
}

func (s *Store) hasWork(lane int) bool {
	switch lane {
	case laneRecords:
		return len(s.records.items) > 0
	case laneHistory:
		return len(s.readings.waiting) > 0
	default:
		return s.files.first(lane) != nil
	}
}

// attempt does one piece of work of a lane. Who is told of it finds Health up
// to date.
func (s *Store) attempt(lane int) error {
	s.mu.Lock()
	s.busy = time.Now()
	s.mu.Unlock()
	var told []func(error)
	var err error
	switch lane {
	case laneRecords:
		told, err = s.writeRecords()
	case laneHistory:
		err = s.writeHistory()
	default:
		told, err = s.writeFile(lane)
	}
	s.conclude(&s.state[lane], err)
	for _, done := range told {
		done(err)
	}
	if lane == laneRecords && err == nil {
		s.tidyLog()
	}
	return err
}

func (s *Store) conclude(state *lane, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = time.Time{}
	switch {
	case err != nil:
		if state.err == nil {
			s.log.Warn("state is not writable: what fits in memory waits", "err", err)
		}
		state.failed(err, s.opts.Now(), time.Now())
	case state.err != nil:
		s.log.Info("state is writable again", "after", s.opts.Now().Since(state.since))
		*state = lane{}
	}
}

// rest waits for work, and no longer than wait where that is not 0.
func (s *Store) rest(wait time.Duration) {
	if wait == 0 {
		<-s.wake
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-s.wake:
	case <-timer.C:
	}
}

func (s *Store) wakeWriter() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Condition is how one kind of writing goes: Err is that of the last attempt,
// nil where it worked, and Since the first of the failures in a row.
type Condition struct {
	Err   error
	Since record.Stamp
}

// Health is how the disk does.
type Health struct {
	Log     Condition // the action log
	State   Condition // leases and budgets
	History Condition
	Files   Condition // outbox and incidents

	Queued      int           // records that are not durable yet
	QueuedBytes int           // of those
	Oldest      time.Duration // how long the first of those waits
	// Busy is how long the writer has been at its present piece of work: a
	// disk that is stuck gives no error.
	Busy time.Duration

	Waiting int // files that are not written yet

	// What was given up, since Open.
	DroppedRecords, DroppedFiles, DroppedReadings uint64
	// PrunedOutbox counts undelivered tellings that made room for younger ones.
	PrunedOutbox uint64
}

// Health tells how the disk does. It never waits for it.
func (s *Store) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := Health{
		Log: s.condition(laneRecords), State: s.condition(laneState),
		History: s.condition(laneHistory), Files: s.condition(laneFiles),
		Queued: len(s.records.items), QueuedBytes: s.records.bytes, Waiting: len(s.files.waiting),
		DroppedRecords: s.records.dropped, DroppedFiles: s.files.dropped, DroppedReadings: s.readings.dropped,
		PrunedOutbox: s.pruned,
	}
	now := time.Now()
	if h.Queued > 0 {
		h.Oldest = now.Sub(s.records.items[0].since)
	}
	if s.files.writing != nil {
		h.Waiting++
	}
	if !s.busy.IsZero() {
		h.Busy = now.Sub(s.busy)
	}
	return h
}

func (s *Store) condition(lane int) Condition {
	return Condition{s.state[lane].err, s.state[lane].since}
}

// firstError is that of the most urgent lane which fails.
func (s *Store) firstError() error {
	for i := range s.state {
		if err := s.state[i].err; err != nil {
			return err
		}
	}
	return errors.New("unknown cause")
}
