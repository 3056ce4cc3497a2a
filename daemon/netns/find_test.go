package netns

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// TestFind: by a process, by a mount, and never another one.
func TestFind(t *testing.T) {
	require.Root(t)
	e, err := NewEnterer()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	proc := procfs.New("/proc")
	ns, other := scene.NewNetns(t), scene.NewNetns(t)
	child := scene.StartT(t, scene.ChildOptions{Netns: ns})

	usable := func(what string, id reading.NetnsID, pids ...int) {
		t.Helper()
		f, err := e.Find(proc, id, pids...)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer f.Close()
		var cookie uint64
		if err := e.Do(f, func() error { cookie = readCookie(); return nil }); err != nil || cookie != ns.Cookie {
			t.Errorf("%s: cookie %d, want %d; error %v", what, cookie, ns.Cookie, err)
		}
	}
	usable("by its mount", ns.NetnsID)
	usable("by its mount, beside a process elsewhere", ns.NetnsID, os.Getpid())
	usable("without a cookie", reading.NetnsID{Inode: ns.Inode})
	if err := ns.Remove(); err != nil {
		t.Fatal(err)
	}
	usable("by a process", ns.NetnsID, os.Getpid(), child.PID())

	for what, wrong := range map[string]struct {
		id   reading.NetnsID
		pids []int
		err  error
	}{
		"nothing leads there":       {ns.NetnsID, nil, nil},
		"processes elsewhere":       {ns.NetnsID, []int{os.Getpid()}, errAnother},
		"no such process":           {ns.NetnsID, []int{1 << 30}, fs.ErrNotExist},
		"the number of another one": {reading.NetnsID{Inode: other.Inode, Cookie: ns.Cookie}, nil, errAnother},
	} {
		if f, err := e.Find(proc, wrong.id, wrong.pids...); err == nil || wrong.err != nil && !errors.Is(err, wrong.err) {
			t.Errorf("%s: %v, error %v", what, f, err)
		}
	}
	if e.Home(ns.NetnsID) || !e.Home(reading.NetnsID{Inode: e.inode}) {
		t.Error("Home is wrong")
	}
}
