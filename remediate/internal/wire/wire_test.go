package wire

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	pb "google.golang.org/protobuf/proto"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

func TestMerge(t *testing.T) {
	got, err := Merge(remediate.Settings(`{"a":1,"b":{"x":1}}`), remediate.Settings(`{"b":2}`))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(got), &m); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]json.RawMessage{"a": []byte("1"), "b": []byte("2")}, m); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// TestRequestFits: any request can be sent.
func TestRequestFits(t *testing.T) {
	r := &remediate.Request{
		Text: "a\xff", Sockets: make([]remediate.Socket, 300000), SocketsLeftOut: 1,
		Owner: &remediate.Owner{Command: "b\xff", Reasons: []string{"c\xff"}, Holders: []remediate.Holder{{Command: "\xff"}}, Classes: map[string]remediate.Tally{"\xff": {}}},
	}
	for i := range r.Sockets {
		r.Sockets[i] = remediate.Socket{Cookie: math.MaxUint64, NetnsCookie: math.MaxUint64, Local: "[2001:db8::ffff]:65535\xff", Remote: "[2001:db8::ffff]:65535", State: "close-wait", Class: "owned", Bytes: 1 << 40}
	}
	m := RunRequest(r, "{\"\xff\":1}", time.Now())
	b, err := pb.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > remediate.MaxRequestBytes || len(b) < remediate.MaxRequestBytes-1000 {
		t.Errorf("%d bytes", len(b))
	}
	if got := int64(len(m.GetSockets())) + m.GetSocketsLeftOut(); got != 300001 {
		t.Errorf("%d sockets sent and left out", got)
	}
}

// TestDescriptionRefused spoils one thing of a description that is accepted.
func TestDescriptionRefused(t *testing.T) {
	good := func() *proto.Description {
		return &proto.Description{
			Name: "test", Touches: proto.Touches_TOUCHES_HOST, Capabilities: []string{"CAP_KILL"}, Evidence: []string{"fd"},
			Settings: []*proto.Setting{{Name: "to_whom", Type: "list"}}, Lease: true, CanUndo: true,
		}
	}
	if _, err := Description("test", good()); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 2<<10)
	for name, spoil := range map[string]func(*proto.Description){
		"name":            func(d *proto.Description) { d.Name = "other" },
		"version":         func(d *proto.Description) { d.Version = "1\n" },
		"long version":    func(d *proto.Description) { d.Version = long },
		"about":           func(d *proto.Description) { d.About = long },
		"touches":         func(d *proto.Description) { d.Touches = 7 },
		"touches nothing": func(d *proto.Description) { d.Touches = 0 },
		"capability":      func(d *proto.Description) { d.Capabilities[0] = "kill" },
		"evidence":        func(d *proto.Description) { d.Evidence[0] = "hearsay" },
		"share":           func(d *proto.Description) { d.EvidenceShare = 1.1 },
		"no share":        func(d *proto.Description) { d.EvidenceShare = math.NaN() },
		"lease":           func(d *proto.Description) { d.CanUndo = false },
		"setting":         func(d *proto.Description) { d.Settings[0].Name = "To whom" },
		"setting twice":   func(d *proto.Description) { d.Settings = append(d.Settings, d.GetSettings()[0]) },
		"setting's type":  func(d *proto.Description) { d.Settings[0].Type = "any" },
		"setting's text":  func(d *proto.Description) { d.Settings[0].About = long },
		"settings":        func(d *proto.Description) { d.Settings = make([]*proto.Setting, 100) },
	} {
		d := good()
		spoil(d)
		if _, err := Description("test", d); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestResponseRefused(t *testing.T) {
	host, teller := &remediate.Description{Touches: remediate.TouchesHost}, &remediate.Description{Touches: remediate.TouchesNothing}
	long := strings.Repeat("x", 2<<10)
	for name, tt := range map[string]struct {
		d    *remediate.Description
		call Call
		r    *proto.Response
		ok   bool
	}{
		"done":           {host, Run, &proto.Response{Result: proto.Result_RESULT_DONE}, true},
		"no result":      {host, Run, &proto.Response{}, false},
		"dry":            {host, DryRun, &proto.Response{Result: proto.Result_RESULT_DRY_RUN}, true},
		"dry for real":   {host, Run, &proto.Response{Result: proto.Result_RESULT_DRY_RUN}, false},
		"delivered":      {teller, Run, &proto.Response{Result: proto.Result_RESULT_DELIVERED}, true},
		"delivered dry":  {teller, DryRun, &proto.Response{Result: proto.Result_RESULT_DELIVERED}, false},
		"host delivered": {host, Run, &proto.Response{Result: proto.Result_RESULT_UNDELIVERED}, false},
		"undo delivered": {teller, Undo, &proto.Response{Result: proto.Result_RESULT_DELIVERED}, false},
		"undone":         {host, Undo, &proto.Response{Result: proto.Result_RESULT_DONE}, true},
		"code":           {host, Run, &proto.Response{Result: proto.Result_RESULT_REFUSED, Code: "Changed!"}, false},
		"message":        {host, Run, &proto.Response{Result: proto.Result_RESULT_DONE, Message: strings.Repeat("x", 9<<10)}, false},
		"changes":        {host, Run, &proto.Response{Result: proto.Result_RESULT_DONE, Changes: make([]*proto.Change, 1001)}, false},
		"change":         {host, Run, &proto.Response{Result: proto.Result_RESULT_DONE, Changes: []*proto.Change{{After: long}}}, false},
		"too much":       {host, Run, &proto.Response{Result: proto.Result_RESULT_DONE, Predicted: map[string]int64{"owned": math.MaxInt64}}, false},
		"class":          {host, Run, &proto.Response{Result: proto.Result_RESULT_DONE, Predicted: map[string]int64{"\n": 1}}, false},
		"retry":          {teller, Run, &proto.Response{Result: proto.Result_RESULT_UNDELIVERED, RetryJson: `[]`}, false},
		"undo":           {host, Run, &proto.Response{Result: proto.Result_RESULT_DONE, UndoJson: `"` + strings.Repeat("x", 256<<10) + `"`}, false},
	} {
		if _, err := Response(tt.d, tt.call, tt.r); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEscaped(t *testing.T) {
	r, err := Response(&remediate.Description{Touches: remediate.TouchesHost}, Run, &proto.Response{
		Result: proto.Result_RESULT_DONE, Message: "one\ntwo\x1b[2J\u202e", Changes: []*proto.Change{{What: "unit\n"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "one\ntwo\\x1b[2J\\u202e"; r.Message != want || r.Changes[0].What != `unit\n` {
		t.Errorf("message %q, change %q", r.Message, r.Changes[0].What)
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b]0;x\x07", "\xff\xfe", "a\u202eb\u2028", "'\"\\"} {
		f.Add(s, 20)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = limit&0xff + 10
		got := Printable(s, limit)
		if len(got) > limit+len(" ...") || !utf8.ValidString(got) {
			t.Errorf("%q", got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%q holds %U", got, r)
			}
		}
	})
}
