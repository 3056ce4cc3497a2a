package daemon

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/store"
)

type unhealthy struct {
	outboxed
	health store.Health
}

func (u *unhealthy) Health() store.Health { return u.health }

// Each thing that the disk does not take is told once, shown while it lasts, and
// told again when it is over.
func TestUnwritableDisk(t *testing.T) {
	full := store.Condition{Err: errors.New("no space left on device")}
	for what, h := range map[string]store.Health{
		"action log": {Log: full}, "budgets": {State: full}, "readings": {History: full}, "incidents": {Files: full},
	} {
		j, _ := alone()
		kept := &unhealthy{health: h}
		j.cfg.Store = kept
		j.blind.store(j)
		j.blind.store(j)
		if b := j.blind.open["log-unwritable"]; !strings.Contains(b.why, what) || !strings.Contains(b.why, "no space left") {
			t.Errorf("%s: %q", what, b.why)
		}
		kept.health = store.Health{}
		j.blind.store(j)
		if len(j.blind.open) != 0 || !slices.Equal(kept.events, []string{"log-unwritable", "log-unwritable"}) {
			t.Errorf("%s: open %v, told %q", what, j.blind.open, kept.events)
		}
	}
}
