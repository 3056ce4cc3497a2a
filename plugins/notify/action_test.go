package notify

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	runcommand "github.com/tcpmemd/tcpmemd/plugins/run-command"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// hook is a webhook's server that notes what it got.
func hook(t *testing.T, answer http.HandlerFunc) (url string, got func() []string) {
	t.Helper()
	bodies := make(chan string, 16)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- fmt.Sprint(r.Method, " ", r.URL, " ", r.Header.Get("Content-Type"), " ", r.Header.Get("User-Agent"), " ", string(body))
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() (all []string) {
		for len(bodies) > 0 {
			all = append(all, <-bodies)
		}
		return all
	}
}

// TestAll: every channel is told, each the same event.
func TestAll(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	url, got := hook(t, func(http.ResponseWriter, *http.Request) {})
	r := request(encoded(t, map[string]any{
		"command": []string{script(t, `printf '%s|' "$@" > `+out+`; cat >> `+out), "$x"},
		"webhook": url + "/secret?token=secret",
	}), 20*time.Second)
	event, err := runcommand.EventOf(r)
	if err != nil {
		t.Fatal(err)
	}

	r.DryRun = true
	dry := run(t, New("1"), r)
	expect(t, dry, remediate.DryRun, "", "would tell command /run/")
	expect(t, dry, remediate.DryRun, "", ", webhook "+url)
	if _, err := os.Stat(out); err == nil || got() != nil || strings.Contains(dry.Message, "secret") {
		t.Errorf("the dry run told somebody, or too much: %s", dry.Message)
	}

	r.DryRun = false
	resp := run(t, New("1"), r)
	expect(t, resp, remediate.Delivered, "", "command /run/")
	expect(t, resp, remediate.Delivered, "", "webhook "+url+": told")
	if resp.Retry != nil || strings.Contains(resp.Message, "secret") {
		t.Errorf("%+v", resp)
	}
	text, err := os.ReadFile(out)
	if err != nil || string(text) != "$x|"+string(event) {
		t.Errorf("command: %q, %v", text, err)
	}
	if diff := cmp.Diff([]string{"POST /secret?token=secret application/json tcpmemd/1 " + string(event)}, got()); diff != "" {
		t.Errorf("webhook (-want +got):\n%s", diff)
	}
}

// TestRetry: what is left is told again, and nobody twice.
func TestRetry(t *testing.T) {
	list := []string{script(t, "echo busy >&2; exit 75")}
	r := request(encoded(t, map[string]any{"command": list, "webhook": "http://user:secret@127.0.0.1:1/secret"}), 20*time.Second)
	resp := run(t, New("1"), r)
	expect(t, resp, remediate.Undelivered, "several", `command /run/`)
	expect(t, resp, remediate.Undelivered, "several", `exited with status 75`)
	expect(t, resp, remediate.Undelivered, "several", `"busy"`)
	expect(t, resp, remediate.Undelivered, "several", `webhook http://127.0.0.1:1: not told: dial tcp 127.0.0.1:1: connect: connection refused`)
	if strings.Contains(resp.Message, "secret") || strings.Contains(resp.Message, "user") {
		t.Errorf("it tells secrets: %s", resp.Message)
	}
	var retry map[string]any
	if err := json.Unmarshal(resp.Retry, &retry); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"command": []any{list[0]}, "webhook": "http://user:secret@127.0.0.1:1/secret"}
	if diff := cmp.Diff(want, retry); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	if err := os.WriteFile(list[0], []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.Settings = resp.Retry
	resp = run(t, New("1"), r)
	expect(t, resp, remediate.Undelivered, "webhook", "command /run/")
	if string(resp.Retry) != `{"webhook":"http://user:secret@127.0.0.1:1/secret"}` {
		t.Errorf("%s; retry %s", resp.Message, resp.Retry)
	}
}

func TestWebhookAnswers(t *testing.T) {
	other, reached := hook(t, func(http.ResponseWriter, *http.Request) {})
	redirect := func(to string, code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, code) }
	}
	long := strings.Repeat("x", 1<<20)
	tests := []struct {
		name   string
		answer http.HandlerFunc
		says   string // "" for told
	}{
		{"no content", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, ""},
		{"refuses", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no\x1b[31m", http.StatusForbidden) }, `answered 403: "no\x1b[31m\n"`},
		{"to another host", redirect(other+"/secret", 307), "answered 307, a redirect to " + other + ", which is not followed"},
		{"to another scheme", redirect("gopher://x/secret", 302), "answered 302, a redirect to gopher://x, which"},
		{"to a file", redirect("file:///etc/secret", 302), "a redirect to a path of its own"},
		{"to itself", redirect("/secret", 308), "answered 308, a redirect to a path of its own"},
		{"huge answer", func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				_, _ = io.WriteString(w, long)
			}
		}, ""},
		{"huge error", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			for range 100 {
				_, _ = io.WriteString(w, long)
			}
		}, `answered 500: "` + long[:maxAnswer] + `"`},
		{"huge header", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", long) }, "server response headers exceeded"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url, _ := hook(t, tt.answer)
			r := request(encoded(t, map[string]any{"webhook": url}), 20*time.Second)
			resp := run(t, New("1"), r)
			if tt.says == "" {
				expect(t, resp, remediate.Delivered, "", "told")
				return
			}
			expect(t, resp, remediate.Undelivered, "webhook", tt.says)
			if strings.Contains(resp.Message, "secret") || resp.Retry == nil {
				t.Errorf("%+v", resp)
			}
		})
	}
	if all := reached(); all != nil {
		t.Errorf("a redirect was followed: %q", all)
	}
}

// TestWebhookHangs: at each point at which a server can.
func TestWebhookHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	defer close(done)
	slow, _ := hook(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "so")
		w.(http.Flusher).Flush()
		select {
		case <-done:
		case <-r.Context().Done():
		}
	})
	for url, says := range map[string]string{
		"http://" + l.Addr().String():  "no answer in time",
		"https://" + l.Addr().String(): "no answer in time",
		slow:                           `answered 500: "so"`,
	} {
		r := request(encoded(t, map[string]any{"webhook": url}), 800*time.Millisecond)
		resp := run(t, New("1"), r)
		expect(t, resp, remediate.Undelivered, "webhook", says)
	}
	// By itself it gives up after five seconds.
	began := time.Now()
	r := request(encoded(t, map[string]any{"webhook": "http://" + l.Addr().String()}), time.Minute)
	expect(t, run(t, New("1"), r), remediate.Undelivered, "webhook", "no answer in time")
	if took := time.Since(began); took < webhookTime || took > webhookTime+3*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestCommandHangs: the webhook has its turn all the same, and time for it.
func TestCommandHangs(t *testing.T) {
	url, got := hook(t, func(http.ResponseWriter, *http.Request) { time.Sleep(time.Second) })
	r := request(encoded(t, map[string]any{
		"command": []string{script(t, "trap '' TERM; while :; do sleep 0.1; done")}, "webhook": url,
	}), 3*time.Second)
	resp := run(t, New("1"), r)
	expect(t, resp, remediate.Undelivered, "command", "did not end by itself")
	if len(got()) != 1 || strings.Contains(string(resp.Retry), "webhook") {
		t.Errorf("the webhook had no turn: %+v", resp)
	}
	// One that nobody may run any more.
	list := []string{script(t, "")}
	if err := os.Chmod(list[0], 0o777); err != nil {
		t.Fatal(err)
	}
	r = request(encoded(t, map[string]any{"command": list}), 3*time.Second)
	expect(t, run(t, New("1"), r), remediate.Undelivered, "command", "may be written by others than root")
}

func TestNoTimeIsLeft(t *testing.T) {
	r := request(encoded(t, map[string]any{"command": []string{script(t, "")}, "webhook": "http://127.0.0.1:1/"}), -time.Second)
	resp, err := New("1").Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, resp, remediate.Undelivered, "several", "webhook http://127.0.0.1:1: not told: no answer in time")
	if resp.Retry == nil || strings.Contains(resp.Message, ": told") {
		t.Errorf("%+v", resp)
	}
}

func TestValidate(t *testing.T) {
	good := script(t, "")
	tests := []struct {
		settings map[string]any
		setting  string
		says     string
	}{
		{map[string]any{}, "", ""},
		{map[string]any{"command": []string{good}, "webhook": "https://u:secret@x/y?secret"}, "", ""},
		{map[string]any{"webhook": "HTTP://[::1]:80/"}, "", ""},
		{map[string]any{"journal": true}, "journal", "unknown setting"},
		{map[string]any{"command": []string{"sh"}}, "command", "not an absolute path"},
		{map[string]any{"command": []string{}}, "command", "no program"},
		{map[string]any{"command": []string{good + "x"}}, "command", "no such file"},
		{map[string]any{"webhook": "ftp://u:secret@x/"}, "webhook", "http:// or https://"},
		{map[string]any{"webhook": "file:///secret"}, "webhook", "http:// or https://"},
		{map[string]any{"webhook": "u:secret@x"}, "webhook", "http:// or https://"},
		{map[string]any{"webhook": "/secret"}, "webhook", "http:// or https://"},
		{map[string]any{"webhook": "http:///secret"}, "webhook", "names no host"},
		{map[string]any{"webhook": "http://u:secret@:80/"}, "webhook", "names no host"},
		{map[string]any{"webhook": "http://x:secret/"}, "webhook", "not a URL"},
		{map[string]any{"webhook": "http://x/\nsecret"}, "webhook", "not a URL"},
		{map[string]any{"webhok": "http://x/"}, "webhok", "did you mean webhook?"},
	}
	for _, tt := range tests {
		problems := New("1").Validate(t.Context(), encoded(t, tt.settings))
		if tt.says == "" && problems == nil {
			continue
		}
		if len(problems) != 1 || problems[0].Setting != tt.setting || !strings.Contains(problems[0].Message, tt.says) ||
			strings.Contains(problems[0].Message, "secret") {
			t.Errorf("%v: %v", tt.settings, problems)
		}
	}
	if _, err := New("1").Run(t.Context(), request(encoded(t, map[string]any{"webhook": "x"}), time.Second)); err == nil {
		t.Error("no error")
	}
}
