package journal

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// socket is a socket in the place of journald's.
type socket struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func open(t *testing.T, path string) *socket {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &socket{t, path, conn}
}

// next gives the fields of the next entry. It reads it as journald does, and
// forgives nothing.
func (s *socket) next() map[string][]string {
	s.t.Helper()
	buf := make([]byte, 1<<18)
	if err := s.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	n, err := s.conn.Read(buf)
	if err != nil {
		s.t.Fatal(err)
	}
	return decode(s.t, string(buf[:n]))
}

func decode(t *testing.T, text string) map[string][]string {
	t.Helper()
	fields := make(map[string][]string)
	for text != "" {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			t.Fatalf("no end of line in %q", text)
		}
		name, value, short := strings.Cut(line, "=")
		if !short {
			n := binary.LittleEndian.Uint64([]byte(rest))
			rest = rest[8:]
			if n >= uint64(len(rest)) || rest[n] != '\n' {
				t.Fatalf("wrong length of %s", name)
			}
			value, rest = rest[:n], rest[n+1:]
		}
		if name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" || name[0] == '_' {
			t.Fatalf("name %q", name)
		}
		fields[name] = append(fields[name], value)
		text = rest
	}
	return fields
}

func never(int, uint64) bool { return false }

func write(t *testing.T, path string) *Writer {
	t.Helper()
	w := New(path, never)
	t.Cleanup(func() { w.Close(0) })
	return w
}

func alert(text string) event.Text {
	return event.Text{Event: event.Refused, Severity: event.Warning, Line: text, At: time.Date(2026, 11, 22, 8, 15, 0, 0, time.UTC)}
}

func TestEntry(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "socket"))
	w := write(t, s.path)
	text := alert("x: refused")
	text.More = []string{"why", "more: ask"}
	text.Fields = []event.Field{{Name: "KEY", Value: `system/a\x2db.service`}, {Name: "GUARD", Value: "two\nlines"}}
	text.Units = []string{`a\x2db.service`, "c.service"}
	text.Holder = &reading.Holder{PID: 7}
	w.Tell(text)
	got := s.next()
	for name, want := range map[string]string{
		"MESSAGE": "x: refused\nmore: ask", "MESSAGE_ID": event.KindOf(event.Refused).MessageID, "PRIORITY": "4",
		"SYSLOG_IDENTIFIER": "tcpmemd", "TCPMEMD_EVENT": "refused", "TCPMEMD_TIME": "2026-11-22T08:15:00.000Z",
		"TCPMEMD_KEY": `system/a\x2db.service`, "TCPMEMD_GUARD": `two\nlines`,
	} {
		if !slices.Equal(got[name], []string{want}) {
			t.Errorf("%s = %q, want %q", name, got[name], want)
		}
	}
	if !slices.Equal(got["OBJECT_SYSTEMD_UNIT"], text.Units) || got["OBJECT_PID"] != nil {
		t.Errorf("units %q, pid %q", got["OBJECT_SYSTEMD_UNIT"], got["OBJECT_PID"])
	}
}

// Whose unit nobody vouches for is known by its process, while that lives.
func TestObjectByProcess(t *testing.T) {
	text := alert("x")
	text.Holder = &reading.Holder{PID: 7, StartTime: 11}
	alive := func(pid int, start uint64) bool { return pid == 7 && start == 11 }
	if got := decode(t, string(encode(&text, false, alive)))["OBJECT_PID"]; !slices.Equal(got, []string{"7"}) {
		t.Errorf("OBJECT_PID = %q", got)
	}
	text.Holder.StartTime = 10 // another had the number then
	if got := decode(t, string(encode(&text, false, alive)))["OBJECT_PID"]; got != nil {
		t.Errorf("OBJECT_PID = %q of one that is gone", got)
	}
}

// TestStuck: nobody reads. Telling waits for nothing; then all of it comes, in
// order, and one entry says how late it was.
func TestStuck(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "socket"))
	w := write(t, s.path)
	const texts = 700 // more than net.unix.max_dgram_qlen
	start := time.Now()
	for i := range texts {
		w.Tell(alert(fmt.Sprint(i)))
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("telling took %v", took)
	}
	for waiting := 0; ; {
		n, _ := w.Undelivered()
		if n == 0 {
			t.Fatal("everything was taken: nothing is stuck")
		}
		if n == waiting && time.Since(start) > lateAfter+sendTime {
			break
		}
		waiting = n
		time.Sleep(200 * time.Millisecond)
	}
	late := 0
	for i := range texts {
		message := s.next()["MESSAGE"][0]
		line, more, _ := strings.Cut(message, "\n")
		if line != fmt.Sprint(i) {
			t.Fatalf("%q in the place of %d", message, i)
		}
		if more == "told late: this was at 2026-11-22 08:15:00 UTC" {
			late++
		}
	}
	if late == 0 {
		t.Error("nobody is told that some are late")
	}
	report := s.next()
	if report["TCPMEMD_EVENT"][0] != event.JournalLate || report["TCPMEMD_LOST"][0] != "0" || report["PRIORITY"][0] != "4" {
		t.Errorf("after it: %q", report)
	}
	if n, lost := w.Undelivered(); n != 0 || lost != 0 {
		t.Errorf("%d wait and %d are lost", n, lost)
	}
}

// TestGone: the socket is away, closed, and there again, as another one.
func TestGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	w := write(t, path)
	w.Tell(alert("before it is there"))
	first := open(t, path)
	if got := first.next()["MESSAGE"][0]; got != "before it is there" {
		t.Fatalf("got %q", got)
	}
	first.conn.Close() // its path stays, as that of systemd-journald.socket does
	w.Tell(alert("while it is gone"))
	w.Tell(alert("and another"))
	if n, _ := w.Undelivered(); n != 2 {
		t.Errorf("%d wait, want 2", n)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := open(t, path)
	for _, want := range []string{"while it is gone", "and another"} {
		if got, _, _ := strings.Cut(second.next()["MESSAGE"][0], "\n"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestOverflow: what is no alert goes first, the oldest of it; all is counted.
func TestOverflow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	w := write(t, path)
	w.Tell(alert("first"))
	for i := range maxWaiting - 1 {
		text := alert(fmt.Sprint("alert ", i))
		if i%2 == 0 {
			text.Severity, text.Line = event.Info, fmt.Sprint("info ", i)
		}
		w.Tell(text)
	}
	for i := range 700 {
		w.Tell(alert(fmt.Sprint("late ", i)))
	}
	if n, lost := w.Undelivered(); n != maxWaiting || lost != 700 {
		t.Errorf("%d wait and %d are lost, want %d and 700", n, lost, maxWaiting)
	}
	s := open(t, path)
	var got []string
	for {
		f := s.next()
		if f["TCPMEMD_EVENT"][0] == event.JournalLate {
			if f["TCPMEMD_LOST"][0] != "700" || !strings.Contains(f["MESSAGE"][0], "700 lost") {
				t.Errorf("%q", f)
			}
			break
		}
		line, _, _ := strings.Cut(f["MESSAGE"][0], "\n")
		got = append(got, line)
	}
	if len(got) != maxWaiting || got[0] != "first" || got[len(got)-1] != "late 699" {
		t.Fatalf("%d entries, from %q to %q", len(got), got[0], got[len(got)-1])
	}
	// 500 are no alert; of the 700 the others were the oldest alerts but the first.
	if i := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, "info") }); i >= 0 {
		t.Errorf("%s is there, and alerts were lost", got[i])
	}
	if got[1] != "alert 401" {
		t.Errorf("the oldest that is left is %q", got[1])
	}
}

// TestClose: what can be told still is; a journal that takes nothing delays the
// end no longer than that.
func TestClose(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "socket"))
	w := New(s.path, never)
	for i := range 5 {
		w.Tell(alert(fmt.Sprint(i)))
	}
	w.Close(10 * time.Second)
	for i := range 5 {
		if got := s.next()["MESSAGE"][0]; got != fmt.Sprint(i) {
			t.Errorf("got %q, want %d", got, i)
		}
	}
	gone := New(s.path+"-not", never)
	gone.Tell(alert("x"))
	start := time.Now()
	gone.Close(300 * time.Millisecond)
	if took := time.Since(start); took < 200*time.Millisecond || took > 5*time.Second {
		t.Errorf("the end took %v", took)
	}
	full := New(s.path, never)
	for range 2 * maxWaiting {
		full.Tell(alert("x"))
	}
	start = time.Now()
	full.Close(300 * time.Millisecond)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("with a full queue the end took %v", took)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add("text", "more\nPRIORITY=0", `a\x2d`)
	f.Add("\x1b[31m", "\xff\xfe\x00", "\u202e")
	f.Add(strings.Repeat("ä", 20000), strings.Repeat("\n", 5000), "")
	f.Fuzz(func(t *testing.T, line, more, value string) {
		text := event.Text{Event: event.RuleFiring, Severity: event.Critical, Line: line, More: []string{more}}
		text.Fields = []event.Field{{Name: "KEY", Value: value}}
		text.Units = []string{value}
		b := encode(&text, true, never)
		if len(b) > 32<<10 {
			t.Errorf("%d bytes", len(b))
		}
		for name, values := range decode(t, string(b)) {
			for _, v := range values {
				if !utf8.ValidString(v) || len(v) > maxMessage+100 {
					t.Errorf("%s: %q", name, v)
				}
				for _, r := range v {
					if !prose.Visible(r) && (name != "MESSAGE" || r != '\n') {
						t.Errorf("%s: %q", name, v)
					}
				}
			}
		}
		if got := decode(t, string(b)); got["PRIORITY"][0] != "2" || len(got["PRIORITY"]) != 1 {
			t.Errorf("priority %q", got["PRIORITY"])
		}
	})
}
