package history

import (
	"errors"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/disk"
)

// How long the tiers reach back, and the pace of the coarse one.
const (
	fineReach   = time.Hour
	coarseReach = 14 * 24 * time.Hour
	coarsePace  = time.Minute
)

// Ring writes the history. It is for one goroutine.
type Ring struct {
	dir    string
	shapes *shapes
	fine   tier
	coarse tier

	serial uint64           // of the last sample
	given  *reading.Reading // last, as the caller knows it
	// The minute that the next coarse entry stands for.
	began   record.Stamp // when the one before ended
	samples int
	events  []string
	reading *reading.Reading
}

// Open lists what dir holds, also when dir does not exist. What a crash left
// open is cut to its whole frames and packed; an error tells what could not be
// read or packed, and keeps nothing from going on.
func Open(dir string, maxBytes int64) (*Ring, error) {
	r := &Ring{dir: dir, shapes: newShapes()}
	// A segment that is being packed is there twice for a moment.
	size := min(maxSegment, maxBytes/16)
	r.fine = tier{name: fine, dir: dir, shapes: r.shapes, reach: fineReach, maxBytes: maxBytes/4 - 2*size, maxSegment: size, maxEntries: 300}
	r.coarse = tier{name: coarse, dir: dir, shapes: r.shapes, reach: coarseReach, maxBytes: maxBytes/4*3 - 2*size, maxSegment: size, maxEntries: 240}
	err := disk.Sweep(dir)
	list, listErr := listSegments(Dir(dir))
	err = errors.Join(err, listErr)
	for _, t := range []*tier{&r.fine, &r.coarse} {
		serial, tierErr := t.open(list[t.name])
		r.serial = max(r.serial, serial)
		err = errors.Join(err, tierErr)
	}
	return r, err
}

// Append keeps one entry. After an error it is lost.
func (r *Ring) Append(e *Entry) error {
	kept := *e
	kept.Events = head(e.Events, maxList)
	kept.Sample.Gaps = head(e.Sample.Gaps, maxList)
	if e.Reading == r.given {
		kept.Reading = nil // told already
	} else if r.given = e.Reading; e.Reading != nil {
		kept.Reading = trim(e.Reading)
	}
	r.serial++
	err := r.fine.append(r.serial, &kept)
	return errors.Join(err, r.gather(&kept))
}

// gather adds an entry to the minute, and writes that when it is over: its
// last sample, its last reading, all its events.
func (r *Ring) gather(e *Entry) error {
	if r.began == (record.Stamp{}) {
		r.began = e.Stamp
	}
	r.samples++
	if e.Reading != nil {
		r.reading = e.Reading
	}
	for _, id := range e.Events {
		if len(r.events) < maxList && !slices.Contains(r.events, id) {
			r.events = append(r.events, id)
		}
	}
	// A sample may come a little early. Where no clock can be trusted their
	// number has to do.
	if e.Since(r.began) < coarsePace-coarsePace/100 && r.samples < 2*int(coarsePace/time.Second) {
		return nil
	}
	minute := *e
	minute.Reading, minute.Events = r.reading, r.events
	r.began, r.samples, r.reading, r.events = e.Stamp, 0, nil, nil
	err := r.coarse.append(r.serial, &minute)
	// A power cut costs a minute.
	return errors.Join(err, r.fine.sync(), r.coarse.sync())
}

// Close makes all durable.
func (r *Ring) Close() error {
	return errors.Join(r.fine.close(), r.coarse.close())
}

// maxSegment bounds a segment: also what a reader holds in memory of it.
const maxSegment = 1 << 20

var errTooLong = errors.New("an entry is longer than a segment")
