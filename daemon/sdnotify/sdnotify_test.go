package sdnotify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// manager listens as systemd does, on the address in NOTIFY_SOCKET's form.
type manager struct {
	conn *net.UnixConn
}

func listen(t *testing.T, address string) manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return manager{conn}
}

func (m manager) receive(t *testing.T) string {
	t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8192)
	n, err := m.conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func environment(pairs ...string) func(string) string {
	return func(key string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestMessages(t *testing.T) {
	addresses := map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": fmt.Sprintf("@tcpmemd-sdnotify-test-%d", os.Getpid()),
	}
	for name, address := range addresses {
		t.Run(name, func(t *testing.T) {
			m := listen(t, address)
			n := New(environment("NOTIFY_SOCKET", address))
			steps := []struct {
				send func() error
				want string // a regular expression
			}{
				{func() error { return n.Ready("calm, 3 % used") }, `READY=1\nSTATUS=calm, 3 % used`},
				{func() error { return n.Status("critical") }, `STATUS=critical`},
				{n.Watchdog, `WATCHDOG=1`},
				{n.Reloading, `RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*`},
				{n.Stopping, `STOPPING=1`},
			}
			for _, s := range steps {
				if err := s.send(); err != nil {
					t.Fatal(err)
				}
				if got := m.receive(t); !regexp.MustCompile("^" + s.want + "$").MatchString(got) {
					t.Errorf("sent %q, want a match of %q", got, s.want)
				}
			}
		})
	}
}

func TestNoManager(t *testing.T) {
	n := New(environment())
	for _, send := range []func() error{
		func() error { return n.Ready("x") }, func() error { return n.Status("x") },
		n.Reloading, n.Stopping, n.Watchdog,
	} {
		if err := send(); err != nil {
			t.Error(err)
		}
	}
	if d, err := n.WatchdogInterval(); d != 0 || err != nil {
		t.Errorf("WatchdogInterval() = %v, %v; want 0, nil", d, err)
	}
}

func TestErrorIsReturnedOnce(t *testing.T) {
	address := filepath.Join(t.TempDir(), "notify")
	n := New(environment("NOTIFY_SOCKET", address))
	err := n.Watchdog()
	if !errors.Is(err, syscall.ENOENT) || !strings.HasPrefix(err.Error(), "notify the service manager at "+address+": ") {
		t.Fatalf("without a socket: %v, want ENOENT with the address", err)
	}
	if err := n.Watchdog(); err != nil {
		t.Errorf("the same again: %v, want nil", err)
	}
	m := listen(t, address)
	if err := n.Watchdog(); err != nil {
		t.Fatal(err)
	}
	m.receive(t)
	m.conn.Close()
	if err := n.Watchdog(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after a success: %v, want ECONNREFUSED", err)
	}
}

// TestFullQueue has a manager that does not read: the loop must not hang.
func TestFullQueue(t *testing.T) {
	address := filepath.Join(t.TempDir(), "notify")
	m := listen(t, address)
	n := New(environment("NOTIFY_SOCKET", address))
	var err error
	var took time.Duration
	for range 10_000 { // net.unix.max_dgram_qlen is 512 at most in practice
		start := time.Now()
		if err = n.Watchdog(); err != nil {
			took = time.Since(start)
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("full queue: %v, want %v", err, os.ErrDeadlineExceeded)
	}
	if took > 20*sendTimeout {
		t.Errorf("full queue held the caller for %v", took)
	}
	m.receive(t)
	if err := n.Watchdog(); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestUnsupportedAddress(t *testing.T) {
	n := New(environment("NOTIFY_SOCKET", "vsock:2:1234"))
	if err := n.Ready(""); err == nil {
		t.Error("vsock: no error")
	}
}

func TestStatusLine(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"plain", "critical: nginx.service holds 61 %", "STATUS=critical: nginx.service holds 61 %"},
		{"forged message", "x\nREADY=1", `STATUS=x\nREADY=1`},
		{"escape code", "\x1b[2Jx", `STATUS=\x1b[2Jx`},
		{"quotes stay", `it's "so"`, `STATUS=it's "so"`},
		{"text direction", "a\u202eb", `STATUS=a\u202eb`},
		{"not UTF-8", "a\xffb", `STATUS=a\xffb`},
		{"other scripts stay", "größer 大", "STATUS=größer 大"},
		{"empty", "", "STATUS="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, statusLine(tt.text)); diff != "" {
				t.Errorf("status line (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("long", func(t *testing.T) {
		got := statusLine(strings.Repeat("大", 5000))
		if len(got) > maxStatus+len("STATUS=...") || !utf8.ValidString(got) || !strings.HasSuffix(got, "大...") {
			t.Errorf("%d bytes, ends in %q", len(got), got[len(got)-6:])
		}
	})
}

func TestWatchdogInterval(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	tests := []struct {
		name, usec, pid string
		want            time.Duration
		wantErr         bool
	}{
		{name: "not watched"},
		{name: "watched", usec: "60000000", pid: own, want: time.Minute},
		{name: "any process", usec: "500000", want: 500 * time.Millisecond},
		{name: "another process", usec: "60000000", pid: own + "0"},
		{name: "zero", usec: "0", pid: own, wantErr: true},
		{name: "negative", usec: "-1", pid: own, wantErr: true},
		{name: "words", usec: "1min", pid: own, wantErr: true},
		{name: "too large", usec: "9223372036854775807", pid: own, wantErr: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := New(environment("WATCHDOG_USEC", tt.usec, "WATCHDOG_PID", tt.pid))
			got, err := n.WatchdogInterval()
			if got != tt.want || (err != nil) != tt.wantErr {
				t.Errorf("WatchdogInterval() = %v, %v; want %v, error %v", got, err, tt.want, tt.wantErr)
			}
		})
	}
}
