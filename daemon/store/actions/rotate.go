package actions

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/tcpmemd/tcpmemd/daemon/store/disk"
)

// rotate gives each file the next number, the oldest is removed. A crash in
// between leaves a number unused, which the next rotation fills.
func (l *Log) rotate() error {
	l.names.Lock()
	defer l.names.Unlock()
	free := 1
	for free < keep && l.exists(free) {
		free++
	}
	if free == keep {
		for _, name := range []string{l.rotated(keep), l.rotated(keep) + ".gz"} {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("rotate action log: %w", err)
			}
		}
	}
	for i := free - 1; i >= 1; i-- {
		for _, suffix := range []string{".gz", ""} {
			err := os.Rename(l.rotated(i)+suffix, l.rotated(i+1)+suffix)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("rotate action log: %w", err)
			}
		}
	}
	if err := os.Rename(l.path(), l.rotated(1)); err != nil {
		return fmt.Errorf("rotate action log: %w", err)
	}
	l.drop()
	l.size, l.tidy = -1, true
	return l.Prepare() // a new file: its folder is synced with it
}

func (l *Log) exists(i int) bool {
	for _, name := range []string{l.rotated(i), l.rotated(i) + ".gz"} {
		if _, err := os.Lstat(name); err == nil {
			return true
		}
	}
	return false
}

// Tidy compresses rotated files that are not yet, and removes what a log with
// a larger bound left. After a rotation it may take a tenth of a second:
// nobody should wait for it.
func (l *Log) Tidy() error {
	if !l.tidy {
		return nil
	}
	l.tidy = false
	if err := l.prune(); err != nil {
		return fmt.Errorf("prune action log: %w", err)
	}
	for i := 1; i <= keep; i++ {
		plain := l.rotated(i)
		if _, err := os.Lstat(plain); err != nil {
			continue
		}
		if err := l.compress(plain); err != nil {
			return fmt.Errorf("compress %s: %w", plain, err)
		}
	}
	return nil
}

func (l *Log) prune() error {
	l.names.Lock()
	defer l.names.Unlock()
	left := l.opts.MaxBytes - 2*l.rotateAt()
	for i := 1; i <= keep; i++ {
		for _, name := range []string{l.rotated(i), l.rotated(i) + ".gz"} {
			info, err := os.Lstat(name)
			if err != nil {
				continue
			}
			if left -= info.Size(); left < 0 {
				if err := disk.Remove(name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (l *Log) compress(plain string) error {
	in, err := os.Open(plain)
	if err != nil {
		return err
	}
	defer in.Close()
	// A reader prefers the plain file while both are there, and what a crash
	// leaves of both is the same lines.
	if err := disk.ReplaceWith(plain+".gz", func(w io.Writer) error {
		zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		if _, err := io.Copy(zip, in); err != nil {
			return err
		}
		return zip.Close()
	}); err != nil {
		return err
	}
	l.names.Lock()
	defer l.names.Unlock()
	return disk.Remove(plain)
}
