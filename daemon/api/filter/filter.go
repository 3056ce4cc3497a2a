// Package filter is the language that selects sockets, in the manner of ss(8):
//
//	unit = x.service and mem > 1M
//	state close-wait dport = :443
//	(class orphan or class hidden) and not netns = 4026531840
//
// Terms compare one field with one value; the operator may be left out and
// means "=" then, or "inside" for addresses. Terms in a row are joined by
// "and"; "or" binds less, "not" and "!" bind more. Texts are globs with * and
// ?. Sizes end in K, M, G or T, each 1024 of the one before. A field that a
// socket does not have, such as the pid of an orphan, is different from every
// value and neither greater nor less.
package filter

import (
	"slices"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Subject is what a filter judges: a socket, and the owner it names (nil where
// the reading has none).
type Subject struct {
	Socket *reading.Socket
	Owner  *reading.Owner
}

// Filter is a parsed filter. Its zero value, like nil, matches all.
type Filter struct {
	root node
}

// Parse reads a filter. Blank text matches all. Its error is a *SyntaxError.
func Parse(text string) (*Filter, error) {
	p := parser{text: text}
	root, err := p.parse()
	if err != nil {
		return nil, err
	}
	return &Filter{root: root}, nil
}

// Match judges one socket. It does not allocate.
func (f *Filter) Match(s *Subject) bool {
	return f == nil || f.root == nil || f.root.match(s)
}

// Want gives Match the shape that a stream of sockets asks for; owners finds
// the owner that a socket names. The function is not for several goroutines.
func (f *Filter) Want(owners map[string]*reading.Owner) func(*reading.Socket) bool {
	var s Subject // reused: a stream is long
	return func(socket *reading.Socket) bool {
		s.Socket, s.Owner = socket, owners[socket.Owner]
		return f.Match(&s)
	}
}

// All reports whether the filter matches every socket.
func (f *Filter) All() bool { return f == nil || f.root == nil }

// String writes the filter so that Parse reads it back to the same meaning.
func (f *Filter) String() string {
	if f.All() {
		return ""
	}
	var b strings.Builder
	f.root.write(&b, bindOr)
	return b.String()
}

// Bind says how tightly a part of a filter holds together, for parentheses.
type bind int

const (
	bindOr bind = iota
	bindAnd
	bindNot
)

// OwnerOnly reports whether all terms are about the owner: then every socket of
// an owner is judged alike, whatever else is in Subject.Socket.
func (f *Filter) OwnerOnly() bool { return f.All() || f.root.ownerOnly() }

type node interface {
	match(*Subject) bool
	ownerOnly() bool
	write(b *strings.Builder, outer bind)
}

type and struct{ left, right node }

func (n *and) match(s *Subject) bool { return n.left.match(s) && n.right.match(s) }

func (n *and) write(b *strings.Builder, outer bind) {
	parenthesised(b, outer > bindAnd, func() {
		n.left.write(b, bindAnd)
		b.WriteString(" and ")
		n.right.write(b, bindAnd)
	})
}

func (n *and) ownerOnly() bool { return n.left.ownerOnly() && n.right.ownerOnly() }

type or struct{ left, right node }

func (n *or) match(s *Subject) bool { return n.left.match(s) || n.right.match(s) }

func (n *or) write(b *strings.Builder, outer bind) {
	parenthesised(b, outer > bindOr, func() {
		n.left.write(b, bindOr)
		b.WriteString(" or ")
		n.right.write(b, bindOr)
	})
}

func (n *or) ownerOnly() bool { return n.left.ownerOnly() && n.right.ownerOnly() }

type not struct{ inner node }

func (n *not) match(s *Subject) bool { return !n.inner.match(s) }

func (n *not) write(b *strings.Builder, _ bind) {
	b.WriteString("not ")
	n.inner.write(b, bindNot)
}

func (n *not) ownerOnly() bool { return n.inner.ownerOnly() }

// term compares a field; the value stays in the text as it was written.
type term struct {
	field   *field
	op      op
	value   string
	matches func(*Subject) bool
}

func (n *term) match(s *Subject) bool { return n.matches(s) }

func (n *term) write(b *strings.Builder, _ bind) {
	b.WriteString(n.field.name + " " + n.op.String() + " " + Quote(n.value))
}

func (n *term) ownerOnly() bool {
	return slices.Contains([]string{"owner", "unit", "container", "pod", "cgroup"}, n.field.name)
}

func parenthesised(b *strings.Builder, needed bool, write func()) {
	if needed {
		b.WriteByte('(')
		defer b.WriteByte(')')
	}
	write()
}
