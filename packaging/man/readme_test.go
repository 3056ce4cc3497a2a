package man

import (
	"os"
	"regexp"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/api/filter"
)

// The README's filters are understood, and its make targets exist.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	filters := regexp.MustCompile(`(?m)^tcpmemctl sockets '([^']+)'$`).FindAllSubmatch(readme, -1)
	if len(filters) == 0 {
		t.Error("no filter is shown")
	}
	for _, m := range filters {
		if _, err := filter.Parse(string(m[1])); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^make ([a-z]+)`).FindAllSubmatch(readme, -1) {
		if !regexp.MustCompile(`(?m)^` + string(m[1]) + `:`).Match(makefile) {
			t.Errorf("make %s is no target", m[1])
		}
	}
}
