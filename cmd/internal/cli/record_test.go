package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/ability"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/control"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// asked runs commands against a host behind a real socket.
type asked struct {
	t      testing.TB
	socket string
	input  io.Reader // a terminal's, nil for none
	root   string
	uid    int
	later  time.Duration // than apitest.At
}

func serve(t testing.TB, source control.Source) *asked {
	t.Helper()
	l, err := control.Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := control.New(control.Config{Listener: l, Source: source, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	<-server.Ready()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &asked{t: t, socket: l.Path(), root: t.TempDir()}
}

func (a *asked) run(columns int, args ...string) (stdout, stderr string, code int) {
	a.t.Helper()
	var out, errs bytes.Buffer
	env := Env{
		Args: append(args, "--socket", a.socket), Stdout: &out, Stderr: &errs, Version: "0.1.0", Root: a.root,
		Getenv: func(key string) string { return map[string]string{"NO_COLOR": "1"}[key] },
		Now:    func() time.Time { return apitest.At.Add(a.later) }, Input: a.input, Interactive: a.input != nil, UID: a.uid,
		Abilities: func(ctx context.Context, plugins map[string]config.Plugin) Abilities {
			return ability.New(ctx, "0.1.0", plugins, nil)
		},
	}
	if columns > 0 {
		env.TerminalSize = func() (int, int) { return columns, 50 }
	}
	code = Main(a.t.Context(), env)
	return out.String(), errs.String(), code
}

var recordPages = []struct{ name, args string }{
	{"status", "status"},
	{"actions", "actions"},
	{"actions-all", "actions --all"},
	{"incidents", "incidents"},
	{"incident", "incidents show " + apitest.EndedIncident},
	{"incident-open", "incidents show " + apitest.OpenIncident},
	{"explain-action", "explain " + apitest.Restart},
	{"explain-held", "explain r-9"},
	{"explain-dry-run", "explain r-10"},
	{"explain-event", "explain r-11"},
	{"plugins", "plugins list"},
}

func TestRecordPages(t *testing.T) {
	a := serve(t, apitest.Acted())
	for _, tt := range recordPages {
		for _, columns := range []int{80, 0} {
			name := "record-" + tt.name + map[int]string{80: "-80", 0: "-pipe"}[columns]
			t.Run(name, func(t *testing.T) {
				stdout, stderr, code := a.run(columns, strings.Fields(tt.args)...)
				if code != ExitOK || stderr != "" {
					t.Fatalf("exit %d, says %s", code, stderr)
				}
				golden(t, name+".golden", stdout)
				for line := range strings.Lines(stdout) {
					if w := layout.Width(strings.TrimSuffix(line, "\n")); columns > 0 && w > columns {
						t.Errorf("%d columns: %s", w, line)
					}
				}
			})
		}
	}
}

func TestRecordOfHostileNames(t *testing.T) {
	a := serve(t, apitest.ActedHostile())
	for _, args := range []string{
		"status", "actions --all", "incidents", "incidents show " + apitest.EndedIncident, "incidents show " + apitest.OpenIncident,
		"explain " + apitest.Restart, "explain " + apitest.EndedIncident, "explain r-9", "explain \x1b[31m", "plugins", "plugins verify",
		"act " + apitest.EndedIncident + " --yes", "act \x1b[31m --yes", "pause 1h --why \x1b[31m", "reset \x1b[31m", "policy show",
	} {
		for _, columns := range []int{0, 40, 80} {
			stdout, stderr, _ := a.run(columns, strings.Fields(args)...)
			if stdout+stderr == "" {
				t.Errorf("%q prints nothing", args)
			}
			for _, r := range stdout + stderr {
				if r != '\n' && (!unicode.IsPrint(r) || r == unicode.ReplacementChar) {
					t.Errorf("%q at %d columns prints %U", args, columns, r)
				}
			}
		}
	}
}

func TestRecordJSON(t *testing.T) {
	a := serve(t, apitest.Acted())
	for _, tt := range []struct {
		args string
		doc  any
	}{
		{"status --json", new(api.Status)},
		{"actions --json --all", new(api.Actions)},
		{"actions --json --limit 1", new(api.Actions)},
		{"incidents --json", new(api.Incidents)},
		{"incidents show --json " + apitest.EndedIncident, new(record.Incident)},
		{"explain --json " + apitest.Restart, new(api.Records)},
		{"explain --json r-9", new(api.Records)},
		{"plugins --json", new(api.Plugins)},
		{"policy show --json", new(api.Policy)},
		{"policy check --json", new(checked)},
		{"policy variables --json", new(variables)},
		{"pause 1h --why x --json", &paused{Pause: new(api.Pause)}},
		{"resume --json", new(api.Done)},
		{"reload --wait --json", new(api.Reloaded)},
		{"act --yes --json " + apitest.EndedIncident, new(acting)},
	} {
		stdout, stderr, code := a.run(0, strings.Fields(tt.args)...)
		dec := json.NewDecoder(strings.NewReader(stdout))
		dec.DisallowUnknownFields()
		if err := dec.Decode(tt.doc); err != nil || code != ExitOK || strings.Count(stdout, "\n") != 1 {
			t.Errorf("%s: exit %d, %s, %v in\n%s", tt.args, code, stderr, err, stdout)
		}
		if !strings.HasPrefix(stdout, `{"version":1,`) && !strings.HasPrefix(tt.args, "pause") {
			t.Errorf("%s: no version at its start: %.40s", tt.args, stdout)
		}
	}
	s := new(api.Status)
	{
		stdout, _, _ := a.run(0, "status", "--json")
		if err := json.Unmarshal([]byte(stdout), s); err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(); err != nil {
			t.Errorf("status: %v", err)
		}
		if len(s.Rules) != 2 || s.RulesLoaded != 3 || s.Pause == nil || s.ModeWhy == nil || len(s.RightsMissing) != 1 || len(s.Blind) != 1 {
			t.Errorf("status lacks something: %+v", s)
		}
	}
}

// TestOrders: what changes something says so to the daemon, as asked, and only
// then.
func TestOrders(t *testing.T) {
	const asks = "Do it? [y/N] "
	restart := "act " + apitest.EndedIncident
	for _, tt := range []struct {
		args, input string // input of a terminal; "-" for none
		code        int
		orders      []string
		says        string
	}{
		{"pause 2h --why deploying", "-", ExitOK, []string{"pause 2h0m0s: deploying by 0"}, "paused until 2026-11-22 11:00:00 UTC: deploying (by uid 0)"},
		{"pause 1d --why deploying", "-", ExitOK, []string{"pause 24h0m0s: deploying by 0"}, ""},
		{"pause 31d --why x", "-", ExitUsage, nil, "want from 1s to 30d"},
		{"pause 1h", "-", ExitUsage, nil, "say why"},
		{"pause -1h --why x", "-", ExitUsage, nil, ""},
		{"resume", "-", ExitOK, []string{"resume by 0"}, "resumed"},
		{"reset leaking-service", "-", ExitOK, []string{"reset leaking-service by 0"}, `the rule "leaking-service" starts anew`},
		{"reset leaking", "-", ExitFailure, nil, `no rule is called "leaking"`},
		{"reload", "-", ExitOK, []string{"reload false by 0"}, "--wait"},
		{"reload --wait", "-", ExitOK, []string{"reload true by 0"}, "reloaded: 9 rules; changed leaking-service"},
		{"plugins verify", "-", ExitFailure, []string{"verify by 0"}, "1 of 2 plugins cannot be used"},
		{restart, "-", ExitUsage, nil, "add --yes"},
		{restart, "n\n", ExitFailure, []string{"act " + apitest.EndedIncident + ` step 0 key "" dry false preview true by 0`}, asks},
		{restart, "", ExitFailure, []string{"act " + apitest.EndedIncident + ` step 0 key "" dry false preview true by 0`}, "not done"},
		{
			restart + " --step 2", "y\n", ExitOK,
			[]string{
				"act " + apitest.EndedIncident + ` step 2 key "" dry false preview true by 0`,
				"act " + apitest.EndedIncident + ` step 2 key "system/task-queue.service" dry false preview false by 0`,
			},
			"result: done after 3 s: restarted",
		},
		{restart + " --dry-run", "-", ExitOK, []string{
			"act " + apitest.EndedIncident + ` step 0 key "" dry true preview true by 0`,
			"act " + apitest.EndedIncident + ` step 2 key "system/task-queue.service" dry true preview false by 0`,
		}, "(dry run: it only looks)"},
		{restart + " --step -1", "-", ExitUsage, nil, ""},
		{"act nothing --yes", "-", ExitFailure, []string{`act nothing step 0 key "" dry false preview true by 0`}, `no incident is called "nothing"`},
		{"actions --direct", "-", ExitUsage, nil, "only a daemon knows"},
		{"actions --since yesterday", "-", ExitUsage, nil, "want how long ago"},
		{"explain nothing", "-", ExitFailure, nil, "no incident, action or decision of that id"},
		{"policy test", "-", ExitUsage, nil, "want --scene FILE or --since WHEN"},
	} {
		host := apitest.Acted()
		a := serve(t, host)
		if tt.input != "-" {
			a.input = strings.NewReader(tt.input)
		}
		stdout, stderr, code := a.run(0, strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(stdout+stderr, tt.says) {
			t.Errorf("%s: exit %d, want %d with %q\n%s%s", tt.args, code, tt.code, tt.says, stdout, stderr)
		}
		if diff := cmp.Diff(tt.orders, host.Orders()); diff != "" {
			t.Errorf("%s: orders (-want +got)\n%s", tt.args, diff)
		}
	}
}

// refused makes the second look at an act differ from the first: between them
// a guard said no.
type refused struct {
	*apitest.Host
	preview bool // refused already when it is shown
}

func (r refused) Act(ctx context.Context, q api.ActRequest, by record.Caller) (*api.Acted, error) {
	acted, err := r.Host.Act(ctx, q, by)
	if err == nil && (r.preview || !q.Preview) {
		acted.Decision.Choice, acted.Decision.Guard, acted.Decision.Why = record.ChoseRefuse, "condition", "the condition does not hold now"
		acted.Action = ""
	}
	return acted, err
}

func TestActIsRefused(t *testing.T) {
	for _, preview := range []bool{true, false} {
		host := apitest.Acted()
		stdout, stderr, code := serve(t, refused{host, preview}).run(80, "act", apitest.EndedIncident, "--yes")
		want := `act: refused by the guard "condition": the condition does not hold now`
		if code != ExitFailure || !strings.Contains(stderr, want) {
			t.Errorf("exit %d\n%s%s", code, stdout, stderr)
		}
		if n := len(host.Orders()); preview && n != 1 {
			t.Errorf("%d orders after a refusal", n)
		}
	}
}

func TestRefusalsOfTheDaemon(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int
		says string
	}{
		{&api.ConfigError{Message: "/etc/tcpmemd/policy.d/x.toml:3:1: unknown key \"whne\"\nsecond line"}, ExitConfig, "tcpmemctl: /etc/tcpmemd/policy.d/x.toml:3:1: unknown key \"whne\"\nsecond line\n"},
		{&api.RequestError{Status: 409, Message: "an action is under way"}, ExitFailure, "ask daemon: an action is under way"},
		{&api.RequestError{Status: 403, Message: "only root may reload"}, ExitPermission, "run it as root"},
		{errors.New("disk full"), ExitFailure, "ask daemon: disk full"},
	} {
		host := apitest.Acted()
		host.Refusal = tt.err
		_, stderr, code := serve(t, host).run(0, "reload", "--wait")
		if code != tt.code || !strings.Contains(stderr, tt.says) {
			t.Errorf("%v: exit %d\n%s", tt.err, code, stderr)
		}
	}
}

// TestCutAnswer: what came is shown, and that it is not all is an error.
func TestCutAnswer(t *testing.T) {
	host := apitest.Acted()
	host.Cut = 7
	stdout, stderr, code := serve(t, host).run(80, "actions")
	if code != ExitFailure || !strings.Contains(stdout, "restart-unit") || !strings.Contains(stderr, "files are broken") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	empty := apitest.New()
	empty.Balance(0)
	a := serve(t, empty)
	for args, want := range map[string]string{
		"actions": "No action in the last 7d.\n", "incidents": "No incident.\n", "plugins": "No action can be taken: there is no plugin.\n",
	} {
		if stdout, _, code := a.run(80, args); code != ExitOK || stdout != want {
			t.Errorf("%s: exit %d, %q", args, code, stdout)
		}
	}
}

// TestSampleOfHiddenSockets: they have no addresses.
func TestSampleOfHiddenSockets(t *testing.T) {
	in := &record.Incident{Sample: []record.SocketLine{{Class: "hidden"}}}
	if text := strings.Join(storyPage(in, time.Now(), 0, false), "\n"); strings.Contains(text, "invalid") {
		t.Error(text)
	}
}

// TestBrokenPlugin: one that could not be started lacks no rights, it is broken;
// why is said once.
func TestBrokenPlugin(t *testing.T) {
	problem := "verify plugin append-line: no such file or directory"
	for _, p := range []api.Plugin{
		{Name: "append-line", Missing: []string{problem}},
		{Name: "append-line", Missing: []string{problem}, Verified: new(bool), Problem: &problem},
	} {
		text := strings.Join(pluginsPage(&api.Plugins{Plugins: []api.Plugin{p}}, 0, false), "\n")
		if !strings.Contains(text, "broken") || strings.Contains(text, "no rights") || strings.Count(text, problem) != 1 {
			t.Errorf("\n%s", text)
		}
	}
}
