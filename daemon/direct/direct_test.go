package direct_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/direct"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	goleak.VerifyTestMain(m)
}

// TestHost asks everything that a command asks, without a daemon.
func TestHost(t *testing.T) {
	require.Root(t)
	h, err := direct.Open(t.Context(), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	meta := h.Meta()
	if meta.DaemonVersion != "1.2.3" || meta.Source != api.SourceDirect || len(meta.BootID) != 36 || meta.Hostname == "" {
		t.Errorf("meta %+v", meta)
	}
	if err := h.Sockets(t.Context(), nil, nil); err == nil {
		t.Error("a list before the first reading, which would name nobody")
	}

	child := scene.StartT(t, scene.ChildOptions{Comm: "task-queue"})
	built := scene.BuildT(t, child, scene.Spec{Kind: scene.Unread, Pairs: 5, Bytes: 9000})
	r, err := h.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Level == reading.Unknown || len(r.Owners) == 0 {
		t.Errorf("level %v, %d owners", r.Level, len(r.Owners))
	}

	if n := h.SocketsRead(); n < 10 {
		t.Errorf("%d sockets read, want those of 5 connections at least", n)
	}
	cookies := map[reading.Cookie]bool{}
	for _, s := range built.Sockets {
		cookies[s.Cookie] = true
	}
	want := func(s *reading.Socket) bool { return cookies[s.Cookie] }
	var listed []reading.Socket
	err = h.Sockets(t.Context(), want, func(s *reading.Socket) error { listed = append(listed, *s); return nil })
	if err != nil || len(listed) != len(cookies) {
		t.Errorf("%d of %d sockets, error %v", len(listed), len(cookies), err)
	}
	for _, s := range listed {
		if s.Class != reading.Owned || s.Holder == nil || s.Holder.PID != child.PID() {
			t.Errorf("socket %+v, want it held by %d", s, child.PID())
		}
		info, err := h.Info(t.Context(), &s)
		if err != nil || info.RTOMicros == 0 || info.BytesAcked == nil {
			t.Errorf("tcp_info %+v, error %v", info, err)
		}
	}
	enough := errors.New("enough")
	if err := h.Sockets(t.Context(), want, func(*reading.Socket) error { return enough }); err != enough {
		t.Errorf("error %v, want %v", err, enough)
	}

	checks, err := h.Doctor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, c := range checks {
		names[c.Name] = true
		if c.Name == "" || c.Status == "" || (c.Status == api.DoctorOK) != (c.Costs == nil) {
			t.Errorf("check %+v", c)
		}
	}
	for _, name := range []string{"kernel", "sock_diag", "pidfd_getfd", "CAP_SYS_PTRACE"} {
		if !names[name] {
			t.Errorf("nothing is said of %s", name)
		}
	}
}
