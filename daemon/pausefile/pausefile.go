// Package pausefile is the file by whose being there nothing is touched:
// /run/tcpmemd/pause. `tcpmemctl pause` writes it, with an end; made by hand,
// with touch(1), it has none and is the emergency stop, which works also where
// the daemon does not answer.
package pausefile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Name is the file's name in the runtime directory.
const Name = "pause"

// maxSize bounds what is read of the file; maxWhy what is told of it.
const (
	maxSize = 8 << 10
	maxWhy  = 256
)

// Pause is what the file says. Until is nil where it has no end: the emergency
// stop.
type Pause struct {
	Version int            `json:"version"`
	Why     string         `json:"why"`
	Since   record.Stamp   `json:"since"`
	Until   *record.Stamp  `json:"until"`
	By      *record.Caller `json:"by"`
}

// Read gives the pause of this moment, nil where there is none. What cannot be
// read, or is no pause of ours, stops everything: whoever made the file meant
// something by it.
func Read(path string, now record.Stamp) *Pause {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hold up the loop
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &Pause{Why: fmt.Sprintf("the file %s is there, and cannot be read: %v", path, err)}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return &Pause{Why: fmt.Sprintf("%s is there", path)}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSize))
	if err != nil {
		return &Pause{Why: fmt.Sprintf("the file %s is there, and cannot be read: %v", path, err)}
	}
	p := parse(text)
	if p == nil {
		return &Pause{Why: "the file " + path + " is there" + quote(text)}
	}
	if p.Until.BootID != now.BootID || now.BootSeconds >= p.Until.BootSeconds {
		return nil // over; or of another boot, and then of no file system that outlives one
	}
	return p
}

// parse gives a pause with an end, nil for all else.
func parse(text []byte) *Pause {
	var p Pause
	if json.Unmarshal(text, &p) != nil || p.Version != record.Version || p.Until == nil || p.Why == "" {
		return nil
	}
	return &p
}

// quote gives what somebody wrote into the file, for a person.
func quote(text []byte) string {
	s := strings.TrimSpace(strings.ToValidUTF8(string(text), "?"))
	if s == "" {
		return ""
	}
	for len(s) > maxWhy {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return fmt.Sprintf(": %q", s)
}

// Write makes the file.
func Write(path string, p Pause) error {
	p.Version = record.Version
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write pause: %w", err)
	}
	if err := renameio.WriteFile(path, append(text, '\n'), 0o640); err != nil {
		return fmt.Errorf("write pause: %w", err)
	}
	return nil
}

// Remove ends a pause, whoever made the file.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("end pause: %w", err)
	}
	return nil
}
