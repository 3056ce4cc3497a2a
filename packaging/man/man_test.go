// Package man holds the manual pages, written by hand. Its tests hold them
// against the programs, run as a user runs them.
package man

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/api/filter"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/engine/replay"
)

func TestCommands(t *testing.T) {
	page, ctl := read(t, "tcpmemctl.1"), build(t, "tcpmemctl")
	commands := ctl.commands(t)
	if diff := cmp.Diff(commands, page.items("COMMANDS", "Cm")); diff != "" {
		t.Errorf("commands (-program +page):\n%s", diff)
	}

	global := flagsOf(ctl.help(t))
	want := slices.Clone(global)
	synopsis := page.synopsis()
	for _, command := range commands {
		local := ctl.flags(t, command)
		want = append(want, local...)
		var own []string // "option" stands for the global ones
		for _, f := range synopsis[command] {
			if slices.Contains(local, f) || !slices.Contains(global, f) {
				own = append(own, f)
			}
		}
		local = slices.DeleteFunc(local, func(f string) bool { return slices.Contains(global, f) })
		if diff := cmp.Diff(sorted(local), sorted(own)); diff != "" {
			t.Errorf("flags in the synopsis of %s (-program +page):\n%s", command, diff)
		}
	}
	if diff := cmp.Diff(sorted(want), sorted(page.items("OPTIONS", "Fl"))); diff != "" {
		t.Errorf("flags (-program +page):\n%s", diff)
	}
}

func TestDaemonFlags(t *testing.T) {
	page := read(t, "tcpmemd.8")
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^  -(\S+)`).FindAllStringSubmatch(build(t, "tcpmemd").help(t), -1) {
		want = append(want, "-"+m[1]) // the page writes two hyphens
	}
	want = append(want, "-help") // package flag does not list it
	if diff := cmp.Diff(sorted(want), sorted(page.items("OPTIONS", "Fl"))); diff != "" {
		t.Errorf("flags (-program +page):\n%s", diff)
	}
}

func TestCapabilities(t *testing.T) {
	var want []string
	for _, file := range []string{"systemd/system/tcpmemd.service", "tcpmemd/acting.conf"} {
		caps := unitSettings(t, file)["CapabilityBoundingSet"]
		if len(caps) == 0 {
			t.Fatalf("%s bounds no capabilities", file)
		}
		want = append(want, caps...)
	}
	if diff := cmp.Diff(want, read(t, "tcpmemd.8").items("CAPABILITIES", "Dv")); diff != "" {
		t.Errorf("capabilities (-unit, drop-in +page):\n%s", diff)
	}
}

// TestDropIns: what all actions need together is what each of them needs, and
// the page names every file.
func TestDropIns(t *testing.T) {
	files, err := filepath.Glob("../root/usr/lib/tcpmemd/acting/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatalf("no drop-ins: %v", err)
	}
	page := read(t, "tcpmemd.8").section("SANDBOX")
	sum := make(map[string][]string)
	for _, file := range files {
		name := "acting/" + filepath.Base(file)
		for key, values := range unitSettings(t, "tcpmemd/"+name) {
			sum[key] = append(sum[key], values...)
		}
		if !strings.Contains(page, ".It Pa "+name) {
			t.Errorf("the page lacks %s", name)
		}
	}
	for key, values := range sum {
		sum[key] = slices.Compact(sorted(values))
	}
	all := unitSettings(t, "tcpmemd/acting.conf")
	for key, values := range all {
		all[key] = sorted(values)
	}
	if diff := cmp.Diff(sum, all); diff != "" {
		t.Errorf("acting.conf (-each of them +it):\n%s", diff)
	}
}

// unitSettings gives the words of each setting of a packaged unit file.
func unitSettings(t *testing.T, file string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../root/usr/lib/" + file)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	for _, m := range regexp.MustCompile(`(?m)^([A-Z]\w+)=(.*)$`).FindAllSubmatch(text, -1) {
		all[string(m[1])] = append(all[string(m[1])], strings.Fields(string(m[2]))...)
	}
	return all
}

func TestConfiguration(t *testing.T) {
	page := read(t, "tcpmemd.toml.5")
	if diff := cmp.Diff(config.Keys(), page.items("KEYS", "Cm")); diff != "" {
		t.Errorf("keys (-program +page):\n%s", diff)
	}

	// The page's defaults make a file, which must change nothing.
	loaded := load(t, page.defaults())
	for _, key := range config.Keys() {
		if loaded.Origins[key].File == config.BuiltIn {
			t.Errorf("the page states no default of %s", key)
		} else if !loaded.IsDefault(key) {
			t.Errorf("the page states another default of %s:\n%s", key, page.defaults())
		}
	}

	examples := page.displays("EXAMPLES")
	if len(examples) == 0 {
		t.Fatal("the page has no examples")
	}
	load(t, examples[0])
}

func TestFilters(t *testing.T) {
	page := read(t, "tcpmemctl.1")
	if diff := cmp.Diff(sorted(filter.Fields()), sorted(page.items("SOCKET FILTERS", "Cm"))); diff != "" {
		t.Errorf("fields (-program +page):\n%s", diff)
	}
	for _, field := range filter.Fields() {
		_, text, _ := strings.Cut(page.section("SOCKET FILTERS"), ".It Cm "+field+"\n")
		text, _, _ = strings.Cut(text, ".It ")
		for _, word := range filter.Values(field) {
			if !regexp.MustCompile(`(?m)^\.Cm (.* )?` + regexp.QuoteMeta(word) + `( |$)`).MatchString(text) {
				t.Errorf("the page lacks the %s %q", field, word)
			}
		}
	}

	n := 0
	for _, m := range regexp.MustCompile(`sockets [^'\n]*'([^'\n]*)'`).FindAllStringSubmatch(
		strings.Join(page.displays("EXAMPLES"), ""), -1) {
		n++
		if _, err := filter.Parse(m[1]); err != nil {
			t.Errorf("example %q: %v", m[1], err)
		}
	}
	if n == 0 {
		t.Error("the page has no example of a filter")
	}
}

func TestScenes(t *testing.T) {
	page := read(t, "tcpmemctl.1")
	if diff := cmp.Diff(sorted(replay.SceneKeys()), sorted(page.items("SCENES", "Cm"))); diff != "" {
		t.Errorf("keys (-program +page):\n%s", diff)
	}
	scenes := page.displays("SCENES")
	if len(scenes) == 0 {
		t.Fatal("the page has no scene")
	}
	// The page's scene holds, with the rules as shipped.
	dir, ctl := t.TempDir(), build(t, "tcpmemctl")
	path := filepath.Join(dir, "scene.toml")
	if err := os.WriteFile(path, []byte(scenes[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), string(ctl), "policy", "test", "--scene", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A page that is not packed helps nobody.
func TestPacked(t *testing.T) {
	list, err := os.ReadFile("../../nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("*.[1-8]")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, name := range pages {
		dst := "dst: /usr/share/man/man" + name[len(name)-1:] + "/" + name + ".gz\n"
		if !strings.Contains(string(list), dst) {
			t.Errorf("nfpm.yaml lacks %q", dst)
		}
	}
}

func load(t *testing.T, text string) config.Loaded {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tcpmemd.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(config.Options{File: path})
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return loaded
}

// program is the path of a command, as built for this test.
type program string

func build(t *testing.T, name string) program {
	t.Helper()
	// Test results are cached by the files that the test itself opens: open the
	// folders, so that a cached "ok" is never about other sources.
	for _, room := range []string{"../../cmd", "../../daemon"} {
		if err := filepath.WalkDir(room, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), name)
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return program(path)
}

func (p program) help(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), string(p), append(args, "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s --help: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// commands lists the subcommands of args in the order of the pages: first those
// that read the host.
func (p program) commands(t *testing.T, args ...string) []string {
	t.Helper()
	_, list, _ := strings.Cut(p.help(t, args...), "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	var names []string
	for line := range strings.Lines(list) {
		names = append(names, strings.Fields(line)[0])
	}
	order := []string{
		"status", "top", "owners", "sockets", "orphans", "history", "incidents", "actions", "explain", "act", "policy", "plugins",
		"pause", "resume", "reset", "reload", "doctor", "health", "export", "drill", "version", "completion", "help",
	}
	slices.SortStableFunc(names, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	return names
}

// flags gives the flags of a command, and of those below it.
func (p program) flags(t *testing.T, command ...string) []string {
	t.Helper()
	help, _, _ := strings.Cut(p.help(t, command...), "Global Flags:")
	found := flagsOf(help)
	for _, below := range p.commands(t, command...) {
		found = append(found, p.flags(t, append(slices.Clip(command), below)...)...)
	}
	return sorted(found)
}

// flagsOf gives the long and short names in a help text of cobra.
func flagsOf(help string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-(\w), )? *-(-[\w-]+)`).FindAllStringSubmatch(help, -1) {
		if m[1] != "" {
			names = append(names, m[1])
		}
		names = append(names, m[2])
	}
	return names
}

// sorted sorts a copy without repetitions.
func sorted(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// page is the mdoc(7) source of a manual page.
type page string

func read(t *testing.T, name string) page {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return page(text)
}

func (p page) section(name string) string {
	_, text, _ := strings.Cut(string(p), "\n.Sh "+name+"\n")
	text, _, _ = strings.Cut(text, "\n.Sh ")
	return text
}

// subsection is one of a page's as a page with that section.
func (p page) subsection(name string) page {
	_, text, _ := strings.Cut(string(p), "\n.Ss "+name+"\n")
	if end := regexp.MustCompile(`(?m)^\.S[hs] `).FindStringIndex(text); end != nil {
		text = text[:end[0]]
	}
	return page("\n.Sh " + name + "\n" + text)
}

// items lists what the items of a section's lists are about, where the macro
// comes first: "-all" of ".It Fl -all", both of ".It Fl h , -help".
func (p page) items(section, macro string) []string {
	var names []string
	for line := range strings.Lines(p.section(section)) {
		rest, ok := strings.CutPrefix(line, ".It "+macro+" ")
		if !ok {
			continue
		}
		words := strings.Fields(rest)
		names = append(names, words[0])
		for i := 1; i+1 < len(words) && words[i] == ","; i += 2 {
			names = append(names, words[i+1])
		}
	}
	return names
}

// synopsis gives the flags of each command in the synopsis.
func (p page) synopsis() map[string][]string {
	found := map[string][]string{}
	for use := range strings.SplitSeq(p.section("SYNOPSIS"), ".Nm\n") {
		command, flags, ok := strings.Cut(strings.TrimPrefix(use, ".Cm "), "\n")
		if !ok {
			continue
		}
		command, _, _ = strings.Cut(command, " ") // a command below has an entry of its own
		for _, m := range regexp.MustCompile(`Fl (\S+)`).FindAllStringSubmatch(flags, -1) {
			found[command] = append(found[command], m[1])
		}
	}
	return found
}

// defaults gives a file of the defaults that the items of KEYS state.
func (p page) defaults() string {
	var file strings.Builder
	value := regexp.MustCompile(`(?s)The default is\n(?:\.Li ([^\n]*) \.\n|\.Bd [^\n]*\n(.*?)\.Ed\n)`)
	for item := range strings.SplitSeq(p.section("KEYS"), ".It Cm ") {
		if m := value.FindStringSubmatch(item + "\n"); m != nil {
			key, _, _ := strings.Cut(item, "\n")
			file.WriteString(key + " = " + plain(m[1]+m[2]) + "\n")
		}
	}
	return file.String()
}

// displays lists the literal blocks of a section.
func (p page) displays(section string) []string {
	var found []string
	for _, m := range regexp.MustCompile(`(?s)\.Bd -literal[^\n]*\n(.*?)\.Ed`).FindAllStringSubmatch(p.section(section), -1) {
		found = append(found, plain(m[1]))
	}
	return found
}

// plain undoes the escapes that the pages use in literal text.
func plain(text string) string {
	return strings.NewReplacer(`\-`, "-", `\(aq`, "'", `\(dq`, `"`).Replace(text)
}
