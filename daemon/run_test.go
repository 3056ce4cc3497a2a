package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/control"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// TestRun lets a whole daemon watch this machine and asks it as the commands do.
func TestRun(t *testing.T) {
	require.Root(t)
	child := scene.StartT(t, scene.ChildOptions{Comm: "task-queue"})
	built := scene.BuildT(t, child, scene.Spec{Kind: scene.Unread, Pairs: 5, Bytes: 9000})

	socket := filepath.Join(t.TempDir(), "tcpmemd.sock")
	notify := &fakeNotifier{}
	first := make(chan *reading.Reading, 1)
	cfg := Config{
		Version: "1.2.3", Socket: socket, TableBytes: 1 << 20, CPU: 1,
		Sample: 100 * time.Millisecond, Calm: time.Hour, Pressed: time.Hour,
		Log: slog.New(slog.DiscardHandler), Notify: notify,
		FirstReading: func(r *reading.Reading) { first <- r },
	}
	d, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var inUse *control.InUseError
	if _, err := New(t.Context(), cfg); !errors.As(err, &inUse) {
		t.Errorf("a second daemon: error %v, want that the socket is in use", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	select {
	case <-first:
	case err := <-ended:
		t.Fatalf("ended before its first reading: %v", err)
	}
	if at := notify.when("ready", time.Now()); len(at) != 1 {
		t.Errorf("told ready %d times before the first reading was shown", len(at))
	}

	client := api.Dial(socket)
	defer client.Close()
	if status, err := client.Status(t.Context()); err != nil {
		t.Errorf("status: %v", err)
	} else if status.Header.DaemonVersion != "1.2.3" {
		t.Errorf("status %+v", status.Header)
	}
	if _, err := client.Owners(t.Context(), true); err != nil {
		t.Errorf("owners: %v", err)
	}
	if _, err := client.Doctor(t.Context()); err != nil {
		t.Errorf("doctor: %v", err)
	}
	list, err := client.Sockets(t.Context(), api.SocketQuery{})
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, s := range list.Sockets {
		for _, b := range built.Sockets {
			if uint64(b.Cookie) == s.Cookie {
				ours++
			}
		}
	}
	if ours != len(built.Sockets) {
		t.Errorf("%d of %d sockets are listed", ours, len(built.Sockets))
	}

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if at := notify.when("stopping", time.Now()); len(at) != 1 {
		t.Errorf("told %d times that it stops", len(at))
	}
}
