package history

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/disk"
)

// tier writes the segments of one pace.
type tier struct {
	name       string
	dir        string
	shapes     *shapes
	reach      time.Duration
	maxBytes   int64
	maxSegment int64
	maxEntries int

	old    []segment // the oldest first
	bytes  int64     // of old
	number uint64    // of the newest segment

	// The segment that is written, nil before the first entry.
	file    *os.File
	encoder *encoder
	current segment
	size    int64
	entries int
}

// segment is one that is not written any more, or the current one.
type segment struct {
	name  name
	first record.Stamp
	space int64
}

// open takes over what an earlier daemon left, and gives its last serial.
func (t *tier) open(list []name) (serial uint64, failed error) {
	for i, n := range list {
		t.number = max(t.number, n.number)
		d, _, err := openHead(Dir(t.dir), n, t.shapes)
		if err != nil {
			// Without its header nothing of a segment can be read.
			if unborn(n, err) {
				err = nil
			}
			failed = errors.Join(failed, err, os.Remove(filepath.Join(t.dir, n.String())))
			continue
		}
		serial = max(serial, d.header.Serial)
		s := segment{n, d.header.First, space(t.dir, n)}
		if i == len(list)-1 {
			err := readSegment(Dir(t.dir), n, t.shapes, func(at uint64, _ *Entry) bool {
				serial = max(serial, at)
				return true
			})
			failed = errors.Join(failed, err)
		}
		t.old = append(t.old, s)
		t.bytes += s.space
	}
	return serial, errors.Join(failed, t.pack())
}

// append writes one entry, to a new segment if need be.
func (t *tier) append(serial uint64, e *Entry) error {
	if t.file != nil && (t.size >= t.maxSegment || t.entries >= t.maxEntries || len(t.encoder.slots) >= maxSlots) {
		if err := t.close(); err != nil {
			return err
		}
		if err := t.pack(); err != nil {
			return err
		}
	}
	if t.file == nil {
		if err := t.begin(serial, e.Stamp); err != nil {
			return err
		}
	}
	b, err := t.encode(serial, e)
	if err == nil {
		err = t.makeRoom(int64(len(b)), e.Stamp)
	}
	if err == nil {
		_, err = t.file.Write(b)
	}
	if err != nil {
		// What the encoder told last is not there to build on.
		return errors.Join(fmt.Errorf("write history: %w", err), t.abandon())
	}
	t.size += int64(len(b))
	t.entries++
	return nil
}

// encode gives the frame of e, without its reading where that is too long.
func (t *tier) encode(serial uint64, e *Entry) ([]byte, error) {
	b, err := t.encoder.entry(serial, e)
	if err != nil {
		return nil, err
	}
	if limit := min(maxFrame, t.maxSegment); int64(len(b)) > limit {
		if e.Reading == nil {
			return nil, errTooLong
		}
		if err := errors.Join(t.close(), t.begin(serial, e.Stamp)); err != nil {
			return nil, err
		}
		bare := *e
		bare.Reading = nil
		return t.encode(serial, &bare)
	}
	return b, nil
}

// begin opens a new segment.
func (t *tier) begin(serial uint64, first record.Stamp) error {
	t.encoder = newEncoder(t.shapes)
	b, err := t.encoder.header(t.name, serial, first)
	if err == nil {
		err = t.makeRoom(int64(len(b)), first)
	}
	if err != nil {
		return err
	}
	t.number++
	n := name{tier: t.name, number: t.number}
	path := filepath.Join(t.dir, n.String())
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, disk.FileMode)
	if errors.Is(err, fs.ErrNotExist) {
		if err = disk.Folder(t.dir); err == nil {
			f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, disk.FileMode)
		}
	}
	if err != nil {
		return fmt.Errorf("begin history: %w", err)
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return errors.Join(fmt.Errorf("begin history: %w", err), os.Remove(path))
	}
	t.file, t.current, t.size, t.entries = f, segment{name: n, first: first}, int64(len(b)), 0
	return nil
}

// close ends the current segment.
func (t *tier) close() error {
	if t.file == nil {
		return nil
	}
	err := t.file.Close()
	t.file, t.encoder, t.size = nil, nil, 0
	t.current.space = space(t.dir, t.current.name)
	t.old = append(t.old, t.current)
	t.bytes += t.current.space
	return err
}

// abandon ends the current segment where a write went wrong.
func (t *tier) abandon() error {
	if t.file == nil {
		return nil
	}
	err := t.file.Truncate(t.size)
	return errors.Join(err, t.close())
}

// makeRoom removes segments that are too old, or in the way of need bytes.
func (t *tier) makeRoom(need int64, now record.Stamp) error {
	for len(t.old) > 0 {
		next := t.current.first
		if len(t.old) > 1 {
			next = t.old[1].first
		}
		// All of a segment is older than the first entry of the next.
		outlived := (len(t.old) > 1 || t.file != nil) && now.Since(next) > t.reach
		if !outlived && t.bytes+disk.Space(t.size+need) <= t.maxBytes && len(t.old) < maxSegments {
			return nil
		}
		if err := disk.Remove(filepath.Join(t.dir, t.old[0].name.String())); err != nil {
			return err
		}
		t.bytes -= t.old[0].space
		t.old = t.old[1:]
	}
	return nil
}

// maxSegments bounds what a daemon that is restarted each minute leaves.
const maxSegments = 2048

// pack compresses the segments that are not yet, up to their last whole frame.
func (t *tier) pack() error {
	for i := range t.old {
		s := &t.old[i]
		if s.name.packed {
			continue
		}
		plain := filepath.Join(t.dir, s.name.String())
		data, err := readData(Dir(t.dir), s.name, maxSegment+2*maxFrame)
		if err != nil {
			return fmt.Errorf("pack history: %w", err)
		}
		packed := s.name
		packed.packed = true
		if err := disk.ReplaceWith(filepath.Join(t.dir, packed.String()), func(w io.Writer) error {
			zip := gzip.NewWriter(w)
			_, err := zip.Write(wholeFrames(data))
			return errors.Join(err, zip.Close())
		}); err != nil {
			return fmt.Errorf("pack history: %w", err)
		}
		if err := disk.Remove(plain); err != nil {
			return err
		}
		t.bytes -= s.space
		s.name, s.space = packed, space(t.dir, packed)
		t.bytes += s.space
	}
	return nil
}

// wholeFrames cuts off a last frame that is cut short. A damaged one stays, to
// be told by each reader.
func wholeFrames(data []byte) []byte {
	rest := data
	for len(rest) > 0 {
		_, next, err := unframe(rest)
		if errors.Is(err, errTorn) {
			return bytes.TrimSuffix(data, rest)
		}
		if err != nil {
			break
		}
		rest = next
	}
	return data
}

func (t *tier) sync() error {
	if t.file == nil {
		return nil
	}
	if err := unix.Fdatasync(int(t.file.Fd())); err != nil {
		return fmt.Errorf("sync history: %w", err)
	}
	return nil
}

// space is what a segment takes on the disk.
func space(dir string, n name) int64 {
	info, err := os.Stat(filepath.Join(dir, n.String()))
	if err != nil {
		return 0
	}
	return disk.Space(info.Size())
}
