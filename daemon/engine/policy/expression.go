package policy

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"

	"github.com/tcpmemd/tcpmemd/daemon/nearest"
)

// compiler turns the tree of an expression into functions of Vars, checking
// types on the way.
type compiler struct {
	text  string
	scope Scope
	names []*Variable // that were named, each once
}

func (c *compiler) fail(n ast.Node, format string, args ...any) error {
	return &ConditionError{offsetOf(c.text, n.Location().From), fmt.Errorf(format, args...)}
}

func (c *compiler) compile(n ast.Node) (operand, error) {
	switch n := n.(type) {
	case *ast.BoolNode:
		t := truthOf(n.Value)
		return operand{typ: TypeBool, truth: func(*Vars) Truth { return t }}, nil
	case *ast.IntegerNode:
		return constant(TypeNumber, float64(n.Value)), nil
	case *ast.FloatNode:
		return constant(TypeNumber, n.Value), nil
	case *ast.StringNode:
		return operand{typ: TypeString, constant: n.Value, text: func(*Vars) (string, bool) { return n.Value, true }}, nil
	case *ast.IdentifierNode:
		return c.variable(n, n.Value)
	case *ast.MemberNode:
		return c.variable(n, dotted(n))
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.CallNode:
		return c.call(n)
	case *ast.ArrayNode:
		return c.listOf(n)
	case *ast.BuiltinNode:
		return operand{}, c.fail(n, "%s is no function here: there are known, min, max, abs and duration", n.Name)
	case *ast.NilNode:
		return operand{}, c.fail(n, "nil has no use here: ask known(tcp.eta)")
	case *ast.ConditionalNode:
		return operand{}, c.fail(n, "a choice has no use here: write && and ||")
	case nil:
		return operand{}, &ConditionError{0, errors.New("is empty")}
	}
	return operand{}, c.fail(n, "only variables, constants, operators, known, min, max, abs and duration may be used")
}

// dotted gives a name of dots, "" for anything else that the parser makes a
// member.
func dotted(n ast.Node) string {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n.Value
	case *ast.MemberNode:
		above := dotted(n.Node)
		name, ok := n.Property.(*ast.StringNode)
		if above != "" && ok && !n.Optional {
			return above + "." + name.Value
		}
	}
	return ""
}

// sizes are the units of bytes.
var sizes = map[string]float64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

func (c *compiler) variable(n ast.Node, name string) (operand, error) {
	if size, ok := sizes[name]; ok {
		return constant(TypeBytes, size), nil
	}
	i := slices.IndexFunc(variables, func(v Variable) bool { return v.Name == name })
	if i < 0 {
		return operand{}, &ConditionError{c.start(n, name), unknownVariable(name)}
	}
	v := &variables[i]
	if !v.In(c.scope) {
		return operand{}, &ConditionError{c.start(n, name), fmt.Errorf(
			"%s is not known in a rule for the host: set for_each to owner, unit or another", name)}
	}
	if !slices.Contains(c.names, v) {
		c.names = append(c.names, v)
	}
	return operand{typ: v.Type, number: v.number, text: v.text, truth: v.truth, list: v.list, variable: v}, nil
}

// start is where a name begins: the parser's place of owner.share is that of
// share.
func (c *compiler) start(n ast.Node, name string) int {
	at := offsetOf(c.text, n.Location().From)
	if i := strings.LastIndex(c.text[:at], strings.SplitN(name, ".", 2)[0]); i >= 0 && strings.Contains(name, ".") {
		return i
	}
	return at
}

func unknownVariable(name string) error {
	if name == "" {
		return errors.New("is no variable")
	}
	names := make([]string, len(variables))
	for i, v := range variables {
		names[i] = v.Name
	}
	if near := nearest.Name(name, names); near != "" {
		return fmt.Errorf("unknown variable %q; did you mean %s?", name, near)
	}
	return fmt.Errorf("unknown variable %q", name)
}

func (c *compiler) unary(n *ast.UnaryNode) (operand, error) {
	e, err := c.compile(n.Node)
	if err != nil {
		return e, err
	}
	switch {
	case (n.Operator == "!" || n.Operator == "not") && e.typ == TypeBool:
		return operand{typ: TypeBool, truth: not(e.truth)}, nil
	case n.Operator == "-" && e.isNumber():
		if value, ok := e.constant.(float64); ok {
			return constant(e.typ, -value), nil
		}
		return operand{typ: e.typ, number: func(v *Vars) (float64, bool) { x, ok := e.number(v); return -x, ok }}, nil
	case n.Operator == "+" && e.isNumber():
		return e, nil
	}
	return operand{}, c.fail(n, "%s does not go with a %s", n.Operator, e.typ)
}

func (c *compiler) binary(n *ast.BinaryNode) (operand, error) {
	a, err := c.compile(n.Left)
	if err != nil {
		return a, err
	}
	b, err := c.compile(n.Right)
	if err != nil {
		return b, err
	}
	switch n.Operator {
	case "&&", "and", "||", "or":
		if a.typ != TypeBool || b.typ != TypeBool {
			break
		}
		if n.Operator == "&&" || n.Operator == "and" {
			return operand{typ: TypeBool, truth: and(a.truth, b.truth)}, nil
		}
		return operand{typ: TypeBool, truth: not(and(not(a.truth), not(b.truth)))}, nil
	case "==", "!=", "<", "<=", ">", ">=":
		return c.compare(n, a, b)
	case "+", "-", "*", "/":
		return c.arithmetic(n, a, b)
	case "in":
		return c.member(n, a, b)
	case "contains", "startsWith", "endsWith", "matches":
		return c.search(n, a, b)
	default:
		return operand{}, c.fail(n, "the operator %s has no use here", n.Operator)
	}
	return operand{}, c.mismatch(n, a, b)
}

func (c *compiler) mismatch(n *ast.BinaryNode, a, b operand) error {
	for _, o := range []struct{ one, other operand }{{a, b}, {b, a}} {
		if o.one.typ != TypeNumber || o.one.constant == nil {
			continue
		}
		switch o.other.typ {
		case TypeDuration:
			return c.fail(n, `a duration needs a unit: duration("10m")`)
		case TypeBytes:
			return c.fail(n, "a size needs a unit: 100 * MiB")
		}
	}
	return c.fail(n, "%s does not go with a %s and a %s", n.Operator, a.typ, b.typ)
}

func (c *compiler) call(n *ast.CallNode) (operand, error) {
	name := dotted(n.Callee)
	args := make([]operand, len(n.Arguments))
	for i, arg := range n.Arguments {
		var err error
		if args[i], err = c.compile(arg); err != nil {
			return operand{}, err
		}
	}
	switch name {
	case "duration":
		if len(args) == 1 {
			if word, ok := args[0].constant.(string); ok {
				d, err := time.ParseDuration(word)
				if err != nil {
					return operand{}, c.fail(n, `%q is no duration, e.g. duration("10m")`, word)
				}
				return constant(TypeDuration, d.Seconds()), nil
			}
		}
		return operand{}, c.fail(n, `duration takes a constant, e.g. duration("10m")`)
	case "known":
		if len(args) != 1 || args[0].variable == nil {
			return operand{}, c.fail(n, "known takes a variable")
		}
		name := args[0].variable
		return operand{typ: TypeBool, truth: func(v *Vars) Truth { return truthOf(name.isKnown(v)) }}, nil
	case "abs":
		if len(args) != 1 || !args[0].isNumber() {
			return operand{}, c.fail(n, "abs takes one number")
		}
		x := args[0]
		return operand{typ: x.typ, number: func(v *Vars) (float64, bool) { x, ok := x.number(v); return math.Abs(x), ok }}, nil
	case "min", "max":
		if len(args) < 2 {
			return operand{}, c.fail(n, "%s takes two numbers or more", name)
		}
		op := func(x, y float64) float64 { return min(x, y) }
		if name == "max" {
			op = func(x, y float64) float64 { return max(x, y) }
		}
		e := args[0]
		for _, arg := range args[1:] {
			if !e.isNumber() || !fits(e, arg) {
				return operand{}, c.fail(n, "%s takes numbers of one type, not a %s and a %s", name, e.typ, arg.typ)
			}
			typ := e.dimension()
			if e.constant == 0.0 {
				typ = arg.dimension()
			}
			e = operand{typ: typ, number: both(e.number, arg.number, op)}
		}
		return e, nil
	}
	return operand{}, c.fail(n, "%s is no function here: there are known, min, max, abs and duration", name)
}
