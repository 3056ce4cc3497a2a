package notify

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"github.com/tcpmemd/tcpmemd/plugins/internal/plugintest"
	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestMain(m *testing.M) { plugintest.Main(m) }

// journald is a socket in the place of the journal's.
type journald struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func newJournald(t *testing.T) *journald {
	t.Helper()
	j := &journald{t: t, path: filepath.Join(t.TempDir(), "socket")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: j.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	j.conn = conn
	return j
}

// next gives the fields of the next entry, in order.
func (j *journald) next() (fields []field) {
	j.t.Helper()
	buf := make([]byte, 1<<20)
	if err := j.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		j.t.Fatal(err)
	}
	n, err := j.conn.Read(buf)
	if err != nil {
		j.t.Fatal(err)
	}
	fields, err = decode(buf[:n])
	if err != nil {
		j.t.Fatalf("%v in %q", err, buf[:n])
	}
	return fields
}

// fill sends until the queue is full. One sender alone would first be stopped
// by what it may have under way (SO_SNDBUF).
func (j *journald) fill() {
	j.t.Helper()
	for range 64 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			j.t.Fatal(err)
		}
		defer unix.Close(fd)
		sent := 0
		for err == nil {
			if err = unix.Sendto(fd, []byte("x\n"), 0, &unix.SockaddrUnix{Name: j.path}); err == nil {
				sent++
			}
		}
		if err != unix.EAGAIN {
			j.t.Fatal(err)
		}
		if sent == 0 {
			return
		}
	}
	j.t.Fatal("the queue has no end")
}

// decode reads an entry as journald does, but forgives nothing.
func decode(b []byte) (fields []field, err error) {
	text := string(b)
	for text != "" {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			return nil, errors.New("no end of line")
		}
		name, value, short := strings.Cut(line, "=")
		if !short {
			if len(rest) < 8 {
				return nil, errors.New("no length")
			}
			n := binary.LittleEndian.Uint64([]byte(rest))
			if rest = rest[8:]; n >= uint64(len(rest)) || rest[n] != '\n' {
				return nil, errors.New("wrong length")
			}
			value, rest = rest[:n], rest[n+1:]
		}
		if name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" || name[0] == '_' {
			return nil, fmt.Errorf("name %q", name)
		}
		fields = append(fields, field{name, value})
		text = rest
	}
	return fields, nil
}

func (j *journald) action() *Action { return New("1", "", j.path) }

func encoded(t *testing.T, settings map[string]any) remediate.Settings {
	t.Helper()
	s, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func request(s remediate.Settings, within time.Duration) *remediate.Request {
	return &remediate.Request{
		ActionID: "a-1", IncidentID: "i-1", Rule: "leaking-service", About: "one grows", Key: "system/x.service", Step: 1,
		Settings: s, Deadline: time.Now().Add(within), Event: "rule-fired", Severity: "warning",
		Text: "x.service holds 90 % of TCP memory", Host: remediate.Host{EtaSeconds: -1},
	}
}

func run(t *testing.T, a *Action, r *remediate.Request) *remediate.Response {
	t.Helper()
	return plugintest.Run(t, a, r)
}

func expect(t *testing.T, resp *remediate.Response, result remediate.Result, code, says string) {
	t.Helper()
	plugintest.Expect(t, resp, result, code, says)
}

// script writes a program that only root may write.
func script(t *testing.T, text string) string {
	t.Helper()
	require.Root(t)
	dir, err := os.MkdirTemp("/run", "notify-test-") //nolint:usetesting // that one is in a folder that anybody may write
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	name := filepath.Join(dir, "program")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}
