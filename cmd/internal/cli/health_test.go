package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// checkHealth runs health and looks at what every answer has to keep.
func checkHealth(t *testing.T, socket string, args ...string) (line string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	started := time.Now()
	code = Main(t.Context(), Env{
		Args: append([]string{"health", "--socket", socket}, args...), Stdout: &out, Stderr: &errs,
		Getenv: func(string) string { return "" },
	})
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("%s: took %s", args, took)
	}
	line, rest, _ := strings.Cut(out.String(), "\n")
	text, _, _ := strings.Cut(line, "|")
	if rest != "" || errs.Len() > 0 || line == "" || len(text) > words.MaxHealth || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("%s: %q and %q", args, out.String(), errs.String())
	}
	return line, code
}

// TestHealthGarbage: whatever answers on the socket, or does not, is unknown.
func TestHealthGarbage(t *testing.T) {
	document := func(text string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	}
	refused := func(status, text string) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, len(text), text)
	}
	const garbled = "what answers on the socket is not understood"
	for _, tt := range []struct{ name, answer, want string }{
		{"nothing", "hang", "no answer within 300ms"},
		{"half", document(`{"version":1}`)[:60], ""},
		{"noise", "\x00\x01\x02\xff\n", ""},
		{"not JSON", document("<html>"), garbled},
		{"another type", document(`{"status":7}`), garbled},
		{"empty", document(""), garbled},
		{"empty document", document("{}"), garbled},
		{"null", document("null"), garbled},
		{"only a word", document(`{"status":"ok"}`), garbled},
		{"a level is missing", document(`{"version":1,"taken_at":"2026-11-22T09:00:00Z","status":"ok"}`), garbled},
		{"stale and fine", document(`{"version":1,"taken_at":"2026-11-22T09:00:00Z","status":"ok","stale":true,"memory":{"level":"calm"}}`), garbled},
		{"another version", document(`{"version":2,"taken_at":"2026-11-22T09:00:00Z","status":"ok","memory":{"level":"calm"}}`), garbled},
		{"a word of later", document(`{"version":1,"taken_at":"2026-11-22T09:00:00Z","status":"great","memory":{"level":"calm"}}`), "tcpmemd does not know the level of this host"},
		{"endless", "endless", ""},
		{"old daemon", refused("404 Not Found", `{"error":"this daemon does not know GET"}`), "this tcpmemd is too old to be asked"},
		{"busy", refused("503 Service Unavailable", `{"error":"4 requests are being answered already, try again"}`), "4 requests are being answered already, try again"},
		{"long words", refused("500 Internal Server Error", `{"error":"`+strings.Repeat("漢|\\u001b", 3000)+`"}`), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			socket := answering(t, tt.answer)
			line, code := checkHealth(t, socket, "--timeout", "300ms")
			if want := "unknown: " + tt.want; code != HealthUnknown || tt.want != "" && line != want || !strings.HasPrefix(line, "unknown: ") {
				t.Errorf("exit %d, %s\nwant %s", code, line, want)
			}
			if line, code := checkHealth(t, socket, "--timeout", "300ms", "--nagios"); code != NagiosUnknown || !strings.HasPrefix(line, "TCPMEM UNKNOWN - ") {
				t.Errorf("nagios: exit %d, %s", code, line)
			}
		})
	}
}

// answering gives each who connects the same bytes.
func answering(t *testing.T, answer string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 4096))
				switch answer {
				case "hang":
					_, _ = io.Copy(io.Discard, conn)
				case "endless":
					_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n{\"line\":\"")
					for err == nil {
						_, err = io.WriteString(conn, strings.Repeat("x", 1<<16))
					}
				default:
					_, _ = io.WriteString(conn, answer)
				}
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return socket
}

func TestHealthHostile(t *testing.T) {
	for _, name := range append(apitest.HostileNames, strings.Repeat("long ", 2000), strings.Repeat("漢", 4000), "x; fine|y=1") {
		host := apitest.Leak()
		host.Reading.Owners[0].Name = name
		for _, args := range [][]string{nil, {"--nagios"}, {"--steady"}} {
			for _, level := range []reading.Level{reading.Calm, reading.Critical} {
				host.Reading.Level = level
				stdout, stderr, _ := run(t, host, 0, append([]string{"health"}, args...)...)
				line, rest, _ := strings.Cut(stdout, "\n")
				text, _, _ := strings.Cut(line, "|")
				if rest != "" || stderr != "" || len(text) > words.MaxHealth || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) || strings.Count(line, "|") != len(args)*strings.Count(strings.Join(args, ""), "nagios") {
					t.Errorf("%.40q %s: %q and %q", name, args, stdout, stderr)
				}
			}
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestHealthUnsaid: a line that nobody gets is not fine.
func TestHealthUnsaid(t *testing.T) {
	host := apitest.Leak()
	host.Reading.Level = reading.Calm
	for args, want := range map[string]int{"health --direct": HealthUnknown, "health --direct --nagios": NagiosUnknown} {
		code := Main(t.Context(), Env{
			Args: strings.Fields(args), Stdout: full{}, Stderr: io.Discard, Getenv: func(string) string { return "" },
			OpenDirect: func(context.Context) (Direct, error) { return direct{host}, nil },
		})
		if code != want {
			t.Errorf("%s: exit %d, want %d", args, code, want)
		}
	}
}

func TestWhyNoHealth(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&api.PermissionError{Socket: "/run/tcpmemd/tcpmemd.sock", Err: syscall.EACCES}, "no permission to ask tcpmemd (group tcpmemd)"},
		{&api.DeniedError{Message: "no"}, "no permission to ask tcpmemd (group tcpmemd)"},
		{&api.NotRunningError{Socket: "s", Err: syscall.ECONNREFUSED}, "tcpmemd is not running"},
		{fmt.Errorf("ask: %w", os.ErrDeadlineExceeded), "tcpmemd does not answer"},
	} {
		if got := whyNoHealth(tt.err); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
	}
}
