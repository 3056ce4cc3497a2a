package runner

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/launch"
	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

func fault(t testing.TB, args string) Plugin {
	return Plugin{Name: "fault", Path: program(t), Args: []string{args}}
}

func soon() time.Time { return time.Now().Add(10 * time.Second) }

func run(t *testing.T, r *Runner) *remediate.Response {
	t.Helper()
	resp, err := r.Run(t.Context(), "fault", &remediate.Request{Deadline: soon()})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func kindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

// TestReady: the same process serves until the host is calm again.
func TestReady(t *testing.T) {
	r := newRunner(t, io.Discard, fault(t, "good"), Plugin{Name: "other", Path: program(t), Args: []string{"another name"}})
	pid := func() int { return r.Status()[0].PID }
	if err := r.Ready(t.Context(), "fault"); err != nil {
		t.Fatal(err)
	}
	first := pid()
	if first == 0 {
		t.Fatal("no process is ready")
	}
	for range 3 {
		run(t, r)
	}
	if pid() != first {
		t.Errorf("process %d after the calls, %d before", pid(), first)
	}
	if err := r.Ready(t.Context(), "fault", "other"); kindOf(err) != KindInvalidAnswer {
		t.Errorf("an unfit plugin is ready: %v", err)
	}
	if pid() != first {
		t.Error("the fit plugin was started anew")
	}

	unix.Kill(first, unix.SIGKILL) // dies while nobody calls
	for end := soon(); pid() != 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	run(t, r)
	if second := pid(); second == first || second == 0 {
		t.Errorf("process %d after the death of %d", second, first)
	}
	if err := r.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pid() != 0 || len(r.family.children()) > 0 {
		t.Errorf("calm, but process %d is there (%v)", pid(), r.family.children())
	}
	if got := r.Status()[0]; got.Calls != 4 || got.Failures != 0 || got.Description == nil {
		t.Errorf("status %+v", got)
	}
	if err := r.Ready(t.Context(), "nobody"); kindOf(err) != KindUnknown {
		t.Errorf("unknown plugin: %v", err)
	}
}

// TestReplaced: a new file at the path is a new plugin, also for one that is
// ready.
func TestReplaced(t *testing.T) {
	p := fault(t, "good")
	r := newRunner(t, io.Discard, p)
	if err := r.Ready(t.Context(), "fault"); err != nil {
		t.Fatal(err)
	}
	before := r.Status()[0].PID
	ownCopy(t, &p)
	run(t, r)
	if after := r.Status()[0].PID; after == before {
		t.Errorf("process %d still acts", before)
	}
}

// TestSwapped exchanges the file between check and start: what was checked is
// what runs.
func TestSwapped(t *testing.T) {
	p := fault(t, "good")
	sum := func() string {
		f, err := open(p.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.sum(); err != nil {
			t.Fatal(err)
		}
		return f.info.SHA256
	}
	p.SHA256 = sum()
	r := newRunner(t, io.Discard, p)
	swapped := 0
	r.afterVerify = func() {
		swapped++
		must(t, os.Rename(p.Path, p.Path+"-away"))
		must(t, os.WriteFile(p.Path, []byte("#!/bin/sh\nexit 7\n"), 0o755)) //nolint:gosec // as a program
	}
	if problems, err := r.Validate(t.Context(), "fault", nil); err != nil || problems != nil {
		t.Errorf("the checked file did not run: %v, %v", problems, err)
	}
	r.afterVerify = nil
	if _, err := r.Validate(t.Context(), "fault", nil); kindOf(err) != KindChecksum || swapped != 1 {
		t.Errorf("the new file: %v", err)
	}
}

func TestScript(t *testing.T) {
	p := fault(t, "good")
	script := filepath.Join(filepath.Dir(p.Path), "script")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\nexec "+p.Path+" good\n"), 0o755)) //nolint:gosec // as a program
	p.Path, p.Args = script, nil
	r := newRunner(t, io.Discard, p)
	if resp := run(t, r); resp.Result != remediate.Done {
		t.Errorf("response %+v", resp)
	}
	// A child of the script listens.
	must(t, os.WriteFile(script, []byte("#!/bin/sh\n"+filepath.Join(filepath.Dir(script), "plugin")+" good\nexit 0\n"), 0o755)) //nolint:gosec // as a program
	if resp := run(t, r); resp.Result != remediate.Done {
		t.Errorf("response %+v", resp)
	}
	f, err := r.Verify("fault")
	if err != nil || !f.Script || len(f.SHA256) != 64 || f.Path != script {
		t.Errorf("verify: %+v, %v", f, err)
	}
}

// TestRights: a plugin has what it declared and no more.
func TestRights(t *testing.T) {
	needRoot(t)
	t.Setenv("SECRET", "of the host")
	p := fault(t, "rights")
	p.Env = []string{"EXTRA=1"}
	r := newRunner(t, io.Discard, p)
	leaked, err := unix.Open("/dev/null", unix.O_RDONLY, 0) // without close-on-exec
	must(t, err)
	defer unix.Close(leaked)
	text := run(t, r).Message
	for _, want := range []string{
		"CapInh: 0000000000001000\n", "CapPrm: 0000000000001000\n", "CapEff: 0000000000001000\n",
		"CapBnd: 0000000000001000\n", "CapAmb: 0000000000001000\n", "NoNewPrivs: 1\n",
		"env PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 EXTRA=1 TCPMEMD_PLUGIN=remediate PLUGIN_PROTOCOL_VERSIONS=1 PLUGIN_UNIX_SOCKET_DIR=" + r.cfg.Dir + "/fault-2 TMPDIR=" + r.cfg.Dir + "/fault-2\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	_, fds, _ := strings.Cut(text, "\nfds ")
	if strings.Contains(fds, "/dev/null") || strings.Contains(fds, "plugin") {
		t.Errorf("inherited: %s", fds)
	}
}

// TestNoCapabilities: checking settings needs none, whatever is declared.
func TestNoCapabilities(t *testing.T) {
	needRoot(t)
	r := newRunner(t, io.Discard, fault(t, "rights"))
	s := r.slots["fault"]
	p, err := r.start(t.Context(), s, nil)
	must(t, err)
	defer p.kill()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid()) + "/status")
	must(t, err)
	for _, set := range []string{"CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if !strings.Contains(string(status), set+":\t0000000000000000\n") {
			t.Errorf("%s is not empty", set)
		}
	}
}

func TestUser(t *testing.T) {
	needRoot(t)
	p := fault(t, "user")
	p.User = &launch.User{UID: 65534, GID: 65534}
	r := newRunner(t, io.Discard, p)
	text := run(t, r).Message
	for _, want := range []string{"Uid: 65534 65534 65534 65534\n", "Groups:\n", "CapEff: 0000000000000000\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

func TestSettings(t *testing.T) {
	p := fault(t, "good")
	p.Settings = remediate.Settings(`{"key":"wrong"}`)
	r := newRunner(t, io.Discard, p)
	want := []remediate.Problem{{Setting: "key", Message: `is wrong\a`}}
	for settings, want := range map[string][]remediate.Problem{
		"": want, `{"other":1}`: want, `{"key":"right"}`: nil,
		`[]`: {{Message: "read settings: json: cannot unmarshal array into Go value of type map[string]json.RawMessage"}},
	} {
		got, err := r.Validate(t.Context(), "fault", remediate.Settings(settings))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: problems (-want +got):\n%s", settings, diff)
		}
	}
}

func TestTells(t *testing.T) {
	r := newRunner(t, io.Discard, fault(t, "tells"))
	if d, err := r.Describe(t.Context(), "fault"); err != nil || d.Touches != remediate.TouchesNothing || !d.CanUndo {
		t.Errorf("%+v, %v", d, err)
	}
	resp, err := r.Run(t.Context(), "fault", &remediate.Request{DryRun: true}) // without a deadline
	if err != nil || resp.Result != remediate.DryRun {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestCanceled(t *testing.T) {
	r := newRunner(t, io.Discard, fault(t, "hangs in run"))
	must(t, r.Ready(t.Context(), "fault"))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	began := time.Now()
	_, err := r.Run(ctx, "fault", &remediate.Request{Deadline: soon()})
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindCanceled || !strings.Contains(err.Error(), "you cancelled") || e.Result() != remediate.Interrupted {
		t.Errorf("error %v", err)
	}
	if time.Since(began) > 3*time.Second {
		t.Errorf("took %v", time.Since(began))
	}
	if pid := r.Status()[0].PID; pid != 0 {
		t.Errorf("process %d is used again", pid)
	}
}

// TestBusy: a second call waits for its turn, no longer than its deadline.
func TestBusy(t *testing.T) {
	r := newRunner(t, io.Discard, fault(t, "hangs in run"))
	must(t, r.Ready(t.Context(), "fault"))
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = r.Run(t.Context(), "fault", &remediate.Request{Deadline: time.Now().Add(2 * time.Second)})
	})
	time.Sleep(100 * time.Millisecond)
	_, err := r.Undo(t.Context(), "fault", &remediate.UndoRequest{Deadline: time.Now()})
	if kindOf(err) != KindBusy {
		t.Errorf("error %v", err)
	}
	if _, err := r.Validate(t.Context(), "fault", nil); err != nil {
		t.Errorf("validate meanwhile: %v", err)
	}
	wg.Wait()
}

// TestClose ends what is under way, and nothing begins after.
func TestClose(t *testing.T) {
	before, fds := goleak.IgnoreCurrent(), descriptors(os.Getpid())
	r := newRunner(t, io.Discard, fault(t, "hangs in run"))
	must(t, r.Ready(t.Context(), "fault"))
	ended := make(chan error)
	go func() {
		_, err := r.Run(context.Background(), "fault", &remediate.Request{Deadline: soon()})
		ended <- err
	}()
	time.Sleep(100 * time.Millisecond)
	must(t, r.Close(t.Context()))
	if err := <-ended; kindOf(err) != KindCanceled && kindOf(err) != KindClosed {
		t.Errorf("the call under way: %v", err)
	}
	if _, err := r.Describe(t.Context(), "fault"); err != nil && kindOf(err) != KindClosed {
		t.Errorf("describe: %v", err)
	}
	if _, err := r.Run(t.Context(), "fault", &remediate.Request{}); kindOf(err) != KindClosed {
		t.Errorf("run: %v", err)
	}
	nothingLeft(t, r, fds, before)
}

// TestHostKilled: a plugin does not outlive a daemon that had no time to end
// it, whatever it is doing, and the next daemon clears its folder.
func TestHostKilled(t *testing.T) {
	for _, fault := range []string{"good", "honours the deadline", "ignores its host's end"} {
		t.Run(fault, func(t *testing.T) { testHostKilled(t, fault) })
	}
}

func testHostKilled(t *testing.T, fault string) {
	dir, path := filepath.Join(safeDir(t), "run"), program(t)
	host := exec.CommandContext(t.Context(), path, "host", dir, path, fault)
	out, err := host.StdoutPipe()
	must(t, err)
	must(t, host.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid == 0 {
		t.Fatalf("the host says %q", line)
	}
	plugin, err := unix.PidfdOpen(pid, 0)
	must(t, err)
	defer unix.Close(plugin)
	must(t, host.Process.Kill())
	_ = host.Wait()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(plugin), Events: unix.POLLIN}}, 5000)
	if err != nil || n != 1 {
		t.Errorf("process %d outlives its host: %v", pid, err)
	}
	_, _ = unix.Wait4(pid, nil, 0, nil) // ours, if another test has made us the reaper
	if left, _ := os.ReadDir(dir); len(left) == 0 {
		t.Error("the killed host left nothing to clear")
	}
	r, err := New(Config{Dir: dir, Launcher: path})
	must(t, err)
	must(t, r.Close(t.Context()))
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left in the folder: %v", left)
	}
}

// TestZombies: what a plugin that stays has left behind, and has ended, is
// reaped though the plugin lives.
func TestZombies(t *testing.T) {
	r := newRunner(t, io.Discard, fault(t, "forks away, children die"))
	must(t, r.Ready(t.Context(), "fault"))
	pid := r.Status()[0].PID
	// Each call reaps what the one before has left: on a slow machine all of it
	// may be gone after the last.
	most := 0
	for range 3 {
		run(t, r)
		for range 20 {
			most = max(most, len(r.family.children()))
			time.Sleep(20 * time.Millisecond)
		}
	}
	if most < 2 {
		t.Errorf("%d children at most: nothing was left behind", most)
	}
	_, err := r.Undo(t.Context(), "fault", &remediate.UndoRequest{Deadline: soon()})
	must(t, err)
	if kids := r.family.children(); len(kids) != 1 || kids[0] != pid {
		t.Errorf("children %v, want %d alone", kids, pid)
	}
}

func TestNewRefuses(t *testing.T) {
	dir, path := safeDir(t), program(t)
	for name, cfg := range map[string]Config{
		"name":     {Dir: dir, Launcher: path, Plugins: []Plugin{{Name: "../x", Path: path}}},
		"twice":    {Dir: dir, Launcher: path, Plugins: []Plugin{{Name: "x", Path: path}, {Name: "x", BuiltIn: true}}},
		"relative": {Dir: dir, Launcher: path, Plugins: []Plugin{{Name: "x", Path: "x"}}},
		"checksum": {Dir: dir, Launcher: path, Plugins: []Plugin{{Name: "x", Path: path, SHA256: "12"}}},
		"settings": {Dir: dir, Launcher: path, Plugins: []Plugin{{Name: "x", Path: path, Settings: remediate.Settings("1")}}},
		"folder":   {Dir: "run", Launcher: path},
		"too deep": {Dir: dir + strings.Repeat("/x", 40), Launcher: path},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestGoPluginClient: a plugin that is served so can be called by go-plugin's
// own host, too.
func TestGoPluginClient(t *testing.T) {
	cmd := exec.Command(program(t), "good")
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: remediate.ProtocolVersion, MagicCookieKey: remediate.CookieKey, MagicCookieValue: remediate.CookieValue,
		},
		Plugins: plugin.PluginSet{"action": caller{}}, Cmd: cmd, SkipHostEnv: true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, Logger: hclog.NewNullLogger(),
	})
	defer client.Kill()
	rpc, err := client.Client()
	must(t, err)
	action, err := rpc.Dispense("action")
	must(t, err)
	d, err := action.(proto.ActionClient).Describe(t.Context(), &proto.DescribeRequest{})
	if err != nil || d.GetName() != "fault" {
		t.Errorf("%v, %v", d, err)
	}
}

// caller is the client's half of an action for go-plugin.
type caller struct{ plugin.NetRPCUnsupportedPlugin }

func (caller) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (caller) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return proto.NewActionClient(conn), nil
}
