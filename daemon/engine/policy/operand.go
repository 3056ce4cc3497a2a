package policy

import "math"

// operand is a part of an expression, with the function of its type. A level
// has number and text; constant is set for what was written as it stands.
type operand struct {
	typ      Type
	number   number
	text     text
	truth    truth
	list     list
	constant any // float64, string, []string or nil
	variable *Variable
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
