package destroysockets

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestValidate(t *testing.T) {
	a := New("1", "/proc")
	for given, want := range map[string]string{ // the setting with a problem and a part of it
		``:   "",
		`{}`: "",
		`{"class":["orphan","owned","hidden"],"state":["fin-wait-1"],"remote":"192.0.2.0/24","max":5}`: "",
		`{"remote":"[2001:db8::1]:443"}`:           "",
		`{"remote":"192.0.2.1"}`:                   "",
		`{"class":["orphans"]}`:                    `class: "orphans" is no class`,
		`{"class":["kernel"]}`:                     "class: sockets of class kernel are never touched",
		`{"class":["unresolved"]}`:                 "never touched",
		`{"state":["listening"]}`:                  "state: a listener is never destroyed",
		`{"state":["ESTABLISHED"]}`:                "no state of a socket",
		`{"remote":"example.org"}`:                 `remote: "example.org" is no address`,
		`{"max":0}`:                                "max: want 1 or more",
		`{"max":1.5}`:                              "max: want a whole number",
		`{"classes":["orphan"]}`:                   "did you mean class?",
		`{"remote":"192.0.2.1\u001b[2J"}`:          `\x1b`,
		`{"class":"orphan","state":[],"remote":1}`: "class: want a list",
	} {
		var got []string
		for _, p := range a.Validate(t.Context(), remediate.Settings(given)) {
			got = append(got, p.Setting+": "+p.Message)
		}
		if text := strings.Join(got, "; "); (text == "") != (want == "") || !strings.Contains(text, want) {
			t.Errorf("%s: %q, want %q", given, text, want)
		}
	}
}

// TestRefuses: before anything is looked at, each with a code and a sentence.
func TestRefuses(t *testing.T) {
	orphan := remediate.Socket{Class: "orphan", State: "fin-wait-1", Remote: "192.0.2.1:80", Send: 100, Bytes: 120, Cookie: 1}
	owned := remediate.Socket{Class: "owned", State: "established", Remote: "192.0.2.1:80", Send: 100, Receive: 30, Bytes: 150, Cookie: 2}
	unread := remediate.Socket{Class: "owned", State: "close-wait", Remote: "192.0.2.1:80", Receive: 100, Bytes: 120, Cookie: 3}
	hidden := remediate.Socket{Class: "hidden", State: "closed", Remote: "192.0.2.1:80", Receive: 100, Bytes: 100, Cookie: 4}
	unaccepted := remediate.Socket{Class: "unaccepted", State: "established", Remote: "192.0.2.1:80", Receive: 100, Bytes: 100, Cookie: 5}
	all := []remediate.Socket{orphan, owned, unread, hidden, unaccepted}
	tests := []struct {
		code     string
		settings string
		change   func(*remediate.Request)
	}{
		{code: "no-owner", change: func(r *remediate.Request) { r.Owner = nil }},
		{code: "kernel", change: func(r *remediate.Request) { r.Owner.Kind = "kernel" }},
		{code: "unresolved", change: func(r *remediate.Request) { r.Owner.Kind = "unresolved" }},
		{code: "protected", change: func(r *remediate.Request) { r.Owner.Protected = "it is sshd" }},
		{code: "shared", change: func(r *remediate.Request) { r.Owner.Shared = true }},
		{code: "culprit-local", change: func(r *remediate.Request) {
			r.Owner.Verdict, r.Owner.Culprit = "slow-peer", "system/consumer.service"
		}},
		{code: "culprit-local", change: func(r *remediate.Request) { r.Owner.Verdict = "slow-peer" }},
		{code: "no-candidate", change: func(r *remediate.Request) { r.Sockets = nil }},
		{code: "no-candidate", settings: `{"remote":"192.0.2.2"}`},
		{code: "no-candidate", settings: `{"state":["last-ack"]}`},
		{code: "no-candidate", change: func(r *remediate.Request) {
			r.Owner.Verdict, r.Owner.Culprit = "slow-peer", "192.0.2.3"
		}},
		{code: "orphans-stay", change: func(r *remediate.Request) { r.Host.OrphansVanish = false }},
		{code: "frees-nothing", settings: `{"class":["hidden","unaccepted"]}`},
		{code: "frees-nothing", settings: `{"class":["owned"],"state":["close-wait"]}`},
	}
	for _, test := range tests {
		t.Run(test.code, func(t *testing.T) {
			r := &remediate.Request{
				Settings: remediate.Settings(test.settings), Sockets: all,
				Owner: &remediate.Owner{Name: "task-queue.service", Kind: "service"}, Host: remediate.Host{OrphansVanish: true},
			}
			if test.change != nil {
				test.change(r)
			}
			for _, dry := range []bool{true, false} {
				r.DryRun = dry
				got, err := New("1", "/proc").Run(t.Context(), r)
				if err != nil || got.Result != remediate.Refused || got.Code != test.code || got.Message == "" || got.Changes != nil {
					t.Errorf("%+v, error %v", got, err)
				}
			}
		})
	}
	if _, err := New("1", "/proc").Run(t.Context(), &remediate.Request{Settings: remediate.Settings(`{"max":0}`)}); err == nil {
		t.Error("settings that were never valid are acted on")
	}
}

// TestChoose: what is picked and what that frees, by class.
func TestChoose(t *testing.T) {
	socket := func(class string, remote string, receive, send, bytes int64) remediate.Socket {
		return remediate.Socket{Class: class, State: "established", Remote: remote, Receive: receive, Send: send, Bytes: bytes}
	}
	all := []remediate.Socket{
		socket("orphan", "192.0.2.1:80", 10, 100, 120),
		socket("orphan", "192.0.2.2:80", 0, 300, 320),
		socket("owned", "192.0.2.2:80", 50, 500, 560),
		socket("owned", "192.0.2.2:80", 50, 0, 60),
		socket("owned", "[::ffff:192.0.2.2]:81", 0, 40, 40),
		socket("unaccepted", "192.0.2.2:80", 70, 0, 70),
		socket("hidden", "192.0.2.2:80", 80, 0, 80),
	}
	all[2].State = "fin-wait-1"
	mptcp := socket("owned", "192.0.2.2:80", 0, 900, 900)
	mptcp.MPTCP = true
	all = append(all, mptcp)
	for _, test := range []struct {
		settings, verdict string
		want              map[string]int64
		first             int64 // bytes of the first
		leftOut           int
	}{
		{settings: `{}`, want: map[string]int64{"orphan": 440}, first: 320},
		{settings: `{"max":1}`, want: map[string]int64{"orphan": 320}, first: 320, leftOut: 1},
		{settings: `{"class":["owned","hidden","unaccepted"]}`, want: map[string]int64{"owned": 550, "hidden": 0, "unaccepted": 0}, first: 560},
		{settings: `{"class":["owned"],"state":["established"]}`, want: map[string]int64{"owned": 40}, first: 40},
		{settings: `{"remote":"192.0.2.1"}`, want: map[string]int64{"orphan": 120}, first: 120},
		{settings: `{"class":["owned"],"remote":"192.0.2.2:81"}`, want: map[string]int64{"owned": 40}, first: 40},
		{settings: `{"class":["owned"],"remote":"192.0.2.0/31"}`, want: nil},
		{settings: `{}`, verdict: "slow-peer", want: map[string]int64{"orphan": 320, "owned": 550}, first: 560},
		{settings: `{"class":["orphan"]}`, verdict: "slow-peer", want: map[string]int64{"orphan": 320}, first: 320},
	} {
		t.Run(fmt.Sprint(test.settings, test.verdict), func(t *testing.T) {
			c, problems := New("1", "/proc").read(remediate.Settings(test.settings))
			if problems != nil {
				t.Fatal(problems)
			}
			got, resp := c.choose(&remediate.Request{
				Sockets: all, Host: remediate.Host{OrphansVanish: true},
				Owner: &remediate.Owner{Verdict: test.verdict, Culprit: "192.0.2.2"},
			})
			if test.want == nil {
				if resp == nil {
					t.Errorf("chose %v", got)
				}
				return
			}
			if resp != nil {
				t.Fatalf("refused: %+v", resp)
			}
			if diff := cmp.Diff(test.want, got.predicted); diff != "" {
				t.Errorf("predicted (-want +got):\n%s", diff)
			}
			if got.sockets[0].Bytes != test.first || got.leftOut != test.leftOut {
				t.Errorf("first %+v, %d left out", got.sockets[0], got.leftOut)
			}
			var sum int64
			for _, n := range got.predicted {
				sum += n
			}
			if sum != got.sum.Bytes || int(got.sum.Sockets) != len(got.sockets) {
				t.Errorf("sum %+v of %d sockets with %d", got.sum, len(got.sockets), sum)
			}
		})
	}
}

func FuzzRemote(f *testing.F) {
	for _, seed := range []string{"", "192.0.2.1", "[::1]:80", "10.0.0.0/8", "fe80::1%eth0", "x"} {
		f.Add(seed)
	}
	a := New("1", "/proc")
	f.Fuzz(func(t *testing.T, text string) {
		raw, _ := json.Marshal(map[string]string{"remote": text})
		if c, problems := a.read(raw); problems == nil && c.remote == nil {
			t.Errorf("%q: neither a filter nor a problem", text)
		}
	})
}
