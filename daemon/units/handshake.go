package units

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// authenticate says who we are, and hands back a connection on which godbus
// can go through its own, longer dialogue without a word of it being sent.
//
// That is because of PID 1's private socket. BEGIN, the last word of the
// dialogue, has no answer. If the first message arrives with it, sd-bus reads
// both, leaves the message in its buffer and polls for more
// (bus_socket_auth_verify_server in sd-bus/bus-socket.c): the answer never
// comes. One in seven connections of godbus ended so on systemd 252. Like
// sd-bus's own client this sends all lines in one write and waits for OK;
// by then BEGIN has been read.
//
// EXTERNAL with the number is the only method: no password file is read.
func authenticate(raw net.Conn, uid int) (*transport, error) {
	t := &transport{Conn: raw, in: bufio.NewReader(raw)}
	hello := "\x00AUTH EXTERNAL " + hex.EncodeToString([]byte(strconv.Itoa(uid))) + "\r\nBEGIN\r\n"
	if _, err := t.send([]byte(hello)); err != nil {
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	line, err := t.in.ReadSlice('\n') // at most a buffer full
	if err != nil {
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	answer := strings.TrimSpace(string(line))
	if !strings.HasPrefix(answer, "OK ") {
		return nil, fmt.Errorf("authenticate as uid %d: answer is %q", uid, answer)
	}
	return t, nil
}

// transport is the connection as godbus sees it. It answers the dialogue of
// (*dbus.Conn).Auth by itself, up to BEGIN. After that it bounds each write,
// so that a peer that does not read cannot block a caller, and reads ahead,
// since godbus takes a message apart with many small reads.
type transport struct {
	net.Conn
	in *bufio.Reader

	// Only Auth reads and writes before begun, in one goroutine.
	begun   bool
	answers bytes.Buffer
}

func (t *transport) Read(b []byte) (int, error) {
	if !t.begun {
		return t.answers.Read(b)
	}
	return t.in.Read(b)
}

func (t *transport) Write(b []byte) (int, error) {
	if t.begun {
		return t.send(b)
	}
	switch line := strings.TrimSpace(string(b)); {
	case line == "AUTH":
		t.answers.WriteString("REJECTED EXTERNAL\r\n")
	case strings.HasPrefix(line, "AUTH EXTERNAL"):
		t.answers.WriteString("OK 00000000000000000000000000000000\r\n")
	case line == "BEGIN":
		t.begun = true
	}
	return len(b), nil
}

// send gives up the connection with the first write that is late: half a
// message may be on its way, and the next would have to wait as long.
func (t *transport) send(b []byte) (int, error) {
	if err := t.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := t.Conn.Write(b)
	if err != nil {
		t.Close()
	}
	return n, err
}
