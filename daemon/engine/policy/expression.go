package policy

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
)

// compiler turns the tree of an expression into functions of Vars, checking
// types on the way.
type compiler struct {
	text  string
	scope Scope
	names []*Variable // that were named, each once
}

// part of an expression, with the function of its type. A level has number and
// text; constant is set for what was written as it stands.
type operand struct {
	typ      Type
	number   number
	text     text
	truth    truth
	list     list
	constant any // float64, string or nil
	variable *Variable
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
			"%s is not known in a rule for the host: it needs for_each = \"owner\", \"unit\", ...", name)}
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
	if near := Nearest(name, names); near != "" {
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
			if near := Nearest(value, v.Values); near != "" {
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
		re, err := regexp.Compile(word)
		if err != nil {
			return operand{}, c.fail(n, "malformed regular expression %q", word)
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

func constant(t Type, n float64) operand {
	return operand{typ: t, constant: n, number: func(*Vars) (float64, bool) { return n, true }}
}

func (o *operand) isNumber() bool {
	return o.typ == TypeNumber || o.typ == TypeShare || o.typ == TypeBytes || o.typ == TypeDuration
}

// dimension is the type as far as it matters for arithmetic.
func (o *operand) dimension() Type {
	if o.typ == TypeShare {
		return TypeNumber
	}
	return o.typ
}

// fits reports whether two numbers can be compared: 0 is 0 of anything.
func fits(a, b operand) bool {
	return b.isNumber() && (a.dimension() == b.dimension() || a.constant == 0.0 || b.constant == 0.0)
}

// both joins two numbers. What has no value, as 0/0, is unknown.
func both(a, b number, op func(x, y float64) float64) number {
	return func(v *Vars) (float64, bool) {
		x, ok := a(v)
		if !ok {
			return 0, false
		}
		y, ok := b(v)
		if !ok {
			return 0, false
		}
		n := op(x, y)
		return n, !math.IsNaN(n)
	}
}

func ordered(operator string, a, b number) truth {
	test := map[string]func(x, y float64) bool{
		"==": func(x, y float64) bool { return x == y },
		"!=": func(x, y float64) bool { return x != y },
		"<":  func(x, y float64) bool { return x < y },
		"<=": func(x, y float64) bool { return x <= y },
		">":  func(x, y float64) bool { return x > y },
		">=": func(x, y float64) bool { return x >= y },
	}[operator]
	return func(v *Vars) Truth {
		x, ok := a(v)
		if !ok {
			return Unknown
		}
		y, ok := b(v)
		if !ok {
			return Unknown
		}
		return truthOf(test(x, y))
	}
}

func not(t truth) truth {
	return func(v *Vars) Truth {
		switch t(v) {
		case No:
			return Yes
		case Yes:
			return No
		}
		return Unknown
	}
}

// and is Kleene's: one No is enough, whatever is not known beside it.
func and(a, b truth) truth {
	return func(v *Vars) Truth {
		x := a(v)
		if x == No {
			return No
		}
		if y := b(v); y != Yes {
			return y
		}
		return x
	}
}
