package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/disk"
)

// Outbox is one telling that was not delivered yet: outbox/ID.json.
type Outbox struct {
	Version  int             `json:"version"`
	ID       string          `json:"id"` // a-z, 0-9 and -, at most 64
	Action   string          `json:"action"`
	Request  json.RawMessage `json:"request"`
	Attempts int             `json:"attempts"`
	Next     record.Stamp    `json:"next"`
	Born     record.Stamp    `json:"born"`
}

const (
	outboxDir      = "outbox"
	maxOutboxFiles = 200
)

// rankOutbox lets the oldest telling go first.
func rankOutbox(id string, r io.Reader) (disk.Rank, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return disk.Rank{}, err
	}
	o, err := decodeOutbox(id, data)
	return disk.Rank{Time: o.Born.At}, err
}

func decodeOutbox(id string, data []byte) (o Outbox, err error) {
	if err := decode(data, &o); err != nil {
		return Outbox{}, err
	}
	if o.ID != id {
		return Outbox{}, fmt.Errorf("id %q, not %q", o.ID, id)
	}
	return o, nil
}

// PutOutbox keeps one undelivered telling, in place of an earlier one of the
// same ID. Where there are too many the oldest are dropped and counted.
func (s *Store) PutOutbox(o Outbox, done func(error)) {
	o.Version = fileVersion
	data, err := json.Marshal(o)
	if err = errors.Join(err, s.outbox.Accepts(o.ID, data)); err != nil {
		s.refuseNow(done, fmt.Errorf("keep telling: %w", err))
		return
	}
	s.putFile(&file{key: outboxDir + "/" + o.ID, lane: laneFiles, data: data, write: func() error {
		gone, err := s.outbox.Write(o.ID, data, disk.Rank{Time: o.Born.At})
		if len(gone) > 0 {
			s.log.Warn("undelivered tellings are dropped: there are too many", "ids", gone)
			s.mu.Lock()
			s.pruned += uint64(len(gone))
			s.mu.Unlock()
		}
		return err
	}}, done)
}

// RemoveOutbox forgets a telling: it was delivered, or given up.
func (s *Store) RemoveOutbox(id string, done func(error)) {
	if err := disk.ValidID(id); err != nil {
		s.refuseNow(done, fmt.Errorf("remove telling: %w", err))
		return
	}
	s.putFile(&file{key: outboxDir + "/" + id, lane: laneFiles, write: func() error { return s.outbox.Remove(id) }}, done)
}

// Outbox lists what is not delivered, the oldest first. It reads the disk: for
// a start and for commands, not for the loop. An error tells of files that
// could not be read; the others are in the list.
func (s *Store) Outbox() (list []Outbox, failed error) {
	s.mu.Lock()
	waiting := map[string][]byte{}
	var ids []string
	for f := range s.files.all() {
		if id, ok := strings.CutPrefix(f.key, outboxDir+"/"); ok {
			waiting[id] = f.data
			ids = append(ids, id)
		}
	}
	ids = slices.Compact(slices.Sorted(slices.Values(append(ids, s.outbox.IDs()...))))
	s.mu.Unlock()
	for _, id := range ids {
		data, ok := waiting[id]
		if ok && data == nil {
			continue // waits to be removed
		}
		var err error
		if !ok {
			data, err = s.outbox.Read(id)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		var o Outbox
		if err == nil {
			o, err = decodeOutbox(id, data)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("read telling %s: %w", id, err))
			continue
		}
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b Outbox) int { return cmp.Or(a.Born.At.Compare(b.Born.At), cmp.Compare(a.ID, b.ID)) })
	return list, failed
}
