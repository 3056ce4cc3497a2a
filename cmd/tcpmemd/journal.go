package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

const (
	journalSocket = "/run/systemd/journal/socket"
	// journalTime bounds the wait for a journal whose queue is full: the loop
	// speaks. After it the journal is not asked for journalRest.
	journalTime = 20 * time.Millisecond
	journalRest = 10 * time.Second
)

// journald sends events with what standard output cannot carry: the kind's
// MESSAGE_ID, a priority, and the unit that was acted on, so that journalctl -u
// of that unit says who restarted it.
type journald struct {
	socket string
	rest   time.Time // until then it is left alone
}

// send reports whether the journal took it.
func (j *journald) send(t event.Text, r *record.Record) (took bool) {
	if time.Now().Before(j.rest) {
		return false
	}
	defer func() {
		if !took {
			j.rest = time.Now().Add(journalRest)
		}
	}()
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: j.socket, Net: "unixgram"})
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }() // the entry is out, or it is not
	if conn.SetWriteDeadline(time.Now().Add(journalTime)) != nil {
		return false
	}
	_, err = conn.Write(journalEntry(t, r))
	return err == nil
}

// journalEntry writes NAME=VALUE, or a name and the length of a value of several
// lines (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
func journalEntry(t event.Text, r *record.Record) []byte {
	fields := [][2]string{
		{"MESSAGE", t.Line},
		{"MESSAGE_ID", event.KindOf(t.Event).MessageID},
		{"PRIORITY", priority(t.Severity)},
		{"SYSLOG_IDENTIFIER", "tcpmemd"},
		{"TCPMEMD_EVENT", t.Event},
	}
	if r != nil {
		fields = append(fields, [][2]string{
			{"TCPMEMD_RULE", r.Rule}, {"TCPMEMD_KEY", r.Key}, {"TCPMEMD_INCIDENT", r.Incident}, {"TCPMEMD_ACTION", r.Action},
		}...)
		// Only PID 1's own word lets an action touch a unit. What was merely
		// decided may be about one that a cgroup's name claims to be.
		unit, ofSystem := strings.CutPrefix(r.Key, "system/")
		if ofSystem && (r.Intent != nil || r.Result != nil || r.Effect != nil) {
			fields = append(fields, [2]string{"OBJECT_SYSTEMD_UNIT", unit})
		}
	}
	var b bytes.Buffer
	for _, f := range fields {
		switch name, value := f[0], f[1]; {
		case value == "":
		case strings.Contains(value, "\n"):
			b.WriteString(name + "\n")
			b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
			b.WriteString(value + "\n")
		default:
			b.WriteString(name + "=" + value + "\n")
		}
	}
	return b.Bytes()
}

// priority is syslog's of a severity.
func priority(severity string) string {
	switch severity {
	case event.Critical:
		return "2"
	case event.Warning:
		return "4"
	}
	return "6"
}
