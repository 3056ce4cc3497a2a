package runner

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// File is an executable that was found in order.
type File struct {
	Path   string
	UID    uint32
	Mode   os.FileMode
	Size   int64
	Script bool   // #!: executed by its path; else by the descriptor that was checked
	SHA256 string // in hex; "" where no checksum was asked for
}

// identity tells one state of a file from another.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// opened is a File with the descriptor that was checked.
type opened struct {
	*os.File
	info File
	id   identity
}

// open checks path and every folder above, each on a descriptor that was
// reached from the one before, so that nothing can be exchanged in between:
// each belongs to root (or to us, when that is another), none is a symbolic
// link, and nobody else may write to any, also not where the sticky bit would
// keep them from renaming.
func open(path string) (*opened, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, fail(KindMissing, "%s is no plain absolute path", path)
	}
	dir, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fail(KindUnreadable, "open /: %w", err)
	}
	defer func() { unix.Close(dir) }()
	parts := strings.Split(path[1:], "/")
	for i, name := range parts[:len(parts)-1] {
		here := "/" + strings.Join(parts[:i], "/")
		if err := checkFolder(dir, here); err != nil {
			return nil, err
		}
		next, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fail(notFound(err), "%s: %w", filepath.Join(here, name), err)
		}
		unix.Close(dir)
		dir = next
	}
	if err := checkFolder(dir, filepath.Dir(path)); err != nil {
		return nil, err
	}
	// Not to wait for the other side of a pipe.
	fd, err := unix.Openat(dir, parts[len(parts)-1], unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fail(KindSymlink, "%s is a symbolic link", path)
	case err != nil:
		return nil, fail(notFound(err), "%s: %w", path, err)
	}
	f := &opened{File: os.NewFile(uintptr(fd), path)}
	if err := f.check(path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func notFound(err error) Kind {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return KindMissing
	}
	return KindUnreadable
}

func checkFolder(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail(KindUnreadable, "%s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return fail(KindSymlink, "%s is a symbolic link", path)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fail(KindMissing, "%s is no folder", path)
	case !trusted(st.Uid):
		return fail(KindWrongOwner, "%s belongs to user %d", path, st.Uid)
	case st.Mode&0o022 != 0:
		return fail(KindWritableFolder, "%s is writable by others than its owner (mode %#o)", path, st.Mode&0o7777)
	}
	return nil
}

func trusted(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

func (f *opened) check(path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fail(KindUnreadable, "%s: %w", path, err)
	}
	mode := os.FileMode(st.Mode & 0o777)
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fail(KindNotExecutable, "%s is no file", path)
	case !trusted(st.Uid):
		return fail(KindWrongOwner, "%s belongs to user %d", path, st.Uid)
	case mode&0o022 != 0:
		return fail(KindWritable, "%s is writable by others than its owner (mode %#o)", path, mode)
	case mode&0o111 == 0:
		return fail(KindNotExecutable, "%s may not be executed (mode %#o)", path, mode)
	}
	var magic [4]byte
	n, err := f.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fail(KindUnreadable, "read %s: %w", path, err)
	}
	script := strings.HasPrefix(string(magic[:n]), "#!")
	if !script && string(magic[:n]) != "\x7fELF" {
		return fail(KindNotExecutable, "%s is neither an ELF file nor a script", path)
	}
	f.info = File{Path: path, UID: st.Uid, Mode: mode, Size: st.Size, Script: script}
	f.id = identity{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}
	return nil
}

// sum reads all of the descriptor and notes the checksum.
func (f *opened) sum() error {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, f.info.Size+1)); err != nil {
		return fail(KindUnreadable, "read %s: %w", f.info.Path, err)
	}
	f.info.SHA256 = hex.EncodeToString(h.Sum(nil))
	return nil
}

// match compares the checksum with the one that is wanted, in hex.
func (f *opened) match(want string) error {
	if err := f.sum(); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(f.info.SHA256), []byte(strings.ToLower(want))) != 1 {
		return fail(KindChecksum, "%s has the checksum %s, not %s", f.info.Path, f.info.SHA256, want)
	}
	return nil
}

func validSum(s string) error {
	if b, err := hex.DecodeString(s); err != nil || len(b) != sha256.Size {
		return fmt.Errorf("checksum %q: want %d hex digits", s, 2*sha256.Size)
	}
	return nil
}
