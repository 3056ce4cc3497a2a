package kmsg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

const device = "/dev/kmsg"

// needLog opens the real kernel log.
func needLog(t *testing.T) *Log {
	t.Helper()
	if os.Geteuid() != 0 {
		require.Missing(t, "root", "the real kernel log is not read")
	}
	l, err := Open(device, discard())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// marks counts the records with a text in them, in place of the real rules.
type marks struct {
	source
	text string
	seen chan string
}

func (m *marks) Read(b []byte) (int, error) {
	n, err := m.source.Read(b)
	if err == nil && strings.Contains(string(b[:n]), m.text) {
		m.seen <- string(b[:n])
	}
	return n, err
}

// TestForgedRecordDoesNotCount writes to the real /dev/kmsg as a program would.
func TestForgedRecordDoesNotCount(t *testing.T) {
	l := needLog(t)
	out, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		l.src.Close()
		t.Fatal(err)
	}
	defer out.Close()

	mark := fmt.Sprintf("tcpmemd-test-%d", time.Now().UnixNano())
	m := &marks{source: l.src, text: mark, seen: make(chan string, 8)}
	l.src = m
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	<-l.Ready()
	before := l.Counts()

	// <0> and <6> ask for the kernel's facility; the kernel gives LOG_USER.
	forged := []string{"", "<6>", "<4>", "<30>"}
	for _, prefix := range forged {
		if _, err := fmt.Fprintf(out, "%sTCP: out of memory -- consider tuning tcp_mem %s\n", prefix, mark); err != nil {
			t.Fatal(err)
		}
	}
	for range forged {
		select {
		case got := <-m.seen:
			r, err := parseRecord([]byte(got))
			if err != nil {
				t.Fatal(err)
			}
			if r.facility == facilityKernel {
				t.Errorf("a program's record has the kernel's facility: %q", got)
			}
			if classify(r.message) != outOfMemory {
				t.Errorf("the forgery is not one: %q", got)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("record does not arrive")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if after := l.Counts(); after.OutOfMemory != before.OutOfMemory {
		t.Errorf("forged records counted: %+v", after)
	}
}

// TestBlockedReadIsInterrupted shows that the poller waits on the real device
// and that cancelling ends the wait.
func TestBlockedReadIsInterrupted(t *testing.T) {
	l := needLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	<-l.Ready()
	select {
	case err := <-done:
		t.Fatalf("Run ended by itself: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Second):
		t.Fatal("Run does not end")
	}
	if err := l.src.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Run left the log open: %v", err)
	}
}

// TestPacketPipe follows kernel records through a real descriptor with record
// boundaries, without a kernel log.
func TestPacketPipe(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_DIRECT|unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	in, out := os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe")
	defer out.Close()
	l := follow("pipe", in, discard())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	for i := range 3 {
		if _, err := fmt.Fprintf(out, "6,%d,1,-;TCP: too many orphaned sockets\n", i+1); err != nil {
			t.Fatal(err)
		}
	}
	for l.Counts().TooManyOrphans < 3 {
		select {
		case <-l.Matched():
		case <-time.After(5 * time.Second):
			t.Fatalf("%+v", l.Counts())
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
