package runcommand

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	maxArgs  = 64
	maxLinks = 40 // as the kernel follows (MAXSYMLINKS)
	// othersWrite are the bits of the mode that let others than the owner
	// write. An access control list shows in those of the group.
	othersWrite = 0o022
)

// Program is a program with its arguments, as an operator wrote them: nothing
// in them is expanded, no shell sees them.
type Program struct {
	Path string
	Args []string
}

// NewProgram takes a list of an absolute path and arguments.
func NewProgram(list []string) (Program, error) {
	switch {
	case len(list) == 0 || list[0] == "":
		return Program{}, errors.New("no program: want a list of an absolute path and arguments")
	case !path.IsAbs(list[0]):
		return Program{}, fmt.Errorf("%s is not an absolute path", quote(list[0], maxShown))
	case len(list) > maxArgs:
		return Program{}, fmt.Errorf("more than %d arguments", maxArgs-1)
	}
	return Program{Path: list[0], Args: list[1:]}, nil
}

// String is the command line for a person: words are quoted where need be.
func (p Program) String() string {
	var words []string
	for _, w := range append([]string{p.Path}, p.Args...) {
		if q := quote(w, maxShown); w == "" || strings.ContainsRune(w, ' ') || q != `"`+w+`"` {
			w = q
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// Check refuses a program that others than root could have put there: it, the
// symbolic links to it and every directory above must be root's, and writable
// by nobody else. After that nobody but root can swap it before it is run.
func (p Program) Check(ctx context.Context) error {
	var st unix.Stat_t
	full, err := p.walk(ctx, &st)
	if err != nil {
		return fmt.Errorf("check %s: %w", quote(p.Path, maxShown), err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errors.New("not a regular file")
	case st.Mode&0o111 == 0:
		err = errors.New("not executable")
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", quote(full, maxShown), err)
	}
	return nil
}

// walk goes down to the program from the root, and gives its path without
// links and what it is.
func (p Program) walk(ctx context.Context, st *unix.Stat_t) (full string, err error) {
	full = "/"
	if err := inspect(full, st); err != nil {
		return "", err
	}
	rest := strings.Split(p.Path, "/")
	for links := 0; len(rest) > 0; {
		if err := ctx.Err(); err != nil {
			return "", err // a file system may hang
		}
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			full = path.Dir(full)
			continue
		}
		next := path.Join(full, name)
		if err := inspect(next, st); err != nil {
			return "", err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			full = next
			continue
		}
		if links++; links > maxLinks {
			return "", errors.New("too many symbolic links")
		}
		to, err := os.Readlink(next)
		if err != nil {
			return "", bare(err)
		}
		if path.IsAbs(to) {
			full = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return full, inspect(full, st)
}

// inspect refuses what is not root's alone. The mode of a link means nothing.
func inspect(name string, st *unix.Stat_t) error {
	if err := unix.Lstat(name, st); err != nil {
		return fmt.Errorf("%s: %w", quote(name, maxShown), err)
	}
	switch {
	case st.Uid != 0:
		return fmt.Errorf("%s belongs to user %d, not to root", quote(name, maxShown), st.Uid)
	case st.Mode&unix.S_IFMT != unix.S_IFLNK && st.Mode&othersWrite != 0:
		return fmt.Errorf("%s may be written by others than root (mode %04o)", quote(name, maxShown), st.Mode&0o7777)
	}
	return nil
}

// bare takes operation and path off an error of package os.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	if se, ok := errors.AsType[*os.SyscallError](err); ok {
		return se.Err
	}
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no
	}
	return err
}
