package scan_test

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// Without rights a scan says in each reading what it could not see; it does not
// fail, and what it does see is right.
func TestUnprivileged(t *testing.T) {
	require.Root(t)
	const nobody = 1000
	own := scene.StartT(t, scene.ChildOptions{UID: nobody, Cgroup: newUnits(t, "own.service")[0]})
	other := scene.StartT(t, scene.ChildOptions{Cgroup: newUnits(t, "other.service")[0]})
	spec := scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 9000}
	// Its counters can be read and it cannot be entered: a gap, not the end of a
	// list of sockets.
	scene.BuildT(t, scene.StartT(t, scene.ChildOptions{UID: nobody, Netns: scene.NewNetns(t)}), spec)
	b, far := scene.BuildT(t, own, spec), scene.BuildT(t, other, spec)

	out := scanIn(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}})
	if out.OpenError != "" || len(out.ScanErrors) > 0 || len(out.Mismatches) > 0 {
		t.Fatalf("open %q, scan %q, mismatches %q", out.OpenError, out.ScanErrors, out.Mismatches)
	}
	r := &reading.Reading{Owners: out.Owners}
	if !readable(t, own.PID(), nobody) {
		t.Log("this kernel does not let a process read the descriptors of one that changed its user")
	}
	o := owner(t, r, "system/own.service")
	if o.Classes != sums(b) {
		t.Errorf("own sockets are %v, built %v", named(o.Classes), named(sums(b)))
	}
	checkOwner(t, r, "system/other.service", want{
		kind: reading.KindService, unit: "other.service", classes: sums(far),
		evidence: evidence{reading.CgroupID: {reading.Owned}},
	})
	for i, gaps := range out.Gaps {
		j := slices.IndexFunc(gaps, func(g reading.Gap) bool { return g.Code == "processes-unreadable" })
		if j < 0 {
			t.Errorf("scan %d does not say that it could not read processes: %+v", i, gaps)
		} else if !strings.Contains(gaps[j].Why, "CAP_SYS_PTRACE") {
			t.Errorf("scan %d does not say which right it lacks: %+v", i, gaps[j])
		}
	}
}

// readable: a process of uid may list the descriptors of pid. One that changed
// its user is not dumpable until it executes something.
func readable(t *testing.T, pid, uid int) bool {
	t.Helper()
	info, err := os.Stat(procPath(pid, "fd"))
	do(t, "stat", err)
	return info.Sys().(*syscall.Stat_t).Uid == uint32(uid)
}

// The pool is visible in the initial network namespace only.
func TestOtherNamespaceRefuses(t *testing.T) {
	require.Root(t)
	out := scanIn(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET})
	if !out.NotInit {
		t.Errorf("open answers %q, not that this is another namespace", out.OpenError)
	}
}
