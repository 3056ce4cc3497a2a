package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store"
	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
	"github.com/tcpmemd/tcpmemd/daemon/store/incident"
)

// kept is what the state folder holds: it outlives daemons and boots.
type kept struct {
	log       []record.Record
	budgets   []byte
	leases    store.Leases
	outbox    map[string]store.Outbox
	incidents map[string]record.Incident
}

// unfinished are the intents without a result.
func (k *kept) unfinished() (list []record.Record) {
	done := make(map[string]bool)
	for i := range k.log {
		if r := &k.log[i]; r.Kind == record.KindResult && r.Action != "" {
			done[r.Action] = true
		}
	}
	for _, r := range k.log {
		if r.Kind == record.KindIntent && !done[r.Action] {
			list = append(list, r)
		}
	}
	return list
}

func (k *kept) memory() (m policy.Memory) {
	if k.budgets != nil {
		if err := json.Unmarshal(k.budgets, &m); err != nil {
			panic(err)
		}
	}
	return m
}

func (k *kept) waiting() (list []store.Outbox) {
	for _, o := range k.outbox {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b store.Outbox) int { return a.Born.At.Compare(b.Born.At) })
	return list
}

// lanes of the disk, as those of package store: the log, budgets and leases,
// incidents and outbox.
const (
	laneLog = iota
	laneSmall
	laneFiles
	numLanes
)

// shelf is the store of one life: a disk that is slow, fails or hangs, and
// keeps what it said to keep.
type shelf struct {
	*life

	mu     sync.Mutex // guards what follows
	work   [numLanes][]write
	wake   chan struct{}
	closed bool
	ended  chan struct{}

	// How the disk is: the director's to change.
	takes    time.Duration
	fails    [numLanes]bool
	stuck    bool
	lastFail [numLanes]error
	busy     time.Time
}

// write is one thing to keep. It is kept when the disk took it, which it may do
// after it said that it could not.
type write struct {
	key  string // what a later one replaces, "" for the log
	keep func(*kept)
	done []func(error)
}

func newShelf(l *life) *shelf {
	s := &shelf{life: l, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go s.run()
	return s
}

func (s *shelf) put(lane int, key string, keep func(*kept), done func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := write{key: key, keep: keep}
	if done != nil {
		n.done = append(n.done, done)
	}
	if s.closed {
		if done != nil {
			go done(store.ErrClosed)
		}
		return
	}
	if i := slices.IndexFunc(s.work[lane], func(o write) bool { return key != "" && o.key == key }); i >= 0 {
		n.done = append(s.work[lane][i].done, n.done...)
		s.work[lane] = slices.Delete(s.work[lane], i, i+1)
	}
	s.work[lane] = append(s.work[lane], n)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run is the writer: the most urgent lane first, the log in batches.
func (s *shelf) run() {
	defer close(s.ended)
	for {
		time.Sleep(time.Nanosecond) // all of one moment is one batch, else chance would say what is
		s.mu.Lock()
		lane := slices.IndexFunc(s.work[:], func(w []write) bool { return len(w) > 0 })
		again := -1
		for i := range s.work { // a lane that fails waits for the others
			if len(s.work[i]) > 0 && !s.fails[i] {
				again = i
				break
			}
		}
		if again >= 0 {
			lane = again
		}
		if lane < 0 {
			closed := s.closed
			s.mu.Unlock()
			if closed {
				return
			}
			select {
			case <-s.wake:
				continue
			case <-s.died:
				return
			}
		}
		n := 1
		if lane == laneLog {
			n = len(s.work[lane])
		}
		batch := slices.Clone(s.work[lane][:n])
		s.work[lane] = slices.Delete(s.work[lane], 0, n)
		takes := s.takes
		s.busy = time.Now()
		s.mu.Unlock()

		alive := s.pause(context.Background(), takes, s.w.disk)
		for alive && s.isStuck() {
			alive = s.pause(context.Background(), 300*time.Millisecond, s.w.disk)
		}
		if !alive {
			return
		}
		s.finish(lane, batch)
	}
}

func (s *shelf) isStuck() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stuck && !s.closed
}

// finish keeps a batch, or says that it did not and tries again.
func (s *shelf) finish(lane int, batch []write) {
	var err error
	s.mu.Lock()
	s.busy = time.Time{}
	if s.fails[lane] {
		err = errNoSuchLuck
	}
	s.lastFail[lane] = err
	var told []func(error)
	for i := range batch {
		told = append(told, batch[i].done...)
		batch[i].done = nil
	}
	if err != nil && s.closed {
		s.work[lane] = nil // it gives up, and what follows is not written without it
	} else if err != nil {
		if lane == laneLog { // all that wait for it
			for i := range s.work[lane] {
				told = append(told, s.work[lane][i].done...)
				s.work[lane][i].done = nil
			}
		}
		batch = slices.DeleteFunc(batch, func(b write) bool {
			return b.key != "" && slices.ContainsFunc(s.work[lane], func(o write) bool { return o.key == b.key })
		})
		s.work[lane] = append(batch, s.work[lane]...)
	}
	s.mu.Unlock()
	if err == nil {
		w := s.w
		w.mu.Lock()
		if s.dead {
			w.mu.Unlock()
			return
		}
		for _, b := range batch {
			b.keep(&w.kept)
		}
		w.mu.Unlock()
	}
	for _, done := range told {
		done(err)
	}
	if err != nil {
		s.pause(context.Background(), 400*time.Millisecond, s.w.disk)
	}
}

func (s *shelf) Append(rec record.Record, done func(error)) {
	s.w.mu.Lock()
	s.recounted.count(&rec)
	if !s.dead {
		s.w.appended(s.life, &rec)
	}
	s.w.mu.Unlock()
	s.put(laneLog, "", func(k *kept) { k.log = append(k.log, rec) }, done)
}

func (s *shelf) SaveBudgets(v any, done func(error)) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	s.put(laneSmall, "budgets", func(k *kept) { k.budgets = text }, done)
}

func (s *shelf) SaveLeases(leases []store.Lease, done func(error)) {
	s.w.mu.Lock()
	all := store.Leases{BootID: s.w.stamp().BootID, Leases: slices.Clone(leases)}
	s.w.mu.Unlock()
	s.put(laneSmall, "leases", func(k *kept) { k.leases = all }, done)
}

func (s *shelf) SaveIncident(i *record.Incident, done func(error)) {
	in := *i
	in.Keys = slices.Clone(i.Keys)
	in.Readings, in.Records = nil, nil // nobody asks for them here
	s.put(laneFiles, "incident "+in.ID, func(k *kept) { k.incidents[in.ID] = in }, done)
}

func (s *shelf) PutOutbox(o store.Outbox, done func(error)) {
	s.put(laneFiles, "outbox "+o.ID, func(k *kept) { k.outbox[o.ID], s.w.boxed[o.ID] = o, true }, done)
}

func (s *shelf) RemoveOutbox(id string, done func(error)) {
	s.put(laneFiles, "outbox "+id, func(k *kept) { delete(k.outbox, id) }, done)
}

func (s *shelf) Incidents() (list []incident.Summary) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.w.kept.incidents)) {
		in := s.w.kept.incidents[id]
		list = append(list, incident.Summarize(&in))
	}
	return list
}

func (s *shelf) Incident(id string) (*record.Incident, error) {
	if !s.pause(context.Background(), 0, s.w.archive) {
		return nil, errNoSuchLuck
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	in := s.w.kept.incidents[id]
	in.Keys = slices.Clone(in.Keys)
	return &in, nil
}

func (s *shelf) Records(context.Context, actions.Query) iter.Seq2[record.Record, error] {
	panic("nobody asks for it here")
}

func (s *shelf) AppendHistory(*history.Entry) {}

func (s *shelf) Health() store.Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := store.Health{Log: store.Condition{Err: s.lastFail[laneLog]}, State: store.Condition{Err: s.lastFail[laneSmall]}}
	if !s.busy.IsZero() {
		h.Busy = time.Since(s.busy)
	}
	return h
}

// Close writes what is left, as far as the disk takes it in time; what it does
// not is lost.
func (s *shelf) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	lossy := s.stuck || s.fails != [numLanes]bool{}
	if s.stuck {
		for i := range s.work {
			s.work[i] = nil
		}
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	select {
	case <-s.ended:
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		s.written = !lossy
		return nil
	case <-s.died:
		return nil
	case <-ctx.Done():
		return errors.New("the disk did not take it all")
	}
}

func (s *shelf) String() string {
	return fmt.Sprintf("takes %s, fails %v, stuck %v", s.takes, s.fails, s.stuck)
}
