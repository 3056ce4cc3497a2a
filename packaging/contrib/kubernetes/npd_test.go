// Package kubernetes holds what is shipped for nodes of Kubernetes. Its tests
// run the real tcpmemctl as the readers of these files would.
package kubernetes

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/control"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/packaging/contrib/kubernetes/npdtest"
)

const envServe = "TCPMEMD_TEST_SERVE"

// TestMain makes this binary a daemon that can be stopped, too.
func TestMain(m *testing.M) {
	if socket := os.Getenv(envServe); socket != "" {
		host := apitest.Leak()
		host.Reading.Level = reading.Calm
		serveUntil(context.Background(), socket, host)
		return
	}
	os.Exit(m.Run())
}

func serveUntil(ctx context.Context, socket string, source control.Source) {
	l, err := control.Listen(socket)
	if err != nil {
		panic(err)
	}
	_ = control.New(control.Config{Listener: l, Source: source, Log: slog.New(slog.DiscardHandler)}).Run(ctx)
}

// hosts is a daemon's source that a test changes.
type hosts struct {
	*apitest.Host
	mu    sync.Mutex
	state api.State
}

func (h *hosts) State(context.Context) (api.State, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state, nil
}

func (h *hosts) change(f func(*api.State)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.state)
}

// detector loads the shipped file with a tcpmemctl built for it, which asks
// socket.
func detector(t *testing.T, socket string) *npdtest.Monitor {
	t.Helper()
	t.Setenv("TCPMEMD_SOCKET", socket)
	ctl := build(t, "tcpmemctl")
	c, err := npdtest.Load("node-problem-detector/tcpmemd.json", func(c *npdtest.Config) {
		for i := range c.Rules {
			if c.Rules[i].Path != "/usr/bin/tcpmemctl" {
				t.Errorf("the plugin is %s", c.Rules[i].Path)
			}
			c.Rules[i].Path = ctl
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return npdtest.Start(c, apitest.At)
}

func build(t *testing.T, name string) string {
	t.Helper()
	// Test results are cached by the files that the test itself opens.
	for _, room := range []string{"../../../cmd", "../../../daemon"} {
		if err := filepath.WalkDir(room, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), name)
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../../cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

// TestOneRule: two rules of one condition would flip it to and fro.
func TestOneRule(t *testing.T) {
	c := detector(t, "none").Config
	if len(c.Rules) != 1 || c.Rules[0].Type != "permanent" || len(c.Conditions) != 1 || *c.Global.MaxOutput != 80 || *c.Global.SkipInitialStatus {
		t.Errorf("%+v", c)
	}
}

// TestCondition takes a node from calm through a leak and back, and has the
// daemon restarted meanwhile.
func TestCondition(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	m := detector(t, socket)
	host := &hosts{Host: apitest.Leak()}
	host.state = api.StateOf(&host.Reading)
	host.state.Level, host.state.Watch = reading.Calm, &api.Watch{Fill: 80, Owner: "system/task-queue.service", Share: 80}
	now := apitest.At
	var serving context.CancelFunc
	done := make(chan struct{})
	start := func() {
		var ctx context.Context
		ctx, serving = context.WithCancel(t.Context())
		l, err := control.Listen(socket)
		if err != nil {
			t.Fatal(err)
		}
		server := control.New(control.Config{Listener: l, Source: host, Log: slog.New(slog.DiscardHandler)})
		go func() { _ = server.Run(ctx); done <- struct{}{} }()
		<-server.Ready()
	}
	stop := func() { serving(); <-done }

	var got []string
	look := func(what string) {
		t.Helper()
		now = now.Add(30 * time.Second)
		result := m.Turn(now)
		if result.Stderr != "" {
			t.Errorf("%s: standard error says %s", what, result.Stderr)
		}
		c := m.Conditions[0]
		got = append(got, strings.Join([]string{what, c.Status, c.Reason, c.Message, c.Transition.Format("15:04:05")}, "|"))
	}
	start()
	look("calm")
	host.change(func(s *api.State) { s.Level = reading.Pressure })
	look("pressure")
	host.change(func(s *api.State) { s.Sample.Used += 10; s.Level = reading.Critical }) // the numbers move within a step
	look("critical")
	host.change(func(s *api.State) {
		s.Conduct = &api.Conduct{Rules: []api.RuleState{{
			Name: "tcp-leak", Severity: "critical", ForEach: "unit", Firing: 1,
			Keys: []api.RuleKey{{Key: "system/task-queue.service", Phase: "firing", Acting: true, Action: "restart-unit"}},
		}}}
	})
	look("restarting")
	stop()
	look("gone")
	look("still gone")
	start()
	look("back")
	host.change(func(s *api.State) { s.Level, s.Conduct = reading.Calm, nil })
	look("calm again")
	host.change(func(s *api.State) { s.Level = reading.Unknown })
	look("unknown")
	stop()

	const leak = "task-queue.service holds 80%+ of TCP memory; 80%+ of max used; leak"
	want := []string{
		"calm|False|TCPMemoryChecked|TCP memory is not short|09:00:00",
		"pressure|True|TCPMemoryShort|" + leak + "|09:01:00",
		"critical|True|TCPMemoryShort|" + leak + "|09:01:00",
		"restarting|True|TCPMemoryShort|" + leak + "; restarting|09:02:00",
		"gone|Unknown|TCPMemoryChecked|unknown: tcpmemd is not running|09:02:30",
		"still gone|Unknown|TCPMemoryChecked|unknown: tcpmemd is not running|09:02:30",
		"back|True|TCPMemoryShort|" + leak + "; restarting|09:03:30",
		"calm again|False|TCPMemoryChecked|TCP memory is not short|09:04:00",
		"unknown|Unknown|TCPMemoryChecked|unknown: tcpmemd does not know the level of this host|09:04:30",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if m.Updates != 7 {
		t.Errorf("%d updates, want one for each change", m.Updates)
	}
}

// TestHangingDaemon: one that is stopped still has connections taken for it by
// the kernel. The line is ours, and comes before the detector's timeout.
func TestHangingDaemon(t *testing.T) {
	runtime.LockOSThread() // Pdeathsig comes when this thread ends
	defer runtime.UnlockOSThread()
	socket := filepath.Join(t.TempDir(), "s")
	m := detector(t, socket)
	daemon := exec.CommandContext(t.Context(), "/proc/self/exe")
	daemon.Env = append(os.Environ(), envServe+"="+socket)
	daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = daemon.Process.Kill(); _ = daemon.Wait() })
	for range 200 {
		if m.Turn(apitest.At); m.Conditions[0].Status == "False" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if m.Conditions[0].Status != "False" {
		t.Fatalf("the daemon does not come up: %+v", m.Conditions)
	}
	if err := daemon.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	result := m.Turn(apitest.At)
	if c := m.Conditions[0]; c.Status != "Unknown" || c.Message != "unknown: no answer within 2s" || result.Stderr != "" {
		t.Errorf("%+v, standard error %q", c, result.Stderr)
	}
	if err := daemon.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if m.Turn(apitest.At); m.Conditions[0].Status != "False" {
		t.Errorf("when it goes on: %+v", m.Conditions)
	}
}
