// Package prometheus holds what a fleet owner gives to Prometheus. Its tests try
// that with promtool, and hold it against the program.
package prometheus

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v2"

	"github.com/tcpmemd/tcpmemd/daemon/metrics"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

const rulesFile = "tcpmemd.rules.yml"

// rule is an alert, or a recording rule.
type rule struct {
	Alert         string            `yaml:"alert"`
	Record        string            `yaml:"record"`
	Expr          string            `yaml:"expr"`
	For           string            `yaml:"for"`
	KeepFiringFor string            `yaml:"keep_firing_for"`
	Labels        map[string]string `yaml:"labels"`
	Annotations   map[string]string `yaml:"annotations"`
}

func TestPromtool(t *testing.T) {
	tests, err := filepath.Glob("*.test.yml")
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	promtool(t, "check", "rules", rulesFile)
	promtool(t, append([]string{"test", "rules"}, tests...)...)
	promtool(t, "check", "config", "--syntax-only", "scrape.yml")
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), require.Tool(t, "promtool"), args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestAlerts: whoever is woken finds what it is, how to look and what to do, and
// somebody has tried that it fires and that it does not.
func TestAlerts(t *testing.T) {
	fires, silent := tried(t)
	for _, r := range alerts(t) {
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		for _, name := range []string{"summary", "description", "runbook"} {
			if r.Annotations[name] == "" {
				t.Errorf("%s lacks the annotation %s", r.Alert, name)
			}
		}
		for _, part := range []string{"What it means", "Look", "Do: "} {
			if !regexp.MustCompile(`(?m)^` + part).MatchString(r.Annotations["runbook"]) {
				t.Errorf("the runbook of %s has no line %q", r.Alert, part)
			}
		}
		if len(r.Annotations["summary"]) > 120 || strings.Contains(r.Annotations["summary"], "\n") {
			t.Errorf("%s: the summary is too long for a line", r.Alert)
		}
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s is tried to fire: %t, not to fire: %t", r.Alert, fires[r.Alert], silent[r.Alert])
		}
		// Whatever the job is called: textfiles come in under node_exporter's.
		if regexp.MustCompile(`\bjob *[=!]`).MatchString(r.Expr) {
			t.Errorf("%s names a job", r.Alert)
		}
	}
}

// TestNames: what the rules, their texts and the samples ask for is there.
func TestNames(t *testing.T) {
	var known []string
	for _, m := range metrics.Catalogue() {
		known = append(known, m.Name)
	}
	texts := make(map[string]string)
	for _, r := range rules(t) {
		known = append(known, r.Record)
		texts[r.Alert+r.Record] = r.Expr + "\n" + r.Annotations["summary"] + "\n" + r.Annotations["description"]
	}
	for where, text := range texts {
		for _, name := range regexp.MustCompile(`\b(?:\w+:)?(?:tcpmemd|process)_[\w:]+`).FindAllString(text, -1) {
			if !slices.Contains(known, name) {
				t.Errorf("%s asks for %s", where, name)
			}
		}
	}
}

// TestPage: its table has each alert as it is, and each file is packed.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/prometheus.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, r := range alerts(t) {
		want = append(want, fmt.Sprintf("| `%s` | %s | %s |", r.Alert, r.Labels["severity"], cmp.Or(r.For, "at once")))
	}
	got := regexp.MustCompile("(?m)^\\| `[TC]\\w+` \\|[^|]*\\|[^|]*\\|").FindAllString(string(page), -1)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("alerts (-rules +page):\n%s", diff)
	}
	list, err := os.ReadFile("../../../nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if n := strings.Count(string(list), "/usr/share/doc/tcpmemd/examples/prometheus/"+f+"\n"); n != 2 {
			t.Errorf("nfpm.yaml lists %s %d times, want it for deb and rpm", f, n)
		}
	}
}

// tried says of which alerts the tests want one to fire, and none.
func tried(t *testing.T) (fires, silent map[string]bool) {
	t.Helper()
	fires, silent = make(map[string]bool), make(map[string]bool)
	files, err := filepath.Glob("*.test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		var file struct {
			Tests []struct {
				Exprs []struct {
					Expr    string `yaml:"expr"`
					Samples []any  `yaml:"exp_samples"`
				} `yaml:"promql_expr_test"`
			} `yaml:"tests"`
		}
		parse(t, name, &file)
		for _, test := range file.Tests {
			for _, e := range test.Exprs {
				if m := regexp.MustCompile(`alertname="(\w+)",alertstate="firing"`).FindStringSubmatch(e.Expr); m == nil {
					continue
				} else if len(e.Samples) > 0 {
					fires[m[1]] = true
				} else {
					silent[m[1]] = true
				}
			}
		}
	}
	return fires, silent
}

func alerts(t *testing.T) (list []rule) {
	t.Helper()
	for _, r := range rules(t) {
		if r.Alert != "" {
			list = append(list, r)
		}
	}
	return list
}

func rules(t *testing.T) (list []rule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	parse(t, rulesFile, &file)
	for _, g := range file.Groups {
		list = append(list, g.Rules...)
	}
	if len(list) == 0 {
		t.Fatalf("%s has no rules", rulesFile)
	}
	return list
}

func parse(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
}
