package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
)

// alone masks the built-in rules, so that a test sees its own only.
func alone(t *testing.T, files map[string]string) string {
	t.Helper()
	root := write(t, files)
	dir := filepath.Join(root, policyDirs[0])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name := range must(findPolicies(Options{Root: t.TempDir()})) {
		if err := os.Symlink(os.DevNull, filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	return root
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func loadPolicy(t *testing.T, o Options) Policy {
	t.Helper()
	p, err := LoadPolicy(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const story = `
[rule.leaking-service]               # rules are tables merged by key: overriding mode needs one line
about    = "one service's share of TCP memory keeps growing and the host nears its limit"
mode     = "observe"                 # effective mode = the most cautious of daemon, rule, unit opt-out, pause
for_each = "unit"                    # host | owner | unit | container | pod | process | netns
when     = 'tcp.fill > 0.7 && owner.share > 0.3 && owner.verdict == "leak"'
for      = "30s"
until    = 'tcp.fill < 0.5'
cooldown = "15m"
[[rule.leaking-service.step]]
action = "notify"
[[rule.leaking-service.step]]
action = "restart-unit"
after  = "60s"
budget = "2 per 1h"
`

func TestPolicy(t *testing.T) {
	root := alone(t, map[string]string{
		"usr/lib/tcpmemd/policy.d/10-leak.toml": story,
		"etc/tcpmemd/policy.d/90-mine.toml":     "[rule.leaking-service]\nmode = 'enforce'\nmin_coverage = '90%'\n",
	})
	p := loadPolicy(t, Options{Root: root})
	if len(p.Rules) != 1 {
		t.Fatalf("rules = %v", p.Rules)
	}
	got := *p.Rules[0]
	if got.When.String() != `tcp.fill > 0.7 && owner.share > 0.3 && owner.verdict == "leak"` || got.Until.String() != "tcp.fill < 0.5" {
		t.Errorf("when %s until %s", got.When, got.Until)
	}
	if len(got.Hash) != 16 {
		t.Errorf("hash = %q", got.Hash)
	}
	got.When, got.Until, got.Hash = nil, nil, ""
	coverage := 0.9
	want := policy.Rule{
		Name: "leaking-service", About: "one service's share of TCP memory keeps growing and the host nears its limit",
		Severity: policy.Warning, Mode: policy.Enforce, ForEach: policy.Unit, For: 30 * time.Second, Cooldown: 15 * time.Minute,
		Budget: policy.DefaultRuleBudget, MinCoverage: &coverage,
		Steps: []policy.Step{
			{Action: "notify", Budget: policy.DefaultStepBudget, Settings: []byte("{}")},
			{Action: "restart-unit", After: time.Minute, Budget: policy.Budget{Count: 2, Per: time.Hour}, Settings: []byte("{}")},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rule (-want +got):\n%s", diff)
	}
	usr, etc := filepath.Join(root, policyDirs[0], "10-leak.toml"), filepath.Join(root, policyDirs[2], "90-mine.toml")
	if diff := cmp.Diff([]string{usr, etc}, p.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for key, want := range map[string]Origin{"mode": {etc, 2}, "when": {usr, 6}, "min_coverage": {etc, 3}} {
		if got := p.Origins["rule.leaking-service."+key]; got != want {
			t.Errorf("origin of %s = %v, want %v", key, got, want)
		}
	}
}

func names(p Policy) []string {
	var all []string
	for _, r := range p.Rules {
		all = append(all, fmt.Sprintf("%s=%s", r.Name, r.When))
	}
	return all
}

func TestPolicyLayers(t *testing.T) {
	rule := func(name, when string) string { return "[rule." + name + "]\nwhen = '" + when + "'\n" }
	root := alone(t, map[string]string{
		"usr/lib/tcpmemd/policy.d/a.toml": rule("a", "tcp.fill > 0.1"),
		"usr/lib/tcpmemd/policy.d/b.toml": rule("b", "tcp.fill > 0.1"),
		"usr/lib/tcpmemd/policy.d/c.toml": rule("c", "tcp.fill > 0.1"),
		"run/tcpmemd/policy.d/a.toml":     rule("a", "tcp.fill > 0.2") + rule("x", "tcp.fill > 0.2"),
		"etc/tcpmemd/policy.d/b.toml":     rule("b", "tcp.fill > 0.3"),
		// merged in the order of names: z after a, whatever the layer
		"usr/lib/tcpmemd/policy.d/z.toml":        rule("a", "tcp.fill > 0.9"),
		"etc/tcpmemd/policy.d/notes.txt":         "no rule",
		"etc/tcpmemd/policy.d/.hidden.toml":      "no rule",
		"etc/tcpmemd/policy.d/c.toml~":           "no rule",
		"etc/tcpmemd/policy.d/d.toml.dpkg-dist":  "no rule",
		"etc/tcpmemd/policy.d/folder/inner.toml": "no rule",
	})
	if err := os.Symlink(os.DevNull, filepath.Join(root, policyDirs[2], "c.toml")); err != nil {
		t.Fatal(err)
	}
	want := []string{"a=tcp.fill > 0.9", "b=tcp.fill > 0.3", "x=tcp.fill > 0.2"}
	if diff := cmp.Diff(want, names(loadPolicy(t, Options{Root: root}))); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}

	draft := filepath.Join(t.TempDir(), "draft.toml")
	if err := os.WriteFile(draft, []byte(rule("a", "tcp.fill > 0.4")), 0o600); err != nil {
		t.Fatal(err)
	}
	want[0] = "a=tcp.fill > 0.4"
	if diff := cmp.Diff(want, names(loadPolicy(t, Options{Root: root, PolicyFiles: []string{draft}}))); diff != "" {
		t.Errorf("rules with a draft (-want +got):\n%s", diff)
	}
}

// TestPolicyBeside: --config FILE brings the policy.d beside it, and nothing of
// the host.
func TestPolicyBeside(t *testing.T) {
	root := write(t, map[string]string{
		"mine/tcpmemd.toml":             "",
		"mine/policy.d/x.toml":          "[rule.x]\nwhen = 'true'\n",
		"etc/tcpmemd/policy.d/etc.toml": "[rule.etc]\nwhen = 'true'\n",
	})
	p := loadPolicy(t, Options{Root: root, File: filepath.Join(root, "mine/tcpmemd.toml")})
	all := strings.Join(names(p), " ")
	if !strings.Contains(all, "x=true") || strings.Contains(all, "etc=true") || !strings.Contains(all, "tcp-critical=") {
		t.Errorf("rules = %s", all)
	}
}

func TestPolicyErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"syntax", "[rule.a]\nwhen = tcp\n", "f:2:8: expected value but found \"tcp\" instead\n      1 | [rule.a]\n      2 | when = tcp\n                 ^^^"},
		{"other key", "mode = 'enforce'\n", `f:1: unknown key "mode": a policy has rules, [rule.NAME]`},
		{"other table", "[rules.a]\nwhen = 'true'\n", `f:2: unknown key "rules.a.when": a policy has rules, [rule.NAME]`},
		{"value for rules", "rule = 5\n", `f:1: rule is a table: set its keys, e.g. rule.NAME.when`},
		{"value for a rule", "rule.a = 5\n", `f:1: rule.a is a table: set its keys, e.g. rule.NAME.when`},
		{"name", "[rule.Leak]\nwhen = 'true'\n", `f:2: rule.Leak.when: a rule's name has letters a-z, digits and dashes, 64 at most`},
		{"misspelt key", "[rule.a]\nwhen = 'true'\ncooldwon = '5m'\n", `f:3: unknown key "rule.a.cooldwon"; did you mean rule.a.cooldown?`},
		{"bare duration", "[rule.a]\nwhen = 'true'\nfor = 30\n", `f:3: rule.a.for = 30: a duration needs a unit, e.g. "5s"`},
		{"mode", "[rule.a]\nwhen = 'true'\nmode = 'act'\n", `f:3: rule.a.mode = "act": must be "observe" or "enforce"`},
		{"severity", "[rule.a]\nwhen = 'true'\nseverity = 'warn'\n", `f:3: rule.a.severity = "warn": did you mean "warning"?`},
		{"scope", "[rule.a]\nwhen = 'true'\nfor_each = 'units'\n", `f:3: rule.a.for_each = "units": did you mean "unit"?`},
		{"target", "[rule.a]\nwhen = 'true'\ntarget = 'all'\n", `f:3: rule.a.target = "all": must be "top": the owner that holds the most`},
		{"target of an owner", "[rule.a]\nwhen = 'true'\ntarget = 'top'\nfor_each = 'unit'\n", `f:3: rule.a.target: for_each = "unit" is about one owner, who is the target`},
		{"budget", "[rule.a]\nwhen = 'true'\nbudget = 'twice'\n", `f:3: rule.a.budget = "twice": not a budget, e.g. "2 per 1h"`},
		{"about", "[rule.a]\nwhen = 'true'\nabout = \"a\\nb\"\n", `f:3: rule.a.about = "a\nb": must be one line of text, 300 bytes at most`},
		{"condition of another type", "[rule.a]\nwhen = true\n", `f:2: rule.a.when = true: must be a condition in quotes, e.g. 'tcp.fill > 0.7'`},
		{"no when", "[rule.a]\nfor = '5s'\n", `f:2: rule "a" has no when`},
		{"another rule meant", "[rule.leak-service]\nwhen = 'true'\n[rule.leak-servcie]\nmode = 'enforce'\n", `f:4: rule "leak-servcie" has no when; did you mean rule.leak-service?`},
		{"condition", "[rule.a]\nfor_each = 'unit'\nwhen = 'tcp.fill > 0.7 && owner.shre > 0.3'\n", `f:3:27: rule.a.when: unknown variable "owner.shre"; did you mean owner.share?`},
		{"condition with escapes", "[rule.a]\nwhen = \"\\\"\\u00e9\\\" == tcp.lvel\"\n", `f:2:23: rule.a.when: unknown variable "tcp.lvel"; did you mean tcp.level?`},
		{"condition of lines", "[rule.a]\nwhen = '''\ntcp.fill > 0.7\n  && tcp.fil > 0.7'''\n", `f:4:6: rule.a.when: unknown variable "tcp.fil"; did you mean tcp.fill?`},
		{"condition of folded lines", "[rule.a]\nwhen = \"\"\"\ntcp.fill > 0.7 && \\\n    tcp.fil > 0.7\"\"\"\n", `f:4:5: rule.a.when: unknown variable "tcp.fil"; did you mean tcp.fill?`},
		{"owner in a host rule", "[rule.a]\nwhen = 'owner.share > 0.3'\n", `f:2:9: rule.a.when: owner.share is not known in a rule for the host: set for_each to owner, unit or another`},
		{"owner in until", "[rule.a]\nwhen = 'true'\nuntil = 'owner.share < 0.3'\n", `f:3:10: rule.a.until: owner.share is not known in a rule for the host: set for_each to owner, unit or another`},
		{"steps", "[rule.a]\nwhen = 'true'\nstep = 'notify'\n", `f:3: rule.a.step: must be a list of tables, [[rule.NAME.step]]`},
		{"one step", "[rule.a]\nwhen = 'true'\n[rule.a.step]\naction = 'notify'\n", `f:3: rule.a.step: must be a list of tables, [[rule.NAME.step]]`},
		{"unknown action", "[rule.a]\nwhen = 'true'\n[[rule.a.step]]\naction = 'notify'\n[[rule.a.step]]\naction = 'restart'\n", `f:6: rule.a.step 2: unknown action "restart"; did you mean restart-unit?`},
		{"action with another sign", "[rule.a]\nwhen = 'true'\nstep = [{action = 'restart_unit'}]\n", `f:3: rule.a.step 1: action = "restart_unit": did you mean "restart-unit"?`},
		{"misspelt action", "[rule.a]\nwhen = 'true'\nstep = [{action = 'notfy'}]\n", `f:3: rule.a.step 1: unknown action "notfy"; did you mean notify?`},
		{"no action", "[rule.a]\nwhen = 'true'\n[[rule.a.step]]\nafter = '5s'\n[[rule.a.step]]\naction = 'notify'\n", `f:3: rule.a.step 1: has no action`},
		{"bare after", "[rule.a]\nwhen = 'true'\n[[rule.a.step]]\naction = 'notify'\nafter = 5\n[[rule.a.step]]\naction = 'notify'\n", `f:5: rule.a.step 1: after = 5: a duration needs a unit, e.g. "5s"`},
		{"owner action for the host", "[rule.a]\nwhen = 'true'\n[[rule.a.step]]\naction = 'restart-unit'\n", `f:4: rule.a.step 1: restart-unit touches an owner, and for_each = "host" names none: add target = "top"`},
		{"owner action for a pod", "[rule.a]\nwhen = 'true'\nfor_each = 'pod'\nstep = [{action = 'signal-process'}]\n", `f:4: rule.a.step 1: signal-process touches an owner, and for_each = "pod" names none: add target = "top"`},
		{"settings", "[rule.a]\nwhen = 'true'\n[[rule.a.step]]\naction = 'notify'\nto = {a = 1}\n", `f:3: rule.a.step 1: to: must be a string, a number, a boolean or a list of those`},
		{"settings that the action refuses", "[rule.a]\nwhen = 'true'\n[[rule.a.step]]\naction = 'notify'\n\nwebhok = 'x'\n", `f:6: rule.a.step 1: notify: webhok: unknown setting`},
		{"too many steps", "[rule.a]\nwhen = 'true'\n" + strings.Repeat("[[rule.a.step]]\naction = 'notify'\n", 17), `f:35: rule.a.step: 17 steps, 16 at most may be`},
		{"too many rules", manyRules(65), `f:130: rule.r64.when: there are 65 rules, 64 at most may be`},
		{
			"all at once", "[rule.a]\nwhen = 'x'\nfor = 1\n[rule.b]\nwhen = 'true'\nwebhook = 1\n",
			"f:2:9: rule.a.when: unknown variable \"x\"\n" + `f:3: rule.a.for = 1: a duration needs a unit, e.g. "5s"` + "\n" + `f:6: unknown key "rule.b.webhook"`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := alone(t, map[string]string{"etc/tcpmemd/policy.d/f.toml": tt.text})
			file := filepath.Join(root, policyDirs[2], "f.toml")
			p, err := LoadPolicy(Options{Root: root, CheckStep: func(_ *policy.Rule, s *policy.Step) []Problem {
				if strings.Contains(string(s.Settings), "webhok") {
					return []Problem{{"webhok", "unknown setting"}}
				}
				return nil
			}})
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(tt.want, strings.ReplaceAll(err.Error(), file, "f")); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{file}, p.LeftOut); diff != "" || len(p.Rules) != 0 || len(p.Files) != 0 {
				t.Errorf("rules %v of %v; left out (-want +got):\n%s", p.Rules, p.Files, diff)
			}
		})
	}
}

func manyRules(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[rule.r%02d]\nwhen = 'true'\n", i)
	}
	return b.String()
}

// TestPolicyLeftOut: a broken file is left out as a whole, with what stands
// below it of the same name in its place; who makes two files not fit is the
// one that is laid on later.
func TestPolicyLeftOut(t *testing.T) {
	root := alone(t, map[string]string{
		"usr/lib/tcpmemd/policy.d/a.toml": "[rule.a]\nfor_each = 'unit'\nwhen = 'owner.share > 0.1'\n",
		"usr/lib/tcpmemd/policy.d/b.toml": "[rule.b]\nwhen = 'tcp.fill > 0.1'\n",
		"etc/tcpmemd/policy.d/b.toml":     "[rule.b]\nwhen = 'tcp.fill > 0.2'\n[rule.new]\nwhen = 'tcp.fil > 0.2'\n",
		"etc/tcpmemd/policy.d/m.toml":     "[rule.a]\nabout = 'mine'\nfor_each = 'host'\n",
		"etc/tcpmemd/policy.d/n.toml":     "[rule.a]\ncooldown = '1m'\n",
	})
	etc := filepath.Join(root, policyDirs[2])
	p, err := LoadPolicy(Options{Root: root})
	want := "b.toml:4:9: rule.new.when: unknown variable \"tcp.fil\"; did you mean tcp.fill?\n" +
		`m.toml:3: rule.a.for_each = "host": rule.a.when: owner.share is not known in a rule for the host: set for_each to owner, unit or another (a.toml:3)`
	got := strings.NewReplacer(etc+"/", "", filepath.Join(root, policyDirs[0])+"/", "").Replace(fmt.Sprint(err))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{filepath.Join(etc, "b.toml"), filepath.Join(etc, "m.toml")}, p.LeftOut); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a=owner.share > 0.1", "b=tcp.fill > 0.1"}, names(p)); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if a := p.Rules[0]; a.About != "" || a.Cooldown != time.Minute {
		t.Errorf("rule a has about %q of the broken file, or not the cooldown %v of the right one", a.About, a.Cooldown)
	}
}

func TestPolicyUnreadable(t *testing.T) {
	root := alone(t, map[string]string{
		"etc/tcpmemd/policy.d":                    "no directory",
		"run/tcpmemd/policy.d/folder.toml/x":      "",
		"run/tcpmemd/policy.d/huge.toml":          strings.Repeat("#", maxFile+1),
		"usr/lib/tcpmemd/policy.d/right-one.toml": "[rule.a]\nwhen = 'true'\n",
	})
	if err := os.Symlink("nowhere", filepath.Join(root, policyDirs[1], "dangling.toml")); err != nil {
		t.Fatal(err)
	}
	p, err := LoadPolicy(Options{Root: root})
	run := filepath.Join(root, policyDirs[1])
	want := filepath.Join(root, policyDirs[2]) + ": open: not a directory\n" +
		run + "/dangling.toml: open: no such file or directory\n" +
		run + "/folder.toml: read: is a directory\n" +
		run + "/huge.toml: larger than 64 KiB"
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	if len(p.LeftOut) != 4 || len(p.Rules) != 1 {
		t.Errorf("left out %v, rules %v", p.LeftOut, p.Rules)
	}
	if _, err := LoadPolicy(Options{Root: root, PolicyFiles: []string{"/nonexistent/draft.toml"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a draft that does not exist: %v", err)
	}
}

// TestHash: the text counts, not the file it is from nor how it is written.
func TestHash(t *testing.T) {
	hash := func(files map[string]string) string {
		t.Helper()
		return loadPolicy(t, Options{Root: alone(t, files)}).Rules[0].Hash
	}
	base := hash(map[string]string{"etc/tcpmemd/policy.d/a.toml": story})
	same := map[string]map[string]string{
		"another file": {"run/tcpmemd/policy.d/b.toml": "# comment\n" + story},
		"two files": {
			"etc/tcpmemd/policy.d/a.toml": strings.Replace(story, `"15m"`, `"5m"`, 1),
			"etc/tcpmemd/policy.d/b.toml": "[rule.leaking-service]\ncooldown = '900s'\n",
		},
		"a default written out": {"etc/tcpmemd/policy.d/a.toml": strings.Replace(story, "about ", "severity = 'warning'\nabout ", 1)},
	}
	for name, files := range same {
		if got := hash(files); got != base {
			t.Errorf("%s: hash %s, want %s", name, got, base)
		}
	}
	other := map[string]string{
		"name":     strings.ReplaceAll(story, "leaking", "leaky"),
		"about":    strings.Replace(story, "nears", "is near", 1),
		"mode":     strings.Replace(story, `"observe"`, `"enforce"`, 1),
		"scope":    strings.Replace(story, `"unit" `, `"owner" `, 1),
		"when":     strings.Replace(story, "0.7", "0.71", 1),
		"for":      strings.Replace(story, `"30s"`, `"31s"`, 1),
		"until":    strings.Replace(story, "0.5", "0.51", 1),
		"after":    strings.Replace(story, `"60s"`, `"61s"`, 1),
		"budget":   strings.Replace(story, `"2 per 1h"`, `"3 per 1h"`, 1),
		"settings": story + "force = true\n",
		"steps":    story + "[[rule.leaking-service.step]]\naction = 'notify'\n",
	}
	seen := map[string]string{base: "base"}
	for name, text := range other {
		got := hash(map[string]string{"etc/tcpmemd/policy.d/a.toml": text})
		if seen[got] != "" {
			t.Errorf("%s: the hash is that of %s", name, seen[got])
		}
		seen[got] = name
	}
}

func TestEffectiveTOML(t *testing.T) {
	root := alone(t, map[string]string{
		"usr/lib/tcpmemd/policy.d/a.toml": story + "text = \"it's \\\\ \\\"x\\\"\"\nlist = ['a', 1, 2.5, true]\n\"odd key\" = \"\\u001b[2J\"\n",
		"etc/tcpmemd/policy.d/b.toml":     "[rule.leaking-service]\nmode = 'enforce'\nmin_coverage = '90%'\n[rule.other]\nwhen = '''\n\ttrue ||\n\tfalse'''\ntarget = 'top'\n",
	})
	p := loadPolicy(t, Options{Root: root})
	text := EffectiveTOML(p)
	want := `# 2 rules of 2 files.

[rule.leaking-service]
about = "one service's share of TCP memory keeps growing and the host nears its limit"  # /a.toml:3
severity = "warning"  # default
mode = "enforce"  # /b.toml:2
for_each = "unit"  # /a.toml:5
when = 'tcp.fill > 0.7 && owner.share > 0.3 && owner.verdict == "leak"'  # /a.toml:6
for = "30s"  # /a.toml:7
until = "tcp.fill < 0.5"  # /a.toml:8
cooldown = "15m"  # /a.toml:9
budget = "4 per 1h"  # default
min_coverage = 0.9  # /b.toml:3
[[rule.leaking-service.step]]  # /a.toml:10
action = "notify"
after = "0s"
budget = "1 per 1h"
[[rule.leaking-service.step]]  # /a.toml:12
action = "restart-unit"
after = "1m"
budget = "2 per 1h"
list = ["a", 1, 2.5, true]
"odd key" = "\U0000001B[2J"
text = "it's \\ \"x\""

[rule.other]
severity = "warning"  # default
mode = "observe"  # default
for_each = "host"  # default
target = "top"  # /b.toml:8
when = '''
	true ||
	false'''  # /b.toml:7
for = "0s"  # default
cooldown = "15m"  # default
budget = "4 per 1h"  # default
`
	got := strings.NewReplacer(filepath.Join(root, policyDirs[0]), "", filepath.Join(root, policyDirs[2]), "").Replace(text)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	again := loadPolicy(t, Options{Root: alone(t, map[string]string{"etc/tcpmemd/policy.d/all.toml": text})})
	for i, r := range again.Rules {
		if r.Hash != p.Rules[i].Hash {
			t.Errorf("%s: loaded anew it is another rule", r.Name)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	for _, text := range []string{
		story, manyRules(3), "[rule.a]\nwhen = \"\\x41\\u00e9 > \\\n 1\"\nstep = [{action = 'notify', after = 5}, 1]",
		"rule.a.when = '''\r\ntcp.fill > 0 && x'''", "[[rule.a.step]]\n[[rule.'a'.step]]", "[rule.a.b.c]\n[rule]\n[[rule.b]]", "\ufeff[rule.a]\nuntil = \"\\U0010ffff\"",
		"[rule.a]\nwhen='true'\n[[rule.a.step]]\naction='notify'\nx=[1.5,nan]\ny='\"\\'",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		merge := func(text []byte) (Policy, error) {
			file := &policyFile{path: "f", text: trimmed(text)}
			if err := file.parse(); err != nil {
				return Policy{}, err
			}
			return Options{}.merge([]*policyFile{file})
		}
		p, err := merge(text)
		if err != nil {
			all := mistakes(err)
			if len(all) == 0 {
				t.Errorf("error %v has no *Error", err)
			}
			for _, e := range all {
				if e.File != "f" || e.Line > 1+strings.Count(string(text), "\n") || e.Column > 1+len(text) {
					t.Errorf("error at %s:%d:%d: %v", e.File, e.Line, e.Column, e)
				}
			}
			if i := strings.IndexFunc(err.Error(), func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }); i >= 0 {
				t.Errorf("control character at byte %d of %q", i, err)
			}
			return
		}
		again, err := merge([]byte(EffectiveTOML(p)))
		if err != nil {
			t.Fatalf("the effective policy is not right: %v\n%s", err, EffectiveTOML(p))
		}
		for i, r := range p.Rules {
			if r.When == nil || again.Rules[i].Hash != r.Hash {
				t.Errorf("%s: the effective policy has another rule:\n%s", r.Name, EffectiveTOML(p))
			}
		}
	})
}
