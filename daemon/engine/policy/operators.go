package policy

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/tcpmemd/tcpmemd/daemon/nearest"
)

func (c *compiler) compare(n *ast.BinaryNode, a, b operand) (operand, error) {
	for _, o := range []struct{ one, other *operand }{{&a, &b}, {&b, &a}} {
		if err := c.value(n, o.one.variable, o.other); err != nil {
			return operand{}, err
		}
	}
	equality := n.Operator == "==" || n.Operator == "!="
	var t truth
	switch {
	case a.isNumber() && fits(a, b), a.typ == TypeLevel && b.typ == TypeLevel:
		t = ordered(n.Operator, a.number, b.number)
	case equality && a.typ == TypeString && b.typ == TypeString:
		t = func(v *Vars) Truth {
			x, ok := a.text(v)
			y, ok2 := b.text(v)
			if !ok || !ok2 {
				return Unknown
			}
			return truthOf(x == y)
		}
		if n.Operator == "!=" {
			t = not(t)
		}
	case equality && a.typ == TypeBool && b.typ == TypeBool:
		t = func(v *Vars) Truth {
			x, y := a.truth(v), b.truth(v)
			if x == Unknown || y == Unknown {
				return Unknown
			}
			return truthOf(x == y)
		}
		if n.Operator == "!=" {
			t = not(t)
		}
	default:
		return operand{}, c.mismatch(n, a, b)
	}
	return operand{typ: TypeBool, truth: t}, nil
}

// value holds a constant against what the variable on the other side can be:
// a word that it never is, or 30 for a share, would make a rule that never
// fires, and tells nobody. A level's word becomes a level.
func (c *compiler) value(n ast.Node, v *Variable, o *operand) error {
	switch value := o.constant.(type) {
	case string:
		if v == nil || v.Values == nil {
			return nil
		}
		rank := slices.Index(v.Values, value)
		if rank < 0 {
			if near := nearest.Name(value, v.Values); near != "" {
				return c.fail(n, "%s is never %q; did you mean %q?", v.Name, value, near)
			}
			return c.fail(n, "%s is never %q, it is one of %s", v.Name, value, strings.Join(v.Values, ", "))
		}
		if v.Type == TypeLevel {
			*o = constant(TypeLevel, float64(rank))
		}
	case float64:
		// Use may exceed the maximum, but never by far.
		if v != nil && v.Type == TypeShare && (value < 0 || value > 2) {
			return c.fail(n, "%s is a share: write 0.3 for 30 %%", v.Name)
		}
	}
	return nil
}

func (c *compiler) arithmetic(n *ast.BinaryNode, a, b operand) (operand, error) {
	if !a.isNumber() || !b.isNumber() {
		return operand{}, c.mismatch(n, a, b)
	}
	var typ Type
	var op func(x, y float64) float64
	switch n.Operator {
	case "+", "-":
		if !fits(a, b) {
			return operand{}, c.mismatch(n, a, b)
		}
		typ, op = a.dimension(), func(x, y float64) float64 { return x + y }
		if a.constant == 0.0 {
			typ = b.dimension()
		}
		if n.Operator == "-" {
			op = func(x, y float64) float64 { return x - y }
		}
	case "*":
		if a.dimension() != TypeNumber && b.dimension() != TypeNumber {
			return operand{}, c.mismatch(n, a, b)
		}
		typ, op = a.dimension(), func(x, y float64) float64 { return x * y }
		if typ == TypeNumber {
			typ = b.dimension()
		}
	case "/":
		op = func(x, y float64) float64 { return x / y }
		switch {
		case a.dimension() == b.dimension():
			typ = TypeNumber
		case b.dimension() == TypeNumber:
			typ = a.dimension()
		default:
			return operand{}, c.mismatch(n, a, b)
		}
		if b.constant == 0.0 {
			return operand{}, c.fail(n, "divides by 0")
		}
	}
	if x, ok := a.constant.(float64); ok {
		if y, ok := b.constant.(float64); ok {
			return constant(typ, op(x, y)), nil
		}
	}
	return operand{typ: typ, number: both(a.number, b.number, op)}, nil
}

func (c *compiler) member(n *ast.BinaryNode, a, b operand) (operand, error) {
	if b.typ != TypeList || a.typ != TypeString && a.typ != TypeLevel {
		return operand{}, c.mismatch(n, a, b)
	}
	if words, ok := b.constant.([]string); ok {
		for _, word := range words {
			if err := c.value(n, a.variable, &operand{constant: word}); err != nil {
				return operand{}, err
			}
		}
	}
	return operand{typ: TypeBool, truth: func(v *Vars) Truth {
		word, ok := a.text(v)
		if !ok {
			return Unknown
		}
		return truthOf(slices.Contains(b.list(v), word))
	}}, nil
}

// search looks into a string for a constant one.
func (c *compiler) search(n *ast.BinaryNode, a, b operand) (operand, error) {
	if a.typ != TypeString || b.typ != TypeString {
		return operand{}, c.mismatch(n, a, b)
	}
	word, ok := b.constant.(string)
	if !ok {
		return operand{}, c.fail(n, "%s needs a constant on its right", n.Operator)
	}
	found := map[string]func(s, word string) bool{
		"contains": strings.Contains, "startsWith": strings.HasPrefix, "endsWith": strings.HasSuffix,
	}[n.Operator]
	if found == nil {
		re, err := compilePattern(word)
		if err != nil {
			return operand{}, c.fail(n, "regular expression %q: %w", word, err)
		}
		found = func(s, _ string) bool { return re.MatchString(s) }
	}
	return operand{typ: TypeBool, truth: func(v *Vars) Truth {
		s, ok := a.text(v)
		if !ok {
			return Unknown
		}
		return truthOf(found(s, word))
	}}, nil
}

func (c *compiler) listOf(n *ast.ArrayNode) (operand, error) {
	words := make([]string, len(n.Nodes))
	for i, item := range n.Nodes {
		word, ok := item.(*ast.StringNode)
		if !ok {
			return operand{}, c.fail(n, "a list holds words in quotes")
		}
		words[i] = word.Value
	}
	return operand{typ: TypeList, constant: words, list: func(*Vars) []string { return words }}, nil
}

// maxPattern bounds a regular expression, in steps of its program: the time for
// one byte is proportional to it.
const maxPattern = 1000

func compilePattern(word string) (*regexp.Regexp, error) {
	tree, err := syntax.Parse(word, syntax.Perl)
	if err != nil {
		return nil, errors.New("malformed")
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil || len(program.Inst) > maxPattern {
		return nil, errors.New("too large")
	}
	return regexp.Compile(word)
}
