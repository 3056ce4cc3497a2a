package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon"
	"github.com/tcpmemd/tcpmemd/daemon/ability"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/clock"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/pausefile"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
	"github.com/tcpmemd/tcpmemd/daemon/store"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
	"github.com/tcpmemd/tcpmemd/daemon/units"
	"github.com/tcpmemd/tcpmemd/remediate/runner"
)

const (
	systemState = "/var/lib/tcpmemd"
	systemAct   = "/usr/libexec/tcpmemd/tcpmemd-action"
	// observeArgument of the kernel's command line stops all touching, whatever
	// the files say: for a host that must first be got going.
	observeArgument = "tcpmemd.observe"
)

// paths are where a daemon keeps what is its own; "" where it has no place.
type paths struct {
	socket, state, runtime, launcher string
}

// findPaths joins configuration, flags and environment. Without root and
// without a place for the socket the daemon runs without one.
func findPaths(c config.Config, f flags, log *slog.Logger) paths {
	p := paths{socket: c.Control.Socket, state: systemState, launcher: systemAct}
	if os.Getenv("TCPMEMD_SOCKET") != "" || os.Geteuid() != 0 {
		p.socket = api.DefaultSocket(os.Getenv, os.Geteuid())
	}
	if f.socket != "" {
		p.socket = f.socket
	}
	err := os.MkdirAll(filepath.Dir(p.socket), 0o750)
	if err == nil && f.socket == "" {
		err = unix.Access(filepath.Dir(p.socket), unix.W_OK) // root's, when root runs one too
	}
	if err != nil && f.socket == "" {
		log.Warn("no control socket: tcpmemctl cannot ask this daemon; set XDG_RUNTIME_DIR or --socket", "err", err)
		p.socket = ""
	}
	if p.socket != "" {
		p.runtime = filepath.Dir(p.socket)
	}
	if os.Geteuid() != 0 {
		if p.state = ""; p.runtime != "" {
			p.state = filepath.Join(p.runtime, "state")
		}
	}
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		p.state = dir
	}
	if f.state != "" {
		p.state = f.state
	}
	if own, err := os.Executable(); err == nil {
		// A build that is not installed has it beside itself.
		beside := filepath.Join(filepath.Dir(own), filepath.Base(systemAct))
		if _, err := os.Stat(beside); err == nil {
			p.launcher = beside
		}
	}
	return p
}

// parts is a daemon being put together.
type parts struct {
	paths
	flags  flags
	config config.Config // of the start
	log    *slog.Logger
	clock  *clock.Clock
	runner *runner.Runner // nil where actions cannot be run
	store  *store.Store   // nil where nothing can be recorded
	forced []string       // why the daemon may only observe, for as long as it runs
}

// assemble opens what a daemon rests on. What is missing but not vital forces
// it to observe, and is told.
func assemble(ctx context.Context, loaded config.Loaded, broken error, f flags, log *slog.Logger) (*parts, daemon.Config, error) {
	p := &parts{paths: findPaths(loaded.Config, f, log), flags: f, config: loaded.Config, log: log}
	var err error
	if p.clock, err = clock.New(); err != nil {
		return nil, daemon.Config{}, err
	}
	c := loaded.Config
	cfg := daemon.Config{
		Version: version, Socket: p.socket,
		Sample: c.Sample.Interval, Calm: c.Scan.Calm, Pressed: c.Scan.Pressed, CPU: c.Scan.CPU,
		Protect: c.Protect, TableBytes: c.State.TableBytes, Log: log, Clock: p.clock.Now,
	}
	cfg.Hostname, _ = os.Hostname()
	if err := p.openStore(&cfg, int64(c.State.MaxBytes)); err != nil {
		return nil, cfg, err
	}
	p.openRunner(&cfg, c.Plugins)
	p.watchPause(&cfg)
	pol, err := p.policy(ctx, loaded)
	forced := slices.Clone(p.forced)
	if broken != nil {
		pol.Broken = append(pol.Broken, broken.Error())
		forced = append(forced, "the configuration is broken: "+firstLine(broken))
	}
	if err != nil {
		pol.Broken = append(pol.Broken, err.Error())
		forced = append(forced, "a policy file is broken: "+firstLine(err))
	}
	pol.Forced = strings.Join(forced, "; ")
	cfg.Policy = pol
	cfg.Load = p.reload
	return p, cfg, nil
}

func (p *parts) force(why string) { p.forced = append(p.forced, why) }

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// openStore opens the state directory and takes over what it holds.
func (p *parts) openStore(cfg *daemon.Config, maxBytes int64) error {
	if p.state == "" {
		p.force("there is no state directory: what is done could not be recorded")
		return nil
	}
	s, err := store.Open(p.state, store.Options{Log: p.log.With("part", "store"), Now: p.clock.Now, MaxBytes: maxBytes})
	if err != nil {
		if errors.Is(err, store.ErrInUse) {
			return err
		}
		p.log.Error("open state directory: nothing is recorded, and nothing is touched", "err", err)
		p.force("nothing can be recorded: " + err.Error())
		return nil
	}
	p.store = s
	cfg.Store, cfg.Archive, cfg.History = s, s, filepath.Join(p.state, history.Name)
	cfg.Unfinished = s.Unfinished()
	now := p.clock.Now()
	if err := s.LoadBudgets(&cfg.Memory); err != nil {
		p.log.Warn("budgets are lost: all count as spent", "err", err)
		cfg.Memory = policy.Memory{Distrusted: &now}
	}
	if cfg.Leases, err = s.LoadLeases(); err != nil {
		p.log.Warn("leases are lost: net.ipv4.tcp_mem may still be raised", "err", err)
	}
	if cfg.Outbox, err = s.Outbox(); err != nil {
		p.log.Warn("what was not told is lost", "err", err)
	}
	return nil
}

// openRunner prepares to run actions.
func (p *parts) openRunner(cfg *daemon.Config, named map[string]config.Plugin) {
	if p.runtime == "" {
		p.force("there is no runtime directory: actions cannot be run")
		return
	}
	r, err := runner.New(runner.Config{
		Dir: filepath.Join(p.runtime, "plugins"), Launcher: p.launcher,
		Plugins: ability.Plugins(version, p.launcher, named), Log: p.log.With("part", "plugins"),
	})
	if err != nil {
		p.log.Error("prepare to run actions: nothing is touched", "err", err)
		p.force("actions cannot be run: " + err.Error())
		return
	}
	p.runner, cfg.Runner = r, newActions(r, p.log.With("part", "plugins"))
	cfg.Plugins = p.plugins
}

// watchPause looks at the pause file, and at the kernel's command line once.
func (p *parts) watchPause(cfg *daemon.Config) {
	stop := ""
	if text, err := os.ReadFile("/proc/cmdline"); err == nil {
		for word := range strings.FieldsSeq(string(text)) {
			if word == observeArgument || strings.HasPrefix(word, observeArgument+"=1") {
				stop = "the kernel was started with " + observeArgument
			}
		}
	}
	if p.runtime == "" {
		cfg.Stop = func() string { return stop }
		return
	}
	path := filepath.Join(p.runtime, pausefile.Name)
	file := &pauseLook{path: path, now: p.clock.Now, read: pausefile.Read}
	cfg.Paused = file.paused
	cfg.Stop = func() string { return cmp.Or(file.stop(), stop) }
	cfg.SetPause = func(s daemon.PauseState) error {
		if s.Why == "" {
			return pausefile.Remove(path)
		}
		return pausefile.Write(path, pausefile.Pause{Why: s.Why, Since: s.Since, Until: s.Until, By: s.By})
	}
}

// policy loads the rules. Its error tells what was left out for its mistakes.
func (p *parts) policy(ctx context.Context, loaded config.Loaded) (daemon.Policy, error) {
	c := loaded.Config
	var caller ability.Caller
	if p.runner != nil {
		caller = p.runner
	}
	can := ability.New(ctx, version, c.Plugins, caller)
	rules, err := config.LoadPolicy(config.Options{File: p.flags.config, Actions: can.List(), CheckStep: can.CheckStep})
	pol := daemon.Policy{
		Config: policy.Config{
			Rules: rules.Rules, Actions: can.Infos(), Mode: c.Mode, MinCoverage: c.MinCoverage,
			SettleStart: c.Settle.Start, SettleOwner: c.Settle.Owner, HostBudget: c.Budget.Host,
			Sample: c.Sample.Interval, Calm: c.Scan.Calm, Pressed: c.Scan.Pressed,
		},
		Text: config.EffectiveTOML(rules), Files: append(loaded.Files, rules.Files...),
		Origin: func(name string) string { return rules.Origins["rule."+name+".when"].String() },
		OptOut: optOut(c.OptOut, c.Protect),
	}
	if c.Mode == policy.Enforce && can.Infos()["destroy-sockets"].Missing == "" { // the probe needs the same rights
		vanish, perr := sockdiag.ProbeOrphans(ctx)
		if perr != nil {
			p.log.Warn("whether destroyed orphans vanish could not be found out: none are destroyed", "err", perr)
		}
		pol.OrphansVanish = vanish
	}
	return pol, errors.Join(err, can.Protect(rules.Rules, c.Protect))
}

// optOut says which owners are told of and never touched: units by the
// configuration's globs, and those that opted out of systemd-oomd. The protected
// ones are among them, too: the scanner knows the list of the start only.
func optOut(globs, protect []string) func(*reading.Owner) string {
	return func(o *reading.Owner) string {
		if o.Unit == "" {
			return ""
		}
		if why := units.OptedOut(o.Unit, globs); why != "" {
			return "opted out: " + why
		}
		if why := units.Protected(o.Unit, protect); why != "" {
			return "protected: " + why
		}
		if oomdOmits(o.Cgroup) {
			return "opted out: its control group has user.oomd_omit set (ManagedOOMPreference=omit)"
		}
		return ""
	}
}

// oomdOmits looks at the mark of systemd.resource-control(5) on a control
// group.
func oomdOmits(cgroup string) bool {
	if cgroup == "" {
		return false
	}
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var value [8]byte
		n, err := unix.Lgetxattr(filepath.Join(root, cgroup), "user.oomd_omit", value[:])
		if err == nil && n > 0 && value[0] == '1' {
			return true
		}
	}
	return false
}

// reload reads all files again. Where one is wrong, nothing changes.
func (p *parts) reload(ctx context.Context) (daemon.Policy, error) {
	loaded, err := config.Load(config.Options{File: p.flags.config})
	if err != nil {
		return daemon.Policy{}, err
	}
	pol, err := p.policy(ctx, loaded)
	pol.Forced = strings.Join(p.forced, "; ")
	now, then := loaded.Config, p.config
	for what, same := range map[string]bool{
		"sample and scan": now.Sample == then.Sample && now.Scan == then.Scan,
		"state":           now.State == then.State,
		"control":         now.Control == then.Control,
		"metrics":         reflect.DeepEqual(now.Metrics, then.Metrics),
		"plugin":          reflect.DeepEqual(now.Plugins, then.Plugins),
	} {
		if !same {
			pol.Notes = append(pol.Notes, "changes of "+what+" take a restart")
		}
	}
	slices.Sort(pol.Notes)
	return pol, err
}

// plugins lists the actions' programs.
func (p *parts) plugins(ctx context.Context, verify bool) []api.Plugin {
	var list []api.Plugin
	for _, s := range p.runner.Status() {
		out := api.Plugin{Name: s.Name, Path: s.Path, BuiltIn: s.BuiltIn, Running: s.PID != 0, PID: s.PID}
		if verify {
			_, err := p.runner.Verify(s.Name)
			if err == nil {
				d, derr := p.runner.Describe(ctx, s.Name)
				s.Description, err = &d, derr
			}
			ok := err == nil
			out.Verified = &ok
			if err != nil {
				s.Description = nil
				text := err.Error()
				out.Problem = &text
			}
		}
		if s.Description != nil {
			out.PluginVersion = &s.Description.Version
		}
		if s.LastErr != nil {
			text, at := s.LastErr.Error(), s.LastErrAt.UTC()
			out.LastError, out.LastErrorAt = &text, &at
		}
		list = append(list, out)
	}
	return list
}

// describe says how the daemon is set up, for the line at the start.
func describe(cfg *daemon.Config) string {
	mode := string(cfg.Policy.Mode)
	if cfg.Policy.Forced != "" {
		mode = "observe"
	}
	if mode == "observe" {
		return "observing: nothing is touched"
	}
	n := 0
	for _, r := range cfg.Policy.Rules {
		if r.Mode == policy.Enforce {
			n++
		}
	}
	return fmt.Sprintf("enforcing: %d of %d rules may act", n, len(cfg.Policy.Rules))
}
