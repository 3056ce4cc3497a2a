// Package top is the live view of a host's TCP memory: the pool as a bar with
// its limits, what the policy is about to do, the owners, and the sockets of
// one of them.
//
// Model is pure: it is given keys, times and documents of package api, and
// draws itself. Run puts it on a terminal.
package top

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
)

// Source gives what is shown.
type Source interface {
	Status(ctx context.Context) (*api.Status, error)
	Owners(ctx context.Context, fresh bool) (*api.Owners, error)
	Sockets(ctx context.Context, q api.SocketQuery) (*api.Sockets, error)
}

// Config is what a view needs.
type Config struct {
	Source Source
	// Direct: Source reads the kernel itself. It has no policy to tell of, and
	// each of its answers takes a scan.
	Direct bool
	// Interval is the time between two readings; longer where they take long.
	Interval time.Duration
	Paint    layout.Painter
	Now      func() time.Time
	// Ready, if not nil, is called when the first answer is there, before
	// anything is drawn.
	Ready func()
	// Input and Output are the terminal, Term its type.
	Input  io.Reader
	Output io.Writer
	Term   string
}

// Run shows the view until q, Ctrl-C or the end of ctx. A daemon that does not
// answer at the start is an error; one that goes away later is waited for.
func Run(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // what is asked for then is given up
	asker := &asker{ctx: ctx, Config: cfg}
	first := asker.ask(nil, true)
	if cfg.Ready != nil {
		cfg.Ready()
	}
	if _, refused := errors.AsType[*api.RequestError](first.err); first.err != nil && !refused {
		return first.err
	}
	p := tea.NewProgram(program{newModel(cfg, first), asker},
		tea.WithInput(cfg.Input), tea.WithOutput(cfg.Output),
		// The end of ctx is a signal's, and quits like q.
		tea.WithoutSignalHandler(),
		// Its colours are those of the painter: nothing has to be asked of the
		// terminal, whose answer might come when the shell reads again.
		tea.WithColorProfile(colorprofile.ANSI),
		tea.WithEnvironment([]string{"TERM=" + cfg.Term, "SSH_TTY=unknown"}),
		tea.WithFPS(framesPerSecond))
	defer context.AfterFunc(ctx, p.Quit)()
	_, err := p.Run()
	return err
}

// framesPerSecond is enough for keys, and bounds what goes over a slow line.
const framesPerSecond = 20

// program is the model on a terminal: it does what the model wants.
type program struct {
	Model
	asker *asker
}

func (p program) Init() tea.Cmd { return tick(p.Now) }

func (p program) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var then want
	var next tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		p.Model = p.resized(msg.Width, msg.Height)
	case ticked:
		p.Model, then = p.at(time.Time(msg))
		next = tick(p.Now)
	case *answer:
		p.Model = p.answered(msg)
	case tea.PasteMsg:
		p.Model = p.pasted(msg.Content)
	case tea.KeyPressMsg:
		switch msg.String() {
		case "ctrl+c":
			return p, tea.Quit
		case "ctrl+z":
			return p, tea.Suspend
		case "ctrl+l":
			return p, tea.ClearScreen
		}
		p.Model, then = p.pressed(msg.String(), msg.Text)
	}
	switch then {
	case wantQuit:
		return p, tea.Quit
	case wantStatus, wantAnswer:
		list := p.list
		p.asking++
		next = tea.Batch(next, func() tea.Msg { return p.asker.ask(list, then == wantAnswer) })
	}
	return p, next
}

func (p program) View() tea.View {
	v := tea.NewView(p.Model.String())
	v.AltScreen = true
	return v
}

type ticked time.Time

func tick(now func() time.Time) tea.Cmd {
	return tea.Tick(time.Second, func(time.Time) tea.Msg { return ticked(now()) })
}

// answer is what was heard on a question, all of it or err.
type answer struct {
	status  *api.Status // nil without a daemon
	owners  *api.Owners // nil where only the status was asked for
	sockets *api.Sockets
	list    *list // whose sockets they are
	err     error
	at      time.Time
	took    time.Duration
}

// asker asks the source, one question at a time.
type asker struct {
	Config
	ctx context.Context //nolint:containedctx // it is that of a view, and a command of bubbletea's has none
	mu  sync.Mutex
}

// ask asks for the status or for all that the view shows, with the sockets of l
// unless that is nil.
func (a *asker) ask(l *list, all bool) *answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	begun := a.Now()
	out := &answer{list: l}
	if all {
		out.owners, out.err = a.Source.Owners(a.ctx, true)
	}
	if all && out.err == nil && l != nil {
		out.sockets, out.err = a.Source.Sockets(a.ctx, l.query())
	}
	if out.err == nil && !a.Direct {
		out.status, out.err = a.Source.Status(a.ctx)
	}
	out.at = a.Now()
	out.took = out.at.Sub(begun)
	return out
}
