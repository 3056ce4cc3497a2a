package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

// progress tells of work that takes long, in a line of the terminal that goes
// away at its end. A nil one is silent.
type progress struct {
	w     io.Writer
	began time.Time
	told  time.Time
	shown bool
}

// Nobody wants a line about what is over at once, nor one that flickers.
const (
	progressAfter = 500 * time.Millisecond
	progressEach  = 100 * time.Millisecond
)

// progress begins to tell, where standard error is a terminal.
func (c *command) progress() *progress {
	if c.Progress == nil {
		return nil
	}
	return &progress{w: c.Progress, began: time.Now()}
}

// say shows how far the work is.
func (p *progress) say(format string, args ...any) {
	if p == nil {
		return
	}
	now := time.Now()
	if now.Sub(p.began) < progressAfter || now.Sub(p.told) < progressEach {
		return
	}
	p.told, p.shown = now, true
	fmt.Fprintf(p.w, "\r"+format+clearLine, args...)
}

// end takes the line away.
func (p *progress) end() {
	if p != nil && p.shown {
		fmt.Fprint(p.w, "\r"+clearLine)
	}
}

// during tells, while a question is under way, for how long and how many sockets
// have come. Nobody knows how many there will be.
func (p *progress) during(read func() int64) (end func()) {
	return p.telling(func() string { return socketsRead(read()) })
}

func socketsRead(n int64) string {
	if n == 0 {
		return "reading"
	}
	return prose.Plural(n, "socket") + " read"
}

// telling tells how far the work is by itself, until end.
func (p *progress) telling(words func() string) (end func()) {
	if p == nil {
		return func() {}
	}
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressEach)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			p.say("%s, %d s", words(), int(time.Since(p.began).Seconds()))
		}
	}()
	return func() {
		close(over)
		<-done
		p.end()
	}
}
