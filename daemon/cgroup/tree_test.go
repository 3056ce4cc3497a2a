package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// realTree opens the host's hierarchy and makes a directory of our own in it.
func realTree(t testing.TB) (tree *Tree, dir string) {
	t.Helper()
	require.Root(t)
	tree, err := Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	if ok, reason := tree.Available(); !ok {
		require.Missing(t, "a cgroup2 mount", reason)
	}
	dir = filepath.Join(tree.Mountpoint(), fmt.Sprintf("tcpmemd-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")))
	if err := os.Mkdir(dir, 0o755); err != nil {
		require.Missing(t, "a writable cgroup2 mount", err.Error())
	}
	t.Cleanup(func() { removeTree(dir) })
	return tree, dir
}

// removeTree removes directories from the bottom up: the files of a cgroup
// cannot be removed one by one.
func removeTree(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeTree(filepath.Join(dir, e.Name()))
		}
	}
	unix.Rmdir(dir)
}

func mkdir(t testing.TB, path string) ID {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return idOf(t, path)
}

func idOf(t testing.TB, path string) ID {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return ID(st.Ino)
}

func refresh(t testing.TB, tree *Tree, now time.Time) Stats {
	t.Helper()
	stats, err := tree.Refresh(now)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

func wantEntry(t *testing.T, tree *Tree, id ID, want Entry) {
	t.Helper()
	got, ok := tree.Resolve(id)
	if !ok {
		t.Fatalf("Resolve(%d): unknown, want %v", id, want)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Resolve(%d) (-want +got):\n%s", id, diff)
	}
}

func TestTreeRemembersRemovedDirectory(t *testing.T) {
	tree, dir := realTree(t)
	if err := tree.Handles(); err != nil {
		t.Errorf("Handles: %v", err)
	}
	at := time.Unix(1000, 0)
	base := Path(strings.TrimPrefix(dir, tree.Mountpoint()))

	id := mkdir(t, dir+"/x.service")
	refresh(t, tree, at)
	wantEntry(t, tree, id, Entry{Path: base + "/x.service"})
	wantEntry(t, tree, idOf(t, tree.Mountpoint()), Entry{Path: "/"})

	if err := os.Remove(dir + "/x.service"); err != nil {
		t.Fatal(err)
	}
	wantEntry(t, tree, id, Entry{Path: base + "/x.service"}) // nobody has looked yet

	again := mkdir(t, dir+"/x.service")
	if again == id {
		t.Fatalf("id %d was used again", id)
	}
	refresh(t, tree, at.Add(time.Second))
	wantEntry(t, tree, id, Entry{Path: base + "/x.service", Gone: true, GoneSince: at.Add(time.Second)})
	wantEntry(t, tree, again, Entry{Path: base + "/x.service"})
	refresh(t, tree, at.Add(2*time.Second))
	wantEntry(t, tree, id, Entry{Path: base + "/x.service", Gone: true, GoneSince: at.Add(time.Second)})
}

func TestTreeResolvesWithoutWalk(t *testing.T) {
	tree, dir := realTree(t)
	base := Path(strings.TrimPrefix(dir, tree.Mountpoint()))
	for _, name := range []string{"plain", "a (deleted)", " ", "\x1b[31m", "\xff", strings.Repeat("n", 255)} {
		id := mkdir(t, dir+"/"+name)
		wantEntry(t, tree, id, Entry{Path: base + Path("/"+name)})
	}

	gone := mkdir(t, dir+"/gone")
	if err := os.Remove(dir + "/gone"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []ID{0, gone, 1 << 63, idOf(t, dir+"/plain/cgroup.procs")} {
		if e, ok := tree.Resolve(id); ok {
			t.Errorf("Resolve(%d) = %v, want unknown", id, e)
		}
	}
}

// A handle may be refused (no CAP_DAC_READ_SEARCH, a system call filter): then
// one walk per refresh serves all unknown ids.
func TestTreeWalksWhereHandlesAreRefused(t *testing.T) {
	dir := t.TempDir() // no kernfs: the probe of Open finds out
	tree, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if tree.Handles() == nil {
		t.Error("Handles: no error on a file system that has none")
	}
	id := mkdir(t, dir+"/system.slice/x.service")
	wantEntry(t, tree, id, Entry{Path: "/system.slice/x.service"})

	later := mkdir(t, dir+"/system.slice/y.service")
	if e, ok := tree.Resolve(later); ok {
		t.Errorf("Resolve = %v: walked twice without a refresh", e)
	}
	refresh(t, tree, time.Unix(1, 0))
	wantEntry(t, tree, later, Entry{Path: "/system.slice/y.service"})
}

func TestTreeBounds(t *testing.T) {
	dir := t.TempDir()
	tree, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	tree.mem.maxEntries = 4 // the root and three more
	ids := make([]ID, 6)
	for i := range 3 {
		ids[i] = mkdir(t, fmt.Sprintf("%s/d%d", dir, i))
	}
	at := time.Unix(1, 0)
	got := refresh(t, tree, at)
	got.Took = 0
	if diff := cmp.Diff(Stats{Directories: 4, New: 3, Remembered: 4}, got); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}

	mkdir(t, dir+"/d3")
	got = refresh(t, tree, at)
	got.Took = 0
	if diff := cmp.Diff(Stats{Directories: 5, New: 1, Remembered: 4, Rejected: 1}, got); diff != "" {
		t.Errorf("stats with no room (-want +got):\n%s", diff)
	}

	// d0 goes before d1, so it is forgotten first. (Both keep their inodes
	// busy, or the file system would hand them out again.)
	for i := range 2 {
		os.Rename(fmt.Sprintf("%s/d%d", dir, i), filepath.Join(t.TempDir(), "kept"))
		refresh(t, tree, at)
	}
	if _, ok := tree.mem.byID[ids[0]]; ok {
		t.Error("the directory gone longest is still remembered")
	}
	wantEntry(t, tree, ids[1], Entry{Path: "/d1", Gone: true, GoneSince: at})
	if tree.mem.evicted != 1 {
		t.Errorf("evicted = %d, want 1", tree.mem.evicted)
	}

	tree.scan.limit = 2
	if s := refresh(t, tree, at); !s.Truncated || s.WentAway != 0 {
		t.Errorf("stats of a truncated walk: %+v, want Truncated and nothing gone", s)
	}
}

func TestTreeBoundsBytes(t *testing.T) {
	m := newMemory(100, 30)
	m.put(1, "/"+Path(strings.Repeat("a", 19)))
	m.bury(1, m.byID[1], time.Unix(1, 0))
	m.put(2, "/"+Path(strings.Repeat("b", 19)))
	m.put(3, "/"+Path(strings.Repeat("c", 19)))
	if _, ok := m.byID[2]; !ok || len(m.byID) != 1 || m.bytes != 20 || m.evicted != 1 || m.rejected != 1 {
		t.Errorf("memory holds %d entries of %d bytes, evicted %d, rejected %d", len(m.byID), m.bytes, m.evicted, m.rejected)
	}
}

// Directories come and go while the tree is walked and asked.
func TestTreeUnderChurn(t *testing.T) {
	tree, dir := realTree(t)
	base := Path(strings.TrimPrefix(dir, tree.Mountpoint()))
	stay := mkdir(t, dir+"/stay.service")
	const rounds = 150
	ids := make(chan ID, rounds)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(ids)
		for range rounds {
			path := dir + "/churn.slice/deep.service"
			if os.MkdirAll(path, 0o755) != nil {
				continue
			}
			var st unix.Stat_t
			if unix.Stat(path, &st) == nil {
				ids <- ID(st.Ino)
			}
			os.Remove(path)
			os.Remove(filepath.Dir(path))
		}
	})
	for id := range ids {
		refresh(t, tree, time.Now())
		if e, ok := tree.Resolve(id); ok && e.Path != base+"/churn.slice/deep.service" {
			t.Errorf("Resolve(%d) = %v", id, e)
		}
	}
	wg.Wait()
	refresh(t, tree, time.Now())
	wantEntry(t, tree, stay, Entry{Path: base + "/stay.service"})
	for id, rec := range tree.mem.byID {
		if strings.Contains(string(rec.path), "churn") && !rec.gone {
			t.Errorf("%d %s is not known to be gone", id, rec.path)
		}
	}
}

func TestTreeWithoutHierarchy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mountinfo")
	line := "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
	if err := os.WriteFile(file, []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if ok, reason := tree.Available(); ok || !strings.Contains(reason, "v1 only") {
		t.Errorf("Available = %v, %q", ok, reason)
	}
	refresh(t, tree, time.Now())
	if e, ok := tree.Resolve(1); ok {
		t.Errorf("Resolve = %v", e)
	}
	if err := tree.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(file + "-missing"); err == nil {
		t.Error("Open of a missing mountinfo: no error")
	}
}

func TestParseMountinfo(t *testing.T) {
	tests := []struct {
		name, text string
		want       []mount
		v1         int
	}{
		{"hybrid", "23 1 8:1 / / rw - ext4 /dev/sda rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n" +
			"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n", []mount{{"/sys/fs/cgroup/unified", "/"}}, 1},
		{
			"a container's bind mount first", "50 1 0:30 /docker/x /var/lib/y rw shared:4 - cgroup2 cgroup rw\n42 99 0:38 / /sys/fs/cgroup rw,nosuid shared:13 master:2 - cgroup2 cgroup rw\n",
			[]mount{{"/sys/fs/cgroup", "/"}, {"/var/lib/y", "/docker/x"}},
			0,
		},
		{"escaped", "42 99 0:38 / /a\\040b\\134c rw - cgroup2 cgroup rw\n", []mount{{`/a b\c`, "/"}}, 0},
		{"none", "23 1 8:1 / / rw - ext4 /dev/sda rw\n", nil, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseMountinfo(strings.NewReader(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.v2, test.want) || got.v1 != test.v1 {
				t.Errorf("got %+v, want %+v and %d of v1", got, test.want, test.v1)
			}
		})
	}
	if _, err := parseMountinfo(strings.NewReader("garbage\n")); err == nil {
		t.Error("garbage: no error")
	}
}

func TestMountPath(t *testing.T) {
	for _, test := range []struct{ root, below, want string }{
		{"/", "", "/"}, {"/", ".", "/"}, {"/", "a/b", "/a/b"}, {"/part", "", "/part/"}, {"/part", "a", "/part/a"}, {"/..", "a", "/../a"},
	} {
		if got := (mount{root: test.root}).path(test.below); got != Path(test.want) {
			t.Errorf("path(%q) below %q = %q, want %q", test.below, test.root, got, test.want)
		}
	}
}

func FuzzParseMountinfo(f *testing.F) {
	f.Add("41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n")
	f.Add("41 31 0:38 /\\0 /\\134\\ rw shared:1 - cgroup2 x\n")
	f.Fuzz(func(t *testing.T, text string) { parseMountinfo(strings.NewReader(text)) })
}

func FuzzNextDirent(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 24, 0, unix.DT_DIR, 'a', 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, buf []byte) {
		for len(buf) > 0 {
			d, rest, err := nextDirent(buf)
			if err != nil {
				return
			}
			if len(rest) >= len(buf) || len(d.name) > len(buf) {
				t.Fatalf("%d bytes left of %d", len(rest), len(buf))
			}
			buf = rest
		}
	})
}

// BenchmarkRefresh walks 2,000 cgroups in 20 slices, all known already.
func BenchmarkRefresh(b *testing.B) {
	tree, dir := realTree(b)
	const services, slices = 2000, 20
	for i := range services {
		mkdir(b, fmt.Sprintf("%s/s%d.slice/u%d.service", dir, i%slices, i))
	}
	stats := refresh(b, tree, time.Unix(1, 0))
	b.ReportAllocs()
	for b.Loop() {
		refresh(b, tree, time.Unix(1, 0))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(stats.Directories), "ns/directory")
}

// BenchmarkResolve asks for an id that no walk has seen.
func BenchmarkResolve(b *testing.B) {
	tree, dir := realTree(b)
	id := mkdir(b, dir+"/x.slice/y.service")
	for b.Loop() {
		delete(tree.mem.byID, id)
		if _, ok := tree.Resolve(id); !ok {
			b.Fatal("unknown")
		}
	}
}
