package scan_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// A unit is named by its place below slices, which a cgroup of package scene
// is not: those lie in a directory of their own.
const slicePrefix = "tcpmemdscan"

var sliceCount atomic.Int64

// newUnits makes a slice at the root of the hierarchy with these cgroups in it,
// as PID 1 would for units of these names. They are removed with the test.
func newUnits(t *testing.T, names ...string) []*scene.Cgroup {
	t.Helper()
	require.Root(t)
	place := scene.NewCgroup(t, "place")
	mount := strings.TrimSuffix(place.Path, place.Name)
	removeAbandoned(mount)
	slice := fmt.Sprintf("%s%dn%d.slice", slicePrefix, os.Getpid(), sliceCount.Add(1))
	t.Cleanup(func() { removeTree(t, filepath.Join(mount, slice)) })
	var groups []*scene.Cgroup
	for _, name := range names {
		g := &scene.Cgroup{Path: filepath.Join(mount, slice, name), Name: filepath.Join("/", slice, name)}
		if err := os.MkdirAll(g.Path, 0o755); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(g.Path, &st); err != nil {
			t.Fatal(err)
		}
		g.ID = st.Ino
		groups = append(groups, g)
	}
	return groups
}

// inUnit starts a child in a cgroup.
func inUnit(t *testing.T, g *scene.Cgroup) *scene.Child {
	t.Helper()
	return scene.StartT(t, scene.ChildOptions{Cgroup: g})
}

// removeTree removes cgroups from the innermost; one is busy until its last
// process is reaped.
func removeTree(t *testing.T, root string) {
	t.Helper()
	var dirs []string
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, dir := range slices.Backward(dirs) {
		eventually(t, "remove "+dir, func() bool {
			err := os.Remove(dir)
			return err == nil || os.IsNotExist(err)
		})
	}
}

// removeAbandoned clears up after a test that was killed.
func removeAbandoned(mount string) {
	slices, _ := filepath.Glob(filepath.Join(mount, slicePrefix+"*.slice"))
	for _, dir := range slices {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), slicePrefix), "n")
		n, err := strconv.Atoi(pid)
		if err != nil || unix.Kill(n, 0) != unix.ESRCH {
			continue
		}
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				defer os.Remove(path)
			}
			return nil
		})
		below, _ := filepath.Glob(dir + "/*")
		for _, path := range below {
			_ = os.Remove(path)
		}
		_ = os.Remove(dir)
	}
}

// eventually waits for what the kernel does on its own account.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s: it did not come to that within 10 s", what)
			return
		}
	}
}
