package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fileidKernfs is FILEID_KERNFS of enum fid_type in the kernel: the handle is
// the 64-bit kernfs id alone, so that whoever knows an id can open its
// directory (kernfs_fh_to_dentry in fs/kernfs/mount.c, since Linux 5.9).
const fileidKernfs = 0xfe

// errElsewhere: the id is of a cgroup that this mount does not show.
var errElsewhere = errors.New("outside this mount")

// byHandle asks the kernel for the path of an id. ESTALE means that there is no
// such directory (any more).
func (t *Tree) byHandle(id ID) (Path, error) {
	handle := unix.NewFileHandle(fileidKernfs, binary.NativeEndian.AppendUint64(nil, uint64(id)))
	fd, err := unix.OpenByHandleAt(t.fd(), handle, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("open cgroup %d by handle: %w", id, err)
	}
	defer unix.Close(fd)
	var buf [unix.PathMax]byte
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf[:])
	if err != nil {
		return "", fmt.Errorf("read path of cgroup %d: %w", id, err)
	}
	below, err := filepath.Rel(t.mount.point, string(buf[:n]))
	if err != nil || below == ".." || strings.HasPrefix(below, "../") {
		return "", fmt.Errorf("open cgroup %d by handle: %w", id, errElsewhere)
	}
	// The link says "x (deleted)" of a directory removed just now, which
	// one called that could say as well.
	var st unix.Stat_t
	if err := unix.Fstatat(t.fd(), below, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return "", fmt.Errorf("check path of cgroup %d: %w", id, err)
	}
	if ID(st.Ino) != id {
		return "", fmt.Errorf("check path of cgroup %d: %w", id, unix.ESTALE)
	}
	return t.mount.path(below), nil
}
