package export

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// File is an export that was read: whole, of this version, and of a size that
// an export can have. What its documents say is looked at as they are asked for.
type File struct {
	Manifest
	End End

	files    map[string][]byte
	segments history.Copies
}

// Errors that every part of a file can meet.
var (
	errCut   = errors.New("it is cut short")
	errLarge = errors.New("it is larger than an export can be")
	errOther = errors.New("it is no export of tcpmemctl")
)

// Read reads an export.
func Read(r io.Reader) (*File, error) {
	f := &File{files: make(map[string][]byte), segments: history.Copies{}}
	if err := f.read(r); err != nil {
		return nil, fmt.Errorf("read export: %w", err)
	}
	return f, nil
}

func (f *File) read(r io.Reader) error {
	unpacked, err := gzip.NewReader(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return fmt.Errorf("%w: %w", errOther, err)
	}
	bounded := &io.LimitedReader{R: unpacked, N: maxAll}
	archive := tar.NewReader(bounded)
	whole := func(err error) error {
		switch {
		case bounded.N <= 0:
			return errLarge
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
			return errCut
		}
		return err
	}
	for n := 0; ; n++ {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) && bounded.N > 0 {
			break
		}
		if err != nil {
			return whole(err)
		}
		if n == maxFiles || h.Size > maxFile {
			return errLarge
		}
		if n > 0 && !known(h.Name) {
			continue // of a later tcpmemctl
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return whole(err)
		}
		if err := f.take(n, h, data); err != nil {
			return err
		}
	}
	if _, ok := f.files[endName]; !ok {
		return errCut
	}
	// What follows the archive is nothing, but for the checksum.
	if _, err := io.Copy(io.Discard, bounded); err != nil {
		return whole(err)
	}
	end, err := decode[End](f, endName)
	if err != nil {
		return err
	}
	f.End = *end
	return nil
}

func known(name string) bool {
	switch name {
	case manifestName, statusName, ownersName, socketsName, orphansName, doctorName, rulesName, policyName, pluginsName,
		summariesName, incidentsName, recordsName, endName:
		return true
	}
	return strings.HasPrefix(name, groupsDir) || strings.HasPrefix(name, historyDir)
}

// take keeps the n-th file.
func (f *File) take(n int, h *tar.Header, data []byte) error {
	if _, twice := f.files[h.Name]; twice || h.Typeflag != tar.TypeReg || (n == 0) != (h.Name == manifestName) {
		return errOther
	}
	if name, ok := strings.CutPrefix(h.Name, historyDir); ok {
		if _, twice := f.segments[name]; twice {
			return errOther
		}
		return f.segments.Add(name, data)
	}
	f.files[h.Name] = data
	if n > 0 {
		return nil
	}
	if err := json.Unmarshal(data, &f.Manifest); err != nil || f.Kind != kind {
		return errOther
	}
	if f.Version != version {
		return fmt.Errorf("it has version %d of the format, and this tcpmemctl reads %d", f.Version, version)
	}
	return nil
}

// decode reads a document, whose version all have at their top.
func decode[T any](f *File, name string) (*T, error) {
	data, ok := f.files[name]
	if !ok {
		if why := f.End.Missing[name]; why != "" {
			return nil, fmt.Errorf("read export: it has no %s: %s", name, why)
		}
		return nil, fmt.Errorf("read export: it has no %s", name)
	}
	var head struct {
		Version int `json:"version"`
	}
	doc := new(T)
	err := json.Unmarshal(data, &head)
	if err == nil && head.Version != version {
		err = fmt.Errorf("version %d, and this tcpmemctl reads %d", head.Version, version)
	}
	if err == nil {
		err = json.Unmarshal(data, doc)
	}
	if err != nil {
		return nil, fmt.Errorf("read export: %s: %w", name, err)
	}
	return doc, nil
}
