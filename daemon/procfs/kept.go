package procfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

const (
	// firstRead fits netstat (about 4 kB), the largest of the usual files; a
	// longer one makes the shared buffer grow once.
	firstRead = 8 << 10
	// smallRead is for sysctls: their kernel side allocates and clears as
	// many bytes as the caller offers (proc_sys_call_handler in
	// fs/proc/proc_sysctl.c).
	smallRead = 128
	// mostRead bounds what one file may make us hold. /proc/stat of a very
	// large machine is a few 100 kB.
	mostRead = 8 << 20
)

// scratch lends read buffers. They are shared by all files, since kept readers
// of hundreds of namespaces with a buffer each would cost megabytes.
var scratch = sync.Pool{New: func() any {
	b := make([]byte, firstRead)
	return &b
}}

// Kept reads one file of /proc again and again through one open descriptor. It
// is safe for concurrent use, except that nobody may read after Close.
type Kept[T any] struct {
	file  *os.File
	first int
	parse func([]byte) (T, error)
}

// keep opens path for good. parse must not retain its argument; first is the
// number of bytes to ask for at first.
func keep[T any](path string, first int, parse func([]byte) (T, error)) (*Kept[T], error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &Kept[T]{file: file, first: first, parse: parse}, nil
}

// Read reads the file anew. It allocates nothing unless it returns an error.
func (k *Kept[T]) Read() (T, error) {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	var zero T
	data, err := readWhole(k.file, buf, k.first)
	if err != nil {
		return zero, fmt.Errorf("read %s: %w", k.file.Name(), bare(err))
	}
	v, err := k.parse(data)
	if err != nil {
		return zero, fmt.Errorf("parse %s: %w", k.file.Name(), err)
	}
	return v, nil
}

// Path is the file's name as it was opened.
func (k *Kept[T]) Path() string { return k.file.Name() }

// Close closes the file. Closing nil does nothing, so that an optional file can
// be closed without asking.
func (k *Kept[T]) Close() error {
	if k == nil {
		return nil
	}
	return k.file.Close()
}

// readWhole reads a file from its beginning into *buf, which grows as needed,
// and returns the part filled. A file that fills the buffer is read again from
// the start: sysctls answer only at offset 0 (proc_dointvec in
// kernel/sysctl.c), and one read is one moment.
func readWhole(r io.ReaderAt, buf *[]byte, first int) ([]byte, error) {
	size := min(first, len(*buf))
	for {
		n, err := r.ReadAt((*buf)[:size], 0)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if n < size {
			return (*buf)[:n], nil
		}
		if size >= mostRead {
			return nil, fmt.Errorf("longer than %d bytes", mostRead)
		}
		size *= 4
		if size > len(*buf) {
			*buf = make([]byte, size)
		}
	}
}

// once opens a kept reader, reads it and closes it.
func once[T any](open func() (*Kept[T], error)) (T, error) {
	k, err := open()
	if err != nil {
		var zero T
		return zero, err
	}
	v, err := k.Read()
	return v, errors.Join(err, k.Close())
}

// bare takes operation and path off an error of package os, for callers that
// name both themselves.
func bare(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}
