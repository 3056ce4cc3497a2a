// Package store keeps what outlives the daemon in its state folder: the action
// log, incidents, recorded readings, leases, budgets and undelivered tellings,
// all bounded together.
//
// The daemon's loop must never wait for a disk. So everything that writes
// takes a callback, copies what it is given, and returns at once; one
// goroutine, the writer, does the rest in order of urgency and calls back from
// there. A disk that is full, read-only, slow or stuck loses nothing that fits
// in memory: what could not be written is reported once and tried again.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/lockfile"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
	"github.com/tcpmemd/tcpmemd/daemon/store/disk"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
	"github.com/tcpmemd/tcpmemd/daemon/store/incident"
)

// DefaultMaxBytes bounds the folder where Options do not, MinMaxBytes is the
// least that they may ask for.
const (
	DefaultMaxBytes = 128 << 20
	MinMaxBytes     = 1 << 20
)

// Options of a store.
type Options struct {
	Log *slog.Logger
	// Now gives the time on all clocks. Any goroutine may call it.
	Now func() record.Stamp
	// MaxBytes bounds all files together; 0 for DefaultMaxBytes.
	MaxBytes int64
	// QueueRecords and QueueBytes bound the records in memory that are not
	// written yet; 0 for 4096 and 4 MB. Intents, results and effects may take
	// twice that.
	QueueRecords, QueueBytes int

	openLog func(path string) (actions.File, error) // tests: a bad disk
}

// Store is the state folder of one daemon.
type Store struct {
	dir  string
	opts Options
	log  *slog.Logger

	lock      *os.File
	actions   *actions.Log
	outbox    *disk.Shelf
	incidents *incident.Dir
	history   *history.Ring
	wake      chan struct{}
	ended     chan struct{}

	// What Open read; nothing changes it.
	tail       actions.Tail
	findings   []Finding
	budgets    budgetsFile
	budgetsErr error
	leases     Leases
	leasesErr  error

	mu       sync.Mutex
	seq      uint64
	records  queue
	files    files
	readings readings
	state    [numLanes]lane
	busy     time.Time // when what the writer does now began, zero while it waits
	pruned   uint64    // undelivered tellings
	closing  bool
}

// ErrInUse says that another daemon has the folder.
var ErrInUse = errors.New("another daemon uses it")

// Finding is something that Open found damaged, and repaired or set aside.
type Finding struct {
	Code string // log-torn, log-unreadable, file-broken, folder-unreadable, history-damaged
	File string
	What string
}

// Open takes the folder over, and creates it (but not those above) where it
// lacks. It fails where another daemon has it. Damage and a bad disk are no
// failure: Findings and Health tell them.
func Open(dir string, opts Options) (*Store, error) {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = DefaultMaxBytes
	}
	if opts.MaxBytes < MinMaxBytes {
		return nil, fmt.Errorf("open state %s: %d bytes are less than the minimum %d", dir, opts.MaxBytes, MinMaxBytes)
	}
	if opts.QueueRecords == 0 {
		opts.QueueRecords = 4096
	}
	if opts.QueueBytes == 0 {
		opts.QueueBytes = 4 << 20
	}
	if err := disk.Folder(dir); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir: dir, opts: opts, log: opts.Log, lock: lock,
		actions: actions.New(dir, actions.Options{MaxBytes: opts.MaxBytes / 4, OpenFile: opts.openLog}),
		wake:    make(chan struct{}, 1), ended: make(chan struct{}),
		records: queue{maxItems: opts.QueueRecords, maxBytes: opts.QueueBytes},
		files:   newFiles(opts.MaxBytes / 16),
	}
	s.repair()
	go s.run()
	return s, nil
}

// takeLock locks the folder itself: no file that could be removed.
func takeLock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	if err := lockfile.Take(f); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("open state %s: %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("lock state %s: %w", dir, err)
	}
	return f, nil
}

// repair puts right what a crash or a bad disk left, and reads what the first
// records need: the last number and the unfinished intents.
func (s *Store) repair() {
	s.note("folder-unreadable", ".", disk.Sweep(s.dir))
	tail, err := s.actions.Tail()
	s.note("log-unreadable", actions.Name, err)
	if tail.Skipped != (actions.SkippedError{}) {
		s.note("log-unreadable", actions.Name, &tail.Skipped)
	}
	s.tail, s.seq = tail, tail.Seq
	s.openShelves()
	s.openHistory()
	s.openFiles()
	// The small files first: where there is a log they must have been there.
	if err := s.actions.Prepare(); err != nil {
		s.state[laneRecords].failed(err, s.opts.Now(), time.Now())
	}
	if n := s.actions.Torn(); n > 0 {
		s.note("log-torn", actions.Name, fmt.Errorf("cut off %d bytes of a line that a crash cut short", n))
	}
}

func (s *Store) note(code, file string, err error) {
	if err == nil {
		return
	}
	s.findings = append(s.findings, Finding{code, file, err.Error()})
	s.log.Warn("state was damaged", "code", code, "file", filepath.Join(s.dir, file), "err", err)
}

// Findings is what Open found damaged.
func (s *Store) Findings() []Finding { return s.findings }

// Unfinished are the intents that had no result when the store was opened, the
// oldest first. Whether their actions took place is not known: each is to be
// given a result `interrupted`, and not to be repeated.
func (s *Store) Unfinished() []record.Record { return s.tail.Unfinished }

// Close writes what is left and frees the folder. Where the disk does not take
// it before ctx ends, Close tells so; a write that is stuck keeps the folder
// locked.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.wakeWriter()
	select {
	case <-s.ended:
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("close state: %w with %d records and %d files not written", ctx.Err(), len(s.records.items), len(s.files.waiting))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if n, m := len(s.records.items), len(s.files.waiting); n+m > 0 {
		err = fmt.Errorf("close state: %d records and %d files not written: %w", n, m, s.firstError())
	}
	return errors.Join(err, s.actions.Close(), s.history.Close(), s.lock.Close())
}
