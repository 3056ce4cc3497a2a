package procfs

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// PIDs lists the processes of a proc file system, again and again, without
// allocating. It is not safe for concurrent use.
type PIDs struct {
	fd   int
	root string
	buf  []byte
}

// OpenPIDs opens the root directory for listing.
func (f FS) OpenPIDs() (*PIDs, error) {
	fd, err := openRaw(f.root, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return &PIDs{fd: fd, root: f.root, buf: make([]byte, 32<<10)}, nil
}

// Append appends the ids of all processes to dst, in the kernel's order:
// ascending (proc_pid_readdir in fs/proc/base.c). With hidepid it lists only
// those that the caller may see. Processes that start meanwhile may be missing.
func (p *PIDs) Append(dst []int32) ([]int32, error) {
	if _, err := unix.Seek(p.fd, 0, unix.SEEK_SET); err != nil {
		return dst, &os.PathError{Op: "seek", Path: p.root, Err: err}
	}
	for {
		n, err := unix.Getdents(p.fd, p.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return dst, &os.PathError{Op: "getdents", Path: p.root, Err: err}
		}
		if n == 0 {
			return dst, nil
		}
		if dst, err = appendPIDs(dst, p.buf[:n]); err != nil {
			return dst, fmt.Errorf("list %s: %w", p.root, err)
		}
	}
}

// Close closes the directory.
func (p *PIDs) Close() error { return unix.Close(p.fd) }

// direntName is the offset of d_name in struct linux_dirent64
// (include/linux/dirent.h): u64 ino, s64 off, u16 reclen, u8 type, char name[].
const direntName = 8 + 8 + 2 + 1

// appendPIDs appends the entries of a getdents64 buffer whose name is a number.
func appendPIDs(dst []int32, data []byte) ([]int32, error) {
	for len(data) > 0 {
		if len(data) < direntName {
			return dst, fmt.Errorf("directory entry of %d bytes", len(data))
		}
		size := int(binary.NativeEndian.Uint16(data[16:]))
		if size < direntName || size > len(data) {
			return dst, fmt.Errorf("directory entry says it has %d of %d bytes", size, len(data))
		}
		if pid, ok := pidName(data[direntName:size]); ok {
			dst = append(dst, pid)
		}
		data = data[size:]
	}
	return dst, nil
}

// pidName parses a name that ends at a NUL byte.
func pidName(name []byte) (int32, bool) {
	n := int64(0)
	for i, c := range name {
		switch {
		case c == 0:
			return int32(n), i > 0 && n > 0
		case c < '0' || c > '9':
			return 0, false
		}
		if n = n*10 + int64(c-'0'); n > math.MaxInt32 {
			return 0, false
		}
	}
	return 0, false
}
