package netns

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// TestOfSocket: a namespace that nothing but a socket keeps can be entered.
func TestOfSocket(t *testing.T) {
	table := openReal(t)
	ns := scene.NewNetns(t)
	sock := -1
	err := ns.Do(func() (err error) {
		sock, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sock)
	if err := ns.Remove(); err != nil {
		t.Fatal(err)
	}
	refresh(t, table)
	if table.by(ns.Inode) != nil {
		t.Fatal("the namespace is known without help")
	}
	f, inode, err := OfSocket(sock)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if inode != ns.Inode || !table.Keep(inode, int32(os.Getpid()), int32(f.Fd())) {
		t.Fatalf("namespace %d, want %d, not known before", inode, ns.Inode)
	}
	n := table.by(inode)
	if inuse, err := table.Inuse(n); err != nil || inuse != 0 || n.ID.Cookie != ns.Cookie {
		t.Errorf("%d in use, error %v, cookie %d; want none, cookie %d", inuse, err, n.ID.Cookie, ns.Cookie)
	}
	f.Close()
	refresh(t, table)
	if table.by(inode) != nil {
		t.Error("still known after the file is closed")
	}
	if _, _, err := OfSocket(int(table.mounts[0].file.Fd())); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("of no socket: error %v, want %v", err, unix.ENOTTY)
	}
}
