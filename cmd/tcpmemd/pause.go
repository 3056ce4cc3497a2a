package main

import (
	"fmt"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon"
	"github.com/tcpmemd/tcpmemd/daemon/pausefile"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// pauseWait is how long the loop waits for a look at the pause file. It is in
// a tmpfs(5), which answers within microseconds; with --socket it may be
// anywhere.
const pauseWait = 100 * time.Millisecond

// pauseLook looks at the pause file for the loop.
type pauseLook struct {
	path string
	now  func() record.Stamp
	read func(path string, now record.Stamp) *pausefile.Pause
	late chan *pausefile.Pause // of a look that has not ended
}

// look gives the pause of this moment, nil where there is none. Where the file
// system does not answer nobody knows, and so nothing is touched.
func (p *pauseLook) look() *pausefile.Pause {
	silent := &pausefile.Pause{Why: fmt.Sprintf("the file system of %s does not answer", p.path)}
	if p.late != nil {
		select {
		case <-p.late: // too old to go by
			p.late = nil
		default:
			return silent
		}
	}
	answer := make(chan *pausefile.Pause, 1)
	go func() { answer <- p.read(p.path, p.now()) }()
	wait := time.NewTimer(pauseWait)
	defer wait.Stop()
	select {
	case f := <-answer:
		return f
	case <-wait.C:
		p.late = answer
		return silent
	}
}

// paused gives it as the daemon takes it.
func (p *pauseLook) paused() daemon.PauseState {
	if f := p.look(); f != nil {
		return daemon.PauseState{Why: f.Why, Since: f.Since, Until: f.Until, By: f.By}
	}
	return daemon.PauseState{}
}

// stop says why not even a person may act, "" where nothing stops him: a pause
// without an end does.
func (p *pauseLook) stop() string {
	if f := p.look(); f != nil && f.Until == nil {
		return f.Why
	}
	return ""
}
