package history

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Segments is where segments are: a folder, or copies of some of its files.
type Segments interface {
	List() ([]string, error) // names; others may be among them
	Open(name string) (io.ReadCloser, error)
}

// Dir is the folder that a [Ring] writes.
type Dir string

// List names the files of the folder.
func (d Dir) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// Open opens one file.
func (d Dir) Open(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(string(d), name)) }

// Copies are segments in memory, by name.
type Copies map[string][]byte

// List names them.
func (c Copies) List() ([]string, error) { return slices.Collect(maps.Keys(c)), nil }

// Open opens one.
func (c Copies) Open(name string) (io.ReadCloser, error) {
	data, ok := c[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// Bounds on copies that come from elsewhere.
const (
	maxCopied     = 128 << 20
	maxCopiedFile = maxSegment + 2*maxFrame
)

// Add takes one more, within the bounds of what a daemon keeps.
func (c Copies) Add(name string, data []byte) error {
	if _, ok := parseName(name); !ok {
		return fmt.Errorf("copy history: %.60q is no name of a segment", name)
	}
	size := len(data)
	for _, other := range c {
		size += len(other)
	}
	if len(c) >= 2*maxSegments || len(data) > maxCopiedFile || size > maxCopied {
		return errors.New("copy history: it is larger than a daemon keeps it")
	}
	c[name] = data
	return nil
}

// Segment is a copy of one.
type Segment struct {
	Name string
	Data []byte
}

// Copy gives the segments of from that [Read] needs for what was taken since
// then. One that goes away meanwhile is passed over: it made room.
func Copy(from Segments, since time.Time) iter.Seq2[Segment, error] {
	return func(yield func(Segment, error) bool) {
		list, err := listSegments(from)
		if err != nil {
			yield(Segment{}, err)
			return
		}
		shapes := newShapes()
		for _, tier := range []string{coarse, fine} {
			for i, n := range list[tier] {
				if outlived(from, list[tier], i, since, shapes) {
					continue
				}
				s, err := copySegment(from, n)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if !yield(s, err) {
					return
				}
			}
		}
	}
}

func copySegment(from Segments, n name) (Segment, error) {
	f, err := from.Open(n.String())
	if errors.Is(err, fs.ErrNotExist) && !n.packed {
		n.packed = true // packed since it was listed
		f, err = from.Open(n.String())
	}
	var data []byte
	if err == nil {
		defer f.Close()
		data, err = io.ReadAll(io.LimitReader(f, maxCopiedFile))
	}
	if err != nil {
		return Segment{}, fmt.Errorf("copy history %s: %w", n, err)
	}
	return Segment{n.String(), data}, nil
}
