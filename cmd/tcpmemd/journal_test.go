package main

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// TestJournal: what is done to a unit is in that unit's journal, with its kind
// and priority; what is only decided is not. Without a journal it is a line.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	say := &speaker{out: &out, journal: true, journald: journald{socket: path}}
	text := event.Text{Event: event.ActionEffect, Severity: event.Critical, Line: "x: helped"}
	read := func() string {
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}

	say.event(text, &record.Record{Rule: "leak", Key: "system/x.service", Effect: &record.Effect{}})
	got := read()
	for _, want := range []string{
		"MESSAGE=x: helped\n", "MESSAGE_ID=" + event.KindOf(event.ActionEffect).MessageID + "\n", "PRIORITY=2\n",
		"TCPMEMD_RULE=leak\n", "OBJECT_SYSTEMD_UNIT=x.service\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	for _, r := range []*record.Record{
		nil,
		{Key: "system/x.service", Decision: &record.Decision{}},
		{Key: "user@1000/x.service", Effect: &record.Effect{}},
	} {
		say.event(text, r)
		if got := read(); strings.Contains(got, "OBJECT_") {
			t.Errorf("of the unit: %q", got)
		}
	}
	if out.Len() > 0 {
		t.Errorf("said twice: %q", &out)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	say.event(text, nil)
	if got := out.String(); got != "x: helped\n" {
		t.Errorf("without a journal: %q", got)
	}
}

// TestStuckJournal: one that takes nothing delays one event, not each.
func TestStuckJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var out bytes.Buffer
	say := &speaker{out: &out, journal: true, journald: journald{socket: path}}
	const events = 5000 // more than net.unix.max_dgram_qlen
	start := time.Now()
	for range events {
		say.event(event.Text{Event: event.Held, Line: "x"}, nil)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("%d events took %v", events, took)
	}
	if n := strings.Count(out.String(), "x\n"); n == 0 || n == events {
		t.Errorf("%d of %d events are lines", n, events)
	}
}
