package cgroup

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxWalk bounds one walk. It goes level by level, so that what is cut off is
// the deep end of delegated subtrees, which name nothing.
const maxWalk = 50_000

// scanner holds what a walk needs and the next can use again.
type scanner struct {
	buf   []byte // of getdents64(2)
	queue []Path // directories whose children are still to be read
	limit int
}

func newScanner() scanner { return scanner{buf: make([]byte, 32<<10), limit: maxWalk} }

// walk reads the whole hierarchy into the memory.
//
// The cost is in opening and listing directories, and most have no children:
// kernfs keeps 2 + children in st_nlink (set_inode_attr in fs/kernfs/inode.c), so a leaf
// costs one stat. Other file systems may say 1 for "cannot tell".
func (t *Tree) walk() (Stats, error) {
	var stats Stats
	const leaf = 2
	stats.Directories = 1
	root := t.mount.path("")
	t.mem.put(t.rootID, root).walk = t.walks
	t.scan.queue = append(t.scan.queue[:0], root)
	for i := 0; i < len(t.scan.queue); i++ {
		parent := t.scan.queue[i]
		fd, err := unix.Openat(t.fd(), t.below(parent), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			if i == 0 {
				return stats, fmt.Errorf("read cgroup root %s: %w", t.mount.point, err)
			}
			if err != unix.ENOENT && err != unix.ENODEV {
				stats.Unreadable++
			}
			continue
		}
		err = t.scan.list(fd, func(id ID, name []byte) bool {
			if stats.Directories >= t.scan.limit {
				stats.Truncated = true
				return false
			}
			stats.Directories++
			rec, known := t.mem.byID[id]
			if !known || rec.gone || !rec.is(parent, name) {
				stats.New++
				rec = t.mem.put(id, join(parent, name))
			}
			rec.walk = t.walks
			var st unix.Stat_t
			if err := unix.Fstatat(fd, string(name), &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Nlink != leaf {
				t.scan.queue = append(t.scan.queue, rec.path)
			}
			return true
		})
		unix.Close(fd)
		if err != nil {
			if i == 0 {
				return stats, fmt.Errorf("read cgroup root %s: %w", t.mount.point, err)
			}
			if err != unix.ENOENT && err != unix.ENODEV { // removed meanwhile
				stats.Unreadable++
			}
		}
		if stats.Truncated {
			break
		}
	}
	clear(t.scan.queue) // the paths belong to the memory, which may forget them
	return stats, nil
}

// list yields the directories in the one that fd has open. The name is valid
// only during the call.
func (s *scanner) list(fd int, yield func(id ID, name []byte) bool) error {
	for {
		n, err := unix.ReadDirent(fd, s.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return err
		}
		for rest := s.buf[:n]; len(rest) > 0; {
			var d dirent
			if d, rest, err = nextDirent(rest); err != nil {
				return err
			}
			if d.typ != unix.DT_DIR || string(d.name) == "." || string(d.name) == ".." {
				continue
			}
			if !yield(d.id, d.name) {
				return nil
			}
		}
	}
}

type dirent struct {
	id   ID
	typ  byte
	name []byte
}

// nextDirent takes the first struct linux_dirent64 (include/linux/dirent.h)
// off the buffer: inode, offset, record length, type, name with a NUL.
func nextDirent(buf []byte) (d dirent, rest []byte, err error) {
	const lenAt, typeAt, nameAt = 16, 18, 19
	if len(buf) < nameAt {
		return dirent{}, nil, fmt.Errorf("read directory entry: %d bytes are too few", len(buf))
	}
	size := int(binary.NativeEndian.Uint16(buf[lenAt:]))
	if size < nameAt || size > len(buf) {
		return dirent{}, nil, fmt.Errorf("read directory entry: length %d of %d", size, len(buf))
	}
	d.id = ID(binary.NativeEndian.Uint64(buf))
	d.typ = buf[typeAt]
	d.name, _, _ = bytes.Cut(buf[nameAt:size], []byte{0})
	return d, buf[size:], nil
}

// join is the path of a child.
func join(parent Path, name []byte) Path {
	b := make([]byte, 0, len(parent)+1+len(name))
	b = append(b, parent...)
	if b[len(b)-1] != '/' {
		b = append(b, '/')
	}
	return Path(append(b, name...))
}
