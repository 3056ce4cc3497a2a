package sdnotify

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxStatus bounds a status, in bytes: systemd drops a message of more than
// 4096 (NOTIFY_BUFFER_MAX in src/core/manager.c), and a line is read by people.
const maxStatus = 1024

// statusLine gives "STATUS=" and the text as one line. A process can choose
// names that come here: a newline in one could otherwise add a message of its
// own, as "READY=1", and a status that is not UTF-8 is ignored.
func statusLine(text string) string {
	return "STATUS=" + printable(text)
}

// printable escapes what is not printable and cuts what is too long.
func printable(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		piece := text[:size]
		switch {
		case r == utf8.RuneError && size == 1:
			piece = `\x` + strconv.FormatUint(uint64(text[0]), 16)
		case !unicode.IsPrint(r):
			piece = strings.Trim(strconv.QuoteRune(r), "'")
		}
		if b.Len()+len(piece) > maxStatus {
			b.WriteString("...")
			break
		}
		b.WriteString(piece)
		text = text[size:]
	}
	return b.String()
}

// cause takes operation and addresses out of an error of package net: send
// names the address.
func cause(err error) error {
	if opErr, ok := errors.AsType[*net.OpError](err); ok {
		return opErr.Err
	}
	return err
}
