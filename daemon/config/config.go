// Package config turns tcpmemd.toml into a Config. Files are laid over each
// other key by key; every value remembers the file and line it came from.
//
// There are two layers: a document holds what a file says, in TOML's own
// types, and Config holds parsed values with units, so that nothing downstream
// parses again. The lower layer is not a struct for the decoder to fill,
// because toml.Decode matches field names in any case and stops at the first
// value of a wrong type, in the random order of a map: here a key is spelled
// one way, and all errors are told at once. settings lists the keys.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"time"

	_ "embed"
)

// Config is a whole, valid configuration.
type Config struct {
	Mode Mode

	// Protect are globs of units that no action touches, see units.Protected.
	// An empty list protects none.
	Protect []string

	Sample  Sample
	Scan    Scan
	State   State
	Control Control
}

// Sample is about the cheap reading of counters.
type Sample struct {
	Interval time.Duration // 1s to 5s
}

// Scan is about the full reading of sockets and their owners.
type Scan struct {
	Calm    time.Duration // between two scans while the host is calm, 5s to 10m
	Pressed time.Duration // the same above calm, 1s to 1m and at most Calm
	CPU     float64       // share of one CPU for reading processes, 0.01 to 1
}

// State is about what is kept from one scan to the next.
type State struct {
	TableBytes int // bound of the socket table, 1 MiB to 1 GiB
}

// Control is about the socket that tcpmemctl asks.
type Control struct {
	Socket string // absolute path, at most 107 bytes
}

// Mode is what the daemon may do.
type Mode string

// Observe decides, records and tells, and touches nothing.
const Observe Mode = "observe"

// BuiltIn is the File of an Origin that is no file on this host.
const BuiltIn = "built-in defaults"

// defaults is packed as /usr/lib/tcpmemd/tcpmemd.toml too.
//
//go:embed defaults/tcpmemd.toml
var defaults []byte

// maxErrors are told of one file: more of them means that it is another file.
const maxErrors = 20

// layers are the files of a host, each laid over the one before it.
var layers = []string{
	"usr/lib/tcpmemd/tcpmemd.toml",
	"run/tcpmemd/tcpmemd.toml",
	"etc/tcpmemd/tcpmemd.toml",
}

// Options says where to look. The zero value means this host's files.
type Options struct {
	// File is the value of --config: it alone is laid over the built-in
	// defaults, and it must exist.
	File string
	// Root is the directory under which usr/lib, run and etc are looked for,
	// "/" where it is empty.
	Root string
}

// Origin is where a value was set. Line is 0 where it is not known.
type Origin struct {
	File string
	Line int
}

// String gives FILE:LINE.
func (o Origin) String() string {
	if o.Line == 0 {
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// Loaded is a Config and where it came from.
type Loaded struct {
	Config  Config
	Files   []string          // that were used, the lowest layer first, without the built-in one
	Origins map[string]Origin // of every key, as "scan.calm"
}

// IsDefault says whether no file sets the key to something of its own: a
// packed copy of the defaults, under /usr/lib, may name it.
func (l Loaded) IsDefault(key string) bool {
	s, ok := settingOf(key)
	return ok && s.same(l.Config, builtIn().Config)
}

// Load reads the layers. Its error joins one *Error per mistake, over all
// files. The Loaded is usable even then: a file with a mistake is left out as
// a whole, so that a daemon can start on what is right, while a check or a
// reload refuses.
func Load(o Options) (Loaded, error) {
	l := builtIn()
	var errs []error
	if o.File != "" {
		err := l.overlay(o.File)
		return l, err
	}
	for _, layer := range layers {
		path := filepath.Join("/", o.Root, layer)
		if err := l.overlay(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return l, errors.Join(errs...)
}

// builtIn gives the embedded defaults. That they are valid is tested.
func builtIn() Loaded {
	l := Loaded{Origins: map[string]Origin{}}
	if err := l.apply(BuiltIn, defaults); err != nil {
		panic(err)
	}
	return l
}

// overlay lays the file over l.
func (l *Loaded) overlay(path string) error {
	data, err := readFile(path)
	if err != nil {
		return err
	}
	if err := l.apply(path, data); err != nil {
		return err
	}
	l.Files = append(l.Files, path)
	return nil
}

// apply lays the text of a file over l, or leaves l as it was.
func (l *Loaded) apply(file string, text []byte) error {
	doc, err := parseDocument(file, text)
	if err != nil {
		return err
	}
	next := Loaded{Config: l.Config, Files: l.Files, Origins: maps.Clone(l.Origins)}
	var errs []error
	for _, e := range doc {
		s, ok := settingOf(e.key)
		if !ok {
			errs = append(errs, e.fail(file, unknownKey(e.key, e.table)))
			continue
		}
		if err := s.set(&next.Config, e.value); err != nil {
			errs = append(errs, e.fail(file, fmt.Errorf("%s = %s: %w", e.key, show(e.value), err)))
			continue
		}
		next.Origins[e.key] = Origin{File: file, Line: e.line}
	}
	if len(errs) == 0 {
		errs = append(errs, next.check(file))
	}
	if n := len(errs) - maxErrors; n > 0 {
		errs = append(errs[:maxErrors], &Error{File: file, Err: fmt.Errorf("%d more mistakes", n)})
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	*l = next
	return nil
}

// check holds values against each other.
func (l *Loaded) check(file string) error {
	if c := l.Config.Scan; c.Pressed > c.Calm {
		pressed, calm := l.Origins["scan.pressed"], l.Origins["scan.calm"]
		// The file at hand is at fault: before it the values were in order.
		at, other := pressed, calm
		if at.File != file {
			at, other = calm, pressed
		}
		return &Error{File: file, Line: at.Line, Err: fmt.Errorf(
			"scan.pressed = %q is longer than scan.calm = %q (%s)", short(c.Pressed), short(c.Calm), other)}
	}
	return nil
}

// Keys lists the known keys in the order of the shipped files.
func Keys() []string {
	keys := make([]string, 0, len(settings))
	for _, s := range settings {
		keys = append(keys, s.key)
	}
	return keys
}
