package scene

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// envChild says in the environment of a process what RunIfChild does.
const envChild = "TCPMEMD_SCENE_CHILD"

// Jobs of children.
const (
	jobSockets  = "sockets"  // a workshop that follows the protocol
	jobHolder   = "holder"   // holds inherited descriptors until its standard input closes
	jobGuardian = "guardian" // restores net.ipv4.tcp_mem
)

// errLogTail is how much of a dead child's standard error an error quotes.
const errLogTail = 2 << 10

// process is a child of this one, with its end watched.
type process struct {
	cmd    *exec.Cmd
	stderr *os.File // a memfd: no pipe to drain, none to block on
	done   chan struct{}
	err    error // of Wait, once done is closed
}

// selfCommand runs this executable again. /proc/self/exe still works where the
// file was deleted (go run) or is behind a closed directory for another user.
func selfCommand(job string) *exec.Cmd {
	// Its end is not a context's: it dies when its standard input closes.
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), envChild+"="+job,
		"GOMAXPROCS=1", // their work is serial, and threads cost memory
		// The race detector lets a program sleep for a second at its end.
		"GORACE="+strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"),
	)
	cmd.SysProcAttr = &unix.SysProcAttr{}
	return cmd
}

// spawn starts cmd on a thread of its own, after enter (if not nil) moved that
// thread, for instance into a namespace. The thread lives as long as the
// child: PR_SET_PDEATHSIG speaks of the thread that forked, not of its process.
func spawn(cmd *exec.Cmd, enter func() error) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	if cmd.Stderr == nil {
		fd, err := unix.MemfdCreate("scene-stderr", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, os.NewSyscallError("memfd_create", err)
		}
		p.stderr = os.NewFile(uintptr(fd), "scene-stderr")
		cmd.Stderr = p.stderr
	}
	started := make(chan error, 1)
	onOwnThread(func() {
		defer close(p.done)
		err := error(nil)
		if enter != nil {
			err = enter()
		}
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	})
	if err := <-started; err != nil {
		<-p.done
		p.close()
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// onOwnThread runs f on a thread that ends with it: f may change what belongs
// to a thread, such as its network namespace. It returns at once. The main
// thread is never used: it cannot end, and its namespace shows as the process's.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f() // not unlocked: the thread ends with this goroutine
			return
		}
		elsewhere := make(chan struct{})
		onOwnThread(func() {
			close(elsewhere)
			f()
		})
		<-elsewhere
		runtime.UnlockOSThread()
	}()
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// end waits for the process, which has been asked to go, and kills it when it
// takes too long.
func (p *process) end(grace time.Duration) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.kill()
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill() // already gone is as good
	<-p.done
}

func (p *process) close() {
	if p.stderr != nil {
		p.stderr.Close()
	}
}

// fate describes the end of a process that should still be there.
func (p *process) fate() error {
	select {
	case <-p.done:
	case <-time.After(time.Second):
		return errors.New("it closed its standard output")
	}
	said := ""
	if p.stderr != nil {
		size, _ := p.stderr.Seek(0, io.SeekEnd)
		text := make([]byte, min(size, errLogTail))
		n, _ := p.stderr.ReadAt(text, size-int64(len(text)))
		said = strings.ToValidUTF8(string(bytes.TrimSpace(text[:n])), "?")
	}
	if said != "" {
		return fmt.Errorf("it ended: %v; it said: %s", p.cmd.ProcessState, said)
	}
	return fmt.Errorf("it ended: %v", p.cmd.ProcessState)
}

// afterCancel runs f once ctx is done. stop waits for a running f; it may be
// called more than once.
func afterCancel(ctx context.Context, f func()) (stop func()) {
	ran := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(ran)
		f()
	})
	return sync.OnceFunc(func() {
		if !release() {
			<-ran
		}
	})
}
