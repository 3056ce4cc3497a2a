package filter

import (
	"fmt"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/nearest"
)

// Bounds of a filter: it may come over the socket from anyone in the group.
const (
	maxLength = 4096 // bytes
	maxDepth  = 64   // nested parentheses and negations
)

// SyntaxError says where a filter is wrong and what was meant perhaps.
type SyntaxError struct {
	Text   string
	Offset int    // bytes
	Column int    // characters, from 1
	Msg    string // without position
	Near   string // the nearest known name, "" where none is near
}

func (e *SyntaxError) Error() string {
	s := fmt.Sprintf("parse filter: column %d: %s", e.Column, e.Msg)
	if e.Near != "" {
		s += fmt.Sprintf(", did you mean %q?", e.Near)
	}
	return s
}

// parser descends through: either = both {"or" both}; both = one {["and"]
// one}; one = ("not" | "!") one | "(" either ")" | field [op] value.
type parser struct {
	text  string
	at    int
	tok   token // the one to look at
	depth int
}

func (p *parser) parse() (node, error) {
	if len(p.text) > maxLength {
		return nil, p.errorAt(maxLength, "", "longer than %d bytes", maxLength)
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.kind == endOfText {
		return nil, nil
	}
	root, err := p.either()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != endOfText {
		return nil, p.errorAt(p.tok.at, "", "%q closes nothing", p.tok.text)
	}
	return root, nil
}

func (p *parser) either() (node, error) {
	left, err := p.both()
	for err == nil && p.sees(eitherSign, "or") {
		var right node
		if err = p.advance(); err == nil {
			right, err = p.both()
		}
		left = &or{left, right}
	}
	return left, err
}

func (p *parser) both() (node, error) {
	left, err := p.one()
	for err == nil {
		if p.sees(bothSign, "and") {
			err = p.advance()
		} else if p.tok.kind == endOfText || p.tok.kind == closing || p.sees(eitherSign, "or") {
			return left, nil
		}
		var right node
		if err == nil {
			right, err = p.one()
		}
		left = &and{left, right}
	}
	return left, err
}

func (p *parser) one() (node, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxDepth {
		return nil, p.errorAt(p.tok.at, "", "nested more than %d deep", maxDepth)
	}
	switch {
	case p.sees(bang, "not"):
		if err := p.advance(); err != nil {
			return nil, err
		}
		inner, err := p.one()
		return &not{inner}, err
	case p.tok.kind == open:
		at := p.tok.at
		if err := p.advance(); err != nil {
			return nil, err
		}
		inner, err := p.either()
		if err != nil {
			return nil, err
		}
		if p.tok.kind != closing {
			return nil, p.errorAt(at, "", "this parenthesis is not closed")
		}
		return inner, p.advance()
	case p.tok.kind == word && !slices.Contains(Keywords(), p.tok.text):
		return p.term()
	case p.tok.kind == endOfText:
		return nil, p.errorAt(p.tok.at, "", "ends where a term is expected, such as: state close-wait")
	default:
		return nil, p.errorAt(p.tok.at, "", "%q where a term is expected, such as: state close-wait", p.tok.text)
	}
}

func (p *parser) term() (node, error) {
	name := p.tok
	i := slices.IndexFunc(fields, func(f field) bool { return f.name == name.text })
	if i < 0 {
		return nil, p.errorAt(name.at, nearest.Name(name.text, Fields()), "unknown field %q", name.text)
	}
	n := &term{field: &fields[i]}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.kind == sign || p.tok.kind == word && opWords[p.tok.text] != opNone {
		n.op = opWords[p.tok.text]
		if n.op == opNone {
			return nil, p.errorAt(p.tok.at, "", "unknown operator %q", p.tok.text)
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	if p.tok.kind != word && p.tok.kind != text {
		return nil, p.errorAt(p.tok.at, "", "a value of %q is expected: %s", name.text, n.field.wants)
	}
	n.value = p.tok.text
	matches, bad := n.field.compile(n.op, n.value)
	if bad != nil {
		at := p.tok.at
		if bad.op {
			at = name.at
		}
		return nil, p.errorAt(at, bad.near, "%s", bad.msg)
	}
	n.matches = matches
	return n, p.advance()
}

func (p *parser) sees(k kind, keyword string) bool {
	return p.tok.kind == k || p.tok.kind == word && p.tok.text == keyword
}

func (p *parser) advance() error {
	tok, end, whole := next(p.text, p.at)
	if !whole {
		return p.errorAt(tok.at, "", "this quote is not closed")
	}
	p.tok, p.at = tok, end
	return nil
}

func (p *parser) errorAt(offset int, near, format string, args ...any) *SyntaxError {
	return &SyntaxError{
		Text: p.text, Offset: offset, Column: column(p.text, offset), Msg: fmt.Sprintf(format, args...), Near: near,
	}
}
