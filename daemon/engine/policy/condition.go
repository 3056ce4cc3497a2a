package policy

import (
	"errors"
	"math"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/parser"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Truth is the value of a condition. Unknown: it needed a value that is not
// known, which is neither fine nor a reason to act.
type Truth uint8

// Truths.
const (
	No Truth = iota
	Yes
	Unknown
)

func (t Truth) String() string { return [...]string{"no", "yes", "unknown"}[t] }

func truthOf(b bool) Truth {
	if b {
		return Yes
	}
	return No
}

// Bounds of a condition. Its evaluation has no loops but those over the words
// of a list, so that they bound its time as well; and so deep the parser may
// recurse.
const (
	maxText  = 2000 // bytes
	maxNodes = 200
)

// Condition is a compiled expression. It is safe for concurrent use.
type Condition struct {
	text  string
	names []*Variable
	eval  truth
}

// ConditionError is a mistake in an expression.
type ConditionError struct {
	Offset int // in the text, in bytes
	Err    error
}

func (e *ConditionError) Error() string { return e.Err.Error() }
func (e *ConditionError) Unwrap() error { return e.Err }

// Compile checks and compiles an expression for rules of a scope. Its error is
// a *ConditionError.
//
// The language is that of expr-lang/expr without anything that loops, calls or
// builds values. It is not run by that module's machine: a condition needs a
// third truth for what is not known, and is evaluated for thousands of owners.
func Compile(text string, scope Scope) (*Condition, error) {
	if err := bounded(text); err != nil {
		return nil, err
	}
	config := conf.CreateNew()
	config.MaxNodes = maxNodes
	config.DisableIfOperator = true
	for name := range config.Builtins {
		config.Disabled[name] = true
	}
	tree, err := parser.ParseWithConfig(text, config)
	if err != nil {
		return nil, syntaxError(text, err)
	}
	c := compiler{text: text, scope: scope}
	e, err := c.compile(tree.Node)
	if err != nil {
		return nil, err
	}
	if e.typ != TypeBool {
		return nil, c.fail(tree.Node, "must be true or false, and is a %s", e.typ)
	}
	return &Condition{text: text, names: c.names, eval: e.truth}, nil
}

// String gives the expression's text.
func (c *Condition) String() string { return c.text }

// Eval gives the condition's value. What is unknown makes it Unknown only where
// it could decide: false && unknown is No, true || unknown is Yes.
func (c *Condition) Eval(v *Vars) Truth { return c.eval(v) }

// NeedsReading reports whether the condition names a variable that only a full
// reading has.
func (c *Condition) NeedsReading() bool {
	for _, v := range c.names {
		if v.Cadence == EachReading {
			return true
		}
	}
	return false
}

// Numbers gives the variables that the condition names, with their values:
// float64, bool, string, []string, or nil for what is unknown. A duration is a
// string such as "9m30s", or "never".
func (c *Condition) Numbers(v *Vars) record.Numbers {
	numbers := make(record.Numbers, len(c.names))
	for _, name := range c.names {
		numbers[name.Name] = name.value(v)
		if name.Name == "daemon.blind" { // a count says nothing to a person
			numbers["daemon.blind_ids"] = append([]string{}, v.facts.Blind...)
		}
	}
	return numbers
}

func (v *Variable) isKnown(vars *Vars) bool {
	switch {
	case v.truth != nil:
		return v.truth(vars) != Unknown
	case v.text != nil:
		_, ok := v.text(vars)
		return ok
	case v.number != nil:
		_, ok := v.number(vars)
		return ok
	}
	return true
}

func (v *Variable) value(vars *Vars) any {
	switch v.Type {
	case TypeBool:
		if t := v.truth(vars); t != Unknown {
			return t == Yes
		}
	case TypeString, TypeLevel:
		if s, ok := v.text(vars); ok {
			return s
		}
	case TypeList:
		return append([]string{}, v.list(vars)...)
	default:
		n, ok := v.number(vars)
		switch {
		case !ok:
		case v.Type != TypeDuration:
			return n
		case math.IsInf(n, 1):
			return "never"
		default:
			return time.Duration(n * float64(time.Second)).Round(time.Second).String()
		}
	}
	return nil
}

// bounded holds the text against the bounds before anything recurses over it.
func bounded(text string) error {
	if len(text) > maxText {
		return &ConditionError{maxText, errors.New("longer than 2000 bytes")}
	}
	if text == "" {
		return &ConditionError{0, errors.New("is empty")}
	}
	if !utf8.ValidString(text) {
		return &ConditionError{0, errors.New("is not UTF-8")}
	}
	for i := range len(text) {
		if text[i] < ' ' && text[i] != '\n' && text[i] != '\t' && text[i] != '\r' {
			return &ConditionError{i, errors.New("holds a control character")}
		}
	}
	return nil
}

// offsetOf gives the byte at which a rune starts: the parser counts runes.
func offsetOf(text string, runes int) int {
	for i := range text {
		if runes == 0 {
			return i
		}
		runes--
	}
	return len(text)
}
