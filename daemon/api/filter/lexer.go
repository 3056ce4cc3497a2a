package filter

import (
	"strings"
	"unicode/utf8"
)

// op is a comparison.
type op int

const (
	opNone op = iota // left out
	opEqual
	opNotEqual
	opLess
	opLessEqual
	opGreater
	opGreaterEqual
)

var opNames = [...]string{"=", "=", "!=", "<", "<=", ">", ">="}

func (o op) String() string { return opNames[o] }

// the operators of ss(8), which has both signs and words
var opWords = map[string]op{
	"=": opEqual, "==": opEqual, "eq": opEqual,
	"!=": opNotEqual, "<>": opNotEqual, "ne": opNotEqual, "neq": opNotEqual,
	"<": opLess, "lt": opLess, "<=": opLessEqual, "=<": opLessEqual, "le": opLessEqual, "leq": opLessEqual,
	">": opGreater, "gt": opGreater, ">=": opGreaterEqual, "=>": opGreaterEqual, "ge": opGreaterEqual, "geq": opGreaterEqual,
}

// holds reports whether the outcome of a comparison (negative, 0, positive)
// satisfies the operator.
func (o op) holds(c int) bool {
	switch o {
	case opNotEqual:
		return c != 0
	case opLess:
		return c < 0
	case opLessEqual:
		return c <= 0
	case opGreater:
		return c > 0
	case opGreaterEqual:
		return c >= 0
	default:
		return c == 0
	}
}

type kind int

const (
	endOfText  kind = iota
	word            // a bare word: a field, a keyword or a value
	text            // a quoted value
	sign            // = != < <= > >=
	open            // (
	closing         // )
	bang            // !
	bothSign        // && or &
	eitherSign      // || or |
)

type token struct {
	kind kind
	at   int // byte offset in the text
	text string
}

const signs = "=!<>"

// next reads one token from text at offset at; it never fails: a lone quote
// is reported as a text token without its end (whole is false).
func next(in string, at int) (t token, end int, whole bool) {
	for at < len(in) && isSpace(in[at]) {
		at++
	}
	t.at = at
	if at == len(in) {
		return t, at, true
	}
	switch c := in[at]; {
	case c == '(':
		t.kind, end = open, at+1
	case c == ')':
		t.kind, end = closing, at+1
	case c == '&':
		t.kind, end = bothSign, at+1
		if strings.HasPrefix(in[at:], "&&") {
			end++
		}
	case c == '|':
		t.kind, end = eitherSign, at+1
		if strings.HasPrefix(in[at:], "||") {
			end++
		}
	case c == '!' && !strings.HasPrefix(in[at:], "!="):
		t.kind, end = bang, at+1
	case strings.IndexByte(signs, c) >= 0:
		t.kind, end = sign, at+1
		if end < len(in) && opWords[in[at:end+1]] != opNone {
			end++
		}
	case c == '"' || c == '\'':
		return quotedToken(in, at)
	default:
		t.kind, end = word, at
		for end < len(in) && !isSpace(in[end]) && strings.IndexByte(`()=<>"'&|`, in[end]) < 0 &&
			!strings.HasPrefix(in[end:], "!=") {
			end++
		}
	}
	t.text = in[at:end]
	return t, end, true
}

// quotedToken reads a value in quotes; a backslash keeps the next character as
// it is.
func quotedToken(s string, at int) (token, int, bool) {
	quote := s[at]
	var b strings.Builder
	for i := at + 1; i < len(s); i++ {
		switch {
		case s[i] == quote:
			return token{kind: text, at: at, text: b.String()}, i + 1, true
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return token{kind: text, at: at, text: b.String()}, len(s), false
}

// Quote writes a value so that the lexer reads it back.
func Quote(value string) string {
	t, end, _ := next(value, 0)
	if value != "" && t.kind == word && t.at == 0 && end == len(value) {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// column counts characters, from 1, for a byte offset.
func column(s string, offset int) int {
	return utf8.RuneCountInString(s[:min(offset, len(s))]) + 1
}
