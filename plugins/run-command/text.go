package runcommand

import (
	"bytes"
	"strconv"
	"strings"
)

// maxShown is as much of a path or an argument as a message repeats.
const maxShown = 200

// cut shortens a text to at most so many bytes, "..." included.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-3], "") + "..."
}

// quote writes a text in double quotes, all that does not print escaped.
func quote(s string, most int) string { return strconv.Quote(cut(s, most)) }

// lastLine gives the last line that is not empty.
func lastLine(text []byte) string {
	text = bytes.TrimRight(text, "\r\n\t ")
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}
