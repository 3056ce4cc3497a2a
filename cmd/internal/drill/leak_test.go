package drill

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestLeak: it grows to what was asked for and not beyond, says what it holds,
// and ends with its parent without leaving anything.
func TestLeak(t *testing.T) {
	const most = 3 << 20
	parent, alive := io.Pipe()
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- Leak(t.Context(), Plan{Bytes: most, Over: 2 * time.Second}, parent, out)
		out.Close()
	}()
	var last Held
	lines := json.NewDecoder(said)
	for last.All.Bytes < most-room(Plan{Bytes: most}.payload()) {
		var h Held
		if err := lines.Decode(&h); err != nil {
			t.Fatal(err)
		}
		if h.All.Bytes <= last.All.Bytes || h.All.Bytes > most {
			t.Fatalf("it holds %d bytes after %d, at most %d are wanted", h.All.Bytes, last.All.Bytes, most)
		}
		last = h
	}
	if last.Hidden.Bytes < last.All.Bytes/2 || last.Hidden.Sockets == 0 || last.Hidden.Sockets >= last.All.Sockets {
		t.Errorf("%+v: want about two of three bytes in hidden sockets, and others", last)
	}
	if n := socketsOf(t); n < int(last.All.Sockets) {
		t.Errorf("%d sockets are open, it says %d", n, last.All.Sockets)
	}
	alive.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n := socketsOf(t); n > 0 {
		t.Errorf("%d sockets are left", n)
	}
}

// socketsOf counts the sockets of this process, but for those of the runtime.
func socketsOf(t *testing.T) (n int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// TestEndsWithContext: at once, also while it grows.
func TestEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	parent, alive := io.Pipe()
	defer alive.Close()
	if err := Leak(ctx, Plan{Bytes: 1 << 20, Over: time.Hour}, parent, io.Discard); err != nil {
		t.Error(err)
	}
}

// TestChild: the process ends when the one that started it does not say so, and
// what it says of itself arrives.
func TestChild(t *testing.T) {
	t.Setenv("DRILL_CHILD", "1")
	c, err := start([]string{os.Args[0]})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); c.Held().All.Bytes == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it says nothing")
		}
	}
	if _, err := os.Stat("/proc/" + strconv.Itoa(c.PID())); err != nil {
		t.Fatal(err)
	}
	c.stdin.Close() // as the kernel does when this process is killed
	select {
	case <-c.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("it lives on")
	}
	if err := c.End(); err != nil {
		t.Error(err)
	}
}

// TestMain is the child, where it is asked to be.
func TestMain(m *testing.M) {
	if os.Getenv("DRILL_CHILD") != "" {
		if Leak(context.Background(), Plan{Bytes: 1 << 20, Over: time.Millisecond}, os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
