package control_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/control"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(asStranger); socket != "" {
		stranger(socket)
		return
	}
	goleak.VerifyTestMain(m)
}

// serve runs a server until the test ends and returns its socket.
func serve(t *testing.T, source control.Source, timeout time.Duration) string {
	t.Helper()
	l := listen(t, filepath.Join(t.TempDir(), "s"))
	server := control.New(control.Config{Listener: l, Source: source, Log: slog.New(slog.DiscardHandler), Timeout: timeout})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	<-server.Ready()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, err := os.Lstat(l.Path()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("socket after Run: %v, want it gone", err)
		}
	})
	return l.Path()
}

func listen(t *testing.T, path string) *control.Listener {
	t.Helper()
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, socket string) *api.Client {
	c := api.Dial(socket)
	t.Cleanup(c.Close)
	return c
}

func TestDocumentsComeThrough(t *testing.T) {
	host := apitest.Leak()
	c, ctx, m := dial(t, serve(t, host, 0)), t.Context(), host.Meta()
	compare := func(want, got any, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	owners, err := c.Owners(ctx, true)
	compare(api.OwnersFrom(m, &host.Reading), owners, err)
	status, err := c.Status(ctx)
	compare(api.StatusFrom(m, api.StateOf(&host.Reading)), status, err)
	orphans, err := c.Orphans(ctx, false)
	want, _ := api.CollectOrphans(ctx, m, &host.Reading, host)
	compare(want, orphans, err)
	doctor, err := c.Doctor(ctx)
	compare(api.DoctorFrom(m, host.Checks), doctor, err)
	groups, err := c.Groups(ctx, api.ByRemote, false)
	wantGroups, _ := api.CollectGroups(ctx, m, &host.Reading, host, api.ByRemote)
	compare(wantGroups, groups, err)
	if _, fresh := host.Reads(); fresh != 1 {
		t.Errorf("%d fresh readings, want the 1 that was asked for", fresh)
	}
}

func TestSockets(t *testing.T) {
	host := apitest.Leak()
	c := dial(t, serve(t, host, 0))
	for _, tt := range []struct {
		query           api.SocketQuery
		matched, listed int
	}{
		{api.SocketQuery{}, len(host.SocketList), len(host.SocketList)},
		{api.SocketQuery{Limit: 5}, len(host.SocketList), 5},
		{api.SocketQuery{Limit: 5000}, len(host.SocketList), len(host.SocketList)},
		{api.SocketQuery{Filter: "unit = task-queue.service and state close-wait"}, 900, 900},
		{api.SocketQuery{Filter: "container = worker", Limit: 3, Info: true}, 20, 3},
		{api.SocketQuery{Filter: "class hidden", Limit: 100}, 3, 3},
		{api.SocketQuery{Filter: "mem > 1T"}, 0, 0},
	} {
		doc, err := c.Sockets(t.Context(), tt.query)
		if err != nil {
			t.Errorf("%+v: %v", tt.query, err)
			continue
		}
		if err := doc.Validate(); err != nil {
			t.Errorf("%+v: %v", tt.query, err)
		}
		if int(doc.Matched.Sockets) != tt.matched || len(doc.Sockets) != tt.listed || doc.Filter != tt.query.Filter {
			t.Errorf("%+v: %d matched, %d listed, filter %q", tt.query, doc.Matched.Sockets, len(doc.Sockets), doc.Filter)
		}
		if got := tt.query.Info && doc.Sockets[0].TCPInfo != nil; got != tt.query.Info {
			t.Errorf("%+v: TCP info %v", tt.query, got)
		}
	}
}

// TestLargeLimit asks for more than the server collects: it streams, and the
// client cuts.
func TestLargeLimit(t *testing.T) {
	host := apitest.Many(5000)
	doc, err := dial(t, serve(t, host, 0)).Sockets(t.Context(), api.SocketQuery{Limit: 4500})
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(); err != nil {
		t.Error(err)
	}
	if len(doc.Sockets) != 4500 || doc.Truncated.Sockets != 500 {
		t.Errorf("%d sockets and %d cut off, want 4500 and 500", len(doc.Sockets), doc.Truncated.Sockets)
	}
}

func TestRefusals(t *testing.T) {
	c := dial(t, serve(t, apitest.Leak(), 0))
	for name, tt := range map[string]struct {
		query api.SocketQuery
		want  string
	}{
		"filter":   {api.SocketQuery{Filter: "unti = x"}, `ask daemon: parse filter: column 1: unknown field "unti", did you mean "unit"?`},
		"limit":    {api.SocketQuery{Limit: -1}, `ask daemon: limit "-1" is not a whole number`},
		"all info": {api.SocketQuery{Info: true}, "ask daemon: TCP info is asked for at most 256 sockets at a time: set a limit"},
		"long":     {api.SocketQuery{Filter: strings.Repeat("x", 5000)}, "ask daemon: parse filter: column 4097: longer than 4096 bytes"},
		"very long": {
			api.SocketQuery{Filter: strings.Repeat("x", 64<<10)},
			"ask daemon: 431 Request Header Fields Too Large",
		},
	} {
		_, err := c.Sockets(t.Context(), tt.query)
		refusal, ok := errors.AsType[*api.RequestError](err)
		if !ok || refusal.Error() != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	if _, err := c.Groups(t.Context(), "colour", false); err == nil || !strings.Contains(err.Error(), `unknown grouping "colour"`) {
		t.Errorf("group by colour: %v", err)
	}
}

func TestErrorOfTheSource(t *testing.T) {
	host := apitest.Leak()
	host.Err = errors.New("dump sockets: device or resource busy")
	c := dial(t, serve(t, host, 0))
	want := "ask daemon: dump sockets: device or resource busy"
	if _, err := c.Owners(t.Context(), false); err == nil || err.Error() != want {
		t.Errorf("owners: %v, want %s", err, want)
	}
	if _, err := c.Sockets(t.Context(), api.SocketQuery{}); err == nil || err.Error() != want {
		t.Errorf("sockets: %v, want %s", err, want)
	}
}

// breaking fails after some sockets have gone out.
type breaking struct{ *apitest.Host }

func (b breaking) Sockets(ctx context.Context, want func(*reading.Socket) bool, yield func(*reading.Socket) error) error {
	n := 0
	return b.Host.Sockets(ctx, want, func(s *reading.Socket) error {
		if n++; n > 1000 {
			return errors.New("dump sockets: interrupted")
		}
		return yield(s)
	})
}

func TestErrorInTheMiddleIsNoShortList(t *testing.T) {
	c := dial(t, serve(t, breaking{apitest.Leak()}, 0))
	if _, err := c.Sockets(t.Context(), api.SocketQuery{}); err == nil || err.Error() != "ask daemon: dump sockets: interrupted" {
		t.Errorf("got %v", err)
	}
}

func TestDeadline(t *testing.T) {
	host := apitest.Leak()
	host.Block = make(chan struct{})
	c := dial(t, serve(t, host, 20*time.Millisecond))
	_, err := c.Owners(t.Context(), false)
	if err == nil || err.Error() != "ask daemon: no answer within 20ms" {
		t.Errorf("got %v", err)
	}
}

// entered says when a request has reached the source, where it waits.
type entered struct {
	*apitest.Host
	in chan struct{}
}

func (e entered) Read(ctx context.Context, fresh bool) (*reading.Reading, error) {
	e.in <- struct{}{}
	return e.Host.Read(ctx, fresh)
}

func TestBusy(t *testing.T) {
	host := apitest.Leak()
	host.Block = make(chan struct{})
	source := entered{host, make(chan struct{})}
	socket := serve(t, source, 10*time.Second)
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			c := api.Dial(socket)
			defer c.Close()
			if _, err := c.Owners(t.Context(), false); err != nil {
				t.Errorf("one of eight: %v", err)
			}
		})
		<-source.in
	}
	_, err := dial(t, socket).Owners(t.Context(), false)
	refusal, ok := errors.AsType[*api.RequestError](err)
	if !ok || refusal.Status != 503 || refusal.Message != "8 requests are being answered already, try again" {
		t.Errorf("ninth: %v", err)
	}
	close(host.Block)
	running.Wait()
}

func TestManyConnections(t *testing.T) {
	socket := serve(t, apitest.Leak(), 0)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range 64 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	c := dial(t, socket)
	_, err := c.Status(t.Context())
	if refusal, ok := errors.AsType[*api.RequestError](err); !ok || refusal.Message != "too many connections are open, try again" {
		t.Errorf("65th connection: %v", err)
	}
	open[0].Close()
	for range 100 {
		if _, err = c.Status(t.Context()); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("after one was closed: %v", err)
}

func TestSocketMode(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	info, err := os.Lstat(listen(t, filepath.Join(t.TempDir(), "s")).Path())
	if err != nil {
		t.Fatal(err)
	}
	if want := fs.ModeSocket | 0o660; info.Mode() != want {
		t.Errorf("mode %v, want %v", info.Mode(), want)
	}
}

func TestSecondDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first := listen(t, path)
	_, err := control.Listen(path)
	if _, ok := errors.AsType[*control.InUseError](err); !ok {
		t.Fatalf("second: %v, want InUseError", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the first's socket: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	listen(t, path)
}

func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	listen(t, path)
}

func TestListenKeepsWhatIsNoSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(path); err == nil || !strings.HasSuffix(err.Error(), "something that is no socket is there") {
		t.Errorf("got %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Errorf("the file holds %q", text)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if _, err := control.Listen(long); err == nil || !strings.HasSuffix(err.Error(), "longer than 107 bytes") {
		t.Errorf("long path: %v", err)
	}
}

func TestNotRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	check := func(what string) {
		t.Helper()
		c := dial(t, path)
		_, err := c.Status(t.Context())
		if _, ok := errors.AsType[*api.NotRunningError](err); !ok {
			t.Errorf("%s: %v (%T), want NotRunningError", what, err, err)
		}
	}
	check("no socket")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	check("a dead daemon's socket")
}

// peers remembers who asked.
type peers struct {
	*apitest.Host
	got chan control.Peer
}

func (p peers) State(ctx context.Context) (api.State, error) {
	peer, _ := control.PeerOf(ctx)
	p.got <- peer
	return p.Host.State(ctx)
}

func TestPeerCredentials(t *testing.T) {
	source := peers{apitest.Leak(), make(chan control.Peer, 1)}
	if _, err := dial(t, serve(t, source, 0)).Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := control.Peer{PID: int32(os.Getpid()), UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	if diff := cmp.Diff(want, <-source.got); diff != "" {
		t.Errorf("peer: (-want +got)\n%s", diff)
	}
}

func TestStopWhileAnswering(t *testing.T) {
	host := apitest.Leak()
	host.Block = make(chan struct{}) // never opened
	l := listen(t, filepath.Join(t.TempDir(), "s"))
	server := control.New(control.Config{Listener: l, Source: host, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done, answered := make(chan error, 1), make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	c := dial(t, l.Path())
	go func() {
		_, err := c.Owners(t.Context(), false)
		answered <- err
	}()
	time.Sleep(50 * time.Millisecond)
	cancel()
	if err := <-answered; err == nil || err.Error() != "ask daemon: the daemon is stopping" {
		t.Errorf("request under way: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}
