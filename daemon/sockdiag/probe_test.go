package sockdiag

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// TestProbeOrphans: every kernel with the fix says yes; one without is told
// apart by an error in neither.
func TestProbeOrphans(t *testing.T) {
	require.Root(t)
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	vanish, err := ProbeOrphans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("vanish: %v, in %v", vanish, time.Since(start))
	if !vanish {
		require.Kernel(t, 6, 12)
		t.Error("an orphan stays on a kernel that has the fix")
	}
	if now, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || now != home {
		t.Errorf("left behind in %s, error %v", now, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ProbeOrphans(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: error %v", err)
	}
}

// TestProbeOrphansUnprivileged: "could not tell" is neither yes nor no.
func TestProbeOrphansUnprivileged(t *testing.T) {
	require.Root(t)
	var err error
	withoutRights(t, func() { _, err = probeOrphan(t.Context()) })
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("error %v, want EPERM", err)
	}
}
