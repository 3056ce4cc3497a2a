package notify

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestJournal(t *testing.T) {
	j := newJournald(t)
	r := request(nil, 10*time.Second)
	r.Text = "one line\nand more"
	r.Owner = &remediate.Owner{Unit: "x.service", Manager: "system", UnitVerified: true}
	expect(t, run(t, j.action(), r), remediate.Delivered, "", "journal: told")
	want := []field{
		{"MESSAGE", "one line\nand more"},
		{"PRIORITY", "4"},
		{"SYSLOG_IDENTIFIER", "tcpmemd"},
		{"TCPMEMD_EVENT", "rule-fired"},
		{"TCPMEMD_RULE", "leaking-service"},
		{"TCPMEMD_KEY", "system/x.service"},
		{"TCPMEMD_INCIDENT", "i-1"},
		{"TCPMEMD_ACTION", "a-1"},
		{"OBJECT_SYSTEMD_UNIT", "x.service"},
	}
	if diff := cmp.Diff(want, j.next(), cmp.AllowUnexported(field{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestObject: the entry becomes one of the owner's by its unit's name only
// where PID 1 said it, and by its holder only while that lives.
func TestObject(t *testing.T) {
	cmd := exec.Command("sleep", "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	stat, err := procfs.New("/proc").Stat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	living := remediate.Holder{PID: stat.PID, StartTime: stat.StartTime}
	reused := remediate.Holder{PID: stat.PID, StartTime: stat.StartTime - 1}
	gone := remediate.Holder{PID: 1 << 22, StartTime: 1}
	byPID := field{"OBJECT_PID", strconv.Itoa(stat.PID)}
	tests := []struct {
		name  string
		owner *remediate.Owner
		want  field
	}{
		{"host", nil, field{}},
		{"unit", &remediate.Owner{Unit: "x.service", Manager: "system", UnitVerified: true, Holders: []remediate.Holder{living}}, field{"OBJECT_SYSTEMD_UNIT", "x.service"}},
		{"a label", &remediate.Owner{Unit: "nginx.service", Manager: "system", Holders: []remediate.Holder{living}}, byPID},
		{"a user's unit", &remediate.Owner{Unit: "x.service", Manager: "user@1", UnitVerified: true, Holders: []remediate.Holder{living}}, byPID},
		{"a process", &remediate.Owner{Holders: []remediate.Holder{living, gone}}, byPID},
		{"pid reused", &remediate.Owner{Holders: []remediate.Holder{reused}}, field{}},
		{"gone", &remediate.Owner{Holders: []remediate.Holder{gone}}, field{}},
		{"nobody", &remediate.Owner{}, field{}},
	}
	for _, tt := range tests {
		if got := New("1", "", "").object(tt.owner); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// TestHostileValues: whatever a process is called, it stays within its field.
func TestHostileValues(t *testing.T) {
	j := newJournald(t)
	for _, tt := range []struct{ name, want string }{
		{"a\nPRIORITY=0\n", `a\nPRIORITY=0\n`},
		{"\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		{"(x) R 1 [y]=z", "(x) R 1 [y]=z"},
		{"\xff\xfe\x00", `\xff\xfe\x00`},
		{"\u202egnp.exe\u200b", `\u202egnp.exe\u200b`},
		{"grün 日本", "grün 日本"},
		{strings.Repeat("ä", 2<<10), strings.Repeat("ä", (maxField-3)/2) + "..."},
		{strings.Repeat("\n", 4<<10), strings.Repeat(`\n`, (maxField-3)/2) + "..."},
	} {
		r := request(nil, 10*time.Second)
		r.Key, r.Rule, r.Text, r.Severity = tt.name, tt.name, tt.name+"\nmore", "critical\n"
		expect(t, run(t, j.action(), r), remediate.Delivered, "", "")
		got := map[string]string{}
		for _, f := range j.next() {
			if _, twice := got[f.name]; twice {
				t.Errorf("%.20q: %s twice", tt.name, f.name)
			}
			got[f.name] = f.value
		}
		if got["TCPMEMD_KEY"] != tt.want || got["TCPMEMD_RULE"] != tt.want || got["PRIORITY"] != "6" || got["SYSLOG_IDENTIFIER"] != "tcpmemd" {
			t.Errorf("%.20q: %.200q", tt.name, got)
		}
		if m := got["MESSAGE"]; strings.ContainsAny(m, "\x1b\x00") || !strings.HasSuffix(m, "\nmore") {
			t.Errorf("%.20q: message %.200q", tt.name, m)
		}
	}
	r := request(nil, 10*time.Second)
	r.Text = strings.Repeat("long ", 1<<20)
	expect(t, run(t, j.action(), r), remediate.Delivered, "", "")
	if m := j.next()[0].value; len(m) != maxMessage || !strings.HasSuffix(m, "...") {
		t.Errorf("message of %d bytes", len(m))
	}
}

func TestJournalMissing(t *testing.T) {
	dir := t.TempDir()
	a := New("1", "", filepath.Join(dir, "socket"))
	resp := run(t, a, request(nil, 10*time.Second))
	expect(t, resp, remediate.Undelivered, "journal", `socket": no such file or directory`)
	if string(resp.Retry) != `{"journal":true}` {
		t.Errorf("retry %s", resp.Retry)
	}
	// Left behind by one that is gone; and not one at all.
	for name, says := range map[string]string{"refused": "connection refused", "file": "connection refused", "stream": "protocol wrong type for socket"} {
		path := filepath.Join(dir, name)
		switch name {
		case "refused":
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		case "file":
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		case "stream":
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
		}
		expect(t, run(t, New("1", "", path), request(nil, 10*time.Second)), remediate.Undelivered, "journal", says)
	}
}

// TestJournalStuck: nobody reads, and the queue is full.
func TestJournalStuck(t *testing.T) {
	j := newJournald(t)
	j.fill()
	began := time.Now()
	out := filepath.Join(t.TempDir(), "out")
	r := request(encoded(t, map[string]any{"command": []string{script(t, "cat > "+out)}}), 20*time.Second)
	resp := run(t, j.action(), r)
	expect(t, resp, remediate.Undelivered, "journal", "journal: not told: write to ")
	expect(t, resp, remediate.Undelivered, "journal", "no answer in time; command /run/")
	if took := time.Since(began); took < journalTime || took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	// The others are told, and not again.
	if text, err := os.ReadFile(out); err != nil || len(text) == 0 || string(resp.Retry) != `{"journal":true}` {
		t.Errorf("command got %q, %v; retry %s", text, err, resp.Retry)
	}
	// A deadline that comes sooner counts.
	run(t, j.action(), request(nil, 400*time.Millisecond))
}

func FuzzEntry(f *testing.F) {
	f.Add("text\nMESSAGE=x", "key\x1b[m", "rule")
	f.Fuzz(func(t *testing.T, text, key, rule string) {
		r := &remediate.Request{Text: text, Key: key, Rule: rule}
		fields := entry(r, field{})
		got, err := decode(encode(fields))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fields, got, cmp.AllowUnexported(field{})); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		for _, f := range got {
			if len(f.value) > maxMessage || strings.ContainsAny(f.value, "\x00\x1b\r") {
				t.Fatalf("%q", f)
			}
		}
	})
}
