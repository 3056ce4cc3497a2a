package netns

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Home reports whether the namespace is the one that Do returns to.
func (e *Enterer) Home(id reading.NetnsID) bool { return id.Inode == e.inode }

// Find opens a namespace through one of the processes, or through a bind mount
// in this process's mount namespace or that of PID 1. To open it by a process
// with more rights than the caller's needs CAP_SYS_PTRACE (proc_ns_get_link).
//
// Inode numbers are reused, so that the cookie is compared too where it is
// known. What is returned keeps the namespace alive: close it soon.
func (e *Enterer) Find(fs procfs.FS, id reading.NetnsID, pids ...int) (*os.File, error) {
	var paths []string
	for _, pid := range pids {
		paths = append(paths, fs.Root()+"/"+strconv.Itoa(pid)+"/ns/net")
	}
	failed := &openError{inode: id.Inode}
	if f := e.first(paths, id, failed); f != nil {
		return f, nil
	}
	for _, table := range []struct{ path, root string }{
		{fs.Root() + "/self/mountinfo", ""}, {fs.Root() + "/1/mountinfo", fs.Root() + "/1/root"},
	} {
		list, err := listMounts(table.path)
		if err != nil {
			failed.errs = append(failed.errs, err)
			continue
		}
		if path, ok := list[id.Inode]; ok {
			if f := e.first([]string{table.root + path}, id, failed); f != nil {
				return f, nil
			}
		}
	}
	return nil, failed
}

// first opens the first of the paths that leads to the namespace.
func (e *Enterer) first(paths []string, id reading.NetnsID, failed *openError) *os.File {
	for _, path := range paths {
		f, err := e.open(path, id.Inode)
		if err == nil {
			if err = e.checkCookie(f, id.Cookie); err == nil {
				return f
			}
			f.Close()
		}
		failed.errs = append(failed.errs, err)
	}
	return nil
}

func (e *Enterer) checkCookie(f *os.File, want uint64) error {
	if want == 0 {
		return nil
	}
	var have uint64
	if err := e.Do(f, func() error { have = readCookie(); return nil }); err != nil {
		return err
	}
	if have != want {
		return &os.PathError{Op: "open", Path: f.Name(), Err: fmt.Errorf("%w: its cookie is %d, not %d", errAnother, have, want)}
	}
	return nil
}

// listMounts reads a mount table once, without waiting for it to change.
func listMounts(path string) (map[uint32]string, error) {
	fd, err := openRetry(path, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open mount table: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	f := os.NewFile(uintptr(fd), path)
	list, err := parseMounts(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	return list, nil
}
