package procfs

import (
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
	return appendNumbers(dst, p.fd, p.root, p.buf)
}

// Close closes the directory.
func (p *PIDs) Close() error { return unix.Close(p.fd) }

// appendNumbers lists a directory from where it stands and appends the names
// that are positive numbers.
func appendNumbers(dst []int32, fd int, path string, buf []byte) ([]int32, error) {
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return dst, &os.PathError{Op: "getdents", Path: path, Err: err}
		}
		if n == 0 {
			return dst, nil
		}
		if dst, err = appendPIDs(dst, buf[:n]); err != nil {
			return dst, fmt.Errorf("list %s: %w", path, err)
		}
	}
}

// appendPIDs appends the entries of a getdents64 buffer whose name is a number.
func appendPIDs(dst []int32, data []byte) ([]int32, error) {
	for name, err := range Dirents(data) {
		if err != nil {
			return dst, err
		}
		if pid, ok := pidName(name); ok {
			dst = append(dst, pid)
		}
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
