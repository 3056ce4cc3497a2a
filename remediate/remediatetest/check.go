package remediatetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/internal/wire"
	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

// Want is what Check cannot know by itself.
type Want struct {
	Valid   []string // settings, as JSON, that have no problem
	Invalid []string // settings that have
	// Request can be run dry on the machine of the test. Nil: an owner that
	// does not exist is used.
	Request *remediate.Request
}

// prompt is how long an action may take to notice that its time is over.
const prompt = time.Second

// Check holds a against the contract: its description, settings good and bad,
// dry runs that answer in time and within bounds, requests without what it
// needs, and time that is over. It runs a only dry.
func Check(t *testing.T, a remediate.Action, want Want) {
	c := dial(t, a)
	d := c.describe(t)
	t.Run("describe", func(t *testing.T) {
		if again := c.describe(t); !reflect.DeepEqual(d, again) {
			t.Errorf("the second answer is %+v, the first was %+v", again, d)
		}
		if _, ok := a.(remediate.Undoer); ok != d.CanUndo {
			t.Errorf("CanUndo is %v, but it has an Undo method: %v", d.CanUndo, ok)
		}
		if d.Touches == remediate.TouchesOwner && len(d.Evidence) == 0 {
			t.Error("it touches owners, and names no evidence")
		}
		if d.About == "" || d.Version == "" {
			t.Error("it has no About or no Version")
		}
	})
	t.Run("validate", func(t *testing.T) { c.checkSettings(t, d, want) })
	t.Run("dry run", func(t *testing.T) {
		req := want.Request
		if req == nil {
			req = sample(d, want)
		}
		r := c.runDry(t, d, *req, time.Now().Add(20*time.Second))
		if d.Lease && r.Result == remediate.DryRun && len(r.Undo) == 0 {
			t.Error("a lease's dry run gives no Undo: it could not be taken back")
		}
	})
	t.Run("odd requests", func(t *testing.T) {
		for name, spoil := range map[string]func(*remediate.Request){
			"empty":            func(r *remediate.Request) { *r = remediate.Request{} },
			"no owner":         func(r *remediate.Request) { r.Owner = nil },
			"nameless owner":   func(r *remediate.Request) { r.Owner = &remediate.Owner{} },
			"no sockets":       func(r *remediate.Request) { r.Sockets = nil },
			"settings unknown": func(r *remediate.Request) { r.Settings = remediate.Settings(`{"no-such-setting":[]}`) },
			"settings null":    func(r *remediate.Request) { r.Settings = remediate.Settings("null") },
			"settings no JSON": func(r *remediate.Request) { r.Settings = remediate.Settings("{") },
			"odd plan":         func(r *remediate.Request) { r.Plan = json.RawMessage(`[null]`) },
		} {
			t.Run(name, func(t *testing.T) {
				req := *sample(d, want)
				spoil(&req)
				r := c.runDry(t, d, req, time.Now().Add(20*time.Second))
				if req.Owner == nil && d.Touches == remediate.TouchesOwner && r.Result == remediate.DryRun {
					t.Error("it would act on no owner")
				}
			})
		}
	})
	t.Run("time over", func(t *testing.T) {
		began := time.Now()
		c.runDry(t, d, *sample(d, want), began.Add(-time.Second))
		if took := time.Since(began); took > prompt {
			t.Errorf("answers %v after its deadline", took)
		}
	})
	if d.CanUndo {
		t.Run("undo", func(t *testing.T) {
			for _, undo := range []string{"", "null", "{}", "[]", `{"no":"such"}`} {
				r, err := c.client.Undo(t.Context(), wire.UndoRequest(&remediate.UndoRequest{Undo: json.RawMessage(undo)}, "{}", time.Now().Add(20*time.Second)))
				resp := c.response(t, d, wire.Undo, r, err)
				if resp.Result == remediate.Done {
					t.Errorf("undo of %q is done", undo)
				}
			}
		})
	}
}

// sample is a request about nobody, with the first valid settings.
func sample(d *remediate.Description, want Want) *remediate.Request {
	if want.Request != nil {
		r := *want.Request
		return &r
	}
	r := &remediate.Request{
		ActionID: "a1", IncidentID: "i1", Rule: "test", About: "a test", Key: "host", Step: 1, Hostname: "host",
		BootID: "00000000-0000-0000-0000-000000000000", Settings: remediate.Settings("{}"),
		Host: remediate.Host{PageSize: 4096, UsedPages: 90, MinPages: 60, PressurePages: 80, MaxPages: 100, Level: "pressure", Fill: 0.9, EtaSeconds: -1, Coverage: 1},
		Text: "TCP memory is at 90 %\nthis is a test", Event: "pressure", Severity: "warning",
	}
	if len(want.Valid) > 0 {
		r.Settings = remediate.Settings(want.Valid[0])
	}
	if d.Touches != remediate.TouchesHost {
		r.Key = "system/no-such.service"
		r.Owner = &remediate.Owner{
			Key: r.Key, Name: "no-such.service", Kind: "service", Unit: "no-such.service", Manager: "system", UnitVerified: true,
			InvocationID: strings.Repeat("0", 32), Cgroup: "/system.slice/no-such.service", Command: "no-such",
			Holders: []remediate.Holder{{PID: 1 << 22, StartTime: 1, Command: "no-such"}}, // beyond pid_max
			Verdict: "leak", Bytes: 1 << 20, Classes: map[string]remediate.Tally{"owned": {Sockets: 1, Bytes: 1 << 20}}, Share: 0.5,
		}
	}
	if d.NeedsSockets {
		r.Sockets = []remediate.Socket{{Cookie: 1<<64 - 1, State: "close-wait", Class: "owned", Local: "127.0.0.1:1", Remote: "127.0.0.1:2", Bytes: 1 << 20}}
	}
	return r
}

// conn calls an action through the messages, as tcpmemd does.
type conn struct{ client proto.ActionClient }

func dial(t *testing.T, a remediate.Action) conn {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer()
	remediate.Register(s, a)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	cc, err := grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return conn{proto.NewActionClient(cc)}
}

func (c conn) describe(t *testing.T) *remediate.Description {
	t.Helper()
	raw, err := c.client.Describe(t.Context(), &proto.DescribeRequest{})
	if err != nil {
		t.Fatalf("describe: %v", err)
	}
	d, err := wire.Description(raw.GetName(), raw)
	if err != nil {
		t.Fatalf("describe: %v", err)
	}
	if !wire.IsName(d.Name) {
		t.Fatalf("describe: %q can be no action's name", d.Name)
	}
	return d
}

// validate gives the problems in a line.
func (c conn) validate(t *testing.T, settings string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	v, err := c.client.Validate(ctx, &proto.ValidateRequest{SettingsJson: settings})
	if err != nil {
		t.Errorf("validate %s: %v", settings, err)
		return "?"
	}
	problems, err := wire.Problems(v)
	if err != nil {
		t.Errorf("validate %s: %v", settings, err)
		return "?"
	}
	var all []string
	for _, p := range problems {
		if p.Message == "" {
			t.Errorf("validate %s: a problem without a message", settings)
		}
		all = append(all, fmt.Sprintf("%s: %s", p.Setting, p.Message))
	}
	return strings.Join(all, "; ")
}

func (c conn) checkSettings(t *testing.T, d *remediate.Description, want Want) {
	for _, s := range want.Valid {
		if p := c.validate(t, s); p != "" {
			t.Errorf("valid settings %s: %s", s, p)
		}
	}
	invalid := append([]string{`{"no-such-setting":1}`}, want.Invalid...)
	for _, s := range d.Settings {
		if s.Required {
			invalid = append(invalid, `{}`)
		}
		// Of no type of settings.
		invalid = append(invalid, fmt.Sprintf(`{%q:{"a":{}}}`, s.Name))
	}
	for _, s := range invalid {
		if c.validate(t, s) == "" {
			t.Errorf("invalid settings %s: no problem", s)
		}
	}
	for _, s := range []string{"", "null", "[]", "{", `"text"`, strings.Repeat(`{"a":`, 2000)} {
		c.validate(t, s) // as it likes, but without a panic
	}
}

func (c conn) runDry(t *testing.T, d *remediate.Description, req remediate.Request, deadline time.Time) *remediate.Response {
	t.Helper()
	req.DryRun = true
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := c.client.Run(ctx, wire.RunRequest(&req, string(req.Settings), deadline))
	return c.response(t, d, wire.DryRun, r, err)
}

func (c conn) response(t *testing.T, d *remediate.Description, call wire.Call, r *proto.Response, err error) *remediate.Response {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := wire.Response(d, call, r)
	switch {
	case err != nil:
		t.Fatal(err)
	case resp.Code == "panic":
		t.Errorf("it panics: %s", resp.Message)
	case resp.Result != remediate.Done && resp.Message == "":
		t.Errorf("%s without a message", resp.Result)
	case resp.Result == remediate.Refused && resp.Code == "":
		t.Error("refused without a code")
	}
	return resp
}
