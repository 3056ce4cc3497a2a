package history

import (
	"errors"
	"fmt"
	"slices"
	"time"

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

	serial uint64 // of the last sample
	// The minute that the next coarse entry stands for.
	began  record.Stamp
	events []string
	last   *Entry // with the minute's last reading
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
	list, listErr := listSegments(dir)
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
	if e.Reading != nil {
		kept.Reading = trim(e.Reading)
	}
	r.serial++
	err := r.fine.append(r.serial, &kept)
	return errors.Join(err, r.gather(&kept))
}

// gather adds an entry to the minute, and writes that when it is over.
func (r *Ring) gather(e *Entry) error {
	minute := *e
	if r.last == nil {
		r.began = e.Stamp
	} else {
		if minute.Reading == nil {
			minute.Reading = r.last.Reading
		}
	}
	for _, id := range e.Events {
		if len(r.events) < maxList && !slices.Contains(r.events, id) {
			r.events = append(r.events, id)
		}
	}
	r.last = &minute
	// On another clock, or one that does not move, a minute is 60 samples.
	if e.Since(r.began) < coarsePace-coarsePace/100 && r.coarse.gathered < 60 {
		r.coarse.gathered++
		return nil
	}
	minute.Events = r.events
	r.last, r.events, r.coarse.gathered = nil, nil, 0
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

var errTooLong = fmt.Errorf("an entry is longer than a segment")
