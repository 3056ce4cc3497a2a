package signalprocess

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/plugins/internal/pidfd"
	"github.com/tcpmemd/tcpmemd/plugins/internal/plugintest"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// envSupervisor makes the test program a supervisor.
const envSupervisor = "TCPMEMD_TEST_SUPERVISOR"

func TestMain(m *testing.M) {
	scene.RunIfChild()
	if os.Getenv(envSupervisor) != "" {
		if err := supervise(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	plugintest.Main(m)
}

// backOff is how long the supervisor waits before it starts its child anew.
const backOff = time.Second

// leak is what its child leaks: unread, hidden and unsent memory.
// Little of each, for other tests may have lowered tcp_mem.
var leak = scene.LeakSpec{Unread: 40, Hidden: 10, Unsent: 1, Bytes: 16 << 10}

// supervise keeps a leaking child running, as a container runtime does, and
// prints the number of each. It ends when its standard input closes.
func supervise(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	for ctx.Err() == nil {
		c, err := scene.Start(ctx, scene.ChildOptions{Comm: "leaker"})
		if err != nil {
			return err
		}
		if err := c.Leak(ctx, leak); err != nil {
			return err
		}
		fmt.Println(c.PID())
		f, err := pidfd.Open(c.PID())
		if err != nil {
			return err
		}
		_, _ = f.Wait(ctx, time.Now().Add(time.Minute))
		f.Close()
		c.Kill()
		select {
		case <-ctx.Done():
		case <-time.After(backOff):
		}
	}
	return nil
}

// proc is a process of a test.
type proc struct {
	remediate.Holder
	cmd  *exec.Cmd
	done chan struct{} // reaped
}

// start starts a program that is reaped as soon as it ends, and killed with
// the test at the latest.
func start(t *testing.T, name string, args ...string) *proc {
	t.Helper()
	p := &proc{cmd: exec.Command(name, args...), done: make(chan struct{})}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
	p.Holder = holder(t, p.cmd.Process.Pid)
	return p
}

// shell starts a shell script and waits until it has written a line.
func shell(t *testing.T, script string) *proc {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	p := start(t, "/bin/sh", "-c", fmt.Sprintf("{ %s; } 3>/proc/%d/fd/%d", script, os.Getpid(), w.Fd()))
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return p
}

func holder(t *testing.T, pid int) remediate.Holder {
	t.Helper()
	stat, err := procfs.New("/proc").Stat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return remediate.Holder{PID: pid, StartTime: stat.StartTime, Command: stat.Comm}
}

func (p *proc) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func request(settings string, holders ...remediate.Holder) *remediate.Request {
	return &remediate.Request{
		Settings: remediate.Settings(settings), Deadline: time.Now().Add(20 * time.Second),
		Owner: &remediate.Owner{Key: "process/1/1", Name: "x", Holders: holders},
	}
}

func run(t *testing.T, r *remediate.Request) *remediate.Response {
	t.Helper()
	return plugintest.Run(t, New("1", "/proc"), r)
}

func expect(t *testing.T, resp *remediate.Response, result remediate.Result, code, says string) {
	t.Helper()
	plugintest.Expect(t, resp, result, code, says)
}
