package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/disk"
	"github.com/tcpmemd/tcpmemd/daemon/store/incident"
)

const incidentsDir = "incidents"

// openShelves lists the folders of files.
func (s *Store) openShelves() {
	for _, dir := range []string{outboxDir, incidentsDir} {
		s.note("folder-unreadable", dir, disk.Folder(filepath.Join(s.dir, dir)))
	}
	var broken []string
	var err error
	s.outbox, broken, err = disk.OpenShelf(filepath.Join(s.dir, outboxDir), maxOutboxFiles, s.opts.MaxBytes/16, rankOutbox)
	s.noteBroken(outboxDir, broken, err)
	s.incidents, broken, err = incident.Open(filepath.Join(s.dir, incidentsDir), s.opts.MaxBytes/16*5)
	s.noteBroken(incidentsDir, broken, err)
}

func (s *Store) noteBroken(dir string, broken []string, err error) {
	s.note("folder-unreadable", dir, err)
	for _, name := range broken {
		s.note("file-broken", filepath.Join(dir, name), errors.New("damaged, or of another version: set aside as "+name+".broken"))
	}
}

// SaveIncident keeps in whole, in place of what was kept of it before. As with
// Append in may change when it returns, and done comes from the writer.
func (s *Store) SaveIncident(in *record.Incident, done func(error)) {
	whole := *in
	whole.Version = record.Version
	data, err := json.Marshal(&whole)
	if err = errors.Join(err, s.incidents.Accepts(in.ID, data)); err != nil {
		s.refuseNow(done, fmt.Errorf("keep incident: %w", err))
		return
	}
	head := incident.Summarize(in)
	s.incidents.Note(head)
	s.putFile(&file{
		key: incidentsDir + "/" + in.ID, lane: laneFiles, data: data,
		write: func() error { return s.incidents.Write(head, data) },
	}, done)
}

// Incidents lists the incidents, the youngest first, also such as wait to be
// written. It does not touch the disk.
func (s *Store) Incidents() []incident.Summary { return s.incidents.List() }

// Incident gives one incident. It reads the disk: not for the loop. The error
// of an unknown one is fs.ErrNotExist.
func (s *Store) Incident(id string) (*record.Incident, error) {
	s.mu.Lock()
	f := s.files.get(incidentsDir + "/" + id)
	s.mu.Unlock()
	if f != nil {
		return incident.Decode(id, f.data)
	}
	return s.incidents.Read(id)
}
