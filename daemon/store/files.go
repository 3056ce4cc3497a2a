package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/store/disk"
)

// ErrLost is what loading gives where a file was there once, and is gone or
// damaged: the careful thing is to be assumed of it.
var ErrLost = errors.New("was there once and is lost")

// files are contents that wait to be written: of each file the newest only.
type files struct {
	maxBytes int64
	waiting  map[string]*file
	order    []*file
	writing  *file // not waiting any more, and not on disk yet
	bytes    int64
	dropped  uint64
}

// file is what one file is to become. write is called by the writer.
type file struct {
	key   string // path in the folder
	lane  int
	data  []byte // nil for a removal
	write func() error
	done  []func(error)
}

func newFiles(maxBytes int64) files {
	return files{maxBytes: maxBytes, waiting: map[string]*file{}}
}

// put has f written in place of what waits under its key. Beyond the bound the
// oldest outbox and incident files go, and are returned.
func (q *files) put(f *file) (dropped []*file) {
	if old := q.take(f.key); old != nil {
		f.done = slices.Concat(old.done, f.done)
	}
	q.add(f)
	for q.bytes > q.maxBytes {
		oldest := q.first(laneFiles)
		if oldest == nil {
			break
		}
		q.take(oldest.key)
		q.dropped++
		dropped = append(dropped, oldest)
	}
	return dropped
}

func (q *files) add(f *file) {
	q.waiting[f.key] = f
	q.order = append(q.order, f)
	q.bytes += int64(len(f.data))
}

// take takes the file off, nil if none waits.
func (q *files) take(key string) *file {
	f := q.waiting[key]
	if f == nil {
		return nil
	}
	delete(q.waiting, key)
	q.order = slices.DeleteFunc(q.order, func(o *file) bool { return o == f })
	q.bytes -= int64(len(f.data))
	return f
}

// get is what is to become of a file, nil for nothing new.
func (q *files) get(key string) *file {
	if f := q.waiting[key]; f != nil {
		return f
	}
	if q.writing != nil && q.writing.key == key {
		return q.writing
	}
	return nil
}

// all gives what is not on disk yet, the newest of a file last.
func (q *files) all() iter.Seq[*file] {
	return func(yield func(*file) bool) {
		if q.writing != nil && !yield(q.writing) {
			return
		}
		for _, f := range q.order {
			if !yield(f) {
				return
			}
		}
	}
}

func (q *files) first(lane int) *file {
	for _, f := range q.order {
		if f.lane == lane {
			return f
		}
	}
	return nil
}

// putFile hands f to the writer.
func (s *Store) putFile(f *file, done func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wakeWriter()
	if s.closing {
		s.refuse(done, ErrClosed)
		return
	}
	if done != nil {
		f.done = []func(error){done}
	}
	for _, dropped := range s.files.put(f) {
		for _, done := range dropped.done {
			s.refuse(done, ErrDropped)
		}
	}
}

// writeFile writes one file of the lane, in the writer, and gives who is to be
// told. What failed goes to the end of the lane, unless something newer is
// there already.
func (s *Store) writeFile(lane int) (told []func(error), err error) {
	s.mu.Lock()
	f := s.files.take(s.files.first(lane).key)
	s.files.writing = f
	s.mu.Unlock()

	err = f.write()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.files.writing = nil
	told, f.done = f.done, nil
	if err != nil && s.files.waiting[f.key] == nil {
		s.files.add(f)
	}
	return told, err
}

// saveSmall writes a file of the folder itself.
func (s *Store) saveSmall(name string, value any, done func(error)) {
	data, err := json.Marshal(value)
	if err == nil && int64(len(data)) > s.maxSmall() {
		err = fmt.Errorf("%d bytes are too many", len(data))
	}
	if err != nil {
		s.refuseNow(done, fmt.Errorf("encode %s: %w", name, err))
		return
	}
	s.putFile(&file{
		key: name, lane: laneState, data: data,
		write: func() error { return disk.Replace(filepath.Join(s.dir, name), data) },
	}, done)
}

func (s *Store) maxSmall() int64 { return s.opts.MaxBytes / 64 }

// loadSmall reads such a file into value, which has a field of the version.
// One that is damaged is set aside as NAME.broken, ErrLost from then on.
func (s *Store) loadSmall(name string, value any) error {
	path := filepath.Join(s.dir, name)
	data, err := disk.ReadFile(path, s.maxSmall())
	if err == nil {
		err = decode(data, value)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if s.tail.Exists {
			return fmt.Errorf("load %s: %w", name, ErrLost)
		}
		return fs.ErrNotExist
	}
	s.note("file-broken", name, errors.Join(err, os.Rename(path, path+".broken")))
	if info, err := os.Stat(path + ".broken"); err == nil && info.Size() > s.maxSmall() {
		s.note("file-broken", name, os.Truncate(path+".broken", s.maxSmall()))
	}
	return fmt.Errorf("load %s: %w: %w", name, ErrLost, err)
}

// fileVersion is that of every file but the records and incidents in them.
const fileVersion = 1

// decode reads one JSON value of fileVersion, and nothing behind it.
func decode(data []byte, value any) error {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return err
	}
	if head.Version != fileVersion {
		return fmt.Errorf("version %d, not %d", head.Version, fileVersion)
	}
	return json.Unmarshal(data, value)
}
