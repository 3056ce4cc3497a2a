// Package incident keeps each incident whole in a file of its own, ID.json, in
// a bounded folder: those that ended longest ago go first.
package incident

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/disk"
)

// MaxFiles bounds the number of incidents.
const MaxFiles = 1000

// Summary is the head of an incident: one line of a list.
type Summary struct {
	ID       string        `json:"id"`
	Rule     string        `json:"rule"`
	About    string        `json:"about"`
	Severity string        `json:"severity"`
	Mode     string        `json:"mode"`
	Began    record.Stamp  `json:"began"`
	Fired    record.Stamp  `json:"fired"`
	Ended    *record.Stamp `json:"ended"`
	End      record.End    `json:"end,omitempty"`
}

// Summarize gives in's head.
func Summarize(in *record.Incident) Summary {
	s := Summary{
		ID: in.ID, Rule: in.Rule, About: in.About, Severity: in.Severity, Mode: in.Mode,
		Began: in.Began, Fired: in.Fired, End: in.End,
	}
	if in.Ended != nil {
		ended := *in.Ended
		s.Ended = &ended
	}
	return s
}

// Dir is the folder of incidents. Write is for one goroutine, the rest is for
// any.
type Dir struct {
	shelf *disk.Shelf

	mu   sync.Mutex
	list map[string]Summary
}

// Open lists what dir holds, also when dir does not exist. Files that are no
// incidents are set aside and returned.
func Open(dir string, maxBytes int64) (d *Dir, broken []string, err error) {
	d = &Dir{list: map[string]Summary{}}
	d.shelf, broken, err = disk.OpenShelf(dir, MaxFiles, maxBytes, func(id string, r io.Reader) (disk.Rank, error) {
		s, err := readHead(id, r)
		if err != nil {
			return disk.Rank{}, err
		}
		d.list[id] = s
		return s.rank(), nil
	})
	return d, broken, err
}

// Note has the list show s from now on: what is going to be written.
func (d *Dir) Note(s Summary) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list[s.ID] = s
}

// Accepts refuses what Write must not be given.
func (d *Dir) Accepts(id string, data []byte) error { return d.shelf.Accepts(id, data) }

// Write keeps an incident, whose whole JSON data is.
func (d *Dir) Write(s Summary, data []byte) error {
	gone, err := d.shelf.Write(s.ID, data, s.rank())
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range gone {
		delete(d.list, id)
	}
	return err
}

// List gives the heads, the youngest first.
func (d *Dir) List() []Summary {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]Summary, 0, len(d.list))
	for _, s := range d.list {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Summary) int {
		return cmp.Or(b.Began.At.Compare(a.Began.At), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Read gives a whole incident; the error of an unknown one is fs.ErrNotExist.
func (d *Dir) Read(id string) (*record.Incident, error) {
	data, err := d.shelf.Read(id)
	if err != nil {
		return nil, fmt.Errorf("read incident: %w", err)
	}
	return Decode(id, data)
}

// Decode reads an incident's JSON.
func Decode(id string, data []byte) (*record.Incident, error) {
	var in record.Incident
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("read incident %s: %w", id, err)
	}
	if in.Version != record.Version || in.ID != id {
		return nil, fmt.Errorf("read incident %s: version %d, id %q", id, in.Version, in.ID)
	}
	return &in, nil
}

// rank lets incidents go in the order of their ends, those that last after all.
func (s *Summary) rank() disk.Rank {
	if s.Ended == nil {
		return disk.Rank{Keep: true, Time: s.Began.At}
	}
	return disk.Rank{Time: s.Ended.At}
}

// readHead reads no more of an incident than its head, which comes first: a
// thousand long ones are listed at a start.
func readHead(id string, r io.Reader) (Summary, error) {
	var s Summary
	version := 0
	fields := map[string]any{
		"version": &version, "id": &s.ID, "rule": &s.Rule, "about": &s.About, "severity": &s.Severity, "mode": &s.Mode,
		"began": &s.Began, "fired": &s.Fired, "ended": &s.Ended, "end": &s.End,
	}
	d := json.NewDecoder(r)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return Summary{}, errors.Join(errors.New("no JSON object"), err)
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return Summary{}, err
		}
		field, ok := fields[t.(string)]
		if !ok {
			break // the head is over
		}
		if err := d.Decode(field); err != nil {
			return Summary{}, err
		}
	}
	if version != record.Version || s.ID != id {
		return Summary{}, fmt.Errorf("version %d, id %q", version, s.ID)
	}
	return s, nil
}
