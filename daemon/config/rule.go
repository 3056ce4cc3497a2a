package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/nearest"
)

// maxAbout bounds what a rule says of itself: it ends up in alerts.
const maxAbout = 300

// ruleKey is a key of [rule.NAME]: how its value becomes a field of a Rule. Its
// error does not name key and value.
type ruleKey struct {
	name string
	set  func(r *policy.Rule, v any) error
	// text gives the value as TOML, "" for none.
	text      func(r *policy.Rule) string
	condition bool // compiled when for_each is known
}

// ruleKeys are in the order of the effective policy.
var ruleKeys = []ruleKey{
	ruleAt("about", func(r *policy.Rule) *string { return &r.About }, parseAbout, func(text string) string {
		if text == "" {
			return ""
		}
		return tomlString(text)
	}),
	ruleAt("severity", func(r *policy.Rule) *policy.Severity { return &r.Severity }, parseSeverity, tomlString),
	ruleAt("mode", func(r *policy.Rule) *policy.Mode { return &r.Mode }, parseMode, tomlString),
	ruleAt("for_each", func(r *policy.Rule) *policy.Scope { return &r.ForEach }, parseScope, tomlString),
	ruleAt("target", func(r *policy.Rule) *bool { return &r.TargetTop }, parseTarget, func(top bool) string {
		if top {
			return `"top"`
		}
		return ""
	}),
	conditionAt("when", func(r *policy.Rule) **policy.Condition { return &r.When }),
	ruleAt("for", func(r *policy.Rule) *time.Duration { return &r.For }, between(0, 24*time.Hour), tomlDuration),
	conditionAt("until", func(r *policy.Rule) **policy.Condition { return &r.Until }),
	ruleAt("cooldown", func(r *policy.Rule) *time.Duration { return &r.Cooldown }, between(0, policy.MaxCooldown), tomlDuration),
	ruleAt("budget", func(r *policy.Rule) *policy.Budget { return &r.Budget }, parseBudget, tomlBudget),
	{
		name: "min_coverage",
		set: func(r *policy.Rule, v any) error {
			share, err := shareOf("", 0)(v)
			r.MinCoverage = &share
			return err
		},
		text: func(r *policy.Rule) string {
			if r.MinCoverage == nil {
				return ""
			}
			return show(*r.MinCoverage)
		},
	},
	{name: "step", set: func(*policy.Rule, any) error { return nil }, text: func(*policy.Rule) string { return "" }},
}

func ruleAt[T any](name string, field func(*policy.Rule) *T, parse func(any) (T, error), text func(T) string) ruleKey {
	return ruleKey{
		name: name,
		set: func(r *policy.Rule, v any) error {
			parsed, err := parse(v)
			if err == nil {
				*field(r) = parsed
			}
			return err
		},
		text: func(r *policy.Rule) string { return text(*field(r)) },
	}
}

func conditionAt(name string, field func(*policy.Rule) **policy.Condition) ruleKey {
	return ruleKey{
		name: name, condition: true,
		set: func(_ *policy.Rule, v any) error {
			if _, ok := v.(string); !ok {
				return errors.New(`must be a condition in quotes, e.g. 'tcp.fill > 0.7'`)
			}
			return nil
		},
		text: func(r *policy.Rule) string {
			if c := *field(r); c != nil {
				return tomlString(c.String())
			}
			return ""
		},
	}
}

func ruleKeyOf(name string) (ruleKey, bool) {
	i := slices.IndexFunc(ruleKeys, func(k ruleKey) bool { return k.name == name })
	if i < 0 {
		return ruleKey{}, false
	}
	return ruleKeys[i], true
}

// RuleKeys lists the keys of a rule in the order people read them.
func RuleKeys() []string {
	names := make([]string, len(ruleKeys))
	for i, k := range ruleKeys {
		names[i] = k.name
	}
	return names
}

// rule makes a Rule of a draft, whose values were each found right on their
// own. names are those of all rules.
func (o Options) rule(d *draft, names []string, origins map[string]Origin) (*policy.Rule, []*Error) {
	r := &policy.Rule{
		Name: d.name, Severity: policy.Warning, Mode: policy.Observe, ForEach: policy.Host,
		Cooldown: policy.DefaultCooldown, Budget: policy.DefaultRuleBudget,
	}
	var errs []*Error
	for name, p := range d.keys {
		if key, ok := ruleKeyOf(name); ok && !key.condition && name != "step" {
			if err := key.set(r, p.value); err != nil {
				errs = append(errs, p.fail(err))
			}
		}
	}
	for _, name := range []string{"when", "until"} {
		p, ok := d.keys[name]
		if !ok {
			continue
		}
		c, err := p.compile(r.ForEach)
		if err != nil {
			errs = append(errs, d.blame(err, name, "for_each"))
		}
		if name == "when" {
			r.When = c
		} else {
			r.Until = c
		}
	}
	if _, ok := d.keys["when"]; !ok {
		errs = append(errs, d.noWhen(names))
	}
	if r.TargetTop && !slices.Contains([]policy.Scope{policy.Host, policy.Pod, policy.Netns}, r.ForEach) {
		errs = append(errs, d.blame(d.keys["target"].fail(fmt.Errorf(
			`for_each = %q is about one owner, who is the target`, r.ForEach)), "target", "for_each"))
	}
	if p, ok := d.keys["step"]; ok {
		steps, _ := p.steps()
		for i := range steps {
			r.Steps = append(r.Steps, steps[i].Step)
			origins[fmt.Sprintf("%s.%d", p.key, i+1)] = Origin{File: p.file.path, Line: steps[i].line}
			errs = append(errs, o.checkStep(d, r, p, i, &steps[i])...)
		}
	}
	if len(errs) == 0 {
		r.Hash = hashOf(r)
	}
	return r, errs
}

// noWhen says so, or that another rule was meant.
func (d *draft) noWhen(names []string) *Error {
	last := d.last()
	err := fmt.Errorf("rule %s has no when", quote(d.name))
	others := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == d.name })
	if near := nearest.Name(d.name, others); near != "" {
		err = fmt.Errorf("%w; did you mean rule.%s?", err, near)
	}
	return &Error{File: last.file.path, Line: last.line, Err: err}
}

// blame puts a mistake that several keys make together into the file that was
// laid on last: before it they went together.
func (d *draft) blame(err error, keys ...string) *Error {
	e, _ := errors.AsType[*Error](err)
	last := d.keys[keys[0]]
	for _, key := range keys[1:] {
		if p, ok := d.keys[key]; ok && p.after(last) {
			last = p
		}
	}
	if last.file.path == e.File {
		return e
	}
	return &Error{File: last.file.path, Line: last.line, Err: fmt.Errorf(
		"%s = %s: %w (%s)", last.key, show(last.value), e.Err, Origin{e.File, e.Line})}
}

// compile compiles the condition that an entry holds.
func (p placed) compile(scope policy.Scope) (*policy.Condition, error) {
	text, _ := p.value.(string)
	c, err := policy.Compile(text, scope)
	if err == nil {
		return c, nil
	}
	e := p.fail(err)
	if ce, ok := errors.AsType[*policy.ConditionError](err); ok {
		e.Line, e.Column = position(p.file.text, rawOffset(p.file.text, p.offset, ce.Offset))
	}
	return nil, e
}

func parseAbout(v any) (string, error) {
	text, ok := v.(string)
	if !ok || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || len(text) > maxAbout {
		return "", fmt.Errorf("must be one line of text, %d bytes at most", maxAbout)
	}
	return text, nil
}

func parseSeverity(v any) (policy.Severity, error) {
	return oneOf(v, policy.Info, policy.Warning, policy.Critical)
}

func parseScope(v any) (policy.Scope, error) { return oneOf(v, policy.Scopes()...) }

func parseTarget(v any) (bool, error) {
	if v != "top" {
		return false, errors.New(`must be "top": the owner that holds the most`)
	}
	return true, nil
}

// oneOf accepts a word of a list.
func oneOf[T ~string](v any, known ...T) (T, error) {
	text, ok := v.(string)
	words := make([]string, len(known))
	for i, k := range known {
		if ok && text == string(k) {
			return k, nil
		}
		words[i] = string(k)
	}
	if near := nearest.Name(text, words); near != "" {
		return "", fmt.Errorf("did you mean %q?", near)
	}
	return "", fmt.Errorf("must be one of %s", strings.Join(words, ", "))
}
