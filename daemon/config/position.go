package config

import (
	"bytes"
	"unicode/utf8"
)

// position gives line and column, in bytes from 1, of an offset.
func position(text []byte, offset int) (line, column int) {
	before := text[:max(0, min(offset, len(text)))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

// rawOffset gives where a byte of a string's value stands in the file. start is
// where the string begins, after its quotes.
func rawOffset(text []byte, start, value int) int {
	at := start
	quotes := text[:start]
	long := bytes.HasSuffix(quotes, []byte(`"""`)) || bytes.HasSuffix(quotes, []byte(`'''`))
	escapes := bytes.HasSuffix(quotes, []byte(`"`))
	if long { // a newline right after the quotes is none of the value
		at += newline(text[at:])
	}
	for value > 0 && at < len(text) {
		if !escapes || text[at] != '\\' {
			at++
			value--
			continue
		}
		raw, size := escape(text[at:])
		at += raw
		value -= size
	}
	// What follows may be a line that goes on in the next one.
	for escapes && long && at < len(text) && text[at] == '\\' {
		raw, size := escape(text[at:])
		if size > 0 {
			break
		}
		at += raw
	}
	return at
}

// escape gives the length of an escape and of what it stands for, in bytes.
func escape(text []byte) (raw, size int) {
	if len(text) < 2 {
		return len(text), len(text)
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[text[1]]
	if digits > 0 {
		var r rune
		for _, c := range text[2:min(2+digits, len(text))] {
			r = r<<4 | rune(hexDigit(c))
		}
		return 2 + digits, max(1, utf8.RuneLen(r))
	}
	if bytes.IndexByte([]byte(" \t\r\n"), text[1]) >= 0 { // up to the next word
		rest := bytes.TrimLeft(text[1:], " \t\r\n")
		return len(text) - len(rest), 0
	}
	return 2, 1
}

func hexDigit(c byte) int {
	switch {
	case c >= 'a':
		return int(c-'a') + 10
	case c >= 'A':
		return int(c-'A') + 10
	}
	return int(c - '0')
}

func newline(text []byte) int {
	switch {
	case bytes.HasPrefix(text, []byte("\r\n")):
		return 2
	case bytes.HasPrefix(text, []byte("\n")):
		return 1
	}
	return 0
}
