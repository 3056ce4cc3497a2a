package notify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tcpmemd/tcpmemd/remediate"
)

const (
	maxMessage = 16 << 10 // bytes of MESSAGE
	maxField   = 1 << 10  // bytes of any other field
)

// field is one of a journal entry. Names are of A-Z, 0-9 and _, and begin with
// a letter (journal_field_valid in systemd).
type field struct{ name, value string }

// entry is what the journal gets. Every value is bounded, so that the datagram
// fits every socket buffer and needs no file passed along.
func entry(r *remediate.Request, object field) []field {
	fields := []field{
		{"MESSAGE", printable(r.Text, maxMessage, true)},
		{"PRIORITY", priority(r.Severity)},
		{"SYSLOG_IDENTIFIER", "tcpmemd"},
	}
	for _, f := range []field{
		{"TCPMEMD_EVENT", r.Event},
		{"TCPMEMD_RULE", r.Rule},
		{"TCPMEMD_KEY", r.Key},
		{"TCPMEMD_INCIDENT", r.IncidentID},
		{"TCPMEMD_ACTION", r.ActionID},
		object,
	} {
		if f.value != "" {
			fields = append(fields, field{f.name, printable(f.value, maxField, false)})
		}
	}
	return fields
}

// object makes the entry one of the owner's, so that `journalctl -u` shows it:
// by its unit, where PID 1 named it, else by its primary holder, whose unit
// journald looks up, if the number is still that process's. UNIT= would not
// do: it counts only from PID 1 (add_matches_for_unit in systemd).
func (a *Action) object(o *remediate.Owner) field {
	switch {
	case o == nil:
		return field{}
	case o.UnitVerified && o.Unit != "" && o.Manager == "system":
		return field{"OBJECT_SYSTEMD_UNIT", o.Unit}
	case len(o.Holders) == 0:
		return field{}
	}
	primary := o.Holders[0]
	stat, err := a.proc.Stat(primary.PID)
	if err != nil || stat.StartTime != primary.StartTime {
		return field{}
	}
	return field{"OBJECT_PID", strconv.Itoa(primary.PID)}
}

// priority is syslog's of a severity.
func priority(severity string) string {
	switch severity {
	case "critical":
		return "2"
	case "warning":
		return "4"
	}
	return "6"
}

// encode writes an entry as journald reads it: a value of one line as
// NAME=VALUE, any other with its length (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
func encode(fields []field) []byte {
	var b bytes.Buffer
	for _, f := range fields {
		b.WriteString(f.name)
		if strings.IndexByte(f.value, '\n') < 0 {
			b.WriteString("=" + f.value + "\n")
			continue
		}
		b.WriteByte('\n')
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(f.value))))
		b.WriteString(f.value + "\n")
	}
	return b.Bytes()
}

// send gives the entry to the journal, and waits only so long for a queue that
// is full. go-systemd's package journal would wait without end.
func send(ctx context.Context, socket string, fields []field) error {
	ctx, cancel := context.WithTimeout(ctx, journalTime)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return cause(err)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return cause(err)
	}
	defer func() { _ = conn.Close() }() // the entry is out, or its error known
	deadline, _ := ctx.Deadline()
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return cause(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err = conn.Write(encode(fields))
	return cause(err)
}

// cause names what went wrong without the address, which the caller names.
func cause(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no
	}
	return err
}

// printable writes what does not print as an escape, and invalid UTF-8 byte by
// byte; it keeps newlines where a text may have lines. A result that is longer
// than most bytes is cut.
func printable(s string, most int, lines bool) string {
	const mark = "..."
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		before := b.Len()
		switch {
		case r == '\n' && lines || unicode.IsPrint(r) && (r != utf8.RuneError || n > 1):
			b.WriteString(s[i : i+n])
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i])|0x100, 16)[1:])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		if i += n; b.Len() > most-len(mark) && (i < len(s) || b.Len() > most) {
			return b.String()[:before] + mark
		}
	}
	return b.String()
}
