package daemon

import (
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// Outside the initial network namespace there is no pool to watch: New says so
// and leaves no socket and no lock behind. (It once dereferenced nil here.)
func TestNewOutsideInitNetns(t *testing.T) {
	require.Root(t)
	socket := filepath.Join(t.TempDir(), "tcpmemd.sock")
	cfg := Config{Socket: socket, Log: slog.New(slog.DiscardHandler)}
	for range 2 {
		err := scene.NewNetns(t).Do(func() error {
			_, err := New(t.Context(), cfg)
			return err
		})
		if !errors.Is(err, procfs.ErrNotInitNetns) {
			t.Fatalf("New = %v, want %v", err, procfs.ErrNotInitNetns)
		}
	}
}
