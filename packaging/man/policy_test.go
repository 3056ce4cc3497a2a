package man

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	destroysockets "github.com/tcpmemd/tcpmemd/plugins/destroy-sockets"
	"github.com/tcpmemd/tcpmemd/plugins/notify"
	raisetcpmem "github.com/tcpmemd/tcpmemd/plugins/raise-tcp-mem"
	restartunit "github.com/tcpmemd/tcpmemd/plugins/restart-unit"
	runcommand "github.com/tcpmemd/tcpmemd/plugins/run-command"
	signalprocess "github.com/tcpmemd/tcpmemd/plugins/signal-process"
	"github.com/tcpmemd/tcpmemd/remediate"
)

var update = flag.Bool("update", false, "write the list of variables anew")

//go:generate go test -run TestVariables -update .

const policyPage = "tcpmemd-policy.5"

func TestPolicyKeys(t *testing.T) {
	page := read(t, policyPage)
	if diff := cmp.Diff(config.RuleKeys(), page.items("KEYS", "Cm")); diff != "" {
		t.Errorf("keys (-program +page):\n%s", diff)
	}
	if diff := cmp.Diff(config.StepKeys(), page.items("STEPS", "Cm")); diff != "" {
		t.Errorf("keys of a step (-program +page):\n%s", diff)
	}

	// The page's defaults are those of a rule that says nothing.
	stated := page.defaults()
	bare := rule(t, "[rule.x]\nwhen = 'true'\nstep = [{action = 'notify'}]\n")
	written := rule(t, "[rule.x]\nwhen = 'true'\n"+stated+"step = [{action = 'notify', "+stepDefaults(page)+"}]\n")
	if bare.Hash != written.Hash {
		t.Errorf("the page states other defaults than the program has:\n%s%s", stated, stepDefaults(page))
	}
	for _, key := range []string{"severity", "mode", "for_each", "for", "cooldown", "budget"} {
		if !strings.Contains("\n"+stated, "\n"+key+" = ") {
			t.Errorf("the page states no default of %s", key)
		}
	}
}

func stepDefaults(p page) string {
	steps := page("\n.Sh KEYS\n" + p.section("STEPS"))
	return strings.ReplaceAll(strings.TrimSpace(steps.defaults()), "\n", ", ")
}

func TestVariables(t *testing.T) {
	var list strings.Builder
	list.WriteString(".\\\" go test -run Variables -update writes what follows.\n.Bl -tag -width Ds\n")
	for _, v := range policy.Variables() {
		list.WriteString(".It Cm " + v.Name + " Pq " + string(v.Type))
		if v.Unit != "" {
			list.WriteString(" , " + v.Unit)
		}
		list.WriteString("\n" + fold(v.Doc+".") + "\n")
		if v.Values != nil {
			list.WriteString("One of\n.Cm " + strings.Join(v.Values, " , ") + " .\n")
		}
		if v.Cadence == policy.EachReading && !strings.HasPrefix(v.Name, "owner.") {
			list.WriteString("By each scan.\n")
		}
		if v.Nullable {
			list.WriteString("Can be unknown.\n")
		}
	}
	list.WriteString(".El\n")

	page := read(t, policyPage)
	intro, _, _ := strings.Cut(page.section("VARIABLES"), ".\\\" go test")
	want := intro + strings.TrimSuffix(list.String(), "\n")
	if *update {
		text := strings.Replace(string(page), page.section("VARIABLES"), want, 1)
		if err := os.WriteFile(policyPage, []byte(text), 0o644); err != nil { //nolint:gosec // as all pages
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, page.section("VARIABLES")); diff != "" {
		t.Errorf("variables (-program +page), go generate ./packaging/man writes them:\n%s", diff)
	}
}

// fold breaks lines as the pages do.
func fold(text string) string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > 78 {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return strings.Join(append(lines, line), "\n")
}

// TestActions: the page names each built-in action, and each of its settings
// with its default; a rule is checked by what they touch.
func TestActions(t *testing.T) {
	page := read(t, policyPage)
	var names []string
	for _, a := range []remediate.Action{
		notify.New(""), restartunit.New("", ""), signalprocess.New("", ""),
		destroysockets.New("", ""), raisetcpmem.New("", ""), runcommand.New(""),
	} {
		d := a.Describe()
		names = append(names, d.Name)
		if info := (policy.ActionInfo{Name: d.Name, Touches: policy.Touches(d.Touches)}); !slices.ContainsFunc(config.BuiltInActions(),
			func(known policy.ActionInfo) bool { return cmp.Equal(info, known) }) {
			t.Errorf("%s touches %s: config does not know that", d.Name, d.Touches)
		}
		_, text, _ := strings.Cut(page.section("ACTIONS"), ".It Cm "+d.Name+"\n")
		text, _, _ = strings.Cut(text, ".It ")
		for _, s := range d.Settings {
			if !regexp.MustCompile(`(?m)^\.Cm ` + s.Name + `( |$)`).MatchString(text) {
				t.Errorf("%s: the page lacks the setting %s: %s", d.Name, s.Name, s.About)
			}
			if s.Type == "duration" || s.Type == "share" || s.Type == "float" || s.Type == "int" {
				if !strings.Contains(text, s.Default) {
					t.Errorf("%s: the page lacks the default %s of %s", d.Name, s.Default, s.Name)
				}
			}
		}
	}
	if diff := cmp.Diff(sorted(names), sorted(page.items("ACTIONS", "Cm"))); diff != "" {
		t.Errorf("actions (-program +page):\n%s", diff)
	}
}

// TestPolicyExamples: each is a file that is right, on top of the built-in
// rules.
func TestPolicyExamples(t *testing.T) {
	page := read(t, policyPage)
	n := 0
	for _, text := range append(page.displays("EXAMPLES"), page.displays("DESCRIPTION")...) {
		if !strings.HasPrefix(text, "[rule.") {
			continue
		}
		n++
		loadPolicy(t, text)
	}
	if n < 4 {
		t.Errorf("%d examples", n)
	}
	for _, text := range page.displays("CONDITIONS") {
		rule(t, "[rule.x]\nfor_each = 'unit'\n"+text)
	}
}

func TestPluginKeys(t *testing.T) {
	page := read(t, "tcpmemd.toml.5")
	if diff := cmp.Diff(config.PluginKeys(), page.items("PLUGINS", "Cm")); diff != "" {
		t.Errorf("keys (-program +page):\n%s", diff)
	}
	for _, text := range page.displays("PLUGINS") {
		load(t, text)
	}
}

func loadPolicy(t *testing.T, text string) config.Policy {
	t.Helper()
	path := filepath.Join(t.TempDir(), "page.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := config.LoadPolicy(config.Options{Root: t.TempDir(), PolicyFiles: []string{path}})
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return p
}

func rule(t *testing.T, text string) *policy.Rule {
	t.Helper()
	rules := loadPolicy(t, text).Rules
	i := slices.IndexFunc(rules, func(r *policy.Rule) bool { return r.Name == "x" })
	return rules[i]
}
