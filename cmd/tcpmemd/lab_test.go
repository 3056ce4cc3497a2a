package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// lab is a folder with the built programs, and a copy of this test as a plugin.
// It is below /run: the runner starts nothing from where others may write.
type lab struct {
	dir  string
	once sync.Once
	err  error
}

// shared is the lab of all tests; TestMain takes it away.
var shared lab

const (
	daemonProgram   = "tcpmemd"
	launcherProgram = "tcpmemd-action"
	probeProgram    = "probe" // this test, as are the next: see probe_test.go
	lenderProgram   = "lender"
)

// openLab builds the programs, once.
func openLab(t *testing.T) *lab {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("/run", "tcpmemd-test-"); shared.err != nil { //nolint:usetesting // below /tmp nothing may be started
			return
		}
		if shared.err = os.Chmod(shared.dir, 0o755); shared.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", shared.dir, ".", "../tcpmemd-action")
		if out, err := build.CombinedOutput(); err != nil {
			shared.err = fmt.Errorf("build programs: %w: %s", err, out)
			return
		}
		self, err := os.Executable()
		shared.err = errors.Join(err, exec.Command("cp", self, shared.path(probeProgram)).Run(), exec.Command("cp", self, shared.path(lenderProgram)).Run())
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return &shared
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// pluginProcesses lists the processes that run a program of the lab as a plugin.
func (l *lab) pluginProcesses() (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		exe, err := os.Readlink(link)
		if err != nil {
			continue
		}
		if exe == l.path(launcherProgram) || exe == l.path(probeProgram) || exe == l.path(lenderProgram) {
			var pid int
			_, _ = fmt.Sscanf(link, "/proc/%d/exe", &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

// host is what one daemon after another has: its files, state and socket.
type host struct {
	lab    *lab
	dir    string
	config string
	state  string
	socket string
}

// newHost writes a configuration and the only rules that its daemons obey: those
// that are shipped observe.
func newHost(t *testing.T, l *lab, settings, rules string) *host {
	t.Helper()
	dir, err := os.MkdirTemp(l.dir, "host-") //nolint:usetesting // as above
	if err != nil {
		t.Fatal(err)
	}
	h := &host{lab: l, dir: dir, config: filepath.Join(dir, "tcpmemd.toml"), state: filepath.Join(dir, "state"), socket: filepath.Join(dir, "run", "tcpmemd.sock")}
	if err := os.MkdirAll(filepath.Join(dir, "policy.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.write(t, "tcpmemd.toml", settings)
	h.write(t, "policy.d/50-test.toml", rules)
	return h
}

func (h *host) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// process is a daemon that runs.
type process struct {
	host  *host
	cmd   *exec.Cmd
	out   syncBuffer
	ended chan struct{}
	err   error // of its end
}

// start starts a daemon. It dies with the test.
func (h *host) start() (*process, error) {
	p := &process{host: h, ended: make(chan struct{})}
	p.cmd = exec.Command(h.lab.path(daemonProgram), "--config", h.config, "--state", h.state, "--socket", h.socket)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // its death would send the signal
		defer runtime.UnlockOSThread()
		started <- p.cmd.Start()
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, <-started
}

// startT starts a daemon and waits until it answers.
func (h *host) startT(t *testing.T) *process {
	t.Helper()
	p, err := h.start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("output of the daemon:\n%s", p.out.String())
		}
	})
	p.await(t, "the daemon to answer", 30*time.Second, answers(t))
	return p
}

func answers(t *testing.T) func(*api.Client) bool {
	return func(c *api.Client) bool {
		_, err := c.Status(t.Context())
		return err == nil
	}
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop ends it in order.
func (p *process) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.kill()
		t.Fatalf("the daemon does not end:\n%s", p.out.String())
	}
	if p.err != nil {
		t.Errorf("the daemon ended with %v:\n%s", p.err, p.out.String())
	}
}

// await asks the daemon until what is asked for is so.
func (p *process) await(t *testing.T, what string, most time.Duration, so func(*api.Client) bool) {
	t.Helper()
	c := api.Dial(p.host.socket)
	defer c.Close()
	for deadline := time.Now().Add(most); ; time.Sleep(100 * time.Millisecond) {
		if so(c) {
			return
		}
		select {
		case <-p.ended:
			t.Fatalf("the daemon ended while the test waited for %s: %v\n%s", what, p.err, p.out.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s in vain; the daemon said:\n%s", most, what, p.out.String())
		}
	}
}

// records reads the daemon's action log through its socket.
func (p *process) records(t *testing.T, q api.RecordQuery) (list []record.Record) {
	t.Helper()
	c := api.Dial(p.host.socket)
	defer c.Close()
	for rec, err := range c.Records(t.Context(), q) {
		if err != nil {
			t.Fatalf("read records: %v", err)
		}
		list = append(list, rec)
	}
	slices.SortFunc(list, func(a, b record.Record) int { return int(int64(a.Seq) - int64(b.Seq)) })
	return list
}

// syncBuffer is what a process printed so far.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// containerGroup makes a control group as docker's cgroupfs driver does: no unit
// has it, so that nobody but its own supervisor restarts what is in it.
func containerGroup(t *testing.T) (g *scene.Cgroup, id string) {
	t.Helper()
	place := scene.NewCgroup(t, "place")
	mount := strings.TrimSuffix(place.Path, place.Name)
	id = fmt.Sprintf("%032x%016x%016x", "tcpmemd test run", os.Getpid(), time.Now().UnixNano())
	g = &scene.Cgroup{Name: "/docker/" + id, Path: filepath.Join(mount, "docker", id)}
	if err := os.MkdirAll(g.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(g.Path, &st); err != nil {
		t.Fatal(err)
	}
	g.ID = st.Ino
	t.Cleanup(func() {
		var err error
		for range 100 { // the last process may just be ending
			if err = os.Remove(g.Path); err == nil || errors.Is(err, os.ErrNotExist) {
				_ = os.Remove(filepath.Dir(g.Path)) // where nobody else uses it
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Errorf("remove control group: %v", err)
	})
	return g, id
}

// helper starts this test as another program, see TestMain, and gives its lines.
func helper(t *testing.T, job string, g *scene.Cgroup, ns *scene.Netns, env ...string) (cmd *exec.Cmd, lines <-chan string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd = exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), envJob+"="+job)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	if g != nil {
		dir, err := os.Open(g.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	stdin, err := cmd.StdinPipe() // its end is the helper's
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := cmd.Start
	if ns != nil {
		start = func() error { return ns.Do(cmd.Start) }
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	out := make(chan string, 1024)
	go func() {
		defer close(out)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			out <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		for range out { // until it has ended
		}
		cancel()
		_ = cmd.Wait()
	})
	return cmd, out
}
