package scan

import (
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/cgroup"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/units"
	"github.com/tcpmemd/tcpmemd/daemon/units/unitstest"
)

// A name that PID 1 could not be asked for is a label, and no longer than that:
// once PID 1 is there again its word is had.
func TestLabelsAreAskedAnew(t *testing.T) {
	host := unitstest.NewHost(t.Errorf)
	host.Add("queue.service", nil)
	host.Down(true)
	s := &Scanner{units: units.New(units.Dialer{Name: "fake", Dial: host.Dial}), pods: cgroup.NewPods(t.TempDir())}
	defer s.units.Close()
	c := newSources(s, procfs.New("/proc"))
	const path = "/system.slice/queue.service"
	if got := c.group(t.Context(), path); got.UnitVerified || !c.unheard {
		t.Errorf("without PID 1: %+v, unheard %t", got, c.unheard)
	}
	if c.askAnew(t.Context()); !c.unheard {
		t.Error("heard, and nobody is there")
	}
	host.Down(false)
	for range 100 { // it is not dialled at once again
		if c.askAnew(t.Context()); !c.unheard {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if got := c.group(t.Context(), path); !got.UnitVerified || got.Unit != "queue.service" || c.unheard {
		t.Errorf("with PID 1: %+v, unheard %t", got, c.unheard)
	}
}
