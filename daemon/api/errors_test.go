package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func TestDialError(t *testing.T) {
	wrapped := func(errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", errno)}
	}
	for _, tt := range []struct {
		errno syscall.Errno
		want  string
	}{
		{syscall.ENOENT, "*api.NotRunningError connect to /s: the daemon is not running: no such file or directory"},
		{syscall.ECONNREFUSED, "*api.NotRunningError connect to /s: the daemon is not running: connection refused"},
		{syscall.EACCES, "*api.PermissionError connect to /s: permission denied"},
		{syscall.EPERM, "*api.PermissionError connect to /s: operation not permitted"},
		{syscall.EMFILE, "*fmt.wrapError connect to /s: too many open files"},
	} {
		err := dialError("/s", wrapped(tt.errno))
		if got := fmt.Sprintf("%T %v", err, err); got != tt.want || !errors.Is(err, tt.errno) {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

func TestSocketStreamIsWholeOrAnError(t *testing.T) {
	for _, text := range []string{"", `{"socket":{"cookie":1}}`, `{"socket":{"cookie":1}}` + "\n" + `{"end":{"vers`} {
		var count atomic.Int64
		if _, err := readSocketStream(strings.NewReader(text), 0, &count); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v, want unexpected EOF", text, err)
		}
		if want := int64(strings.Count(text, "cookie")); count.Load() != want {
			t.Errorf("%q: %d sockets counted, want %d", text, count.Load(), want)
		}
	}
}

// TestStuckDaemon connects to a socket whose daemon never accepts.
func TestStuckDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := Dial(path)
	defer c.Close()
	c.http.Transport.(*http.Transport).ResponseHeaderTimeout = 20 * time.Millisecond
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "it does not answer") {
		t.Errorf("got %v", err)
	}
}

func TestSocketPaths(t *testing.T) {
	dir := t.TempDir()
	env := func(pairs ...string) func(string) string {
		return func(key string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == key {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	own := filepath.Join(dir, "tcpmemd", "tcpmemd.sock")
	for _, tt := range []struct {
		getenv         func(string) string
		uid            int
		serves, client string
	}{
		{env(), 0, SystemSocket, SystemSocket},
		{env("XDG_RUNTIME_DIR", dir), 0, SystemSocket, SystemSocket},
		{env("XDG_RUNTIME_DIR", dir), 1000, own, SystemSocket},
		{env("TCPMEMD_SOCKET", "/x", "XDG_RUNTIME_DIR", dir), 1000, "/x", "/x"},
	} {
		if got := DefaultSocket(tt.getenv, tt.uid); got != tt.serves {
			t.Errorf("uid %d serves %s, want %s", tt.uid, got, tt.serves)
		}
		if got := FindSocket(tt.getenv, tt.uid); got != tt.client {
			t.Errorf("uid %d asks %s, want %s", tt.uid, got, tt.client)
		}
	}
	if err := os.MkdirAll(filepath.Dir(own), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := FindSocket(env("XDG_RUNTIME_DIR", dir), 1000); got != own {
		t.Errorf("with a daemon of their own: asks %s, want %s", got, own)
	}
}

// TestSocketStreamKeepsTheBiggest: of a long answer only so many are held, and
// the rest is accounted for.
func TestSocketStreamKeepsTheBiggest(t *testing.T) {
	const rows, limit = 9000, 1500
	var b strings.Builder
	enc := json.NewEncoder(&b)
	var all []Socket
	for i := range rows {
		s := Socket{Cookie: uint64(i), Bytes: int64(i * 7919 % rows)}
		all = append(all, s)
		if err := enc.Encode(SocketFrame{Socket: &s}); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Encode(SocketFrame{End: &Sockets{Matched: reading.Tally{Sockets: rows}}}); err != nil {
		t.Fatal(err)
	}
	want := Sockets{Sockets: all}
	SortSockets(want.Sockets)
	want.keep(limit)
	doc, err := readSocketStream(strings.NewReader(b.String()), limit, new(atomic.Int64))
	if err != nil || doc.Truncated != want.Truncated || !slices.EqualFunc(doc.Sockets, want.Sockets, func(a, b Socket) bool { return a.Cookie == b.Cookie }) {
		t.Errorf("%v: %d rows, %v truncated, want %v", err, len(doc.Sockets), doc.Truncated, want.Truncated)
	}
}
