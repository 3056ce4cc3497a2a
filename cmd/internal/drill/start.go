package drill

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/units"
)

// Command is the hidden command of tcpmemctl that runs [Leak].
const Command = "drill-leak"

// longest is when PID 1 ends the unit, whatever became of everybody else.
const longest = time.Hour

// Child is the process that leaks.
type Child struct {
	Unit string // "" where it is a process and no unit

	cmd   *exec.Cmd
	stdin io.Closer
	words *strings.Builder
	done  chan struct{} // closed when it has ended

	mu    sync.Mutex
	held  Held
	ended error
}

// Start runs a leak by p: exe is tcpmemctl. As root, on a host that runs
// systemd, it is a transient service, a unit of its own, else a process below
// this one. Either way it ends when the caller does: it holds the other end of
// its standard input.
func Start(p Plan, exe string) (*Child, error) {
	args := []string{exe, Command, fmt.Sprintf("--bytes=%d", p.Bytes), "--over=" + p.Over.String()}
	unit := ""
	if run := systemdRun(); run != "" {
		unit = units.DrillUnit(os.Getpid())
		args = append([]string{
			run, "--quiet", "--collect", "--pipe", "--service-type=exec", "--unit=" + unit,
			"--description=a fire drill of tcpmemctl", "--property=RuntimeMaxSec=" + longest.String(),
			"--property=OOMScoreAdjust=1000", "--property=MemoryMax=512M", "--property=TasksMax=64", "--",
		}, args...)
	}
	c, err := start(args)
	if err != nil {
		return nil, fmt.Errorf("start leak: %w", err)
	}
	c.Unit = unit
	return c, nil
}

func start(args []string) (*Child, error) {
	c := &Child{words: new(strings.Builder), done: make(chan struct{})}
	// Not bound to a context: its standard input ends it, and it cleans up.
	c.cmd = exec.CommandContext(context.Background(), args[0], args[1:]...)
	// Ctrl-C in a terminal is for the caller, which ends it in order.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.Stderr = c.words
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	c.stdin = in
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go c.watch(out)
	return c, nil
}

// systemdRun is its path, "" where it is of no use.
func systemdRun() string {
	if _, err := os.Stat("/run/systemd/system"); err != nil || os.Geteuid() != 0 { // sd_booted(3)
		return ""
	}
	run, err := exec.LookPath("systemd-run")
	if err != nil {
		return ""
	}
	return run
}

// watch takes what the child says, and its end.
func (c *Child) watch(out io.Reader) {
	defer close(c.done)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var h Held
		if json.Unmarshal(lines.Bytes(), &h) == nil {
			c.mu.Lock()
			c.held = h
			c.mu.Unlock()
		}
	}
	err := c.cmd.Wait()
	if said := strings.TrimSpace(c.words.String()); err != nil && said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = err
}

// Held is what it said last.
func (c *Child) Held() Held {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// PID is that of the process that was started, systemd-run's where there is a
// unit.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Done is closed when it has ended by itself or was told to.
func (c *Child) Done() <-chan struct{} { return c.done }

// End has it close all its sockets, and waits; what does not end is killed.
func (c *Child) End() error {
	_ = c.stdin.Close() // it may have ended, and then there is nothing to tell
	select {
	case <-c.done:
	case <-time.After(10 * time.Second):
		_ = c.cmd.Process.Kill() // systemd-run ends, and RuntimeMaxSec ends the unit
		<-c.done
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return fmt.Errorf("leak ended: %w", c.ended)
	}
	return nil
}
