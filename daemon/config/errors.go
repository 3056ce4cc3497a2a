package config

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"

	"github.com/tcpmemd/tcpmemd/daemon/nearest"
)

// Error is one mistake in one file.
type Error struct {
	File   string
	Line   int // 1 is the first, 0 where the mistake has no place
	Column int // in bytes, 1 is the first, 0 for the whole line
	// Excerpt shows the place, on lines of its own; "" where Err says enough.
	Excerpt string
	// Err is fs.ErrNotExist and the like for a file that cannot be read.
	Err error
}

// Error gives FILE:LINE:COLUMN: CAUSE, as compilers do, and the excerpt below.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(printable(e.File))
	for _, n := range []int{e.Line, e.Column} {
		if n > 0 {
			fmt.Fprintf(&b, ":%d", n)
		}
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Excerpt != "" {
		b.WriteString("\n" + e.Excerpt)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// syntaxError keeps the library's message, position and excerpt, but says them
// in this package's order. Line and column are counted anew from the offset: the
// library's column is that of the line before where the mistake is at the start
// of a line, and its offset can lie outside the text.
func syntaxError(file string, text []byte, err error) *Error {
	parseErr, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return &Error{File: file, Err: err}
	}
	at := &parseErr.Position
	before := text[:max(0, min(at.Start, len(text)))]
	at.Len = max(1, at.Len)
	at.Line = 1 + bytes.Count(before, []byte("\n"))
	at.Col = len(before) - bytes.LastIndexByte(before, '\n')
	// What comes before the excerpt is the message and "At line N, column N:".
	_, excerpt, _ := strings.Cut(parseErr.ErrorWithPosition(), "\n\nAt line ")
	_, excerpt, _ = strings.Cut(excerpt, ":\n\n")
	lines := strings.Split(strings.TrimRight(excerpt, "\n"), "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	if at.Col > maxShown { // the mark would stand far out of sight
		lines = nil
	}
	return &Error{
		File: file, Line: at.Line, Column: at.Col,
		Excerpt: strings.Join(lines, "\n"),
		Err:     errors.New(printable(parseErr.Message)),
	}
}

// unknownKey says so, with the known key that is nearest where one is near.
func unknownKey(e entry) error {
	switch {
	case isPlugin(e.path):
		return fmt.Errorf("%s is a table: set its keys, e.g. %s.path", e.key, e.key)
	case isTable(e.key):
		return fmt.Errorf("%s is a table: set its keys, e.g. %s", e.key, firstOf(e.key))
	}
	what, known := "key", Keys()
	if len(e.path) == 3 && e.path[0] == "plugin" {
		for _, key := range PluginKeys() {
			known = append(known, strings.Replace(key, "NAME", e.path[1], 1))
		}
	}
	if e.table {
		what, known = "table", tables()
	}
	return unknown(what, e.key, known)
}

func unknown(what, name string, known []string) error {
	if near := nearest.Name(name, known); near != "" {
		return fmt.Errorf("unknown %s %s; did you mean %s?", what, quote(name), near)
	}
	return fmt.Errorf("unknown %s %s", what, quote(name))
}

// maxShown bounds what a message repeats of a file.
const maxShown = 80

// show writes a value as in TOML.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return quote(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if strings.Trim(s, "-0123456789") == "" {
			s += ".0" // else it reads like an integer, which is another type
		}
		return s
	case bool:
		return strconv.FormatBool(v)
	case []any:
		return "[...]"
	case map[string]any, []map[string]any:
		return "{...}"
	default: // dates and times
		return quote(fmt.Sprint(v))
	}
}

func quote(s string) string { return strconv.Quote(clip(s)) }

// clip shortens s to maxShown bytes and a mark, between two runes.
func clip(s string) string {
	for i := range s {
		if i > maxShown {
			return s[:i] + "..."
		}
	}
	return s
}

// printable escapes what could move a terminal's cursor.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}
