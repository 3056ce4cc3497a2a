// Package actions keeps the action log: one [record.Record] a line, JSON
// Lines, in actions.jsonl and its rotated predecessors actions.jsonl.1.gz
// (the newest) to actions.jsonl.8.gz.
//
// A line counts as written once fdatasync(2) returned. What a failed write
// left behind is cut off before the next one, so a line is in the log once or
// not at all; what a crash left of a last line is moved to actions.torn.
package actions

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/store/disk"
)

// Name is the file that is written to.
const Name = "actions.jsonl"

// MaxLine bounds one line, its newline included.
const MaxLine = 1 << 20

// keep is how many rotated files there are at most.
const keep = 8

// File is what the log needs of a file. Sync is fdatasync.
type File interface {
	io.Writer
	io.ReaderAt
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// Options of a log.
type Options struct {
	// MaxBytes bounds all files of the log together, also while one is
	// being compressed.
	MaxBytes int64
	// OpenFile opens the file to write to; nil for the real one. Tests put
	// bad disks here.
	OpenFile func(path string) (File, error)
}

// Log is the action log of one folder. Write and Tidy are for one goroutine,
// reading is for any.
type Log struct {
	dir  string
	opts Options

	file File  // nil before the first write and after a failed one
	size int64 // what is durable of it; -1 before it is known
	torn int   // bytes cut off its end since New
	tidy bool  // whether rotated files may be left to Tidy

	// names is held while files change their names, and while a reader
	// opens them: it then reads each line once.
	names sync.Mutex
}

// New gives the log in dir. It touches nothing: Prepare and Write do.
func New(dir string, opts Options) *Log {
	if opts.OpenFile == nil {
		opts.OpenFile = openFile
	}
	return &Log{dir: dir, opts: opts, size: -1, tidy: true}
}

// Prepare opens the file to write to, which it creates where it lacks, and
// cuts off a torn last line. Write does so too if need be: an error here is
// that of a disk that may get better.
func (l *Log) Prepare() error {
	if l.file != nil {
		return nil
	}
	f, err := l.opts.OpenFile(l.path())
	if err != nil {
		return fmt.Errorf("open action log: %w", err)
	}
	if err := l.repair(f); err != nil {
		f.Close() //nolint:errcheck // the first error tells more
		return err
	}
	l.file = f
	return nil
}

// Torn is how many bytes were cut off because a crash had cut short their line.
func (l *Log) Torn() int { return l.torn }

// Write appends whole lines with one write and makes them durable. After an
// error none of them counts as written, and all may be written again.
func (l *Log) Write(lines []byte) error {
	if l.file != nil && l.replaced() {
		l.drop()
		l.size = -1
	}
	if err := l.Prepare(); err != nil {
		return err
	}
	if l.size > 0 && l.size+int64(len(lines)) > l.rotateAt() {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(lines)
	if err == nil && n < len(lines) {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		// After a failed fdatasync the kernel counts the pages as clean:
		// only a new write of the same lines is ever written back.
		err = errors.Join(fmt.Errorf("write action log: %w", err), l.file.Truncate(l.size))
		l.drop()
		return err
	}
	l.size += int64(len(lines))
	return nil
}

// Close closes the file.
func (l *Log) Close() error {
	if l.file == nil {
		return nil
	}
	defer func() { l.file = nil }()
	return l.file.Close()
}

func (l *Log) path() string { return filepath.Join(l.dir, Name) }

func (l *Log) rotated(i int) string { return fmt.Sprintf("%s.%d", l.path(), i) }

// rotateAt leaves room for the file written to, keep rotated ones and one that
// is being compressed.
func (l *Log) rotateAt() int64 { return l.opts.MaxBytes / (keep + 2) }

// MaxBatch is the most bytes that one Write may be given.
func (l *Log) MaxBatch() int { return int(min(l.rotateAt(), MaxLine)) }

// repair brings f to the end of its last durable or, when that is not known,
// whole line.
func (l *Log) repair(f File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("stat action log: %w", err)
	}
	end := info.Size()
	if l.size < 0 {
		if end, err = wholeLines(f, info.Size()); err != nil {
			return fmt.Errorf("read action log: %w", err)
		}
	} else if l.size < end {
		end = l.size // lines of a write that failed
	}
	if end == info.Size() {
		l.size = end
		return nil
	}
	if l.size < 0 {
		if err := l.keepTorn(f, end, info.Size()); err != nil {
			return err
		}
	}
	if err := f.Truncate(end); err != nil {
		return fmt.Errorf("cut action log: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync action log: %w", err)
	}
	if l.size < 0 {
		l.torn += int(info.Size() - end)
	}
	l.size = end
	return nil
}

// keepTorn saves what is about to be cut off, as far as it is not too long.
func (l *Log) keepTorn(f File, from, to int64) error {
	tail := make([]byte, min(to-from, 64<<10, l.opts.MaxBytes/256))
	if _, err := f.ReadAt(tail, from); err != nil {
		return fmt.Errorf("read action log: %w", err)
	}
	return disk.Replace(filepath.Join(l.dir, "actions.torn"), tail)
}

// wholeLines is where the last newline of f ends.
func wholeLines(f io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		start := max(0, end-int64(len(buf)))
		part := buf[:end-start]
		if _, err := f.ReadAt(part, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}

// replaced says whether the name now stands for another file, or for none.
func (l *Log) replaced() bool {
	named, err := os.Stat(l.path())
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	open, err := l.file.Stat()
	return err == nil && !os.SameFile(named, open)
}

func (l *Log) drop() {
	l.file.Close() //nolint:errcheck // its lines do not count as written
	l.file = nil
}

func openFile(path string) (File, error) {
	_, err := os.Stat(path)
	f, openErr := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, disk.FileMode)
	if openErr != nil {
		return nil, openErr
	}
	if err != nil {
		if err := disk.SyncDir(filepath.Dir(path)); err != nil {
			f.Close()
			return nil, err
		}
	}
	return osFile{f}, nil
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return unix.Fdatasync(int(f.Fd())) }
