package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/launch"
	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

// The test binary is also the launcher, every plugin, and what plugins start.
func TestMain(m *testing.M) {
	switch args := os.Args[1:]; {
	case len(args) > 0 && args[0] == "--launch":
		os.Exit(launch.Main(args[1:]))
	case len(args) == 2 && args[0] == "sleep":
		d, _ := time.ParseDuration(args[1])
		time.Sleep(d)
		os.Exit(0)
	case len(args) == 3 && args[0] == "away":
		away(args[1], args[2])
		os.Exit(0)
	case len(args) == 4 && args[0] == "host":
		beHost(args[1], args[2], args[3])
	case len(args) == 1 && os.Getenv(remediate.CookieKey) == remediate.CookieValue:
		bePlugin(args[0])
		os.Exit(0)
	}
	status := m.Run()
	removeMaster()
	os.Exit(status)
}

// bePlugin misbehaves as its argument says.
func bePlugin(fault string) {
	socket := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "s")
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	forever := func() { time.Sleep(time.Hour) }
	switch fault {
	case "dies at start":
		fmt.Fprintln(os.Stderr, "no \x1b[31mway")
		os.Exit(3)
	case "ends at start":
		os.Exit(0)
	case "killed at start":
		unix.Kill(os.Getpid(), unix.SIGKILL)
	case "stops at start":
		unix.Kill(os.Getpid(), unix.SIGSTOP)
		time.Sleep(100 * time.Millisecond)
	case "no handshake":
		forever()
	case "closes stdout":
		os.Stdout.Close()
		forever()
	case "handshake late":
		time.Sleep(1500 * time.Millisecond)
	case "handshake garbage":
		say("hello")
		forever()
	case "handshake long":
		say("%s", strings.Repeat("x", 1<<20))
		forever()
	case "handshake binary":
		say("1|1|unix|\x00\xff\x1b[2J|grpc")
		forever()
	case "core version":
		say("2|1|unix|%s|grpc", socket)
		forever()
	case "protocol version":
		say("1|2|unix|%s|grpc", socket)
		forever()
	case "tcp address":
		say("1|1|tcp|127.0.0.1:10000|grpc")
		forever()
	case "net/rpc":
		say("1|1|unix|%s|netrpc", socket)
		forever()
	case "certificate":
		say("1|1|unix|%s|grpc|%s", socket, strings.Repeat("MII", 30))
		forever()
	case "address outside":
		say("1|1|unix|%s/../../control.sock|grpc", filepath.Dir(socket))
		forever()
	case "address no socket":
		_ = os.WriteFile(socket, nil, 0o600)
		say("1|1|unix|%s|grpc", socket)
		forever()
	case "another's socket":
		if err := os.Link(filepath.Join(filepath.Dir(socket), "..", "foreign"), socket); err != nil {
			panic(err)
		}
		say("1|1|unix|%s|grpc", socket)
		forever()
	case "hangs at end":
		signal.Ignore(unix.SIGTERM, unix.SIGINT)
		serveRaw(socket, done())
	case "unknown enum":
		serveRaw(socket, encoded(&proto.Response{Result: 99}))
	case "invalid UTF-8":
		raw := protowire.AppendTag(encoded(&proto.Response{Result: proto.Result_RESULT_DONE}), 3, protowire.BytesType)
		serveRaw(socket, protowire.AppendString(raw, "a\xffb"))
	case "no message at all":
		serveRaw(socket, []byte{0xff, 0xff, 0xff})
	case "answers twice":
		serveRaw(socket, done(), done())
	case "megabyte answer":
		serveRaw(socket, encoded(&proto.Response{Result: proto.Result_RESULT_DONE, Message: strings.Repeat("x", 2<<20)}))
	case "long message":
		serveRaw(socket, encoded(&proto.Response{Result: proto.Result_RESULT_DONE, Message: strings.Repeat("x", 100<<10)}))
	case "undo no JSON":
		serveRaw(socket, encoded(&proto.Response{Result: proto.Result_RESULT_DONE, UndoJson: "{"}))
	case "negative prediction":
		serveRaw(socket, encoded(&proto.Response{Result: proto.Result_RESULT_DONE, Predicted: map[string]int64{"owned": -1}}))
	case "never accepts", "hangs up", "speaks garbage":
		l, err := net.Listen("unix", socket)
		if err != nil {
			panic(err)
		}
		say("1|1|unix|%s|grpc", socket)
		for fault != "never accepts" {
			conn, err := l.Accept()
			if err != nil {
				panic(err)
			}
			if fault == "speaks garbage" {
				_, _ = conn.Write(bytes.Repeat([]byte("\x1b[2J"), 1000))
			}
			conn.Close()
		}
		forever()
	case "handshake twice":
		serveRaw(socket, done())
	}
	remediate.Serve(action{fault})
}

func encoded(m pb.Message) []byte {
	b, err := pb.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func done() []byte { return encoded(&proto.Response{Result: proto.Result_RESULT_DONE}) }

// raw is a message whose encoding is given.
func raw(b []byte) *emptypb.Empty {
	m := &emptypb.Empty{}
	m.ProtoReflect().SetUnknown(b)
	return m
}

// serveRaw answers each Run with the given bytes, one message for each. It
// knows no other service and never ends.
func serveRaw(socket string, answers ...[]byte) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		panic(err)
	}
	reply := func(b ...[]byte) grpc.StreamHandler {
		return func(_ any, s grpc.ServerStream) error {
			if err := s.RecvMsg(&emptypb.Empty{}); err != nil {
				return err
			}
			for _, b := range b {
				if err := s.SendMsg(raw(b)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "remediate.v1.Action", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "Describe", ServerStreams: true, Handler: reply(encoded(&proto.Description{Name: "fault", Touches: proto.Touches_TOUCHES_HOST}))},
			{StreamName: "Run", ServerStreams: true, Handler: reply(answers...)},
		},
	}, nil)
	fmt.Printf("1|1|unix|%s|grpc\n", socket)
	if os.Args[1] == "handshake twice" {
		fmt.Printf("1|1|tcp|127.0.0.1:1|grpc\n")
	}
	panic(s.Serve(l))
}

// action is the faults that need no more than the contract.
type action struct{ fault string }

func (a action) Describe() remediate.Description {
	d := remediate.Description{Name: "fault", Version: "1", About: "misbehaves", Touches: remediate.TouchesHost, CanUndo: true}
	switch a.fault {
	case "hangs in describe":
		time.Sleep(time.Hour)
	case "panics in describe":
		panic("no idea")
	case "another name":
		d.Name = "notify"
	case "unknown capability":
		d.Capabilities = []string{"CAP_EVERYTHING"}
	case "describes itself differently", "rights":
		d.Capabilities = []string{"CAP_NET_ADMIN"}
		if a.fault != "rights" && strings.Contains(statusLine("CapEff"), "1000") {
			d.Touches = remediate.TouchesNothing
		}
	case "tells":
		d.Touches = remediate.TouchesNothing
	}
	return d
}

func (a action) Validate(_ context.Context, s remediate.Settings) []remediate.Problem {
	switch a.fault {
	case "hangs in validate":
		time.Sleep(time.Hour)
	case "panics in validate":
		panic("no idea")
	}
	if strings.Contains(string(s), "wrong") {
		return []remediate.Problem{{Setting: "key", Message: "is wrong\x07"}}
	}
	return nil
}

func (a action) Undo(context.Context, *remediate.UndoRequest) (*remediate.Response, error) {
	if a.fault == "hangs in undo" {
		time.Sleep(time.Hour)
	}
	return &remediate.Response{Result: remediate.Done}, nil
}

func (a action) Run(ctx context.Context, r *remediate.Request) (*remediate.Response, error) {
	message := ""
	switch a.fault {
	case "dies in run":
		fmt.Fprintln(os.Stderr, "so long")
		os.Exit(3)
	case "killed in run":
		unix.Kill(os.Getpid(), unix.SIGKILL)
	case "ends in run":
		os.Exit(0)
	case "panics in run":
		panic("no idea")
	case "fails in run":
		return nil, errors.New("not today")
	case "no response":
		return nil, nil
	case "hangs in run", "ignores the deadline", "ignores its host's end":
		time.Sleep(time.Hour)
	case "honours the deadline":
		<-ctx.Done()
		return nil, ctx.Err()
	case "stops in run":
		unix.Kill(os.Getpid(), unix.SIGSTOP)
		time.Sleep(100 * time.Millisecond) // each thread stops in its own time
	case "acts in a dry run":
		return &remediate.Response{Result: remediate.Done}, nil
	case "delivers":
		return &remediate.Response{Result: remediate.Delivered}, nil
	case "result interrupted":
		return &remediate.Response{Result: remediate.Interrupted}, nil
	case "grandchild keeps stderr":
		start("sleep", "1h")
	case "grandchild keeps stderr, plugin dies":
		start("sleep", "1h")
		os.Exit(3)
	case "forks away":
		away("1h", "3")
	case "forks away, plugin dies":
		away("1h", "3")
		os.Exit(3)
	case "forks away, children die":
		away("1ms", "2")
	case "stderr flood":
		line := append(bytes.Repeat([]byte("x"), 100), '\n')
		for range 3 << 20 / len(line) {
			_, _ = syscall.Write(2, line)
		}
	case "stdout flood":
		line := bytes.Repeat([]byte("y"), 1<<20)
		fmt.Println(string(line))
		fmt.Println(string(line))
	case "stderr long line":
		_, _ = syscall.Write(2, bytes.Repeat([]byte("z"), 1<<20))
	case "stderr JSON":
		fmt.Fprintln(os.NewFile(2, ""), `{"@level":"error","@message":17,"@timestamp":"x"}`)
	case "stderr escape codes":
		fmt.Fprintln(os.NewFile(2, ""), "\x1b]0;owned\x07\xff level=ERROR msg=\"forged\"\r")
	case "leaks fds":
		n := 0
		for ; ; n++ {
			if _, err := os.Open("/dev/null"); err != nil {
				break
			}
		}
		message = fmt.Sprint(n)
	case "fills its folder":
		for i := 0; ; i++ {
			_ = os.WriteFile(filepath.Join(os.TempDir(), fmt.Sprint(i)), make([]byte, 256<<10), 0o600)
			time.Sleep(time.Millisecond)
		}
	case "a large file":
		err := os.WriteFile(filepath.Join(os.TempDir(), "large"), make([]byte, 8<<20), 0o600)
		message = fmt.Sprint(err)
	case "removes its folder":
		_ = os.RemoveAll(os.Getenv("TMPDIR"))
	case "rights", "user":
		message = strings.Join([]string{
			statusLine("CapInh"), statusLine("CapPrm"), statusLine("CapEff"), statusLine("CapBnd"), statusLine("CapAmb"),
			statusLine("NoNewPrivs"), statusLine("Uid"), statusLine("Groups"), "env " + strings.Join(os.Environ(), " "), "fds " + strings.Join(descriptors(os.Getpid()), " "),
		}, "\n")
	case "process name":
		message = statusLine("Name")
	}
	if r.DryRun {
		return &remediate.Response{Result: remediate.DryRun, Message: message}, nil
	}
	return &remediate.Response{Result: remediate.Done, Message: message}, nil
}

func start(args ...string) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{"X=y"}
	cmd.Stdout, cmd.Stderr = os.NewFile(1, ""), os.NewFile(2, "")
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: args[0] == "away"}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
}

// away starts a process in a session of its own whose parent ends, and that
// one another, to the given depth; the last stays for a time.
func away(stay, depth string) {
	if depth == "0" {
		d, _ := time.ParseDuration(stay)
		time.Sleep(d)
		return
	}
	start("away", stay, string(depth[0]-1))
	time.Sleep(20 * time.Millisecond)
}

func statusLine(key string) string {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, key+":") {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return ""
}

// descriptors are the open files of a process, "N target".
func descriptors(pid int) (fds []string) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			fds = append(fds, e.Name()+">"+to)
		}
	}
	return fds
}
