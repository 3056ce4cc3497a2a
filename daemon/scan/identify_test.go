package scan

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/cgroup"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/units"
	"github.com/tcpmemd/tcpmemd/daemon/units/unitstest"
)

const path = "/system.slice/queue.service"

// namer names cgroups by what a host says, in a hierarchy below a folder that
// has one unit.
func namer(t *testing.T, host *unitstest.Host) (c *sources, dir string) {
	root := t.TempDir()
	dir = filepath.Join(root, path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tree, err := cgroup.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	s := &Scanner{units: units.New(units.Dialer{Name: "fake", Dial: host.Dial}), tree: tree, pods: cgroup.NewPods(t.TempDir())}
	t.Cleanup(func() { s.units.Close(); tree.Close() })
	return newSources(s, procfs.New("/proc")), dir
}

// A unit that is started anew is another one at once: whoever acts on it must
// mean that start.
func TestStartedAnew(t *testing.T) {
	host := unitstest.NewHost(t.Errorf)
	host.Add("queue.service", nil)
	c, dir := namer(t, host)
	before := c.group(t.Context(), path)
	host.Started("queue.service")
	c.turn++
	if got := c.group(t.Context(), path); got.InvocationID != before.InvocationID || got.InvocationID == "" {
		t.Errorf("in the same directory: %q, then %q", before.InvocationID, got.InvocationID)
	}
	if err := errors.Join(os.Mkdir(dir+".new", 0o755), os.Remove(dir), os.Rename(dir+".new", dir)); err != nil {
		t.Fatal(err)
	}
	c.turn++
	if got := c.group(t.Context(), path); got.InvocationID != host.Invocation("queue.service") {
		t.Errorf("in a new directory: %q, want %q", got.InvocationID, host.Invocation("queue.service"))
	}
}

// A name that PID 1 could not be asked for is a label, and no longer than that:
// once PID 1 is there again its word is had.
func TestLabelsAreAskedAnew(t *testing.T) {
	host := unitstest.NewHost(t.Errorf)
	host.Add("queue.service", nil)
	host.Down(true)
	c, _ := namer(t, host)
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

// Where paths are not PID 1's, its word would be about another unit.
func TestForeignPathsAreNoTargets(t *testing.T) {
	host := unitstest.NewHost(t.Errorf)
	host.Add("queue.service", nil)
	c, _ := namer(t, host)
	c.s.foreign = true
	if got := c.group(t.Context(), path); got.UnitVerified {
		t.Errorf("verified: %+v", got)
	}
}

// What tcpmemd runs in is protected, whatever it is called: a unit of another
// name, or a container.
func TestOwnGroupIsProtected(t *testing.T) {
	const container = "/kubepods.slice/kubepods-pod1.slice/cri-containerd-" +
		"aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999.scope"
	host := unitstest.NewHost(t.Errorf)
	host.Add("queue.service", nil)
	for _, own := range []string{path, container, "", "/"} {
		c, _ := namer(t, host)
		c.own = own
		for _, asked := range []string{path, container, "/", ""} {
			want := asked == own && len(own) > 1
			if got := c.group(t.Context(), asked); (got.Protected != "") != want && own != "/" {
				t.Errorf("in %q, %q protected: %q", own, asked, got.Protected)
			}
		}
	}
}
