package fds

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/owner"
)

// Descriptor is a socket descriptor of a process.
type Descriptor struct {
	FD    int32
	Inode uint32
}

// Found is what reading one process gave.
type Found struct {
	Proc    owner.ProcRef
	Skipped bool         // not read: as many descriptors as at its last reading
	Count   int64        // open descriptors
	Sockets []Descriptor // that Wanted asked for
	Others  []Descriptor // TCP and MPTCP sockets that no dump showed, if asked
	Netns   []Descriptor // descriptors of network namespaces
	Err     error        // its descriptors could not be read, or not all
}

// Wanted says what a walk looks for. Holds is called from several goroutines.
type Wanted struct {
	Holds func(inode uint32) bool
	// SkipUnchanged leaves out processes that have as many descriptors as at
	// their last reading.
	SkipUnchanged bool
	// Others asks for TCP sockets that Holds does not know, too: the
	// candidates for hidden ones.
	Others bool
}

// Walk reads the descriptors of processes in order, with as many workers, and
// calls yield for each, in no particular order. It ends early when yield
// returns false or ctx ends; every worker has ended when it returns. A
// process that ended meanwhile is skipped.
func (x *Index) Walk(ctx context.Context, order []owner.ProcRef, workers int, want Wanted, yield func(Found) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var (
		next    atomic.Int64
		wg      sync.WaitGroup
		results = make(chan Found, 64)
	)
	type target struct {
		pid   int32
		count int64
	}
	targets := make([]target, len(order))
	for i, ref := range order {
		p := x.Proc(ref)
		targets[i] = target{p.PID, p.Count}
	}
	for range max(1, min(workers, len(order))) {
		wg.Go(func() {
			w := walker{root: x.fs.Root(), want: want, dents: make([]byte, 32<<10)}
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(order) {
					return
				}
				t := targets[i]
				found := Found{Skipped: true}
				if !want.SkipUnchanged || t.count < 0 || changed(w.root, t.pid, t.count) {
					found = w.read(ctx, t.pid)
				}
				found.Proc = order[i]
				select {
				case results <- found:
				case <-ctx.Done():
				}
			}
		})
	}
	go func() { wg.Wait(); close(results) }()
	for found := range results {
		if ctx.Err() == nil && !yield(found) {
			cancel()
		}
	}
	cancel()
}

// Record notes the outcome of reading a process in full.
func (x *Index) Record(f Found, search uint32, now time.Time) {
	p := x.Proc(f.Proc)
	p.Unread, p.Tried = f.Err, now
	if f.Err != nil {
		return
	}
	p.Count, p.Sockets, p.Read, p.ReadAt = f.Count, len(f.Sockets), search, now
}

// walker reads descriptor tables with buffers of its own.
type walker struct {
	root  string
	want  Wanted
	dents []byte
	link  [80]byte
}

// read lists the descriptors of a process. readlink rather than stat: it never
// asks the file system behind a descriptor, so a dead NFS server cannot hang
// the walk (proc_fd_link, d_path).
func (w *walker) read(ctx context.Context, pid int32) (f Found) {
	dir := fmt.Sprintf("%s/%d/fd", w.root, pid)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		f.Err = &os.PathError{Op: "open", Path: dir, Err: err}
		return f
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Getdents(fd, w.dents)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			f.Err = &os.PathError{Op: "getdents", Path: dir, Err: err}
			return f
		}
		if n == 0 {
			return f
		}
		if ctx.Err() != nil {
			f.Err = ctx.Err()
			return f
		}
		if err := w.entries(fd, pid, w.dents[:n], &f); err != nil {
			f.Err = fmt.Errorf("list %s: %w", dir, err)
			return f
		}
	}
}

// direntName is the offset of the name in struct linux_dirent64: ino u64,
// off s64, reclen u16, type u8, then a name that ends in NUL.
const direntName = 19

func (w *walker) entries(dirfd int, pid int32, b []byte, f *Found) error {
	for len(b) > 0 {
		if len(b) < direntName+1 {
			return fmt.Errorf("directory entry of %d bytes", len(b))
		}
		size := int(binary.NativeEndian.Uint16(b[16:]))
		if size <= direntName || size > len(b) {
			return fmt.Errorf("directory entry says %d of %d bytes", size, len(b))
		}
		name := b[direntName:size]
		b = b[size:]
		// The name ends at its NUL; what pads the entry after it is left over
		// from earlier calls.
		n, ok := decimal(name)
		if !ok || bytes.IndexByte(name, 0) < 0 {
			continue // . and ..
		}
		f.Count++
		w.descriptor(dirfd, pid, name, int32(n), f)
	}
	return nil
}

// descriptor looks at one. The name is passed to the kernel where it lies, with
// its NUL: a string for each would be the largest cost of a walk.
func (w *walker) descriptor(dirfd int, pid int32, name []byte, fd int32, f *Found) {
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dirfd), uintptr(unsafe.Pointer(&name[0])),
		uintptr(unsafe.Pointer(&w.link[0])), uintptr(len(w.link)), 0, 0)
	if errno != 0 {
		return // closed meanwhile
	}
	link := w.link[:n]
	if inode, ok := linkInode(link, "socket:["); ok {
		switch {
		case w.want.Holds(inode):
			f.Sockets = append(f.Sockets, Descriptor{fd, inode})
		case w.want.Others && isTCP(w.root, pid, fd):
			f.Others = append(f.Others, Descriptor{fd, inode})
		}
	} else if inode, ok := linkInode(link, "net:["); ok {
		f.Netns = append(f.Netns, Descriptor{fd, inode})
	}
}

// isTCP asks a socket for its protocol without taking it from its process:
// the attribute system.sockprotoname of its inode (sockfs_xattr_get in
// net/socket.c).
func isTCP(root string, pid, fd int32) bool {
	var name [16]byte
	n, err := unix.Getxattr(fmt.Sprintf("%s/%d/fd/%d", root, pid, fd), "system.sockprotoname", name[:])
	if err != nil {
		return false
	}
	for n > 0 && name[n-1] == 0 {
		n--
	}
	switch string(name[:n]) {
	case "TCP", "TCPv6", "MPTCP", "MPTCPv6":
		return true
	}
	return false
}

// linkInode parses "socket:[123]", the text of a descriptor without a path
// (simple_dname, ns_dname).
func linkInode(link []byte, prefix string) (uint32, bool) {
	if len(link) < len(prefix)+2 || string(link[:len(prefix)]) != prefix || link[len(link)-1] != ']' {
		return 0, false
	}
	return decimal(link[len(prefix) : len(link)-1])
}

// decimal parses a number up to a NUL or the end.
func decimal(b []byte) (uint32, bool) {
	n := uint64(0)
	for i, c := range b {
		switch {
		case c == 0 && i > 0:
			return uint32(n), true
		case c < '0' || c > '9':
			return 0, false
		}
		if n = n*10 + uint64(c-'0'); n > 1<<32-1 {
			return 0, false
		}
	}
	return uint32(n), len(b) > 0
}
