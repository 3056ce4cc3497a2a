package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tcpmemd/tcpmemd/remediate/runner"
)

// readyTime bounds the start of the actions that may be needed.
const readyTime = 30 * time.Second

// actions is a runner whose Ready does not wait: the last wish counts.
type actions struct {
	*runner.Runner
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	wish   []string
	newer  bool
	active bool
}

func newActions(r *runner.Runner, log *slog.Logger) *actions { return &actions{Runner: r, log: log} }

// Ready keeps the processes of these actions started, and ends all others.
func (a *actions) Ready(names ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wish, a.newer = names, true
	if !a.active {
		a.active = true
		go a.fulfil()
	}
}

func (a *actions) fulfil() {
	for {
		a.mu.Lock()
		if !a.newer {
			a.active = false
			a.mu.Unlock()
			return
		}
		names := a.wish
		a.newer = false
		a.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), readyTime)
		if err := a.Runner.Ready(ctx, names...); err != nil {
			a.log.Warn("start actions that may be needed", "err", err)
		}
		cancel()
	}
}
