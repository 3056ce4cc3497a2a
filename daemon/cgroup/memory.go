package cgroup

import (
	"strings"
	"time"
)

// Limits of the memory. A delegated subtree may hold as many directories, and
// names as long, as its owner likes; a host of 2,000 cgroups needs 0.3 MB.
const (
	maxEntries   = 20_000
	maxPathBytes = 4 << 20
)

// memory maps ids to paths. It is bounded in entries and in bytes of path:
// gone directories are forgotten first, the longest gone one before the
// others; a living one that finds no room is not taken in, since it can be
// asked for again.
type memory struct {
	byID               map[ID]*record
	bytes              int // of all paths
	maxEntries, maxLen int

	gone     []grave // in order of going
	evicted  uint64  // gone directories forgotten
	rejected uint64  // living directories that found no room
}

// record is one directory.
type record struct {
	path  Path
	walk  uint64 // number of the last walk that saw it
	since time.Time
	gone  bool
}

type grave struct {
	id  ID
	rec *record
}

func newMemory(entries, pathBytes int) memory {
	return memory{byID: make(map[ID]*record), maxEntries: entries, maxLen: pathBytes}
}

// put takes in or updates a directory that is there now. The record is of use
// also where the memory had no room for it.
func (m *memory) put(id ID, path Path) *record {
	rec, ok := m.byID[id]
	if ok {
		// Not on cgroup2, which neither reuses ids nor renames; on any other
		// file system (a fixture) an inode number may come back.
		m.bytes += len(path) - len(rec.path)
		rec.path, rec.gone, rec.since = path, false, time.Time{}
		return rec
	}
	rec = &record{path: path}
	for len(m.byID) >= m.maxEntries || m.bytes+len(path) > m.maxLen {
		if !m.evict() {
			m.rejected++
			return rec
		}
	}
	m.byID[id] = rec
	m.bytes += len(path)
	return rec
}

// bury notes that the directory is no longer there.
func (m *memory) bury(id ID, rec *record, now time.Time) {
	rec.gone, rec.since = true, now
	m.gone = append(m.gone, grave{id, rec})
}

// evict forgets the directory that is gone longest, and reports whether there
// was one.
func (m *memory) evict() bool {
	for len(m.gone) > 0 {
		g := m.gone[0]
		m.gone = m.gone[1:]
		if !g.rec.gone || m.byID[g.id] != g.rec {
			continue // it came back
		}
		delete(m.byID, g.id)
		m.bytes -= len(g.rec.path)
		m.evicted++
		return true
	}
	return false
}

// is reports whether the record is of the child name of the directory at
// parent, without building the path.
func (r *record) is(parent Path, name []byte) bool {
	p := strings.TrimSuffix(string(parent), "/")
	return len(r.path) == len(p)+1+len(name) && string(r.path[:len(p)]) == p &&
		r.path[len(p)] == '/' && string(r.path[len(p)+1:]) == string(name)
}
