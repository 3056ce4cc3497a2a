package config

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
)

// defaultPolicies are packed as /usr/lib/tcpmemd/policy.d too.
//
//go:embed defaults/policy.d/*.toml
var defaultPolicies embed.FS

// policyDirs are the directories of a host, the lowest layer first.
var policyDirs = []string{
	"usr/lib/tcpmemd/policy.d",
	"run/tcpmemd/policy.d",
	"etc/tcpmemd/policy.d",
}

// policyFile is one file of a policy.d.
type policyFile struct {
	path    string
	text    []byte
	entries []entry
	rank    int // its place in the order of merging
}

// policySet holds, by name, the files that a host has in its layers, the
// lowest first. Only the last of each counts.
type policySet map[string][]string

// draftName begins names that sort after every other.
const draftName = "\xff"

// findPolicies looks for files. Its error joins one *Error for each directory
// that cannot be read.
func findPolicies(o Options) (policySet, error) {
	found := policySet{}
	names, err := fs.Glob(defaultPolicies, "defaults/policy.d/*.toml")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		found.add(filepath.Base(name), builtInPath(name))
	}
	var dirs []string
	if o.File != "" {
		dirs = []string{filepath.Join(filepath.Dir(o.File), "policy.d")}
	} else {
		for _, dir := range policyDirs {
			dirs = append(dirs, filepath.Join("/", o.Root, dir))
		}
	}
	var errs []error
	for _, dir := range dirs {
		if err := found.addDir(dir); err != nil {
			errs = append(errs, &Error{File: dir, Err: cause(err)})
		}
	}
	for i, file := range o.PolicyFiles {
		found.add(fmt.Sprintf("%s%06d", draftName, i), file)
	}
	return found, errors.Join(errs...)
}

func builtInPath(name string) string {
	return strings.Replace(name, "defaults/", "built-in ", 1)
}

func (s policySet) add(name, path string) { s[name] = append(s[name], path) }

// addDir adds the files of a directory, which need not exist. What begins with
// a dot is an editor's.
func (s policySet) addDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		name, path := e.Name(), filepath.Join(dir, e.Name())
		if !strings.HasSuffix(name, ".toml") || strings.HasPrefix(name, ".") {
			continue
		}
		if target, err := os.Readlink(path); err == nil && target == os.DevNull {
			delete(s, name)
			continue
		}
		s.add(name, path)
	}
	return err
}

// drop takes out files, and tells how many there were.
func (s policySet) drop(paths []string) int {
	n := 0
	for name, stack := range s {
		kept := slices.DeleteFunc(stack, func(path string) bool { return slices.Contains(paths, path) })
		n += len(stack) - len(kept)
		if s[name] = kept; len(kept) == 0 {
			delete(s, name)
		}
	}
	return n
}

// read parses the files that count, in the order of their names.
func (s policySet) read() ([]*policyFile, error) {
	var files []*policyFile
	var errs []error
	for rank, name := range slices.Sorted(maps.Keys(s)) {
		f := &policyFile{path: s[name][len(s[name])-1], rank: rank}
		if err := f.read(); err != nil {
			errs = append(errs, err)
		}
		files = append(files, f)
	}
	return files, errors.Join(errs...)
}

func (f *policyFile) read() error {
	var err error
	if name, ok := strings.CutPrefix(f.path, "built-in "); ok {
		f.text, err = defaultPolicies.ReadFile("defaults/" + name)
	} else {
		f.text, err = readFile(f.path)
	}
	if err != nil {
		return err
	}
	f.text = trimmed(f.text)
	return f.parse()
}

// parse checks what can be said of a file alone.
func (f *policyFile) parse() error {
	var err error
	if f.entries, err = parseDocument(f.path, f.text, policySchema); err != nil {
		return err
	}
	var errs []error
	for _, e := range f.entries {
		if err := f.check(e); err != nil {
			errs = append(errs, err)
		}
	}
	if n := len(errs) - maxErrors; n > 0 {
		errs = append(errs[:maxErrors], &Error{File: f.path, Err: fmt.Errorf("%d more mistakes", n)})
	}
	return errors.Join(errs...)
}

var ruleName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

func (f *policyFile) check(e entry) error {
	switch {
	case e.path[0] != "rule":
		return e.fail(f.path, fmt.Errorf("unknown key %s: a policy has rules, [rule.NAME]", quote(e.key)))
	case len(e.path) < 3:
		return e.fail(f.path, fmt.Errorf("%s is a table: set its keys, e.g. rule.NAME.when", e.key))
	case !ruleName.MatchString(e.path[1]):
		return e.fail(f.path, fmt.Errorf("%s: a rule's name has letters a-z, digits and dashes, 64 at most", e.key))
	case len(e.path) > 3:
		return e.fail(f.path, unknown("key", e.key, nil))
	}
	key, ok := ruleKeyOf(e.path[2])
	if !ok {
		names := make([]string, len(ruleKeys))
		for i, k := range ruleKeys {
			names[i] = "rule." + e.path[1] + "." + k.name
		}
		return e.fail(f.path, unknown("key", e.key, names))
	}
	p := placed{e, f}
	if e.path[2] == "step" {
		_, errs := p.steps()
		return joined(errs)
	}
	if err := key.set(&policy.Rule{}, e.value); err != nil {
		return e.fail(f.path, fmt.Errorf("%s = %s: %w", e.key, show(e.value), err))
	}
	if key.condition {
		// For owners every variable is known: the scope is held against it when
		// all files are merged.
		_, err := p.compile(policy.EachOwner)
		return err
	}
	return nil
}
