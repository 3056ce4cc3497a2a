package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/BurntSushi/toml"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
)

// maxRules bounds the work of a turn.
const maxRules = 64

// Policy is a whole, valid set of rules and where they came from.
type Policy struct {
	Rules []*policy.Rule // in the order of their names
	Files []string       // that were used, in the order they were merged
	// Origins are those of every key that a file sets, as "rule.NAME.when", and
	// of every step, as "rule.NAME.step.1".
	Origins map[string]Origin
	// LeftOut are the files, or directories, with a mistake.
	LeftOut []string
}

// LoadPolicy reads the rules of policy.d: the built-in ones, below those of
// /usr/lib, /run and /etc, where a file replaces one of the same name and a
// link to /dev/null masks it. What remains is merged key by key in the order of
// the files' names.
//
// With Options.File only the policy.d beside it is laid over the built-in one.
//
// Its error joins one *Error per mistake, over all files. The Policy is usable
// even then: a file with a mistake is left out as a whole, for the one below it
// of the same name. A daemon starts on that and touches nothing; a check or a
// reload refuses.
func LoadPolicy(o Options) (Policy, error) {
	found, err := findPolicies(o)
	var errs []error
	var left []string
	leave := func(err error) {
		errs = append(errs, err)
		for _, e := range mistakes(err) {
			left = append(left, e.File)
		}
	}
	if err != nil {
		leave(err)
	}
	for {
		files, err := found.read()
		p := Policy{}
		if err == nil {
			p, err = o.merge(files)
		}
		if err == nil {
			slices.Sort(left)
			p.LeftOut = slices.Compact(left)
			return p, errors.Join(errs...)
		}
		leave(err)
		// Each round takes out a file at least, so that it ends.
		if n := found.drop(left); n == 0 {
			return Policy{LeftOut: left}, errors.Join(errs...)
		}
	}
}

// mistakes lists the errors that are joined in err.
func mistakes(err error) []*Error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Error
		for _, err := range joined.Unwrap() {
			all = append(all, mistakes(err)...)
		}
		return all
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return []*Error{e}
	}
	return nil
}

// draft is a rule as the files write it, one laid over the other.
type draft struct {
	name string
	keys map[string]placed // by the name of the key
}

// placed is an entry and the file it is from.
type placed struct {
	entry
	file *policyFile
}

func (p placed) origin() Origin { return Origin{File: p.file.path, Line: p.line} }

func (p placed) fail(err error) *Error {
	return &Error{File: p.file.path, Line: p.line, Err: fmt.Errorf("%s: %w", p.key, err)}
}

// merge lays the files over each other and makes rules of what results.
func (o Options) merge(files []*policyFile) (Policy, error) {
	p := Policy{Origins: map[string]Origin{}}
	drafts := map[string]*draft{}
	for _, f := range files {
		p.Files = append(p.Files, f.path)
		for _, e := range f.entries {
			name, key := e.path[1], e.path[2]
			d := drafts[name]
			if d == nil {
				d = &draft{name, map[string]placed{}}
				drafts[name] = d
			}
			d.keys[key] = placed{e, f}
			p.Origins[e.key] = d.keys[key].origin()
		}
	}
	names := slices.Sorted(maps.Keys(drafts))
	var errs []error
	for _, name := range names {
		rule, mistakes := o.rule(drafts[name], names, p.Origins)
		for _, err := range mistakes {
			errs = append(errs, err)
		}
		p.Rules = append(p.Rules, rule)
	}
	if len(names) > maxRules && len(errs) == 0 {
		last := drafts[names[0]].last()
		for _, d := range drafts {
			if l := d.last(); l.after(last) {
				last = l
			}
		}
		errs = append(errs, last.fail(fmt.Errorf("there are %d rules, %d at most may be", len(names), maxRules)))
	}
	return p, errors.Join(errs...)
}

// last gives the key that was laid on last.
func (d *draft) last() placed {
	var last placed
	for _, p := range d.keys {
		if last.file == nil || p.after(last) {
			last = p
		}
	}
	return last
}

func (p placed) after(q placed) bool {
	return cmp.Or(cmp.Compare(p.file.rank, q.file.rank), cmp.Compare(p.offset, q.offset)) > 0
}

var policySchema = schema{
	isValue: func(path toml.Key) bool { return len(path) == 3 && path[0] == "rule" },
	isTable: func(path toml.Key) bool { return len(path) <= 2 && path[0] == "rule" },
}
