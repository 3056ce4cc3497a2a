// Package runner starts plugins, calls them and ends them. Whatever a plugin
// does, a call returns by its deadline plus [Grace], and what went wrong is an
// [*Error]; a plugin that misbehaved is ended and not used again.
//
// A plugin is started twice at most: without any capability, to describe
// itself and to check settings, and with those that it has declared, to act.
//
// What a plugin starts ends with it, also what has left its process group and
// session: see family.
//
// The protocol is that of hashicorp/go-plugin with gRPC, so that any of its
// plugins can be called, but the host's side of it is written here. go-plugin's
// Client cannot be held to the rules above: it panics on a certificate in the
// handshake when AutoMTLS is off and on a log line with a non-string @message,
// keeps what a plugin sends to its broker without a limit, and its Kill waits
// for whoever holds the plugin's standard error.
package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/internal/wire"
	"github.com/tcpmemd/tcpmemd/remediate/launch"
	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

// Plugin is one action and the program that takes it.
type Plugin struct {
	Name    string // of the action
	Path    string // absolute; of a built-in one it is the launcher's
	Args    []string
	SHA256  string // in hex, "" to take any content
	BuiltIn bool
	// Timeout is for a Run or an Undo that comes without a deadline.
	Timeout time.Duration
	Env     []string     // beside what every plugin gets, NAME=VALUE
	User    *launch.User // nil: as the daemon
	// Settings are the plugin's own; a step's are laid over them.
	Settings remediate.Settings
}

// Config is what a Runner needs. Zero limits are the defaults.
type Config struct {
	// Dir is where plugins have their sockets and temporary files. It belongs
	// to the Runner: what an earlier one has left in it is removed.
	Dir      string
	Launcher string // absolute path of tcpmemd-action
	Plugins  []Plugin
	Log      *slog.Logger

	Handshake    time.Duration // from start to handshake: 5 s
	Ask          time.Duration // to describe or to validate: 5 s
	Stop         time.Duration // to end when asked to: 1 s
	MaxTemp      int64         // bytes in a plugin's folder: 16 MiB
	MaxOpenFiles uint64        // of each process: 256
}

const (
	defaultTimeout = 30 * time.Second
	// answerTime is how long after its deadline an action's answer, "timed
	// out" or what else it has to report, is still taken.
	answerTime = 500 * time.Millisecond
	maxDir     = 64 // bytes; a socket's path has 108, unix(7)
)

// Grace is how long after its deadline a call may still take: to hear the last
// answer, to ask the process to end, to kill it and all that it has started.
const Grace = answerTime + 2*time.Second + 2*killTime

// Runner runs plugins. There is one in a process: see family.
type Runner struct {
	cfg       Config
	slots     map[string]*slot
	family    *family
	serial    atomic.Uint64
	processes sync.WaitGroup
	closing   context.Context
	close     context.CancelFunc

	afterVerify func() // tests only

	mu sync.Mutex // guards what slots know
}

// New prepares to run plugins. None is started, nor looked at, until it is
// needed.
func New(cfg Config) (*Runner, error) {
	cfg.Handshake = orElse(cfg.Handshake, 5*time.Second)
	cfg.Ask = orElse(cfg.Ask, 5*time.Second)
	cfg.Stop = min(orElse(cfg.Stop, time.Second), 2*time.Second)
	cfg.MaxTemp = orElse(cfg.MaxTemp, 16<<20)
	cfg.MaxOpenFiles = orElse(cfg.MaxOpenFiles, 256)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Runner{cfg: cfg, slots: make(map[string]*slot, len(cfg.Plugins))}
	for _, p := range cfg.Plugins {
		if err := r.add(p); err != nil {
			return nil, fmt.Errorf("add plugin %q: %w", p.Name, err)
		}
	}
	if err := prepareDir(cfg.Dir); err != nil {
		return nil, err
	}
	var err error
	if r.family, err = newFamily("/proc"); err != nil {
		return nil, err
	}
	r.closing, r.close = context.WithCancel(context.Background())
	return r, nil
}

func orElse[T comparable](v, or T) T {
	var zero T
	if v == zero {
		return or
	}
	return v
}

func (r *Runner) add(p Plugin) error {
	if p.BuiltIn {
		p.Path, p.Args = r.cfg.Launcher, []string{p.Name}
	}
	p.Timeout = orElse(p.Timeout, defaultTimeout)
	switch {
	case !wire.IsName(p.Name):
		return errors.New("want a name of letters a-z, digits and dashes")
	case r.slots[p.Name] != nil:
		return errors.New("the name is taken")
	case !filepath.IsAbs(p.Path):
		return fmt.Errorf("path %q is not absolute", p.Path)
	}
	if p.SHA256 != "" {
		if err := validSum(p.SHA256); err != nil {
			return err
		}
	}
	if _, err := wire.Merge(p.Settings, nil); err != nil {
		return err
	}
	s := &slot{plugin: p, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	r.slots[p.Name] = s
	return nil
}

// folderForm is how spawn names folders.
var folderForm = regexp.MustCompile(`^[a-z0-9-]{1,16}-[0-9]+$`)

// prepareDir clears the folder of what a daemon that was killed has left.
func prepareDir(dir string) error {
	if !filepath.IsAbs(dir) || len(dir) > maxDir {
		return fmt.Errorf("use folder %q: want an absolute path of at most %d bytes", dir, maxDir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder of plugins: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("close folder of plugins: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read folder of plugins: %w", err)
	}
	for _, e := range entries {
		if !folderForm.MatchString(e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("clear folder of plugins: %w", err)
		}
	}
	return nil
}

// Describe returns what the plugin says of itself. It is asked again only when
// its file has changed.
func (r *Runner) Describe(ctx context.Context, name string) (remediate.Description, error) {
	s, err := r.slot(name, PhaseDescribe)
	if err != nil {
		return remediate.Description{}, err
	}
	d, _, err := r.describe(ctx, s)
	r.note(s, PhaseDescribe, err)
	if err != nil {
		return remediate.Description{}, err
	}
	return *d, nil
}

// Validate has the plugin check a step's settings. It runs without any
// capability.
func (r *Runner) Validate(ctx context.Context, name string, settings remediate.Settings) (problems []remediate.Problem, err error) {
	s, err := r.slot(name, PhaseValidate)
	if err != nil {
		return nil, err
	}
	merged, err := wire.Merge(s.plugin.Settings, settings)
	if err != nil {
		return []remediate.Problem{{Message: err.Error()}}, nil //nolint:nilerr // it is the settings' error
	}
	err = r.ask(ctx, s, PhaseValidate, func(ctx context.Context, p *process) error {
		v, err := p.client.Validate(ctx, &proto.ValidateRequest{SettingsJson: merged})
		if err == nil {
			problems, err = wire.Problems(v)
			err = invalid(err)
		}
		return err
	})
	r.note(s, PhaseValidate, err)
	return problems, err
}

// Run has the plugin act. The answer is within the contract; it is the
// plugin's word, not the truth.
func (r *Runner) Run(ctx context.Context, name string, req *remediate.Request) (resp *remediate.Response, err error) {
	s, err := r.slot(name, PhaseRun)
	if err != nil {
		return nil, err
	}
	settings, err := wire.Merge(s.plugin.Settings, req.Settings)
	if err != nil {
		return nil, wrap(name, PhaseRun, fail(KindInvalidAnswer, "%w", err))
	}
	what := wire.Run
	if req.DryRun {
		what = wire.DryRun
	}
	err = r.act(ctx, s, PhaseRun, req.Deadline, func(ctx context.Context, p *process, d *remediate.Description, deadline time.Time) error {
		answer, err := p.client.Run(ctx, wire.RunRequest(req, settings, deadline))
		if err == nil {
			resp, err = wire.Response(d, what, answer)
			err = invalid(err)
		}
		return err
	})
	return resp, err
}

// Undo has the plugin take back what a Run has changed.
func (r *Runner) Undo(ctx context.Context, name string, req *remediate.UndoRequest) (resp *remediate.Response, err error) {
	s, err := r.slot(name, PhaseUndo)
	if err != nil {
		return nil, err
	}
	settings, err := wire.Merge(s.plugin.Settings, req.Settings)
	if err != nil {
		return nil, wrap(name, PhaseUndo, fail(KindInvalidAnswer, "%w", err))
	}
	err = r.act(ctx, s, PhaseUndo, req.Deadline, func(ctx context.Context, p *process, d *remediate.Description, deadline time.Time) error {
		answer, err := p.client.Undo(ctx, wire.UndoRequest(req, settings, deadline))
		if err == nil {
			resp, err = wire.Response(d, wire.Undo, answer)
			err = invalid(err)
		}
		return err
	})
	return resp, err
}

// Ready keeps a process of exactly these plugins started, and ends the others.
// It returns when that is so.
func (r *Runner) Ready(ctx context.Context, names ...string) error {
	for _, name := range names {
		if _, err := r.slot(name, PhaseStart); err != nil {
			return err
		}
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(r.slots))
	for name, s := range r.slots {
		wanted := slices.Contains(names, name)
		r.mu.Lock()
		s.wanted = wanted
		r.mu.Unlock()
		wg.Go(func() { errs <- r.settle(ctx, s) })
	}
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Close ends all plugins. No call begins after it.
func (r *Runner) Close(ctx context.Context) error {
	r.close()
	err := r.Ready(ctx)
	ended := make(chan struct{})
	go func() {
		r.processes.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return err
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}

func (r *Runner) slot(name string, phase Phase) (*slot, error) {
	s := r.slots[name]
	if s == nil {
		return nil, &Error{name, phase, KindUnknown, errors.New("there is none of that name")}
	}
	return s, nil
}
