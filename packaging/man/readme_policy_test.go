package man

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/config"
)

// The policies of the README and of the pages beside it load.
func TestReadmePolicy(t *testing.T) {
	for _, page := range []string{"../../README.md", "../../docs/kubernetes.md"} {
		t.Run(filepath.Base(page), func(t *testing.T) { checkPolicies(t, page) })
	}
}

func checkPolicies(t *testing.T, page string) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllSubmatch(text, -1)
	if len(examples) == 0 {
		t.Fatal("no policy is shown")
	}
	for _, m := range examples {
		draft := filepath.Join(t.TempDir(), "readme.toml")
		if err := os.WriteFile(draft, m[1], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.LoadPolicy(config.Options{Root: t.TempDir(), PolicyFiles: []string{draft}}); err != nil {
			t.Errorf("%v\n%s", err, m[1])
		}
	}
}
