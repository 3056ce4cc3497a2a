package store

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Whatever the small files hold: they are read as saved, or set aside and lost.
func FuzzLoadSmall(f *testing.F) {
	f.Add([]byte(`{"version":1,"value":{"rule":1}}`))
	f.Add([]byte(`{"version":1,"boot_id":"b","leases":[{"action_id":"a","undo":{"max":1},"taken_at":{"at":"2026-11-22T09:00:00Z"},"state":"held"}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"leases":null}{`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		for _, name := range []string{budgetsName, leasesName} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := open(t, dir, Options{})
		var budgets any
		if err := s.LoadBudgets(&budgets); err != nil && !errors.Is(err, ErrLost) {
			t.Fatal(err)
		}
		leases, err := s.LoadLeases()
		if err != nil {
			if !errors.Is(err, ErrLost) {
				t.Fatal(err)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatal("what is no JSON is taken for leases")
		}
		s.SaveLeases(leases.Leases, nil)
		closeStore(t, s)
		again, err := open(t, dir, Options{}).LoadLeases()
		if diff := cmp.Diff(leases.Leases, again.Leases, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	})
}
