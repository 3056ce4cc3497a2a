package runcommand

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestExitStatus(t *testing.T) {
	tests := []struct {
		script, code string
		result       remediate.Result
		says         string
	}{
		{"echo fine", "", remediate.Done, `exited with status 0 after`},
		{"echo fine", "", remediate.Done, `; it said "fine\n"`},
		{"exit 75", "try-later", remediate.Refused, "exited with status 75"},
		{"echo one >&2; echo 'two\033[31m' >&2; echo >&2; exit 3", "exit-status", remediate.Failed, `status 3`},
		{"echo one >&2; printf 'two\\033[31m\\n\\n' >&2; exit 3", "exit-status", remediate.Failed, `; its last error: "two\x1b[31m"`},
		{"kill -SEGV $$", "signal", remediate.Failed, "was ended by a signal: segmentation fault"},
		{"exec 1>&- 2>&- 0>&-; exit 4", "exit-status", remediate.Failed, "status 4"},
	}
	for _, tt := range tests {
		resp := run(t, request(command(t, script(t, tt.script)), 20*time.Second))
		if resp.Result != tt.result || resp.Code != tt.code || !strings.Contains(resp.Message, tt.says) {
			t.Errorf("%s: %s %s %s", tt.script, resp.Result, resp.Code, resp.Message)
		}
	}
}

// TestNothingIsExpanded: arguments come as they were written, the environment
// holds nothing of ours, and the event is on standard input.
func TestNothingIsExpanded(t *testing.T) {
	t.Setenv("SECRET", "xyz")
	out := filepath.Join(folder(t), "out")
	name := script(t, `{ for a in "$@"; do printf '%s|' "$a"; done; echo; env | sort; pwd; cat; } > `+out)
	args := []string{"$HOME", "*", "a b", "`id`", "-n", "\n", ""}
	r := request(command(t, append([]string{name}, args...)...), 20*time.Second)
	if resp := run(t, r); resp.Result != remediate.Done {
		t.Fatalf("%+v", resp)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	event, err := EventOf(r)
	if err != nil {
		t.Fatal(err)
	}
	want := "$HOME|*|a b|`id`|-n|\n||\n" +
		"HOME=/\nLANG=C.UTF-8\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/\n" +
		"/\n" + string(event)
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDryRun(t *testing.T) {
	dir := folder(t)
	r := request(command(t, script(t, "touch "+dir+"/touched")), time.Second)
	r.DryRun = true
	if resp := run(t, r); resp.Result != remediate.DryRun || !strings.HasPrefix(resp.Message, "would run /run/") {
		t.Errorf("%+v", resp)
	}
	r.Settings = command(t, dir+"/absent")
	if resp := run(t, r); resp.Result != remediate.Refused || resp.Code != "untrusted-program" {
		t.Errorf("%+v", resp)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Error("the program was run")
	}
}

func TestString(t *testing.T) {
	p := Program{"/bin/x", []string{"-v", "a b", "", "\n", strings.Repeat("y", 300), "ü"}}
	want := `/bin/x -v "a b" "" "\n" "` + strings.Repeat("y", 197) + `..." ü`
	if got := p.String(); got != want {
		t.Errorf("%s", got)
	}
}

// TestCommandHangs: one that hangs is told to end, one that ignores it is
// killed, in time.
func TestCommandHangs(t *testing.T) {
	tests := []struct{ name, script, says string }{
		{"hangs", "sleep 100", "ended by terminated"},
		{"ignores TERM", "trap '' TERM; sleep 100; sleep 100", "ended by killed"},
		{"exits on TERM", "trap 'exit 0' TERM; while :; do sleep 0.01; done", "told to, it exited with status 0"},
		{"stops itself", "kill -STOP $$", "ended by killed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp := run(t, request(command(t, script(t, tt.script)), 1500*time.Millisecond))
			if resp.Result != remediate.TimedOut || resp.Code != "timeout" || !strings.Contains(resp.Message, tt.says) {
				t.Errorf("%+v", resp)
			}
		})
	}
}

func TestCommandIsGivenUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	resp, err := New("1").Run(ctx, request(command(t, script(t, "trap '' TERM; while :; do sleep 0.1; done")), time.Minute))
	if err != nil || resp.Result != remediate.TimedOut || time.Since(start) > 10*time.Second {
		t.Errorf("%+v, %v after %s", resp, err, time.Since(start))
	}
}

func TestCommandFloods(t *testing.T) {
	name := script(t, "yes '\033[31m' & yes error >&2 & sleep 0.3; exit 1")
	resp := run(t, request(command(t, name), 20*time.Second))
	if resp.Result != remediate.Failed || !strings.Contains(resp.Message, "status 1") || len(resp.Message) > 2000 {
		t.Errorf("%+v", resp)
	}
	// One line without an end, and an end that does not come.
	name = script(t, "cat /dev/zero >&2")
	resp = run(t, request(command(t, name), 800*time.Millisecond))
	if resp.Result != remediate.TimedOut || len(resp.Message) > 4000 {
		t.Errorf("%+v", resp)
	}
}

// TestCommandForksAway: what stays in the group is killed; what left it may
// hold the streams, and keeps nobody waiting.
func TestCommandForksAway(t *testing.T) {
	dir := folder(t)
	name := script(t, "sleep 300 & echo $! > "+dir+"/job\n"+
		"setsid sh -c 'echo $$ > "+dir+"/away; exec sleep 300' &\n"+
		"while ! [ -s "+dir+"/away ]; do sleep 0.01; done; echo said; exit 0")
	start := time.Now()
	resp := run(t, request(command(t, name), 30*time.Second))
	if resp.Result != remediate.Done || !strings.Contains(resp.Message, "said") {
		t.Errorf("%+v", resp)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("waited %s", took)
	}
	away := pidIn(t, dir+"/away")
	if !alive(away) {
		t.Error("the one that left the group is gone: the fault was not made")
	}
	_ = syscall.Kill(away, syscall.SIGKILL)
	job := pidIn(t, dir+"/job")
	for range 100 {
		if !alive(job) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("what stayed in the group lives")
}

// TestBigEvent: the program reads none of an event that no pipe holds.
func TestBigEvent(t *testing.T) {
	r := request(command(t, script(t, "exit 0")), 20*time.Second)
	r.Owner = &remediate.Owner{Holders: make([]remediate.Holder, 1000)}
	for i := range r.Owner.Holders {
		r.Owner.Holders[i].Command = strings.Repeat("x", 4<<10)
	}
	for range 100 {
		r.RunnersUp = append(r.RunnersUp, *r.Owner)
	}
	event, err := EventOf(r)
	if err != nil || len(event) > 2<<20 {
		t.Errorf("event of %d bytes, %v", len(event), err)
	}
	if resp := run(t, r); resp.Result != remediate.Done {
		t.Errorf("%+v", resp)
	}
}

func TestEvent(t *testing.T) {
	uid := uint32(7)
	r := request(nil, time.Second)
	for _, name := range hostile {
		r.Text, r.Key = name, name
		r.Owner = &remediate.Owner{
			Key: name, Name: name, Command: name, UID: &uid, Bytes: 5, Reasons: []string{name},
			Holders: []remediate.Holder{{PID: 4, StartTime: 9, Command: name}},
			Classes: map[string]remediate.Tally{"hidden": {Sockets: 1, Bytes: 5}},
		}
		line, err := EventOf(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(line), "\n") != 1 || strings.ContainsAny(string(line), "\x1b\r") {
			t.Errorf("%q: not one clean line: %.200q", name, line)
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		want := cut(strings.ToValidUTF8(name, "\ufffd"), maxEventWord)
		if name == "\xff\xfe" { // each byte
			want = "\ufffd\ufffd"
		}
		if e.Version != 1 || e.Owner.Command != want || e.Owner.Holders[0] != (EventHolder{4, 9, want}) ||
			e.Owner.Classes["hidden"] != (EventTally{1, 5}) || *e.Owner.UID != 7 || e.Host.EtaSeconds != nil {
			t.Errorf("%q: %+v", name, e)
		}
	}
	r.Owner = nil
	line, err := EventOf(r)
	if err != nil || !strings.Contains(string(line), `"owner":null,"runners_up":[]}`) {
		t.Errorf("%s, %v", line, err)
	}
}

func FuzzText(f *testing.F) {
	for _, s := range hostile {
		f.Add([]byte(s), 10)
	}
	f.Fuzz(func(t *testing.T, data []byte, most int) {
		most = 3 + most&0xff
		if s := cut(string(data), most); len(s) > most {
			t.Fatalf("%q cut to %d: %q", data, most, s)
		}
		if s := quote(lastLine(data), most); strings.ContainsAny(s, "\n\x1b\x00") {
			t.Fatalf("%q: %q", data, s)
		}
	})
}
