package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/disk"
)

const (
	budgetsName = "budgets.json"
	leasesName  = "leases.json"
)

// budgetsFile is budgets.json. Value is null until the first save.
type budgetsFile struct {
	Version int             `json:"version"`
	Value   json.RawMessage `json:"value"`
}

// Lease is one thing that was changed for a time, and what takes it back.
type Lease struct {
	ActionID string          `json:"action_id"`
	Action   string          `json:"action"`
	Rule     string          `json:"rule"`
	Incident string          `json:"incident"`
	Undo     json.RawMessage `json:"undo,omitempty"`
	TakenAt  record.Stamp    `json:"taken_at"`
	Expires  record.Stamp    `json:"expires"`
	HardEnd  record.Stamp    `json:"hard_end"` // no extension goes beyond
	State    LeaseState      `json:"state"`
}

// LeaseState says whether a lease is known to have been taken.
type LeaseState string

// States of a lease. Planned is written before the action starts.
const (
	LeasePlanned LeaseState = "planned"
	LeaseHeld    LeaseState = "held"
)

// Leases is leases.json: all leases of one boot.
type Leases struct {
	Version int     `json:"version"`
	BootID  string  `json:"boot_id"`
	Leases  []Lease `json:"leases"`
}

// openFiles reads the small files once, and makes them in a new folder. From
// then on they are always there: a folder with an action log and without them
// has lost them.
func (s *Store) openFiles() {
	s.budgetsErr = s.openSmall(budgetsName, &s.budgets, budgetsFile{Version: fileVersion})
	s.leasesErr = s.openSmall(leasesName, &s.leases, Leases{Version: fileVersion, BootID: s.opts.Now().BootID, Leases: []Lease{}})
}

func (s *Store) openSmall(name string, value, empty any) error {
	err := s.loadSmall(name, value)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	data, err := json.Marshal(empty)
	if err == nil {
		err = disk.Replace(filepath.Join(s.dir, name), data)
	}
	if err != nil {
		s.log.Warn("state is not writable: tried again", "err", err)
		s.saveSmall(name, empty, nil)
	}
	return nil
}

// SaveBudgets keeps value in budgets.json, whatever JSON it is. As with Append
// value may change when it returns, and done comes from the writer.
func (s *Store) SaveBudgets(value any, done func(error)) {
	raw, err := json.Marshal(value)
	if err != nil {
		s.refuseNow(done, fmt.Errorf("encode %s: %w", budgetsName, err))
		return
	}
	s.saveSmall(budgetsName, budgetsFile{fileVersion, raw}, done)
}

// LoadBudgets reads into value, which is a pointer, what the last daemon kept.
// It leaves value alone where nothing was kept yet. An error wraps ErrLost:
// what was spent is not known, so all is to count as spent.
func (s *Store) LoadBudgets(value any) error {
	if s.budgetsErr != nil {
		return s.budgetsErr
	}
	if len(s.budgets.Value) == 0 || string(s.budgets.Value) == "null" {
		return nil
	}
	if err := json.Unmarshal(s.budgets.Value, value); err != nil {
		return fmt.Errorf("load %s: %w: %w", budgetsName, ErrLost, err)
	}
	return nil
}

// SaveLeases keeps all leases of this boot in leases.json. Nothing may be
// leased before done was called without an error.
func (s *Store) SaveLeases(leases []Lease, done func(error)) {
	s.saveSmall(leasesName, Leases{fileVersion, s.opts.Now().BootID, leases}, done)
}

// LoadLeases gives the leases that the last daemon kept, and the boot they are
// of. An error wraps ErrLost.
func (s *Store) LoadLeases() (Leases, error) { return s.leases, s.leasesErr }
