package runcommand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/plugins/internal/pidfd"
)

const (
	maxOutput = 4 << 10 // bytes kept of each stream
	// drainTime is how long the streams are read after the program's end:
	// what was written before is there at once.
	drainTime = 100 * time.Millisecond
	// mostReserve is how long before its deadline a program is told to end.
	mostReserve = 2 * time.Second
)

// environment is all that a program gets of it.
func environment() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/"}
}

// Exit is how a program ended, and what it said. The texts are as they came:
// quote them.
type Exit struct {
	Code     int            // exit status, -1 where a signal ended it
	Signal   syscall.Signal // that ended it, 0 for none
	TimedOut bool           // it had to be ended
	Alive    bool           // even SIGKILL did not end it in time
	Took     time.Duration
	Stdout   []byte // the beginning
	Stderr   []byte // the end
}

// Run starts the program, gives it stdin, and waits for its end, which comes
// before the deadline: shortly before that, or when ctx is done, its process
// group is sent TERM, and then KILL. What the program leaves in its process
// group is killed; what left the group (setsid(2)) is not followed.
func (p Program) Run(ctx context.Context, stdin []byte, deadline time.Time) (Exit, error) {
	e, err := p.run(ctx, stdin, deadline)
	if err != nil {
		return e, fmt.Errorf("run %s: %w", quote(p.Path, maxShown), bare(err))
	}
	return e, nil
}

func (p Program) run(ctx context.Context, stdin []byte, deadline time.Time) (e Exit, err error) {
	start := time.Now()
	left := deadline.Sub(start)
	if left <= 0 || ctx.Err() != nil {
		return e, errors.New("no time is left to the deadline")
	}
	reserve := min(mostReserve, left/4)
	in, err := memory(stdin)
	if err != nil {
		return e, err
	}
	defer in.Close()
	var out, errs stream
	stdout, err := out.open(keepFirst)
	if err != nil {
		return e, err
	}
	defer stdout.Close()
	defer out.end()
	stderr, err := errs.open(keepLast)
	if err != nil {
		return e, err
	}
	defer stderr.Close()
	defer errs.end()

	// PR_SET_PDEATHSIG speaks of the thread that forked: keep it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	proc, err := os.StartProcess(p.Path, append([]string{p.Path}, p.Args...), &os.ProcAttr{
		Dir: "/", Env: environment(),
		Files: []*os.File{in, stdout, stderr},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return e, err
	}
	stdout.Close() // or the end of the streams would never show
	stderr.Close()

	// The program is not reaped before its group is killed: the number of the
	// group cannot be another's until then.
	ended, err := end(ctx, proc.Pid, deadline.Add(-reserve), deadline.Add(-reserve/4), deadline.Add(-reserve/8), &e)
	killGroup(proc.Pid, unix.SIGKILL)
	e.Took = time.Since(start)
	if err == nil && !ended { // in the kernel's hands; it dies there, or never
		e.Alive, e.Code = true, -1
		_ = proc.Release()
		return e, nil
	}
	state, waited := proc.Wait()
	e.Stdout, e.Stderr = out.end(), errs.end()
	if err := errors.Join(err, waited); err != nil {
		return e, err
	}
	e.Code = state.ExitCode()
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal()
	}
	return e, nil
}

// end waits for the program's end; from term on it helps.
func end(ctx context.Context, pid int, term, kill, giveUp time.Time, e *Exit) (bool, error) {
	f, err := pidfd.Open(pid)
	if err != nil {
		return false, err
	}
	defer f.Close()
	ended, err := f.Wait(ctx, term)
	if ended || err != nil {
		return ended, err
	}
	e.TimedOut = true
	if ctx.Err() != nil { // nobody waits for it any more
		kill = earlier(kill, time.Now().Add(time.Second))
		ctx = context.WithoutCancel(ctx)
	}
	killGroup(pid, unix.SIGTERM)
	if ended, err = f.Wait(ctx, kill); ended || err != nil {
		return ended, err
	}
	killGroup(pid, unix.SIGKILL)
	return f.Wait(context.WithoutCancel(ctx), later(giveUp, time.Now().Add(50*time.Millisecond)))
}

func killGroup(pid int, sig syscall.Signal) { _ = unix.Kill(-pid, sig) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// memory gives a file in memory: a program that does not read it blocks nobody.
func memory(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("event", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "event")
	if _, err = f.Write(data); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// stream takes all that a program says on one descriptor, and keeps a part.
type stream struct {
	file *os.File
	done sync.WaitGroup
	kept []byte
}

// open starts to read, and gives the end to write to.
func (s *stream) open(keep func(kept, more []byte) []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.file = r
	s.done.Go(func() {
		buf := make([]byte, 8<<10)
		for {
			n, err := r.Read(buf)
			s.kept = keep(s.kept, buf[:n])
			if err != nil {
				return
			}
		}
	})
	return w, nil
}

// end gives what was kept. A process that left the group may hold the other
// end for ever, and go on writing.
func (s *stream) end() []byte {
	if s.file == nil {
		return s.kept
	}
	_ = s.file.SetReadDeadline(time.Now().Add(drainTime))
	s.done.Wait()
	s.file.Close()
	s.file = nil
	return s.kept
}

func keepFirst(kept, more []byte) []byte {
	return append(kept, more[:min(len(more), maxOutput-len(kept))]...)
}

func keepLast(kept, more []byte) []byte {
	kept = append(kept, more...)
	return kept[max(0, len(kept)-maxOutput):]
}
