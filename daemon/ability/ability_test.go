package ability

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// other answers for plugins that are programs of somebody else.
type other struct {
	description remediate.Description
	err         error
	settings    string // as asked last
}

func (o *other) Describe(context.Context, string) (remediate.Description, error) {
	return o.description, o.err
}

func (o *other) Validate(_ context.Context, _ string, s remediate.Settings) ([]remediate.Problem, error) {
	o.settings = string(s)
	return []remediate.Problem{{Setting: "x", Message: "not like this"}}, o.err
}

func TestBuiltIn(t *testing.T) {
	infos := New(t.Context(), "1", nil, nil).Infos()
	for name, touches := range map[string]policy.Touches{
		"notify": policy.TouchesNothing, "restart-unit": policy.TouchesOwner, "signal-process": policy.TouchesOwner,
		"destroy-sockets": policy.TouchesOwner, "raise-tcp-mem": policy.TouchesHost, "run-command": policy.TouchesHost,
	} {
		if infos[name].Touches != touches {
			t.Errorf("%s touches %q, want %s", name, infos[name].Touches, touches)
		}
	}
	if i := infos["restart-unit"]; !slices.Contains(i.Evidence, "fd") || i.EvidenceShare < 0.5 || i.Connections {
		t.Errorf("restart-unit: %+v", i)
	}
	if i := infos["destroy-sockets"]; !i.Connections || slices.Contains(i.Evidence, "cgroup") || slices.Contains(i.Evidence, "netns") {
		t.Errorf("destroy-sockets: %+v", i)
	}
	if !infos["raise-tcp-mem"].Lease {
		t.Error("raise-tcp-mem is no lease")
	}
}

func TestMissingRights(t *testing.T) {
	// No process has a capability that does not exist.
	const none = "CAP_DO_WHAT_I_MEAN"
	for name, remedy := range map[string]string{
		"x":              "by a drop-in",
		"signal-process": "/usr/lib/tcpmemd/acting/signal-process.conf",
	} {
		info := InfoOf(remediate.Description{Name: name, Capabilities: []string{none}})
		if !strings.Contains(info.Missing, none) || !strings.Contains(info.Remedy, remedy) {
			t.Errorf("%s lacks %q, remedy %q", name, info.Missing, info.Remedy)
		}
	}
	if r := remedy("destroy-sockets", []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN"}); !strings.Contains(r, "own-namespace.conf") {
		t.Errorf("without a capability of the unit itself: %q", r)
	}
	if info := InfoOf(remediate.Description{Name: "x"}); info.Missing != "" || info.Remedy != "" {
		t.Errorf("needs nothing, and lacks %q", info.Missing)
	}
}

// A program of somebody else is what it says it is; one that says nothing may
// touch anything, and cannot act.
func TestOthers(t *testing.T) {
	plugins := map[string]config.Plugin{"drain": {Path: "/opt/drain", Settings: []byte(`{"a":1,"b":2}`)}}
	o := &other{description: remediate.Description{Name: "drain", Touches: remediate.TouchesOwner, Evidence: []string{"fd"}}}
	a := New(t.Context(), "1", plugins, o)
	if i := a.Infos()["drain"]; i.Touches != policy.TouchesOwner || i.Missing != "" {
		t.Errorf("%+v", i)
	}
	problems := a.CheckStep(nil, &policy.Step{Action: "drain", Settings: []byte(`{"b":3}`)})
	if len(problems) != 1 || problems[0].Setting != "x" {
		t.Errorf("problems %+v", problems)
	}
	if o.settings != `{"a":1,"b":3}` {
		t.Errorf("asked about %s", o.settings)
	}
	o.err = errors.New("it died")
	if i := New(t.Context(), "1", plugins, o).Infos()["drain"]; i.Touches != policy.TouchesHost || !strings.Contains(i.Missing, "it died") {
		t.Errorf("%+v", i)
	}
}

func TestProtect(t *testing.T) {
	a := New(t.Context(), "1", nil, nil)
	rules := []*policy.Rule{{Steps: []policy.Step{
		{Action: "notify"}, {Action: "restart-unit"}, {Action: "restart-unit", Settings: []byte(`{"timeout":"30s","protect":[]}`)},
	}}}
	if err := a.Protect(rules, []string{"ssh*", "db"}); err != nil {
		t.Fatal(err)
	}
	if rules[0].Steps[0].Settings != nil {
		t.Errorf("notify has %s", rules[0].Steps[0].Settings)
	}
	for _, s := range rules[0].Steps[1:] {
		var got struct{ Protect []string }
		if err := json.Unmarshal(s.Settings, &got); err != nil || !slices.Equal(got.Protect, []string{"ssh*", "db"}) {
			t.Errorf("%s (%v)", s.Settings, err)
		}
	}
}

func TestPlugins(t *testing.T) {
	list := Plugins("1", "/usr/libexec/tcpmemd/tcpmemd-action", map[string]config.Plugin{
		"notify": {Settings: []byte(`{"webhook":"https://x"}`)}, "drain": {Path: "/opt/drain", SHA256: "aa"},
	})
	byName := make(map[string]int)
	for i, p := range list {
		byName[p.Name] = i
		if p.BuiltIn != (p.Name != "drain") {
			t.Errorf("%s: built in %v", p.Name, p.BuiltIn)
		}
	}
	if n := list[byName["notify"]]; string(n.Settings) != `{"webhook":"https://x"}` || n.Args[0] != "notify" {
		t.Errorf("notify: %+v", n)
	}
	if d := list[byName["drain"]]; d.Path != "/opt/drain" || d.SHA256 != "aa" {
		t.Errorf("drain: %+v", d)
	}
}
