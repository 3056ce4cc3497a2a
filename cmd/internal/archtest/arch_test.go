package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestImportDirections(t *testing.T) {
	pkgs := list(t)
	if len(pkgs) < 2 {
		t.Fatalf("go list found %d packages of this module", len(pkgs))
	}
	for _, p := range pkgs {
		for _, r := range rules {
			for _, v := range r.violations(p) {
				t.Error(v)
			}
		}
	}
}

// TestRulesBite breaks each rule once: a rule that never fails guards nothing.
func TestRulesBite(t *testing.T) {
	tests := []struct {
		name string
		p    pkg
		want []string // without the reasons
	}{
		{"vocabulary imports a room", reaching("daemon/reading", "daemon/units"), []string{"daemon/reading reaches daemon/units"}},
		{"leaf imports a leaf", reaching("daemon/procfs", "daemon/reading", "daemon/netns"), []string{"daemon/procfs reaches daemon/netns"}},
		{"leaf uses its own part", reaching("daemon/procfs", "daemon/procfs/parse"), nil},
		{"part of a leaf imports its leaf's sibling", reaching("daemon/kmsg/fake", "daemon/cgroup"), []string{"daemon/kmsg/fake reaches daemon/cgroup"}},
		{"pure room opens files", importing("daemon/ledger", "os"), []string{"daemon/ledger imports os"}},
		{"pure room reads addresses", importing("daemon/owner", "net/netip"), nil},
		{"engine scans", reaching("daemon/engine/trend", "daemon/scan"), []string{"daemon/engine/trend reaches daemon/scan"}},
		{"engine uses engine", reaching("daemon/engine", "daemon/engine/level"), nil},
		{"main starts the loop", reaching("cmd/tcpmemd", "daemon", "daemon/scan"), nil},
		{"bench starts the loop", reaching("cmd/internal/tcpmembench", "daemon"), []string{"cmd/internal/tcpmembench reaches daemon"}},
		{"cli serves the socket", reaching("cmd/internal/cli", "daemon/control"), []string{"cmd/internal/cli reaches daemon/control"}},
		{"cli reads the kernel", reaching("cmd/internal/cli", "daemon/scan", "daemon/api"), nil},
		{"page asks the daemon's store", reaching("cmd/internal/page", "daemon/api", "daemon/store/history"), []string{"cmd/internal/page reaches daemon/store/history"}},
		{"page writes files", importing("cmd/internal/page", "os"), []string{"cmd/internal/page imports os"}},
		{"plugin contract pulls in kernel code", reaching("remediate/runner", "daemon/procfs"), []string{"remediate/runner reaches daemon/procfs", "remediate/runner reaches daemon/procfs"}},
		{"action links the runner", reaching("remediate", "remediate/proto", "remediate/runner"), []string{"remediate reaches remediate/runner"}},
		{"launcher knows the contract", reaching("remediate/launch", "remediate"), []string{"remediate/launch reaches remediate"}},
		{"runner uses its fake", reaching("remediate/runner", "remediate", "remediate/remediatetest"), []string{"remediate/runner reaches remediate/remediatetest", "remediate/runner reaches remediate/remediatetest"}},
		{"runner knows an action", reaching("remediate/runner", "plugins/notify"), []string{"remediate/runner reaches plugins/notify", "remediate/runner reaches plugins/notify"}},
		{"scan makes scenes", reaching("daemon/scan", "daemon/scene"), []string{"daemon/scan reaches daemon/scene"}},
		{"scan uses a fake", reaching("daemon/scan", "daemon/units/unitstest"), []string{"daemon/scan reaches daemon/units/unitstest"}},
		{"fake of a pure room reads files", importing("daemon/engine/trend/trendtest", "os"), nil},
		{"notify elsewhere", importing("daemon/control", "github.com/coreos/go-systemd/v22/daemon"), []string{"daemon/control imports github.com/coreos/go-systemd/v22/daemon"}},
		{"notify in its place", importing("daemon/sdnotify", "github.com/coreos/go-systemd/v22/daemon"), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, r := range rules {
				for _, v := range r.violations(tt.p) {
					sentence, _, _ := bytes.Cut([]byte(v), []byte(": "))
					got = append(got, string(sentence))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

// list asks the go command for all packages of the module.
func list(t *testing.T) []pkg {
	t.Helper()
	// Test results are cached by the files that the test itself opens: open the
	// folders, so that a cached "ok" is never about another tree.
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && slices.Contains([]string{".git", "bin", "dist"}, d.Name()) {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

func reaching(path string, deps ...string) pkg {
	p := pkg{ImportPath: module + "/" + path}
	for _, d := range deps {
		p.Deps = append(p.Deps, module+"/"+d)
	}
	return p
}

func importing(path string, imports ...string) pkg {
	return pkg{ImportPath: module + "/" + path, Imports: imports, Deps: imports}
}
