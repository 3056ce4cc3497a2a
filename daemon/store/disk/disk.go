// Package disk changes files so that a crash at any moment leaves the old
// content or the new one, and so that what was reported written stays
// (fsync of the file and of its folder).
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// Modes of what the daemon keeps: its group may read.
const (
	DirMode  fs.FileMode = 0o750
	FileMode fs.FileMode = 0o640
)

// Replace makes data the whole content of path, and its folder if need be.
func Replace(path string, data []byte) error {
	return ReplaceWith(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// ReplaceWith makes what write gives the whole content of path.
func ReplaceWith(path string, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	open := func() (*renameio.PendingFile, error) {
		return renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithStaticPermissions(FileMode))
	}
	f, err := open()
	if errors.Is(err, fs.ErrNotExist) {
		if err = Folder(dir); err == nil {
			f, err = open()
		}
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	// Nothing is left to do about a temporary file that cannot be removed:
	// Sweep finds it at the next start.
	defer f.Cleanup() //nolint:errcheck // see above
	if err := write(f); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return SyncDir(dir)
}

// Folder makes one folder where it lacks.
func Folder(path string) error {
	if err := os.Mkdir(path, DirMode); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return fmt.Errorf("create folder %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// Remove removes path for good; that it lacks already is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in dir durable (fsync(2): a file's own fsync does
// not cover its name).
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open folder %s: %w", dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}

// Sweep removes what a crash left of unfinished replacements in dir: their
// names begin with a dot.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	var failed error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && e.Type().IsRegular() {
			failed = errors.Join(failed, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return failed
}

// ReadFile reads at most limit bytes of path; a longer file is an error.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: longer than %d bytes", path, limit)
	}
	return data, nil
}

// Space is what a file of size bytes takes of a file system with blocks of
// 4096 bytes, the usual ones: a thousand small files count for what they are.
func Space(size int64) int64 { return (size + 4095) &^ 4095 }
