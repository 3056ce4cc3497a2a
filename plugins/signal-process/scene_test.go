package signalprocess

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// socketsOf dumps what carries the cgroup's id.
func socketsOf(t *testing.T, g *scene.Cgroup) (all []reading.Socket, bytes int64) {
	t.Helper()
	conn, err := sockdiag.Open(sockdiag.NewBuffer())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = conn.DumpTCP(t.Context(), func(s *reading.Socket) {
		if s.CgroupID == g.ID {
			all = append(all, *s)
			bytes += s.Mem.Bytes()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, bytes
}

// asked is what tcpmemd would say of the sockets that pid holds.
func asked(all []reading.Socket, pid int) (sockets []remediate.Socket) {
	for _, s := range all {
		if s.Inode != 0 {
			sockets = append(sockets, remediate.Socket{
				Class: "owned", HolderPID: pid,
				Receive: int64(s.Mem.RmemAlloc), Send: int64(s.Mem.WmemQueued), Bytes: s.Mem.Bytes(),
			})
		}
	}
	return sockets
}

// TestContainer: a container-like owner, whose supervisor restarts its child.
// The leak ends with the child, the supervisor brings it back, and neither the
// supervisor nor a bystander is touched.
func TestContainer(t *testing.T) {
	require.Root(t)
	const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	scope := scene.NewCgroup(t, "cri-containerd-"+id+".scope")
	bystander := scene.StartT(t, scene.ChildOptions{Cgroup: scene.NewCgroup(t, "bystander.service")})
	theirs := scene.BuildT(t, bystander, scene.Spec{Kind: scene.Unread, Pairs: 5, Bytes: 8 << 10})

	dir, err := os.Open(scope.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envSupervisor+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("supervisor: %v", err)
		}
	}()
	lines := bufio.NewScanner(stdout)
	child := func() (pid int) {
		t.Helper()
		if lines.Scan(); lines.Err() != nil {
			t.Fatal(lines.Err())
		}
		if _, err := fmt.Sscan(lines.Text(), &pid); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	leaked := func() (all []reading.Socket, bytes int64) {
		t.Helper()
		var last int64
		for range 100 {
			all, bytes = socketsOf(t, scope)
			if bytes > int64(leak.Unread*leak.Bytes) && bytes == last && len(all) >= 2*(leak.Unread+leak.Unsent) {
				return all, bytes
			}
			last = bytes
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatalf("it leaks %d bytes only", bytes)
		return nil, 0
	}

	first := child()
	all, before := leaked()
	r := request(`{}`, holder(t, first), holder(t, cmd.Process.Pid))
	r.Owner.Key, r.Owner.Kind, r.Owner.Cgroup = "container/"+id, "container", scope.Name
	r.Sockets = asked(all, first)

	r.DryRun = true
	dry := run(t, r)
	expect(t, dry, remediate.DryRun, "", "would be ended")
	r.DryRun = false
	resp := run(t, r)
	expect(t, resp, remediate.Done, "", "ended by TERM")
	_, after := socketsOf(t, scope)
	t.Logf("%d bytes before, %d predicted to be freed, %d after; %s", before, resp.Predicted["owned"], after, resp.Message)
	if resp.Predicted["owned"] < int64(leak.Unread*leak.Bytes)/2 || dry.Predicted["owned"] != resp.Predicted["owned"] {
		t.Errorf("predicted %v", resp.Predicted)
	}
	if freed := before - after; freed < resp.Predicted["owned"] {
		t.Errorf("freed %d bytes, predicted %d", freed, resp.Predicted["owned"])
	}

	second := child()
	if second == first {
		t.Error("the supervisor did not start another")
	}
	if again, _ := socketsOf(t, scope); again == nil {
		leaked() // it is at it again
	}
	if err := bystander.Refresh(t.Context(), theirs); err != nil || theirs.Tally()[reading.Owned].Sockets != 10 {
		t.Errorf("bystander: %+v, %v", theirs.Tally(), err)
	}
}

// TestUnsent: a peer that does not read keeps what was not sent, as orphans.
// That is not predicted to be freed.
func TestUnsent(t *testing.T) {
	require.Root(t)
	unit := scene.NewCgroup(t, "sender.service")
	peer := scene.StartT(t, scene.ChildOptions{})
	sender := scene.StartT(t, scene.ChildOptions{Cgroup: unit})
	if _, _, err := scene.Across(t.Context(), sender, peer, scene.Spec{Kind: scene.Unsent, Pairs: 2}); err != nil {
		t.Fatal(err)
	}
	all, before := socketsOf(t, unit)
	r := request(`{}`, holder(t, sender.PID()))
	r.Owner.Unit = "sender.service"
	r.Sockets = asked(all, sender.PID())
	r.Owner.Classes = map[string]remediate.Tally{"owned": {Sockets: 2, Bytes: before}, "hidden": {Sockets: 1, Bytes: 7}}
	resp := run(t, r)
	expect(t, resp, remediate.Done, "", "bytes that were not sent stay, as orphans")
	orphans, after := socketsOf(t, unit)
	t.Logf("%d bytes before, %d after in %d orphans; predicted %v; %s", before, after, len(orphans), resp.Predicted, resp.Message)
	if resp.Predicted["hidden"] != 7 || resp.Predicted["owned"] > before/10 || before == 0 || len(resp.Predicted) != 2 {
		t.Errorf("predicted %v", resp.Predicted)
	}
	if len(orphans) == 0 || after < before/2 {
		t.Errorf("the unsent bytes are gone: that is not how the kernel was")
	}
}
