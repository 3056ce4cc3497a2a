package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

// Bounds of an entry, in bytes: a datagram of all of it fits the send buffer of
// every socket (net.core.wmem_default), and needs no file passed along.
const (
	maxMessage = 16 << 10
	maxField   = 1 << 10
	maxFields  = 64
)

// Identifier is the SYSLOG_IDENTIFIER of every entry.
const Identifier = "tcpmemd"

// entry is a text on its way.
type entry struct {
	text   event.Text
	queued time.Time
	serial uint64
}

// encode writes an entry as journald reads it: NAME=VALUE, or a name and the
// length of a value of several lines
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/). late says that it is about a
// time which the journal will not show.
func encode(t *event.Text, late bool, alive func(pid int, start uint64) bool) []byte {
	var b bytes.Buffer
	n := 0
	add := func(name, value string) {
		if value == "" || n == maxFields {
			return
		}
		n++
		if !strings.Contains(value, "\n") {
			b.WriteString(name + "=" + value + "\n")
			return
		}
		b.WriteString(name + "\n")
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
		b.WriteString(value + "\n")
	}
	message := printable(t.Message(), maxMessage, true)
	if late && !t.At.IsZero() {
		message += "\ntold late: this was at " + prose.Time(t.At)
	}
	add("MESSAGE", message)
	add("MESSAGE_ID", event.KindOf(t.Event).MessageID)
	add("PRIORITY", strconv.Itoa(Priority(t.Severity)))
	add("SYSLOG_IDENTIFIER", Identifier)
	add("TCPMEMD_EVENT", t.Event)
	if !t.At.IsZero() {
		add("TCPMEMD_TIME", t.At.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	for _, f := range t.Fields {
		add("TCPMEMD_"+f.Name, printable(f.Value, maxField, false))
	}
	// That makes it an entry of the unit for journalctl -u (OBJECT_SYSTEMD_UNIT=
	// from root, add_matches_for_unit in systemd). Of a process journald looks up
	// the unit itself, if the number is still that process's.
	for _, unit := range t.Units {
		add("OBJECT_SYSTEMD_UNIT", printable(unit, maxField, false))
	}
	if h := t.Holder; len(t.Units) == 0 && h != nil && alive(h.PID, h.StartTime) {
		add("OBJECT_PID", fmt.Sprint(h.PID))
	}
	return b.Bytes()
}

// Priority is syslog's of a severity, see syslog(3).
func Priority(severity string) int {
	switch severity {
	case event.Critical:
		return 2
	case event.Warning:
		return 4
	case event.Notice:
		return 5
	case event.Debug:
		return 7
	}
	return 6
}

// printable writes what does not print as an escape, and what is no UTF-8 byte
// by byte; it keeps newlines where a text may have lines. Unlike prose.Escape it
// leaves a backslash alone: a program compares the name of a unit. What is
// longer than most bytes is cut.
func printable(s string, most int, lines bool) string {
	const mark = "..."
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		part := s[i : i+n]
		if (r != '\n' || !lines) && r != '\\' {
			part = prose.Escape(part)
		}
		if i += n; b.Len()+len(part) > most || b.Len()+len(part) > most-len(mark) && i < len(s) {
			return b.String() + mark
		}
		b.WriteString(part)
	}
	return b.String()
}
