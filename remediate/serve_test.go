package remediate_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/internal/wire"
	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

// action does what a test says.
type action struct {
	description remediate.Description
	validate    func(context.Context, remediate.Settings) []remediate.Problem
	run         func(context.Context, *remediate.Request) (*remediate.Response, error)
}

func (a *action) Describe() remediate.Description { return a.description }

func (a *action) Validate(ctx context.Context, s remediate.Settings) []remediate.Problem {
	return a.validate(ctx, s)
}

func (a *action) Run(ctx context.Context, r *remediate.Request) (*remediate.Response, error) {
	return a.run(ctx, r)
}

// undoer can undo, too.
type undoer struct {
	action
	undo func(context.Context, *remediate.UndoRequest) (*remediate.Response, error)
}

func (u *undoer) Undo(ctx context.Context, r *remediate.UndoRequest) (*remediate.Response, error) {
	return u.undo(ctx, r)
}

func serve(t *testing.T, a remediate.Action) proto.ActionClient {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer()
	remediate.Register(s, a)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return proto.NewActionClient(conn)
}

// fill gives every field of a struct a value that is not its zero: a field
// that gets lost on the way is then missed.
func fill(v reflect.Value, n *int64) {
	*n++
	switch v.Type() {
	case reflect.TypeFor[json.RawMessage](), reflect.TypeFor[remediate.Settings]():
		v.SetBytes([]byte(`{"n":` + strings.Repeat("1", int(*n%7)+1) + `}`))
		return
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.UnixMilli(4e12 + *n).UTC()))
		return
	case reflect.TypeFor[remediate.Touches]():
		v.SetString(string(remediate.TouchesOwner))
		return
	case reflect.TypeFor[remediate.Result]():
		v.SetString(string(remediate.Done))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("s" + strings.Repeat("x", int(*n%50)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(*n)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float64:
		v.SetFloat(1 / float64(*n+1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		elem := reflect.New(v.Type().Elem()).Elem()
		fill(elem, n)
		v.SetMapIndex(reflect.ValueOf("owned"), elem)
	case reflect.Struct:
		for _, f := range v.Fields() {
			fill(f, n)
		}
	default:
		panic(v.Type())
	}
}

func filled[T any]() *T {
	v, n := new(T), int64(0)
	fill(reflect.ValueOf(v).Elem(), &n)
	return v
}

// TestFields sends every field of the contract there and back.
func TestFields(t *testing.T) {
	desc := filled[remediate.Description]()
	desc.Name, desc.Capabilities, desc.Evidence = "test", []string{"CAP_KILL"}, []string{"fd"}
	for i := range desc.Settings {
		desc.Settings[i].Name = "key" + string(rune('a'+i))
		desc.Settings[i].Type = "string"
	}
	resp := filled[remediate.Response]()
	var gotRequest *remediate.Request
	var gotUndo *remediate.UndoRequest
	var gotSettings remediate.Settings
	problems := []remediate.Problem{{Setting: "a", Message: "b"}}
	client := serve(t, &undoer{
		action: action{
			description: *desc,
			validate: func(_ context.Context, s remediate.Settings) []remediate.Problem {
				gotSettings = s
				return problems
			},
			run: func(_ context.Context, r *remediate.Request) (*remediate.Response, error) {
				gotRequest = r
				return resp, nil
			},
		},
		undo: func(_ context.Context, r *remediate.UndoRequest) (*remediate.Response, error) {
			gotUndo = r
			return resp, nil
		},
	})

	d, err := client.Describe(t.Context(), &proto.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	gotDesc, err := wire.Description("test", d)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "description", desc, gotDesc)

	v, err := client.Validate(t.Context(), &proto.ValidateRequest{SettingsJson: `{"a":1}`})
	if err != nil {
		t.Fatal(err)
	}
	gotProblems, err := wire.Problems(v)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "problems", problems, gotProblems)
	compare(t, "settings", `{"a":1}`, string(gotSettings))

	req := filled[remediate.Request]()
	r, err := client.Run(t.Context(), wire.RunRequest(req, string(req.Settings), req.Deadline))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "request", req, gotRequest)
	gotResponse, err := wire.Response(desc, wire.Run, r)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "response", resp, gotResponse)

	undo := filled[remediate.UndoRequest]()
	if _, err := client.Undo(t.Context(), wire.UndoRequest(undo, string(undo.Settings), undo.Deadline)); err != nil {
		t.Fatal(err)
	}
	compare(t, "undo request", undo, gotUndo)
}

func compare(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestAnswers: whatever an action does, the answer is one that tcpmemd takes.
func TestAnswers(t *testing.T) {
	long := strings.Repeat("ä\xff", 1<<20)
	tests := []struct {
		name string
		run  func(context.Context, *remediate.Request) (*remediate.Response, error)
		want remediate.Result
		code string
		says string
	}{
		{"nothing", func(context.Context, *remediate.Request) (*remediate.Response, error) { return nil, nil }, remediate.Failed, "no-answer", "without an answer"},
		{"error", func(context.Context, *remediate.Request) (*remediate.Response, error) {
			return nil, errors.New("no bus")
		}, remediate.Failed, "error", "no bus"},
		{"both", func(context.Context, *remediate.Request) (*remediate.Response, error) {
			return &remediate.Response{Result: remediate.Done, Undo: json.RawMessage(`1`)}, errors.New("half")
		}, remediate.Failed, "error", "half"},
		{"panic", func(context.Context, *remediate.Request) (*remediate.Response, error) { panic("oh") }, remediate.Failed, "panic", "oh"},
		{"deadline", func(ctx context.Context, _ *remediate.Request) (*remediate.Response, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, remediate.TimedOut, "deadline", "deadline exceeded"},
		{"long", func(context.Context, *remediate.Request) (*remediate.Response, error) {
			r := &remediate.Response{Result: remediate.Done, Message: long, Code: "code"}
			for range 5000 {
				r.Changes = append(r.Changes, remediate.Change{What: long, Before: long, After: long})
			}
			return r, nil
		}, remediate.Done, "code", " ..."},
		{"undo too long", func(context.Context, *remediate.Request) (*remediate.Response, error) {
			return &remediate.Response{Result: remediate.Done, Undo: json.RawMessage(`"` + strings.Repeat("x", 300<<10) + `"`)}, nil
		}, remediate.Failed, "answer-too-large", "limit"},
		{"undo no JSON", func(context.Context, *remediate.Request) (*remediate.Response, error) {
			return &remediate.Response{Result: remediate.Done, Message: "it is so", Undo: json.RawMessage(`{`)}, nil
		}, remediate.Failed, "invalid-answer", "it is so; what is needed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := serve(t, &action{run: tt.run})
			r, err := client.Run(t.Context(), &proto.RunRequest{DeadlineUnixMs: time.Now().Add(200 * time.Millisecond).UnixMilli()})
			if err != nil {
				t.Fatal(err)
			}
			got, err := wire.Response(&remediate.Description{Touches: remediate.TouchesHost}, wire.Run, r)
			if err != nil {
				t.Fatal(err)
			}
			if got.Result != tt.want || got.Code != tt.code || !strings.Contains(got.Message, tt.says) {
				t.Errorf("%s %s %.100q, want %s %s %q", got.Result, got.Code, got.Message, tt.want, tt.code, tt.says)
			}
		})
	}
}

func TestUndoMissing(t *testing.T) {
	client := serve(t, &action{description: remediate.Description{Name: "test", CanUndo: true}})
	if _, err := client.Describe(t.Context(), &proto.DescribeRequest{}); err == nil {
		t.Error("CanUndo without Undo: no error")
	}
	r, err := client.Undo(t.Context(), &proto.UndoRequest{})
	if err != nil || r.GetResult() != proto.Result_RESULT_REFUSED {
		t.Errorf("%v, %v", r, err)
	}
}
