package procfs

import (
	"errors"
	"runtime"
	"testing"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// TestOtherNamespace reads a new network namespace from inside it: limits of
// the host are not there, its own counters are, and a file opened in it stays
// with it from whatever thread it is read.
func TestOtherNamespace(t *testing.T) {
	require.Cap(t, capability.CAP_SYS_ADMIN)
	f := New(realProc)

	type result struct {
		tcpMem, orphans error
		stat            *SockstatFile
		snmp            *SNMPFile
		err             error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		var r result
		if r.err = unix.Unshare(unix.CLONE_NEWNET); r.err == nil {
			_, r.tcpMem = f.OpenTCPMem()
			_, r.orphans = f.OpenMaxOrphans()
			var err error
			r.stat, r.err = OpenSockstat("/proc/thread-self/net/sockstat")
			r.snmp, err = OpenSNMP("/proc/thread-self/net/snmp")
			r.err = errors.Join(r.err, err)
		}
		done <- r
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.stat.Close()
	defer r.snmp.Close()
	if !errors.Is(r.tcpMem, ErrNotInitNetns) || !errors.Is(r.orphans, ErrNotInitNetns) {
		t.Errorf("tcp_mem: %v, tcp_max_orphans: %v", r.tcpMem, r.orphans)
	}
	for range 2 {
		s, err := r.stat.Read()
		if err != nil {
			t.Fatal(err)
		}
		if s.Inuse != 0 || s.TimeWait != 0 {
			t.Errorf("an empty namespace has sockets: %+v", s)
		}
	}
	tcp, err := r.snmp.Read()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, TCPStats{}, tcp)
	if _, err := f.TCPMem(); err != nil {
		t.Errorf("the test left the initial namespace: %v", err)
	}
}
