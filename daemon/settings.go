package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store"
)

// Config is what a daemon needs to run.
type Config struct {
	Version string
	Socket  string // path of the control socket, "" for none

	Sample  time.Duration // between samples
	Calm    time.Duration // between scans at level calm
	Pressed time.Duration // between scans above it
	CPU     float64       // share of one CPU for reading processes
	Protect []string
	// TableBytes bounds the socket table.
	TableBytes int

	Log    *slog.Logger
	Notify Notifier
	// FirstReading shows a person the first full reading. It must not block.
	FirstReading func(*reading.Reading)

	// Policy is what is decided by, Memory what earlier runs had spent of its
	// budgets. Unfinished are intents of theirs without a result, Leases and
	// Outbox what they left.
	Policy     Policy
	Memory     policy.Memory
	Unfinished []record.Record
	Leases     store.Leases
	Outbox     []store.Outbox
	Store      recorder
	Runner     runner
	// Clock gives the time on the clocks that survive a restart.
	Clock func() record.Stamp
	// Paused looks at the pause file; Stop says why not even a person may act.
	// Both are asked right before acting, too, and must not block.
	Paused func() PauseState
	Stop   func() string
	// Say tells the journal or the terminal what was decided, done and seen. It
	// must not block. Undelivered counts what the journal has not taken yet, and
	// what is lost; nil where there is none.
	Say         func(event.Text)
	Undelivered func() (waiting int, lost int64)

	// Archive reads back what was recorded, History is the folder of recorded
	// readings; nil and "" where nothing is recorded.
	Archive archive
	History string
	// Plugins lists the actions' programs; with verify each is looked at, and
	// asked to describe itself.
	Plugins func(ctx context.Context, verify bool) []api.Plugin
	// Load reads the configuration again; SetPause writes the pause file, or
	// removes it for the zero state.
	Load     func(context.Context) (Policy, error)
	SetPause func(PauseState) error

	Hostname string

	// Exporter brings metrics out, nil where nobody wants them. Owners is how many
	// of the biggest owners get series of their own.
	Owners   int
	Exporter exporter
}

// Notifier tells the service manager how the daemon is.
type Notifier interface {
	Ready(status string) error
	Status(text string) error
	Reloading() error
	Stopping() error
	Watchdog() error
}

// Policy is what the daemon decides by, as it was loaded.
type Policy struct {
	policy.Config
	// OptOut says why an owner is told of and never touched, "" where it may be.
	OptOut func(*reading.Owner) string
	// Forced says why the daemon may only observe, whatever its mode: a policy
	// file that is broken, a state directory that cannot be written.
	Forced string
	// OrphansVanish: a probe destroyed an orphan, and it was gone.
	OrphansVanish bool
	// Text is the effective policy with where each value is from, for people;
	// Files are those that were read, Broken the mistakes of those left out.
	Text   string
	Files  []string
	Broken []string
	// Notes are what is right and yet worth a look, as a change that takes a
	// restart.
	Notes []string
	// Origin says where a rule begins, FILE:LINE.
	Origin func(rule string) string
}

// withDefaults fills in what decides nothing and does nothing.
func (c Config) withDefaults() Config {
	if c.Store == nil {
		c.Store = unrecorded{}
		c.Policy.Forced = cmp.Or(c.Policy.Forced, "nothing can be recorded: "+errNoStore.Error())
	}
	if c.Runner == nil {
		c.Runner = idle{}
	}
	if c.Paused == nil {
		c.Paused = func() PauseState { return PauseState{} }
	}
	if c.Stop == nil {
		c.Stop = func() string { return "" }
	}
	if c.Say == nil {
		c.Say = func(event.Text) {}
	}
	if c.Clock == nil {
		start := time.Now()
		c.Clock = func() record.Stamp {
			return record.Stamp{At: time.Now().UTC(), BootID: "unknown", BootSeconds: time.Since(start).Seconds()}
		}
	}
	return c
}
