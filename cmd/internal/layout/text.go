// Package layout puts text on a terminal: how wide it is, how it is shortened,
// broken into lines, coloured and set in tables. It knows nothing of what the
// text says; that is escaped already.
package layout

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// Width counts the columns of a terminal that escaped text takes: two for
// wide East Asian characters and emoji, none for combining marks and for the
// colours of a painter (escaped text has no other ESC).
func Width(s string) int {
	n, colour := 0, false
	for _, r := range s {
		switch {
		case r == '\x1b':
			colour = true
		case colour:
			colour = r != 'm'
		default:
			n += runeWidth(r)
		}
	}
	return n
}

func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

const ellipsis = "…"

// ShortenMiddle cuts text to at most w columns and keeps both ends: names
// differ at the end as often as at the start.
func ShortenMiddle(s string, w int) string {
	if Width(s) <= w {
		return s
	}
	if w <= 1 {
		return ellipsis[:min(w, 1)*len(ellipsis)]
	}
	head := prefix(s, (w-1)/2+(w-1)%2)
	return head + ellipsis + suffix(s[len(head):], w-1-Width(head))
}

// ShortenEnd cuts text to at most w columns.
func ShortenEnd(s string, w int) string {
	if Width(s) <= w {
		return s
	}
	if w <= 1 {
		return ellipsis[:min(w, 1)*len(ellipsis)]
	}
	return strings.TrimRight(prefix(s, w-1), " ,") + ellipsis
}

// prefix is the longest head of s within w columns, with its combining marks.
func prefix(s string, w int) string {
	used := 0
	for i, r := range s {
		if used += runeWidth(r); used > w {
			return s[:i]
		}
	}
	return s
}

// suffix is the longest tail of s within w columns, never beginning with a
// combining mark.
func suffix(s string, w int) string {
	used, start := 0, len(s)
	for i := len(s); i > 0; {
		r, size := utf8.DecodeLastRuneInString(s[:i])
		i -= size
		n := runeWidth(r)
		if used += n; used > w {
			break
		}
		if n > 0 {
			start = i
		}
	}
	return s[start:]
}

// Wrap breaks a sentence at blanks into lines of at most w columns where it
// can, all but the first indented; w <= 0 leaves one line.
func Wrap(s string, w int, indent string) []string {
	if w <= 0 {
		return []string{s}
	}
	var lines []string
	least := len(s) - len(strings.TrimLeft(s, " ")) // never in leading blanks
	before := ""
	for at := breakAt(s, least, w); at >= 0; at = breakAt(s, least, w) {
		lines = append(lines, before+strings.TrimRight(s[:at], " "))
		if before == "" {
			before, w = indent, w-len(indent)
		}
		s, least = strings.TrimLeft(s[at:], " "), 0
	}
	return append(lines, before+s)
}

// breakAt finds the last blank of s behind its first least bytes and at most w
// columns in, or else the first one after; -1 where there is none, or where
// all of s fits.
func breakAt(s string, least, w int) int {
	at, column, colour := -1, 0, false
	for i, r := range s {
		switch {
		case r == '\x1b':
			colour = true
		case colour:
			colour = r != 'm'
		default:
			if r == ' ' && i > least && (column <= w || at < 0) {
				at = i
			}
			column += runeWidth(r)
		}
		if column > w && at >= 0 {
			return at
		}
	}
	return -1
}
