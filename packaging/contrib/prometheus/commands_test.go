package prometheus

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCommands: what a runbook or the page says to type exists, with its flags.
func TestCommands(t *testing.T) {
	page, err := os.ReadFile("../../../docs/prometheus.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"docs/prometheus.md": string(page)}
	for _, r := range alerts(t) {
		texts[r.Alert] = r.Annotations["runbook"]
	}
	ctl := build(t)
	help := make(map[string]string) // by command
	n := 0
	for where, text := range texts {
		for _, m := range regexp.MustCompile("`tcpmemctl ([^`\n]+)`").FindAllStringSubmatch(text, -1) {
			n++
			var command, flags []string
			for word := range strings.FieldsSeq(m[1]) {
				switch {
				case strings.HasPrefix(word, "-"):
					flags = append(flags, word)
				case len(flags) == 0 && regexp.MustCompile(`^[a-z-]+$`).MatchString(word):
					command = append(command, word)
				}
			}
			name := strings.Join(command, " ")
			if _, ok := help[name]; !ok {
				out, err := exec.CommandContext(t.Context(), ctl, append(command, "--help")...).CombinedOutput()
				if err != nil || !strings.Contains(string(out), "tcpmemctl "+name) {
					t.Errorf("%s: tcpmemctl %s: %v\n%s", where, name, err, out)
				}
				help[name] = string(out)
			}
			for _, f := range flags {
				if !regexp.MustCompile(`(?m)^ +(-\w, )?` + f + `\b|^ +` + f + `,`).MatchString(help[name]) {
					t.Errorf("%s: tcpmemctl %s has no flag %s", where, name, f)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d commands were found", n)
	}
}

func build(t *testing.T) string {
	t.Helper()
	// A cached "ok" must not be about other sources: open their folders.
	for _, room := range []string{"../../../cmd", "../../../daemon"} {
		if err := filepath.WalkDir(room, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "tcpmemctl")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../../cmd/tcpmemctl").CombinedOutput(); err != nil {
		t.Fatalf("build tcpmemctl: %v\n%s", err, out)
	}
	return path
}
