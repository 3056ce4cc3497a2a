// Package config turns tcpmemd.toml into a Config and policy.d into a Policy.
// Files are laid over each other key by key; every value remembers the file and
// line it came from.
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
	"slices"
	"strings"
	"time"

	_ "embed"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
)

// Config is a whole, valid configuration.
type Config struct {
	Mode policy.Mode

	// Protect are globs of units that no action touches, see units.Protected.
	// An empty list protects none. OptOut are globs of units that are told of
	// and never touched.
	Protect []string
	OptOut  []string

	Settle Settle
	// MinCoverage is the share of the memory whose owner must be known for an
	// action to touch one, 0 to 1.
	MinCoverage float64

	Sample  Sample
	Scan    Scan
	Budget  Budget
	State   State
	Control Control
	Metrics Metrics

	Plugins map[string]Plugin // by name, nil where none is named
}

// Settle is how long nothing is touched.
type Settle struct {
	Start time.Duration // after the daemon starts, 0 to 1h
	Owner time.Duration // after an owner is first seen, 0 to 24h
}

// Budget bounds all touching actions together.
type Budget struct {
	Host policy.Budget
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
	MaxBytes   int // of the state directory, 64 MiB to 4 GiB
}

// Control is about the socket that tcpmemctl asks.
type Control struct {
	Socket string // absolute path, at most 107 bytes
}

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

	// The rest is for LoadPolicy alone.

	// PolicyFiles are laid over all others, one over the other, and must exist:
	// drafts to try.
	PolicyFiles []string
	// Actions are those that a step may name, nil for the built-in ones.
	Actions []policy.ActionInfo
	// CheckStep gives what is wrong with the settings of a step, in the words
	// of its action; nil where nobody can tell.
	CheckStep func(*policy.Rule, *policy.Step) []Problem
}

// Problem is a setting of a step that its action refuses. Setting is "" where
// it is not one alone.
type Problem struct {
	Setting string
	Message string
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
	s, ok := settingAt(strings.Split(key, "."))
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
	doc, err := parseDocument(file, text, settingsSchema)
	if err != nil {
		return err
	}
	next := Loaded{Config: l.Config, Files: l.Files, Origins: maps.Clone(l.Origins)}
	next.Config.Plugins = maps.Clone(l.Config.Plugins)
	var errs []error
	for _, e := range doc {
		s, ok := settingAt(e.path)
		if !ok {
			errs = append(errs, e.fail(file, unknownKey(e)))
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
	if err := l.checkMetrics(file); err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(l.Config.Plugins)) {
		if err := l.checkPlugin(file, name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Keys lists the known keys in the order of the shipped files, without those of
// PluginKeys.
func Keys() []string {
	keys := make([]string, 0, len(settings))
	for _, s := range settings {
		keys = append(keys, s.key)
	}
	return keys
}
