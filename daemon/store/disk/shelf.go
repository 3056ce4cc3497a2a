package disk

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Rank orders the files of a shelf: where there are too many, the lowest goes
// first.
type Rank struct {
	Keep bool // after all others
	Time time.Time
}

func (r Rank) compare(o Rank) int {
	if r.Keep != o.Keep {
		if o.Keep {
			return -1
		}
		return 1
	}
	return r.Time.Compare(o.Time)
}

// Shelf is a folder of files ID.json, bounded in number and bytes. Write and
// Remove are for one goroutine, the rest is for any.
type Shelf struct {
	dir      string
	maxFiles int
	maxBytes int64

	mu    sync.Mutex
	files map[string]shelved // by name
	bytes int64
}

type shelved struct {
	rank  Rank
	space int64
}

// OpenShelf lists what dir holds, also when dir does not exist. A file whose
// content rank refuses is set aside under the name ID.json.broken, the first
// to go; those are returned.
func OpenShelf(dir string, maxFiles int, maxBytes int64, rank func(id string, r io.Reader) (Rank, error)) (s *Shelf, broken []string, err error) {
	s = &Shelf{dir: dir, maxFiles: maxFiles, maxBytes: maxBytes, files: map[string]shelved{}}
	err = Sweep(dir)
	entries, listErr := os.ReadDir(dir)
	if listErr != nil && !errors.Is(listErr, fs.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("list %s: %w", dir, listErr))
	}
	for _, e := range entries {
		info, infoErr := e.Info()
		if infoErr != nil || !e.Type().IsRegular() {
			continue
		}
		name := e.Name()
		file := shelved{space: Space(info.Size())}
		if id, ok := strings.CutSuffix(name, ".json"); ok && ValidID(id) == nil {
			var rankErr error
			if file.rank, rankErr = rankFile(filepath.Join(dir, name), id, rank); rankErr != nil {
				broken = append(broken, name)
				err = errors.Join(err, os.Rename(filepath.Join(dir, name), filepath.Join(dir, name+".broken")))
				name += ".broken"
				file.rank = Rank{}
			}
		}
		s.files[name] = file
		s.bytes += file.space
	}
	return s, broken, err
}

func rankFile(path, id string, rank func(string, io.Reader) (Rank, error)) (Rank, error) {
	f, err := os.Open(path)
	if err != nil {
		return Rank{}, err
	}
	defer f.Close()
	return rank(id, f)
}

// Accepts refuses what Write must not be given: what is no ID, and what is too
// long beside all else that is to be kept.
func (s *Shelf) Accepts(id string, data []byte) error {
	if err := ValidID(id); err != nil {
		return err
	}
	if most := s.maxBytes / 16; int64(len(data)) > most {
		return fmt.Errorf("%s: %d bytes are more than %d", id, len(data), most)
	}
	return nil
}

// Write makes data the content of ID.json. What has to go for it is gone
// before, and returned.
func (s *Shelf) Write(id string, data []byte, rank Rank) (gone []string, err error) {
	if err := s.Accepts(id, data); err != nil {
		return nil, err
	}
	name, space := id+".json", Space(int64(len(data)))
	for {
		victim := s.surplus(name, space)
		if victim == "" {
			break
		}
		if err := s.remove(victim); err != nil {
			return gone, err
		}
		gone = append(gone, strings.TrimSuffix(victim, ".json"))
	}
	if err := Replace(filepath.Join(s.dir, name), data); err != nil {
		return gone, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += space - s.files[name].space
	s.files[name] = shelved{rank, space}
	return gone, nil
}

// surplus names the file to remove before another, name, may take space. While
// that is written the old content is there, too.
func (s *Shelf) surplus(name string, space int64) (victim string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.files) + 1
	if _, ok := s.files[name]; ok {
		n--
	}
	if n <= s.maxFiles && s.bytes+space <= s.maxBytes {
		return ""
	}
	var lowest shelved
	for other, file := range s.files {
		if other == name {
			continue
		}
		if c := file.rank.compare(lowest.rank); victim == "" || c < 0 || c == 0 && cmp.Less(other, victim) {
			victim, lowest = other, file
		}
	}
	return victim
}

// Remove removes ID.json; that it lacks is no error.
func (s *Shelf) Remove(id string) error {
	if err := ValidID(id); err != nil {
		return err
	}
	return s.remove(id + ".json")
}

func (s *Shelf) remove(name string) error {
	if err := Remove(filepath.Join(s.dir, name)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= s.files[name].space
	delete(s.files, name)
	return nil
}

// Read gives the content of ID.json.
func (s *Shelf) Read(id string) ([]byte, error) {
	if err := ValidID(id); err != nil {
		return nil, err
	}
	return ReadFile(filepath.Join(s.dir, id+".json"), s.maxBytes)
}

// IDs lists what is there, in no order.
func (s *Shelf) IDs() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.files {
		if id, ok := strings.CutSuffix(name, ".json"); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// ValidID refuses what must not become a file name: IDs come from outside.
func ValidID(id string) error {
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' {
			return fmt.Errorf("id %q: only a-z, 0-9 and - may be in it", id)
		}
	}
	if id == "" || len(id) > 64 {
		return fmt.Errorf("id %q: 1 to 64 characters", id)
	}
	return nil
}
