package history

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The tiers' names.
const (
	fine   = "fine"
	coarse = "coarse"
)

// Read gives the entries of from that were taken from since to until, the
// oldest first: one a minute, and from where the fine tier begins, each. A zero
// time is no limit. A daemon may be writing meanwhile.
//
// An error tells of one segment whose rest is lost; the entries after it still
// come.
func Read(from Segments, since, until time.Time) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		list, err := listSegments(from)
		if err != nil {
			yield(nil, err)
			return
		}
		r := reader{from: from, shapes: newShapes(), since: since, until: until, end: noSerial, yield: yield}
		if first := r.firstFine(list[fine]); first != noSerial {
			r.end = first
		}
		if r.tier(list[coarse]) {
			r.end = noSerial
			r.tier(list[fine])
		}
	}
}

// noSerial is beyond all serials.
const noSerial = ^uint64(0)

type reader struct {
	from         Segments
	shapes       *shapes
	since, until time.Time
	end          uint64 // the serial to stop at
	yield        func(*Entry, error) bool
}

// firstFine is the serial of the oldest fine entry that can be read.
func (r *reader) firstFine(list []name) uint64 {
	for _, n := range list {
		if d, _, err := openSegment(r.from, n, r.shapes); err == nil {
			return d.header.Serial
		}
	}
	return noSerial
}

// tier reports whether the caller wants more.
func (r *reader) tier(list []name) bool {
	for i, n := range list {
		if outlived(r.from, list, i, r.since, r.shapes) {
			continue
		}
		err := readSegment(r.from, n, r.shapes, func(serial uint64, e *Entry) bool {
			if serial >= r.end || !r.since.IsZero() && e.At.Before(r.since) || !r.until.IsZero() && e.At.After(r.until) {
				return true
			}
			return r.yield(e, nil)
		})
		if errors.Is(err, errStop) {
			return false
		}
		if err != nil && !unborn(n, err) && !errors.Is(err, fs.ErrNotExist) && !r.yield(nil, err) {
			return false
		}
	}
	return true
}

// outlived says that all of a segment is older than since: nobody reads one of
// last week for the last hour.
func outlived(from Segments, list []name, i int, since time.Time, s *shapes) bool {
	if i+1 == len(list) || since.IsZero() {
		return false
	}
	next, _, err := openHead(from, list[i+1], s)
	return err == nil && next.header.First.At.Before(since)
}

// unborn says whether a segment has no whole header yet: a crash, or the
// daemon at this moment, is about to write it.
func unborn(n name, err error) bool { return !n.packed && errors.Is(err, errTorn) }

var errStop = errors.New("the caller wants no more")

// readSegment gives a segment's entries to each, until that returns false.
func readSegment(from Segments, n name, s *shapes, each func(uint64, *Entry) bool) error {
	d, rest, err := openSegment(from, n, s)
	if err != nil {
		return err
	}
	for len(rest) > 0 {
		var payload []byte
		payload, rest, err = unframe(rest)
		if errors.Is(err, errTorn) && !n.packed {
			return nil // is being written, or was when the daemon ended
		}
		var serial uint64
		var e *Entry
		if err == nil {
			serial, e, err = d.entry(payload)
		}
		if err != nil {
			return fmt.Errorf("read history %s: %w", n, err)
		}
		if !each(serial, e) {
			return errStop
		}
	}
	return nil
}

// openSegment reads a whole segment, and decodes its header.
func openSegment(from Segments, n name, s *shapes) (d *decoder, rest []byte, err error) {
	return openUpTo(from, n, s, maxSegment+2*maxFrame)
}

// openHead reads enough of a segment for its header.
func openHead(from Segments, n name, s *shapes) (*decoder, []byte, error) {
	return openUpTo(from, n, s, 64<<10)
}

func openUpTo(from Segments, n name, s *shapes, limit int64) (*decoder, []byte, error) {
	data, err := readData(from, n, limit)
	if errors.Is(err, fs.ErrNotExist) && !n.packed {
		n.packed = true // packed since it was listed
		data, err = readData(from, n, limit)
	}
	var payload []byte
	if err == nil {
		payload, data, err = unframe(data)
	}
	var d *decoder
	if err == nil {
		d, err = newDecoder(s, payload)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read history %s: %w", n, err)
	}
	return d, data, nil
}

func readData(from Segments, n name, limit int64) ([]byte, error) {
	f, err := from.Open(n.String())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var in io.Reader = f
	if n.packed {
		if in, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, io.LimitReader(in, limit))
	if err != nil && b.Len() > 0 {
		// The frames before are whole, and know it themselves; what is cut
		// short here is found as their end.
		b.WriteByte(0)
		err = nil
	}
	return b.Bytes(), err
}

// name is a segment's file name.
type name struct {
	tier   string
	number uint64
	packed bool
}

func (n name) String() string {
	suffix := ".seg"
	if n.packed {
		suffix += ".gz"
	}
	return fmt.Sprintf("%s-%08d%s", n.tier, n.number, suffix)
}

func parseName(file string) (n name, ok bool) {
	tier, rest, _ := strings.Cut(file, "-")
	digits, suffix, _ := strings.Cut(rest, ".")
	number, err := strconv.ParseUint(digits, 10, 63)
	n = name{tier, number, suffix == "seg.gz"}
	return n, err == nil && (tier == fine || tier == coarse) && n.String() == file
}

// listSegments gives the segments of each tier in order. Of one that is there
// twice, because a crash came between packing and removing, the plain one counts.
func listSegments(from Segments) (map[string][]name, error) {
	files, err := from.List()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list history: %w", err)
	}
	list := map[string][]name{}
	for _, file := range files {
		if n, ok := parseName(file); ok {
			list[n.tier] = append(list[n.tier], n)
		}
	}
	for tier, names := range list {
		slices.SortFunc(names, func(a, b name) int {
			if c := cmp.Compare(a.number, b.number); c != 0 || a.packed == b.packed {
				return c
			}
			if b.packed {
				return -1
			}
			return 1
		})
		list[tier] = slices.CompactFunc(names, func(a, b name) bool { return a.number == b.number })
	}
	return list, nil
}
