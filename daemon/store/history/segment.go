package history

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// version is that of the segments. New and removed leaves do not change it:
// their names tell.
const version = 1

// header is the first frame of a segment.
type header struct {
	Version int          `json:"version"`
	Tier    string       `json:"tier"`
	Serial  uint64       `json:"serial"` // of the first entry
	First   record.Stamp `json:"first"`
	Entry   []string     `json:"entry"`
	Reading []string     `json:"reading"`
	Owner   []string     `json:"owner"`
}

// moment is an entry without its reading. Serial counts the samples over all
// restarts; a coarse entry has that of the last fine one it stands for, so
// that a reader knows where the fine tier goes on, whatever clocks did.
type moment struct {
	Serial uint64
	Stamp  record.Stamp
	Events []string
	Level  reading.Level
	Sample reading.Sample
}

// shapes are how entries are told.
type shapes struct{ moment, reading, owner *shape }

func newShapes() *shapes {
	return &shapes{newShape[moment](), newShape[reading.Reading]("Owners"), newShape[reading.Owner]()}
}

// maxSlots bounds the owners that one segment knows.
const maxSlots = 1024

// encoder tells the entries of one segment.
type encoder struct {
	shapes          *shapes
	moment, reading *past
	slots           map[string]int // by owner's key
	owners          []*past        // by slot
}

func newEncoder(s *shapes) *encoder {
	return &encoder{shapes: s, moment: s.moment.newPast(), reading: s.reading.newPast(), slots: map[string]int{}}
}

func (e *encoder) header(tier string, serial uint64, first record.Stamp) ([]byte, error) {
	payload, err := json.Marshal(header{
		version, tier, serial, first, e.shapes.moment.names(), e.shapes.reading.names(), e.shapes.owner.names(),
	})
	if err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	return frame(payload), nil
}

// entry gives the frame of an entry. After an error the encoder is of no use
// any more.
func (e *encoder) entry(serial uint64, en *Entry) ([]byte, error) {
	m := moment{serial, en.Stamp, en.Events, en.Level, en.Sample}
	b, err := e.shapes.moment.tell(make([]byte, 0, 512), reflect.ValueOf(&m).Elem(), e.moment)
	if err != nil || en.Reading == nil {
		return frame(append(b, 0)), err
	}
	b = append(b, 1)
	if b, err = e.shapes.reading.tell(b, reflect.ValueOf(en.Reading).Elem(), e.reading); err != nil {
		return nil, err
	}
	b = binary.AppendUvarint(b, uint64(len(en.Reading.Owners)))
	for i := range en.Reading.Owners {
		o := &en.Reading.Owners[i]
		slot, ok := e.slots[o.Key]
		if !ok {
			slot = len(e.owners)
			e.slots[o.Key] = slot
			e.owners = append(e.owners, e.shapes.owner.newPast())
		}
		b = binary.AppendUvarint(b, uint64(slot))
		if b, err = e.shapes.owner.tell(b, reflect.ValueOf(o).Elem(), e.owners[slot]); err != nil {
			return nil, err
		}
	}
	return frame(b), nil
}

// decoder hears the entries of one segment.
type decoder struct {
	header      header
	moment      moment
	momentNums  []int64
	reading     reading.Reading
	readingNums []int64
	owners      []*slot
	hearMoment  *listener
	hearReading *listener
	hearOwner   *listener
}

type slot struct {
	owner reading.Owner
	nums  []int64
}

func newDecoder(s *shapes, payload []byte) (*decoder, error) {
	d := &decoder{}
	if err := json.Unmarshal(payload, &d.header); err != nil {
		return nil, fmt.Errorf("decode header: %w", err)
	}
	h := &d.header
	if h.Version != version {
		return nil, fmt.Errorf("decode header: version %d, not %d", h.Version, version)
	}
	d.hearMoment, d.hearReading, d.hearOwner = s.moment.listen(h.Entry), s.reading.listen(h.Reading), s.owner.listen(h.Owner)
	d.momentNums, d.readingNums = newNums(h.Entry), newNums(h.Reading)
	return d, nil
}

func (d *decoder) entry(b []byte) (serial uint64, en *Entry, err error) {
	if b, err = d.hearMoment.hear(b, reflect.ValueOf(&d.moment).Elem(), d.momentNums); err != nil {
		return 0, nil, err
	}
	m := &d.moment
	en = &Entry{Stamp: m.Stamp, Events: m.Events, Level: m.Level, Sample: m.Sample}
	if len(b) == 0 || b[0] > 1 {
		return 0, nil, errShort
	}
	if b[0] == 1 {
		if b, err = d.hearReading.hear(b[1:], reflect.ValueOf(&d.reading).Elem(), d.readingNums); err != nil {
			return 0, nil, err
		}
		r := d.reading
		if r.Owners, err = d.heardOwners(b); err != nil {
			return 0, nil, err
		}
		en.Reading = &r
	}
	return m.Serial, en, nil
}

func (d *decoder) heardOwners(b []byte) ([]reading.Owner, error) {
	count, n := binary.Uvarint(b)
	if n <= 0 || count > maxOwners+maxVerdicts {
		return nil, errShort
	}
	b = b[n:]
	owners := make([]reading.Owner, 0, count)
	for range count {
		at, n := binary.Uvarint(b)
		if n <= 0 || at > uint64(len(d.owners)) || at >= maxSlots+maxOwners+maxVerdicts {
			return nil, errors.New("entry has an owner out of turn")
		}
		if at == uint64(len(d.owners)) {
			d.owners = append(d.owners, &slot{nums: newNums(d.header.Owner)})
		}
		s := d.owners[at]
		var err error
		if b, err = d.hearOwner.hear(b[n:], reflect.ValueOf(&s.owner).Elem(), s.nums); err != nil {
			return nil, err
		}
		owners = append(owners, s.owner)
	}
	return owners, nil
}

// maxFrame bounds a frame's payload.
const maxFrame = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func frame(payload []byte) []byte {
	b := make([]byte, 8, 8+len(payload))
	binary.LittleEndian.PutUint32(b, uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

// errTorn is the end of a segment whose writing was cut short, errDamaged one
// that something else has changed.
var (
	errTorn    = errors.New("segment ends within a frame")
	errDamaged = errors.New("frame is damaged")
)

// unframe takes the first frame off b.
func unframe(b []byte) (payload, rest []byte, err error) {
	if len(b) < 8 {
		return nil, nil, errTorn
	}
	size := binary.LittleEndian.Uint32(b)
	if size > maxFrame {
		return nil, nil, errDamaged
	}
	if uint64(len(b)-8) < uint64(size) {
		return nil, nil, errTorn
	}
	payload = b[8 : 8+size]
	if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, nil, errDamaged
	}
	return payload, b[8+size:], nil
}
