package man

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tcpmemd/tcpmemd/daemon/ability"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/proto"
	"github.com/tcpmemd/tcpmemd/remediate/remediatetest"
	"github.com/tcpmemd/tcpmemd/remediate/runner"
)

const pluginPage = "tcpmemd-plugin.7"

// TestPluginContract holds the page's lists against the proto file.
func TestPluginContract(t *testing.T) {
	page := read(t, pluginPage)
	file := proto.File_remediate_proto
	var calls, fields, results []string
	for i, list := 0, file.Services().ByName("Action").Methods(); i < list.Len(); i++ {
		calls = append(calls, string(list.Get(i).Name()))
	}
	for i, list := 0, file.Messages().ByName("Description").Fields(); i < list.Len(); i++ {
		fields = append(fields, string(list.Get(i).Name()))
	}
	for i, list := 1, file.Enums().ByName("Result").Values(); i < list.Len(); i++ { // 0 is none
		results = append(results, resultName(list.Get(i).Name()))
	}
	for _, tt := range []struct {
		what      string
		want, got []string
	}{
		{"calls", calls, page.subsection("Calls").items("Calls", "Cm")},
		{"fields of a description", fields, page.subsection("Description").items("Description", "Va")},
		{"results", results, page.subsection("Results").items("Results", "Cm")},
	} {
		if diff := cmp.Diff(sorted(tt.want), sorted(tt.got)); diff != "" {
			t.Errorf("%s (-program +page):\n%s", tt.what, diff)
		}
	}

	text := strings.Join(strings.Fields(string(page)), " ")
	for _, limit := range []string{
		fmt.Sprintf("1|%d|unix|", remediate.ProtocolVersion),
		fmt.Sprintf("request has at most %d MiB", remediate.MaxRequestBytes>>20),
		fmt.Sprintf("answer %d MiB", remediate.MaxAnswerBytes>>20),
		fmt.Sprintf("a message of %d KiB", remediate.MaxMessageBytes>>10),
		fmt.Sprintf("a code of %d bytes", remediate.MaxCodeBytes),
		fmt.Sprintf("%d changes", remediate.MaxChanges),
	} {
		if !strings.Contains(text, limit) {
			t.Errorf("the page does not say %q", limit)
		}
	}
}

// resultName is RESULT_TIMED_OUT as Go and people write it.
func resultName(name protoreflect.Name) string {
	word := strings.TrimPrefix(string(name), "RESULT_")
	return strings.ToLower(strings.ReplaceAll(word, "_", "-"))
}

// TestPluginEnvironment starts a program that writes down what it finds.
func TestPluginEnvironment(t *testing.T) {
	dir := remediatetest.Folder(t)
	script := filepath.Join(dir, "plugin")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec env >"+dir+"/found\n"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/tcpmemd.service")
	t.Setenv("HOSTS_OWN", "secret")
	named := map[string]config.Plugin{"mine": {Path: script, Credential: "token"}}
	r := remediatetest.Start(t, remediatetest.Build(t, "../../cmd/tcpmemd-action"), third(named)...)
	if _, err := r.Describe(t.Context(), "mine"); err == nil {
		t.Error("a program that says nothing was described")
	}
	text, err := os.ReadFile(filepath.Join(dir, "found"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		// What a shell sets by itself.
		if name, _, _ := strings.Cut(line, "="); !slices.Contains([]string{"PWD", "OLDPWD", "SHLVL", "_"}, name) {
			found = append(found, name)
		}
	}
	if diff := cmp.Diff(sorted(found), sorted(read(t, pluginPage).items("ENVIRONMENT", "Ev"))); diff != "" {
		t.Errorf("environment (-program +page):\n%s", diff)
	}
}

// TestPluginExamples does what the page's examples say, with this tree in place
// of what is installed, up to a line in the file.
func TestPluginExamples(t *testing.T) {
	need(t, "/usr/bin/protoc", "protobuf-compiler")
	if err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", "import grpc, google.protobuf").Run(); err != nil {
		missing(t, "python3-grpcio and python3-protobuf")
	}
	tree, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := remediatetest.Folder(t)
	here := strings.NewReplacer(
		"/usr/local/libexec", dir,
		"/usr/share/doc/tcpmemd/examples", tree+"/remediate/examples",
		"/usr/share/tcpmemd", tree+"/remediate/proto",
		"/run/tcpmemd/leaks", dir+"/leaks",
		"protoc --", "/usr/bin/protoc --",
	)
	examples := read(t, pluginPage).displays("EXAMPLES")
	if len(examples) < 3 {
		t.Fatalf("the page has %d examples", len(examples))
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-euc", here.Replace(examples[0])).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	loaded := load(t, here.Replace(examples[1]))
	r := remediatetest.Start(t, remediatetest.Build(t, "../../cmd/tcpmemd-action"), third(loaded.Config.Plugins)...)
	can := ability.New(t.Context(), "0.0.0", loaded.Config.Plugins, r)

	rules := func(text string) (config.Policy, error) {
		draft := filepath.Join(t.TempDir(), "leaks.toml")
		if err := os.WriteFile(draft, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return config.LoadPolicy(config.Options{Root: t.TempDir(), PolicyFiles: []string{draft}, Actions: can.List(), CheckStep: can.CheckStep})
	}
	if _, err := rules(strings.Replace(examples[2], `"/run`, `"run`, 1)); err == nil || !strings.Contains(err.Error(), "absolute path") {
		t.Errorf("a setting that the plugin refuses: %v", err)
	}
	p, err := rules(here.Replace(examples[2]))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(p.Rules, func(r *policy.Rule) bool { return r.Name == "leak-noted" })
	if i < 0 {
		t.Fatal("the rule is not among those that were read")
	}
	step := p.Rules[i].Steps[0]
	resp, err := r.Run(t.Context(), step.Action, &remediate.Request{
		IncidentID: "i1", Text: "x.service leaks", Settings: remediate.Settings(step.Settings), Deadline: time.Now().Add(10 * time.Second),
	})
	if err != nil || resp.Result != remediate.Delivered {
		t.Fatalf("%+v, %v", resp, err)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "leaks")); string(text) != "i1 x.service leaks\n" {
		t.Errorf("the file holds %q", text)
	}

	// The test of a plugin in Go is the one that the example in Go has.
	own, err := os.ReadFile("../../remediate/examples/go/main_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if last := examples[len(examples)-1]; !strings.Contains(string(own), last) {
		t.Errorf("examples/go has another test than the page:\n%s", last)
	}
}

// third are the plugins of a configuration without the built-in ones.
func third(named map[string]config.Plugin) []runner.Plugin {
	return slices.DeleteFunc(ability.Plugins("0.0.0", "/nowhere", named), func(p runner.Plugin) bool { return p.BuiltIn })
}

// TestLint has mandoc read the pages: an error or a warning is a mistake.
func TestLint(t *testing.T) {
	need(t, "/usr/bin/mandoc", "mandoc")
	pages, err := filepath.Glob("*.[1-8]")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "/usr/bin/mandoc", append([]string{"-Tlint", "-Wwarning"}, pages...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func need(t *testing.T, path, pkg string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		missing(t, pkg)
	}
}

func missing(t *testing.T, pkg string) {
	t.Helper()
	if os.Getenv("TCPMEMD_TEST_REQUIRE") == "all" {
		t.Fatalf("needs Debian's %s (TCPMEMD_TEST_REQUIRE=all)", pkg)
	}
	t.Skipf("needs Debian's %s", pkg)
}
