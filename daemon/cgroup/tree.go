package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ID is a cgroup's id as INET_DIAG_CGROUP_ID reports it: the id of its kernfs
// node (cgroup_id in include/linux/cgroup.h), which on 64-bit machines is the
// inode number of the directory. Ids are not reused: a directory made again
// under the same name has another one.
type ID uint64

// Entry is what is known of an id.
type Entry struct {
	Path Path
	// Gone: the directory no longer exists. Sockets, orphans above all, may
	// still carry its id. GoneSince is the refresh that found it missing.
	Gone      bool
	GoneSince time.Time
}

// Stats says what a refresh did and what the memory holds.
type Stats struct {
	Directories int // seen by this walk
	New         int // of those, not known before
	WentAway    int // found missing by this refresh
	Remembered  int // entries in memory, gone ones included
	Gone        int // of those, gone
	// Evicted and Rejected count, since the tree was opened, the gone
	// directories forgotten and how often a living one found no room.
	Evicted, Rejected uint64
	// Truncated: the walk ended at its limit of directories. Unreadable counts
	// directories that exist and could not be opened.
	Truncated  bool
	Unreadable int
	Took       time.Duration
}

// Tree is the cgroup v2 hierarchy with a memory. It may be used by several
// goroutines.
type Tree struct {
	mount  mount
	hybrid bool
	reason string // why there is no hierarchy, "" where there is one

	mu       sync.Mutex
	root     *os.File
	rootID   ID
	mem      memory
	scan     scanner
	walks    uint64
	searched bool  // a walk for an unknown id was made since the last Refresh
	noHandle error // why handles cannot be opened, nil where they can
}

// Open finds the cgroup2 mount in the named mountinfo (normally
// /proc/self/mountinfo). A host without one is no error: see Available.
func Open(mountinfo string) (*Tree, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return nil, fmt.Errorf("find cgroup2 mount: %w", err)
	}
	defer f.Close()
	found, err := parseMountinfo(f)
	if err != nil {
		return nil, fmt.Errorf("find cgroup2 mount: %w", err)
	}
	if len(found.v2) == 0 {
		reason := "no cgroup file system is mounted"
		if found.v1 > 0 {
			reason = "cgroup v1 only: the cgroup id of a socket names nothing here"
		}
		return &Tree{reason: reason}, nil
	}
	// Another mount may lie over one: then the next best has to do.
	var errs []error
	for _, m := range found.v2 {
		t, err := open(m)
		if err == nil {
			t.hybrid = found.v1 > 0
			return t, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// OpenRoot opens the hierarchy, or a fixture of one, at a directory.
func OpenRoot(dir string) (*Tree, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open cgroup root: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("open cgroup root: %w", err)
	}
	return open(mount{point: dir, root: "/"})
}

func open(m mount) (*Tree, error) {
	root, err := os.OpenFile(m.point, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup root: %w", err)
	}
	t := &Tree{mount: m, root: root, mem: newMemory(maxEntries, maxPathBytes), scan: newScanner()}
	var st unix.Stat_t
	if err := unix.Fstat(t.fd(), &st); err != nil {
		root.Close()
		return nil, fmt.Errorf("open cgroup root %s: %w", m.point, err)
	}
	t.rootID = ID(st.Ino)
	t.mem.put(t.rootID, m.path(""))
	// Whether handles can be opened is found by doing it, on the one directory
	// whose path is known.
	if _, err := t.byHandle(t.rootID); err != nil {
		t.noHandle = err
	}
	return t, nil
}

// Available reports whether there is a v2 hierarchy, and if not, why.
func (t *Tree) Available() (ok bool, reason string) { return t.reason == "", t.reason }

// Hybrid reports whether v1 controllers are mounted beside the v2 hierarchy:
// memory.stat of a cgroup is then not to be found in it.
func (t *Tree) Hybrid() bool { return t.hybrid }

// Mountpoint is where the hierarchy is mounted, "" where there is none.
func (t *Tree) Mountpoint() string { return t.mount.point }

// IDAt is the id of what is at a path just now, 0 where nothing is or it cannot
// be told. A unit that was started anew has another one.
func (t *Tree) IDAt(path Path) ID {
	below, ok := strings.CutPrefix(string(path), strings.TrimSuffix(t.mount.root, "/")+"/")
	if t.root == nil || !ok || below == "" {
		return 0
	}
	var st unix.Stat_t
	if err := unix.Fstatat(t.fd(), below, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0
	}
	return ID(st.Ino)
}

// Handles reports whether an id can be resolved at once; the error says why
// not (open_by_handle_at(2) needs CAP_DAC_READ_SEARCH, and a system call
// filter may forbid it). It costs a walk per refresh in which there was an
// unknown id, and ids that lived only between two walks stay unknown.
func (t *Tree) Handles() error {
	if t.reason != "" {
		return nil
	}
	return t.noHandle
}

// Close releases the mount. The memory can still be asked.
func (t *Tree) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.root == nil {
		return nil
	}
	err := t.root.Close()
	t.root = nil
	return err
}

// Refresh walks the hierarchy and remembers every directory. Directories
// that come and go meanwhile are no error; the error is that of reading the root.
func (t *Tree) Refresh(now time.Time) (Stats, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reason != "" || t.root == nil {
		return Stats{}, nil
	}
	t.searched = false
	return t.refresh(now)
}

// Resolve says what directory has, or had, the id. For an id that no walk saw
// it asks the kernel; false means that nobody can tell any more.
func (t *Tree) Resolve(id ID) (Entry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if rec, ok := t.mem.byID[id]; ok {
		return rec.entry(), true
	}
	if t.root == nil || id == 0 {
		return Entry{}, false
	}
	if t.noHandle == nil {
		path, err := t.byHandle(id)
		if err != nil {
			return Entry{}, false
		}
		rec := t.mem.put(id, path)
		rec.walk = t.walks
		return rec.entry(), true
	}
	// One walk serves all the ids unknown since the last refresh: more of it
	// would let a host full of forgotten ids keep us walking.
	if t.searched {
		return Entry{}, false
	}
	t.searched = true
	if _, err := t.refresh(time.Now()); err != nil {
		return Entry{}, false
	}
	if rec, ok := t.mem.byID[id]; ok {
		return rec.entry(), true
	}
	return Entry{}, false
}

func (t *Tree) refresh(now time.Time) (Stats, error) {
	start := time.Now()
	t.walks++
	stats, err := t.walk()
	if err != nil {
		return Stats{}, err
	}
	stats.WentAway = t.buryMissing(now)
	stats.Remembered, stats.Evicted, stats.Rejected = len(t.mem.byID), t.mem.evicted, t.mem.rejected
	for _, rec := range t.mem.byID {
		if rec.gone {
			stats.Gone++
		}
	}
	stats.Took = time.Since(start)
	return stats, nil
}

// buryMissing looks at each directory that the walk did not see: it may be
// gone, or the walk may have missed it (truncated, unreadable, made later).
func (t *Tree) buryMissing(now time.Time) (buried int) {
	for id, rec := range t.mem.byID {
		if rec.gone || rec.walk == t.walks {
			continue
		}
		var st unix.Stat_t
		err := unix.Fstatat(t.fd(), t.below(rec.path), &st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case err == unix.ENOENT, err == unix.ENOTDIR, err == nil && ID(st.Ino) != id:
			t.mem.bury(id, rec, now)
			buried++
		}
	}
	return buried
}

// below is a path relative to the mount, as openat wants it.
func (t *Tree) below(p Path) string {
	rel := string(p[len(t.mount.path("")):])
	if rel == "" {
		return "."
	}
	return rel
}

func (t *Tree) fd() int { return int(t.root.Fd()) }

func (r *record) entry() Entry { return Entry{Path: r.path, Gone: r.gone, GoneSince: r.since} }
