package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/nearest"
)

// maxSteps bounds a rule's ladder.
const maxSteps = 16

// stepKeys are those of every step; the others belong to its action.
var stepKeys = []string{"action", "after", "budget"}

// StepKeys lists the keys of every step. All others belong to its action.
func StepKeys() []string { return slices.Clone(stepKeys) }

// stepText is a step and the lines it was written on.
type stepText struct {
	policy.Step
	line  int
	lines map[string]int
}

// lineOf gives the line of a key, else of the step.
func (s *stepText) lineOf(key string) int {
	if line := s.lines[key]; line > 0 {
		return line
	}
	return s.line
}

// steps parses a list of steps, as far as that goes without its rule.
func (p placed) steps() ([]stepText, []*Error) {
	var tables []map[string]any
	switch v := p.value.(type) {
	case []map[string]any:
		tables = v
	case []any: // written inline
		for _, item := range v {
			table, ok := item.(map[string]any)
			if !ok {
				return nil, []*Error{p.fail(errors.New("must be a list of tables, [[rule.NAME.step]]"))}
			}
			tables = append(tables, table)
		}
	default:
		return nil, []*Error{p.fail(errors.New("must be a list of tables, [[rule.NAME.step]]"))}
	}
	if len(tables) > maxSteps {
		return nil, []*Error{p.fail(fmt.Errorf("%d steps, %d at most may be", len(tables), maxSteps))}
	}
	steps := make([]stepText, len(tables))
	var errs []*Error
	p.findLines(steps)
	for i, table := range tables {
		s := &steps[i]
		s.Budget = policy.DefaultStepBudget
		own := map[string]any{}
		for _, key := range slices.Sorted(maps.Keys(table)) {
			if err := s.set(key, table[key], own); err != nil {
				errs = append(errs, p.failStep(i, s, key, fmt.Errorf("%s = %s: %w", key, show(table[key]), err)))
			}
		}
		if s.Action == "" && table["action"] == nil {
			errs = append(errs, p.failStep(i, s, "", errors.New("has no action")))
		}
		var err error
		if s.Settings, err = settingsJSON(own); err != nil {
			errs = append(errs, p.failStep(i, s, "", err))
		}
	}
	return steps, errs
}

func (s *stepText) set(key string, v any, own map[string]any) (err error) {
	switch key {
	case "action":
		name, ok := v.(string)
		if !ok || !pluginName.MatchString(name) {
			if near := nearest.Name(name, builtInNames()); near != "" {
				return fmt.Errorf("did you mean %q?", near)
			}
			return errors.New(`must be the name of an action, e.g. "notify"`)
		}
		s.Action = name
	case "after":
		s.After, err = between(0, 24*time.Hour)(v)
	case "budget":
		s.Budget, err = parseBudget(v)
	default:
		own[key] = v
	}
	return err
}

func (p placed) failStep(i int, s *stepText, key string, err error) *Error {
	return &Error{File: p.file.path, Line: s.lineOf(key), Err: fmt.Errorf("%s %d: %w", p.key, i+1, err)}
}

// findLines looks for the places of steps: the decoder knows only that of the
// last. A step that is not found is where the list is.
func (p placed) findLines(steps []stepText) {
	for i := range steps {
		steps[i].line = p.line
	}
	header := regexp.MustCompile(`(?m)^[ \t]*\[\[[ \t]*["']?rule["']?[ \t]*\.[ \t]*["']?` + regexp.QuoteMeta(p.path[1]) +
		`["']?[ \t]*\.[ \t]*["']?step["']?[ \t]*\]\]`)
	found := header.FindAllIndex(p.file.text, -1)
	if len(found) != len(steps) {
		return
	}
	for i, at := range found {
		s := &steps[i]
		s.line, _ = position(p.file.text, at[0])
		s.lines = map[string]int{}
		body := p.file.text[at[1]:]
		if end := nextTable.FindIndex(body); end != nil {
			body = body[:end[0]]
		}
		for _, m := range keyLine.FindAllSubmatchIndex(body, -1) {
			key := string(body[m[2]:m[3]])
			s.lines[key], _ = position(p.file.text, at[1]+m[2])
		}
	}
}

var (
	nextTable = regexp.MustCompile(`(?m)^[ \t]*\[`)
	keyLine   = regexp.MustCompile(`(?m)^[ \t]*["']?([A-Za-z0-9_-]+)["']?[ \t]*=`)
)

// checkStep holds a step against its rule and its action.
func (o Options) checkStep(d *draft, r *policy.Rule, p placed, i int, s *stepText) []*Error {
	actions := o.Actions
	if actions == nil {
		actions = builtIns
	}
	at := slices.IndexFunc(actions, func(a policy.ActionInfo) bool { return a.Name == s.Action })
	if at < 0 {
		names := make([]string, len(actions))
		for i, a := range actions {
			names[i] = a.Name
		}
		err := unknown("action", s.Action, names)
		if nearest.Name(s.Action, names) == "" {
			err = fmt.Errorf("%w: there are %s", err, strings.Join(names, ", "))
		}
		return []*Error{p.failStep(i, s, "action", err)}
	}
	aboutMany := r.ForEach == policy.Host || r.ForEach == policy.Pod || r.ForEach == policy.Netns
	if actions[at].Touches == policy.TouchesOwner && aboutMany && !r.TargetTop {
		return []*Error{d.blame(p.failStep(i, s, "action", fmt.Errorf(
			`%s touches an owner, and for_each = %q names none: add target = "top"`, s.Action, r.ForEach)), "step", "for_each", "target")}
	}
	if o.CheckStep == nil {
		return nil
	}
	var errs []*Error
	for _, problem := range o.CheckStep(r, &s.Step) {
		err := fmt.Errorf("%s: %s", s.Action, problem.Message)
		if problem.Setting != "" {
			err = fmt.Errorf("%s: %s: %s", s.Action, problem.Setting, problem.Message)
		}
		errs = append(errs, p.failStep(i, s, problem.Setting, err))
	}
	return errs
}

func joined(errs []*Error) error {
	all := make([]error, len(errs))
	for i, e := range errs {
		all[i] = e
	}
	return errors.Join(all...)
}
