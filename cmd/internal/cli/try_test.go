package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/control"
	"github.com/tcpmemd/tcpmemd/daemon/engine/replay"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

const draft = `
[rule.draft]
about    = "one service leaks"
for_each = "unit"
when     = 'tcp.fill > 0.6 && owner.share > 0.3 && owner.verdict == "leak"'
for      = "30s"
until    = 'tcp.fill < 0.5'
[[rule.draft.step]]
action = "notify"
[[rule.draft.step]]
action = "restart-unit"
after  = "60s"
`

const course = `
about = "a task queue leaks"
[[at]]
time = "0s"
fill = 0.3
[at.owner."system/task-queue.service"]
bytes = "20M"
[[at]]
time = "2m"
fill = 0.65
[at.owner."system/task-queue.service"]
bytes   = "200M"
verdict = "leak"
NAME
[[at]]
time = "5m"
[[expect]]
rule   = "draft"
choice = "dry-run"
within = "4m"
[[expect]]
rule   = "draft"
choice = "act"
action = "restart-unit"
`

// recorded is the course as a daemon stores and sends it.
func recorded(t *testing.T, text string) []api.Segment {
	t.Helper()
	scene, err := replay.ParseScene("scene.toml", []byte(strings.Replace(text, "NAME", "", 1)))
	if err != nil {
		t.Fatal(err)
	}
	var entries []*history.Entry
	for e := range scene.Entries() {
		entries = append(entries, &history.Entry{Stamp: e.Stamp, Level: e.Level, Sample: e.Sample, Reading: e.Reading})
	}
	return segments(t, entries)
}

// segments is what a ring makes of entries.
func segments(t testing.TB, entries []*history.Entry) (all []api.Segment) {
	t.Helper()
	dir := t.TempDir()
	ring, err := history.Open(dir, 32<<20)
	for _, e := range entries {
		err = errors.Join(err, ring.Append(e))
	}
	if err = errors.Join(err, ring.Close()); err != nil {
		t.Fatal(err)
	}
	for s, err := range history.Copy(history.Dir(dir), time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, api.Segment(s))
	}
	return all
}

// tryFiles writes the draft and the scene where the command of a test runs.
func tryFiles(t *testing.T, scene string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"draft.toml": draft, "scene.toml": scene} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTry(t *testing.T) {
	goldens, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	tryFiles(t, strings.Replace(course, "NAME", "", 1))
	host := apitest.Acted()
	host.Segments = recorded(t, course)
	a := serve(t, host)
	// Only the draft: the shipped rules have tests of their own.
	mask := filepath.Join(a.root, "etc/tcpmemd/policy.d")
	if err := os.MkdirAll(mask, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, rule := range shipped(t, a) {
		if err := os.Symlink("/dev/null", filepath.Join(mask, rule)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, args string
		code       int
	}{
		{"scene", "policy test draft.toml --scene scene.toml", ExitFailure},
		{"scene-enforce", "policy test draft.toml --scene scene.toml --as enforce", ExitFailure},
		{"since", "policy test draft.toml --since 2026-01-01", ExitOK},
	} {
		for _, columns := range []int{80, 0} {
			name := "try-" + tt.name + map[int]string{80: "-80", 0: "-pipe"}[columns]
			stdout, stderr, code := a.run(columns, strings.Fields(tt.args)...)
			if code != tt.code || stderr != "" {
				t.Fatalf("%s: exit %d, says %s", name, code, stderr)
			}
			for line := range strings.Lines(stdout) {
				if w := layout.Width(strings.TrimSuffix(line, "\n")); columns > 0 && w > columns {
					t.Errorf("%s: %d columns: %s", name, w, line)
				}
			}
			t.Run(name, func(t *testing.T) {
				t.Chdir(filepath.Dir(goldens))
				golden(t, name+".golden", stdout)
			})
		}
	}
	stdout, _, _ := a.run(0, "policy", "test", "draft.toml", "--since", "2026-01-01", "--json")
	doc := new(tried)
	if err := json.Unmarshal([]byte(stdout), doc); err != nil || doc.Scene != nil || len(doc.Did) != 3 || doc.Report.Entries != 301 {
		t.Errorf("%v: %d done, %d entries", err, len(doc.Did), doc.Report.Entries)
	}
}

// shipped lists the names of the built-in files, for a mask.
func shipped(t *testing.T, a *asked) (names []string) {
	t.Helper()
	stdout, _, code := a.run(0, "policy", "check", "--json")
	doc := new(checked)
	if err := json.Unmarshal([]byte(stdout), doc); err != nil || code != ExitOK {
		t.Fatalf("exit %d, %v", code, err)
	}
	for _, f := range doc.Files {
		names = append(names, filepath.Base(f))
	}
	return names
}

func TestTryWithoutAWholeRecord(t *testing.T) {
	tryFiles(t, course)
	host := apitest.Acted()
	host.Segments = recorded(t, course)
	host.Cut = 2
	stdout, stderr, code := serve(t, host).run(80, "policy", "test", "draft.toml", "--since", "2026-01-01")
	if code != ExitFailure || !strings.Contains(stdout, " samples,") || !strings.Contains(stderr, "broken") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	for _, source := range []control.Source{apitest.Acted(), func() control.Source {
		h := apitest.Acted()
		h.Segments = []api.Segment{{Name: "fine-00000001.seg", Data: []byte("soup")}}
		return h
	}()} {
		if _, stderr, code := serve(t, source).run(80, "policy", "test", "draft.toml", "--since", "2026-01-01"); code != ExitFailure || stderr == "" {
			t.Errorf("exit %d: %s", code, stderr)
		}
	}
}

// TestTryHostileScene: a scene may come from anybody, too.
func TestTryHostileScene(t *testing.T) {
	tryFiles(t, strings.Replace(course, "NAME", `name = "\u001b[2J\u202e"`, 1))
	a := serve(t, apitest.Acted())
	for _, args := range []string{"policy test draft.toml --scene scene.toml", "policy test \x1b[31m --scene scene.toml", "policy test --scene \x1b[31m"} {
		stdout, stderr, _ := a.run(80, strings.Fields(args)...)
		for _, r := range stdout + stderr {
			if r != '\n' && (!unicode.IsPrint(r) || r == unicode.ReplacementChar) {
				t.Errorf("%q prints %U", args, r)
			}
		}
	}
}
