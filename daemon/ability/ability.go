// Package ability says what can be done on this host: which actions there are,
// what each of them touches and needs, and what of that this process lacks.
package ability

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/plugins/builtin"
	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/runner"
)

// Caller asks plugins that are programs of somebody else: a *runner.Runner.
type Caller interface {
	Describe(ctx context.Context, name string) (remediate.Description, error)
	Validate(ctx context.Context, name string, settings remediate.Settings) ([]remediate.Problem, error)
}

// Abilities are the actions by name.
type Abilities struct {
	version string
	own     map[string]remediate.Action
	plugins map[string]config.Plugin // as configured
	caller  Caller                   // nil: nobody can be asked
	infos   map[string]policy.ActionInfo
	broken  map[string]error
}

// askTime bounds what a plugin takes to describe itself, or to check settings.
const askTime = 5 * time.Second

// New lists the actions: those that tcpmemd brings along, and those that the
// configuration names, which describe themselves through caller. One that does
// not is listed all the same, as one that cannot work.
func New(ctx context.Context, version string, plugins map[string]config.Plugin, caller Caller) *Abilities {
	a := &Abilities{
		version: version, own: make(map[string]remediate.Action), plugins: plugins, caller: caller,
		infos: make(map[string]policy.ActionInfo), broken: make(map[string]error),
	}
	for _, action := range builtin.Actions(version) {
		d := action.Describe()
		a.own[d.Name] = action
		a.infos[d.Name] = InfoOf(d)
	}
	for name, p := range plugins {
		if p.Path == "" && a.own[name] != nil {
			continue // only settings of a built-in one
		}
		delete(a.own, name)
		a.infos[name] = a.ask(ctx, name)
	}
	return a
}

func (a *Abilities) ask(ctx context.Context, name string) policy.ActionInfo {
	if a.caller == nil {
		// Offline: what it touches is not known, so it may touch anything.
		return policy.ActionInfo{Name: name, Touches: policy.TouchesHost}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	d, err := a.caller.Describe(ctx, name)
	if err != nil {
		a.broken[name] = err
		return policy.ActionInfo{Name: name, Touches: policy.TouchesHost, Missing: err.Error()}
	}
	info := InfoOf(d)
	info.Name = name
	return info
}

// InfoOf takes from a description what the guards must know.
func InfoOf(d remediate.Description) policy.ActionInfo {
	info := policy.ActionInfo{
		Name: d.Name, Touches: policy.Touches(d.Touches), Evidence: d.Evidence, EvidenceShare: d.EvidenceShare,
		Connections: d.Connections, Lease: d.Lease, NeedsSockets: d.NeedsSockets, Capabilities: d.Capabilities,
	}
	if lacks := missing(d); len(lacks) > 0 {
		info.Missing, info.Remedy = "it lacks "+strings.Join(lacks, ", "), remedy(d.Name, lacks)
	}
	return info
}

// dropIns are where the package keeps what opens the unit's sandbox for each of
// its actions.
const dropIns = "/usr/lib/tcpmemd/acting"

// remedy says what an administrator does about an action's lack.
func remedy(action string, lacks []string) string {
	switch {
	case builtin.Find("", action) == nil:
		return "give the service these rights by a drop-in, see tcpmemd(8)"
	case slices.Contains(lacks, "CAP_SYS_ADMIN"): // the unit has it, and own-namespace.conf takes it
		return "remove the drop-in own-namespace.conf, the action enters other namespaces, and install " + dropIns + "/" + action + ".conf"
	}
	return "install the drop-in " + dropIns + "/" + action + ".conf"
}

// missing lists which of its rights this process could not hand to an action.
func missing(d remediate.Description) (lacks []string) {
	set, err := capability.NewPid2(0)
	if err == nil {
		err = set.Load()
	}
	for _, name := range d.Capabilities {
		c, ok := capabilityOf(name)
		switch {
		case !ok:
			lacks = append(lacks, name+", which this build does not know")
		case err != nil || !set.Get(capability.PERMITTED, c):
			lacks = append(lacks, name)
		}
	}
	if slices.Contains([]string{"destroy-sockets", "restart-unit"}, d.Name) && !hasTCP() {
		lacks = append(lacks, "TCP for its probe of orphans")
	}
	if d.Name == "raise-tcp-mem" && unix.Access("/proc/sys/net/ipv4/tcp_mem", unix.W_OK) != nil {
		lacks = append(lacks, "a writable net.ipv4.tcp_mem")
	}
	if d.Name == "restart-unit" && os.Geteuid() != 0 {
		lacks = append(lacks, "the rights of root, whom PID 1 obeys")
	}
	return lacks
}

// hasTCP reports whether a TCP socket can be made (RestrictAddressFamilies=).
func hasTCP() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	_ = unix.Close(fd) // it was only tried
	return true
}

func capabilityOf(name string) (capability.Cap, bool) {
	for _, c := range capability.ListKnown() {
		if "CAP_"+strings.ToUpper(c.String()) == name {
			return c, true
		}
	}
	return 0, false
}

// Infos are the actions for the guards.
func (a *Abilities) Infos() map[string]policy.ActionInfo { return maps.Clone(a.infos) }

// List is Infos in the order of their names, for the loader of a policy.
func (a *Abilities) List() []policy.ActionInfo {
	list := make([]policy.ActionInfo, 0, len(a.infos))
	for _, name := range slices.Sorted(maps.Keys(a.infos)) {
		list = append(list, a.infos[name])
	}
	return list
}

// CheckStep gives what is wrong with a step's settings, in its action's own
// words.
func (a *Abilities) CheckStep(_ *policy.Rule, step *policy.Step) []config.Problem {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	var found []remediate.Problem
	settings, err := overlay(a.plugins[step.Action].Settings, step.Settings)
	if err != nil {
		return []config.Problem{{Message: err.Error()}}
	}
	switch own := a.own[step.Action]; {
	case own != nil:
		found = own.Validate(ctx, settings)
	case a.caller == nil || a.broken[step.Action] != nil:
		return nil // it cannot be asked, and cannot act
	default:
		if found, err = a.caller.Validate(ctx, step.Action, settings); err != nil {
			return []config.Problem{{Message: err.Error()}}
		}
	}
	problems := make([]config.Problem, len(found))
	for i, p := range found {
		problems[i] = config.Problem{Setting: p.Setting, Message: p.Message}
	}
	return problems
}

// overlay lays a step's settings over those of its plugin, as the runner does.
func overlay(plugin, step []byte) (remediate.Settings, error) {
	all := make(map[string]any)
	for _, text := range [][]byte{plugin, step} {
		if len(text) == 0 {
			continue
		}
		if err := json.Unmarshal(text, &all); err != nil {
			return nil, fmt.Errorf("read settings: %w", err)
		}
	}
	text, err := json.Marshal(all)
	return remediate.Settings(text), err
}

// Protect hands the protected units to the steps of a policy whose action must
// know them.
func (a *Abilities) Protect(rules []*policy.Rule, globs []string) error {
	for _, r := range rules {
		for i := range r.Steps {
			step := &r.Steps[i]
			own := a.own[step.Action]
			if own == nil || !slices.ContainsFunc(own.Describe().Settings, func(s remediate.Setting) bool { return s.Name == "protect" }) {
				continue
			}
			list, err := json.Marshal(map[string]any{"protect": globs})
			if err != nil {
				return fmt.Errorf("write settings of %s: %w", step.Action, err)
			}
			settings, err := overlay(step.Settings, list)
			if err != nil {
				return fmt.Errorf("%s: %w", step.Action, err)
			}
			step.Settings = settings
		}
	}
	return nil
}

// Plugins lists what a runner runs: each built-in action by launcher, and those
// that the configuration names.
func Plugins(version, launcher string, named map[string]config.Plugin) []runner.Plugin {
	var list []runner.Plugin
	for _, action := range builtin.Actions(version) {
		name := action.Describe().Name
		p := runner.Plugin{Name: name, Path: launcher, Args: []string{name}, BuiltIn: true}
		if c, ok := named[name]; ok {
			if c.Path != "" {
				continue
			}
			p.Timeout, p.Settings = c.Timeout, remediate.Settings(c.Settings)
		}
		list = append(list, p)
	}
	for name, c := range named {
		if c.Path == "" {
			continue
		}
		p := runner.Plugin{Name: name, Path: c.Path, SHA256: c.SHA256, Timeout: c.Timeout, Settings: remediate.Settings(c.Settings)}
		if dir := os.Getenv("CREDENTIALS_DIRECTORY"); c.Credential != "" && dir != "" {
			p.Env = append(p.Env, "TCPMEMD_CREDENTIAL="+dir+"/"+c.Credential)
		}
		list = append(list, p)
	}
	return list
}
