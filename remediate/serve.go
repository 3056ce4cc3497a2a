package remediate

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

// What a plugin finds in its environment when tcpmemd starts it. The cookie is
// no secret: it tells a plugin that was started by hand to say so.
const (
	CookieKey   = "TCPMEMD_PLUGIN"
	CookieValue = "remediate"
)

// Limits of a message, both ways.
const (
	MaxRequestBytes = 16 << 20 // many sockets
	MaxAnswerBytes  = 1 << 20
)

// lastWords is how long calls under way have to end after the host is gone.
const lastWords = 2 * time.Second

// Serve is the whole main of a plugin: it shakes hands, answers tcpmemd until
// that asks it to stop, and returns. It also ends the process when tcpmemd is
// gone, however that ended: tcpmemd keeps the writing end of the plugin's
// standard input and writes nothing, so an end of file there means that the
// kernel has closed it. (A death signal, PR_SET_PDEATHSIG, would be sent when
// the thread that started the plugin ends, and Go ends threads.)
//
// Standard output and error go to tcpmemd's log, a line at a time.
func Serve(a Action) {
	s := newServer(a)
	if isPipe(os.Stdin) && os.Getenv(CookieKey) == CookieValue {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			s.abandon()
			os.Exit(1)
		}()
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  ProtocolVersion,
			MagicCookieKey:   CookieKey,
			MagicCookieValue: CookieValue,
		},
		Plugins: plugin.PluginSet{"action": &glue{server: s}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts,
				grpc.MaxRecvMsgSize(MaxRequestBytes+64<<10), grpc.MaxSendMsgSize(MaxAnswerBytes))...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard}),
	})
}

// Register offers a on s, as Serve does, for tests without a process.
func Register(s grpc.ServiceRegistrar, a Action) {
	proto.RegisterActionServer(s, newServer(a))
}

// isPipe says whether f can tell of the other side's end.
func isPipe(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
}

// glue is the server in go-plugin's words.
type glue struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

func (g *glue) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	proto.RegisterActionServer(s, g.server)
	return nil
}

func (g *glue) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return proto.NewActionClient(conn), nil
}

// server adapts an Action to the protocol.
type server struct {
	proto.UnimplementedActionServer
	action Action

	gone  context.Context // ends with the host
	leave context.CancelFunc
	mu    sync.RWMutex // read-locked by each call under way
}

func newServer(a Action) *server {
	s := &server{action: a}
	s.gone, s.leave = context.WithCancel(context.Background())
	return s
}

// abandon cancels what is under way and waits a little for its end.
func (s *server) abandon() {
	s.leave()
	ended := make(chan struct{})
	go func() {
		s.mu.Lock()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(lastWords):
	}
}

// begin gives a call its context: it ends at the deadline (milliseconds since
// 1970, 0 for none), when the caller cancels, and when the host is gone.
func (s *server) begin(ctx context.Context, deadline int64) (context.Context, func()) {
	s.mu.RLock()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.gone, cancel)
	if deadline != 0 {
		var inner context.CancelFunc
		outer := cancel
		ctx, inner = context.WithDeadline(ctx, time.UnixMilli(deadline))
		cancel = func() { inner(); outer() }
	}
	return ctx, func() {
		stop()
		cancel()
		s.mu.RUnlock()
	}
}

func (s *server) Describe(context.Context, *proto.DescribeRequest) (d *proto.Description, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in Describe: %s", panicText(p))
		}
	}()
	desc := s.action.Describe()
	if _, ok := s.action.(Undoer); desc.CanUndo && !ok {
		return nil, fmt.Errorf("describe %s: CanUndo is set but there is no Undo", desc.Name)
	}
	return descriptionToProto(desc), nil
}

func (s *server) Validate(ctx context.Context, r *proto.ValidateRequest) (v *proto.ValidateResponse, err error) {
	ctx, end := s.begin(ctx, 0)
	defer end()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in Validate: %s", panicText(p))
		}
	}()
	return problemsToProto(s.action.Validate(ctx, settingsFromProto(r.GetSettingsJson()))), nil
}

func (s *server) Run(ctx context.Context, r *proto.RunRequest) (*proto.Response, error) {
	ctx, end := s.begin(ctx, r.GetDeadlineUnixMs())
	defer end()
	return answer(ctx, func() (*Response, error) {
		return s.action.Run(ctx, requestFromProto(r))
	}), nil
}

func (s *server) Undo(ctx context.Context, r *proto.UndoRequest) (*proto.Response, error) {
	ctx, end := s.begin(ctx, r.GetDeadlineUnixMs())
	defer end()
	return answer(ctx, func() (*Response, error) {
		u, ok := s.action.(Undoer)
		if !ok {
			return &Response{Result: Refused, Code: "no-undo", Message: "this action cannot be undone"}, nil
		}
		return u.Undo(ctx, undoFromProto(r))
	}), nil
}
