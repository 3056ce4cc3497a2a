package runner

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// safeDir is a folder that the rule for plugins lets pass, as no folder under
// /tmp is. It is short, for sockets.
func safeDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(safeBase(t), "tcpmemd-test-") //nolint:usetesting // short, and not under /tmp
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // as folders of programs are
		t.Fatal(err)
	}
	return dir
}

func safeBase(t testing.TB) string {
	t.Helper()
	if os.Geteuid() == 0 {
		return "/var/lib"
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	return home
}

// master is a copy of the test binary at a place that plugins may be at. It is
// made once, and each test has a link to it.
var master struct {
	sync.Mutex
	dir string
}

func removeMaster() { _ = os.RemoveAll(master.dir) }

func program(t testing.TB) string {
	t.Helper()
	master.Lock()
	defer master.Unlock()
	if master.dir == "" {
		dir, err := os.MkdirTemp(safeBase(t), "tcpmemd-test-") //nolint:usetesting // a plugin may not be under /tmp
		if err != nil {
			t.Fatal(err)
		}
		master.dir = dir
		copyFile(t, "/proc/self/exe", filepath.Join(dir, "plugin"))
	}
	path := filepath.Join(safeDir(t), "plugin")
	if err := os.Link(filepath.Join(master.dir, "plugin"), path); err != nil {
		t.Fatal(err)
	}
	return path
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// ownCopy makes the program one that can be changed.
func ownCopy(t *testing.T, p *Plugin) {
	t.Helper()
	must(t, os.Remove(p.Path))
	copyFile(t, "/proc/self/exe", p.Path)
}

// Setups make a plugin's file unfit.

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func move(name string) func(*testing.T, *Plugin) {
	return func(_ *testing.T, p *Plugin) { p.Path = filepath.Join(filepath.Dir(p.Path), name) }
}

func as(fault string) func(*testing.T, *Plugin) {
	return func(_ *testing.T, p *Plugin) { p.Args = []string{fault} }
}

func mode(m os.FileMode) func(*testing.T, *Plugin) {
	return func(t *testing.T, p *Plugin) {
		ownCopy(t, p)
		must(t, os.Chmod(p.Path, m))
	}
}

func folderMode(m uint32) func(*testing.T, *Plugin) {
	return func(t *testing.T, p *Plugin) { must(t, unix.Chmod(filepath.Dir(p.Path), m)) }
}

func content(s string) func(*testing.T, *Plugin) {
	return func(t *testing.T, p *Plugin) {
		must(t, os.Remove(p.Path))
		must(t, os.WriteFile(p.Path, []byte(s), 0o755)) //nolint:gosec // as a program
	}
}

func aFolder(t *testing.T, p *Plugin) {
	must(t, os.Remove(p.Path))
	must(t, os.Mkdir(p.Path, 0o755)) //nolint:gosec // as a program
}

func aPipe(t *testing.T, p *Plugin) {
	must(t, os.Remove(p.Path))
	must(t, unix.Mkfifo(p.Path, 0o755))
}

func owner(t *testing.T, p *Plugin) {
	needRoot(t)
	ownCopy(t, p)
	must(t, os.Chown(p.Path, 65534, 65534))
}

func folderOwner(t *testing.T, p *Plugin) {
	needRoot(t)
	must(t, os.Chown(filepath.Dir(p.Path), 65534, 65534))
}

func symlink(t *testing.T, p *Plugin) {
	must(t, os.Symlink(p.Path, p.Path+"-link"))
	p.Path += "-link"
}

func symlinkAbove(t *testing.T, p *Plugin) {
	dir := filepath.Dir(p.Path)
	link := dir + "-link"
	must(t, os.Symlink(dir, link))
	t.Cleanup(func() { os.Remove(link) })
	p.Path = filepath.Join(link, filepath.Base(p.Path))
}

func dots(_ *testing.T, p *Plugin) {
	p.Path = filepath.Dir(p.Path) + "/../" + filepath.Base(filepath.Dir(p.Path)) + "/plugin"
}

func asRoot(t *testing.T, _ *Plugin) { needRoot(t) }

func checksum(_ *testing.T, p *Plugin) { p.SHA256 = strings.Repeat("0", 64) }

// needRoot fails where everything is required (daemon/scene/require, which
// nothing here may import).
func needRoot(t testing.TB) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("TCPMEMD_TEST_REQUIRE") == "all":
		t.Fatal("needs root (TCPMEMD_TEST_REQUIRE=all)")
	default:
		t.Skip("needs root: without it owners and rights are not tried")
	}
}
