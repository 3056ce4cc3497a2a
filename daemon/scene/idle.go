package scene

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// idleSeconds bounds the life of an idle process that everybody forgot.
const idleSeconds = "3600"

// Crowd is a number of processes or namespaces that do nothing.
type Crowd struct {
	PIDs []int
	// Netns are the namespaces of IdleNetns.
	Netns []*Netns

	leave chan struct{}
	gone  chan struct{}
}

// IdleProcesses starts n processes of sleep(1): one thread, under 1 MB, part of
// every distribution. A Go child would cost four times that and five threads.
// They end with Stop, when ctx is done or this process dies, or after an hour.
func IdleProcesses(ctx context.Context, n int) (*Crowd, error) {
	idle, err := startIdle(ctx, n, nil)
	if err != nil {
		return nil, fmt.Errorf("start idle processes: %w", err)
	}
	return idle, nil
}

// Keeper says what keeps a namespace of IdleNetns.
type Keeper string

// Keepers of namespaces.
const (
	ByMount   Keeper = "mount"   // a bind mount in /run, no process
	ByProcess Keeper = "process" // one sleep(1) in each, no mount
)

// IdleNetns makes n namespaces with lo up and nothing else in them.
func IdleNetns(ctx context.Context, n int, keeper Keeper) (*Crowd, error) {
	if keeper == ByProcess {
		idle, err := startIdle(ctx, n, func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return os.NewSyscallError("unshare", err)
			}
			return loopbackUp()
		})
		if err != nil {
			return nil, fmt.Errorf("make idle namespaces: %w", err)
		}
		return idle, nil
	}
	idle := &Crowd{}
	for range n {
		err := context.Cause(ctx)
		if err == nil {
			var ns *Netns
			if ns, err = MakeNetns(); err == nil {
				idle.Netns = append(idle.Netns, ns)
				continue
			}
		}
		idle.Stop()
		return nil, fmt.Errorf("make idle namespaces: %w", err)
	}
	return idle, nil
}

// Stop ends the processes by their ids, reaps them, and takes the mounts away.
func (c *Crowd) Stop() {
	if c.leave != nil {
		close(c.leave)
		<-c.gone
		c.leave = nil
	}
	for _, ns := range c.Netns {
		_ = ns.Remove() // what stays is cleared up by the next MakeNetns
	}
	c.Netns = nil
}

// startIdle forks from one thread, which stays until all are gone:
// PR_SET_PDEATHSIG speaks of that thread. before runs on it before each fork.
func startIdle(ctx context.Context, n int, before func() error) (*Crowd, error) {
	path, err := exec.LookPath("sleep")
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	attr := &syscall.ProcAttr{
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd()},
		Env:   []string{},
		Sys:   &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL},
	}
	idle := &Crowd{leave: make(chan struct{}), gone: make(chan struct{})}
	started := make(chan error, 1)
	onOwnThread(func() {
		defer close(idle.gone)
		defer func() { endAll(idle.PIDs) }()
		err := func() error {
			for range n {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if before != nil {
					if err := before(); err != nil {
						return err
					}
				}
				pid, err := syscall.ForkExec(path, []string{"sleep", idleSeconds}, attr)
				if err != nil {
					return fmt.Errorf("start %s: %w", path, err)
				}
				idle.PIDs = append(idle.PIDs, pid)
			}
			return nil
		}()
		started <- err
		if err != nil {
			return
		}
		select {
		case <-idle.leave:
		case <-ctx.Done():
		}
	})
	if err := <-started; err != nil {
		<-idle.gone
		return nil, err
	}
	return idle, nil
}

// endAll kills and reaps children. They are not reaped elsewhere, so their ids
// cannot be anybody else's.
func endAll(pids []int) {
	for _, pid := range pids {
		unix.Kill(pid, unix.SIGKILL)
	}
	for _, pid := range pids {
		for {
			if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
				break
			}
		}
	}
}
