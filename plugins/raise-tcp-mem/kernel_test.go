package raisetcpmem

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// dryRun plans on the real host, whose boot is the request's.
func dryRun(t *testing.T, a *Action) *remediate.Request {
	t.Helper()
	id, err := procfs.New("/proc").BootID()
	if err != nil {
		t.Fatal(err)
	}
	r := request(`{}`)
	r.BootID, r.DryRun, r.Host.PageSize = id, true, unix.Getpagesize()
	return r
}

// TestKernel lends and takes back for real, below what the host had before.
func TestKernel(t *testing.T) {
	require.Root(t)
	proc := procfs.New("/proc")
	was, err := proc.TCPMem()
	if err != nil {
		t.Fatal(err)
	}
	low := reading.TCPMem{Min: was.Min / 2, Pressure: was.Pressure / 2, Max: was.Max / 2}
	scene.LowerTCPMemT(t, low)
	now := func() reading.TCPMem {
		t.Helper()
		m, err := proc.TCPMem()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}

	a := New("1", "/proc")
	r := dryRun(t, a)
	dry, err := a.Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, dry, remediate.DryRun, "", "would be raised")
	if now() != low {
		t.Errorf("the dry run wrote %v", now())
	}
	r.DryRun, r.Plan = false, dry.Undo
	done, err := a.Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, done, remediate.Done, "", "raised from")
	p, err := parsePlan(done.Undo)
	if err != nil {
		t.Fatal(err)
	}
	if now() != p.Raised.tcpMem() || p.Base.tcpMem() != low || p.Raised.Max <= low.Max {
		t.Errorf("%v, plan %s", now(), done.Undo)
	}

	// A rival, and then its end.
	rival := low
	rival.Max++
	if err := proc.SetTCPMem(rival); err != nil {
		t.Fatal(err)
	}
	u := &remediate.UndoRequest{Undo: done.Undo, Settings: remediate.Settings(`{"force":true}`)}
	resp, err := a.Undo(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, resp, remediate.Refused, "rival", "")
	if now() != rival {
		t.Errorf("the rival's is gone: %v", now())
	}
	if err := proc.SetTCPMem(p.Raised.tcpMem()); err != nil {
		t.Fatal(err)
	}
	if resp, err = a.Undo(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	expect(t, resp, remediate.Done, "", "restored from")
	if now() != low {
		t.Errorf("restored to %v", now())
	}
}

// TestReadOnly: /proc/sys is mounted read-only, as in a unit with
// ProtectKernelTunables=.
func TestReadOnly(t *testing.T) {
	require.Root(t)
	a := New("1", "/proc")
	r := dryRun(t, a)
	type answer struct {
		step string
		resp *remediate.Response
		err  error
	}
	answers := make(chan answer, 3)
	onOwnThread(func() {
		defer close(answers)
		for _, step := range []struct {
			name string
			do   func() error
		}{
			{"unshare", func() error { return unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS) }},
			{"make private", func() error { return unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "") }},
			{"bind", func() error { return unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, "") }},
			{"remount", func() error {
				return unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
			}},
		} {
			if err := step.do(); err != nil {
				answers <- answer{step.name, nil, err}
				return
			}
		}
		resp, err := a.Run(t.Context(), r)
		answers <- answer{"dry run", resp, err}
		// The writes themselves, each with what stands there already.
		live, err := a.proc.TCPMem()
		if err != nil {
			answers <- answer{"read", nil, err}
			return
		}
		resp, err = a.write(triple(live))
		answers <- answer{"write", resp, err}
	})
	n := 0
	for got := range answers {
		n++
		if got.err != nil {
			t.Fatalf("%s: %v", got.step, got.err)
		}
		expect(t, got.resp, remediate.Refused, "read-only", "read-only here")
	}
	if n != 2 {
		t.Errorf("%d answers", n)
	}
}

// onOwnThread runs f on a thread that ends with it, and its mounts with that.
// The main thread never ends, so it waits meanwhile.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		elsewhere := make(chan struct{})
		onOwnThread(func() {
			defer close(elsewhere)
			f()
		})
		<-elsewhere
		runtime.UnlockOSThread()
	}()
}
