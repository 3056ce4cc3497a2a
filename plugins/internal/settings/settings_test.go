package settings

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/remediate"
)

var declared = []remediate.Setting{
	{Name: "command", Type: "list", Required: true, About: "the program"},
	{Name: "grace", Type: "duration", Default: "10s"},
	{Name: "holders", Type: "string", Default: "primary"},
	{Name: "force", Type: "bool", Default: "false"},
	{Name: "factor", Type: "float", Default: "1.5"},
	{Name: "ceiling", Type: "share", Default: "15%"},
}

func TestRead(t *testing.T) {
	v, problems := Read(declared, remediate.Settings(`{"command":["/bin/x","a b",""],"ceiling":0.25}`))
	if problems != nil {
		t.Fatal(problems)
	}
	if diff := cmp.Diff([]string{"/bin/x", "a b", ""}, v.List("command")); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
	if v.Duration("grace") != 10*time.Second || v.String("holders") != "primary" || v.Bool("force") ||
		v.Float("factor") != 1.5 || v.Float("ceiling") != 0.25 {
		t.Errorf("%v", v.by)
	}
	if v, _ = Read(declared, nil); v.Float("ceiling") != 0.15 || v.List("command") != nil {
		t.Errorf("without settings: %v", v.by)
	}
}

func TestProblems(t *testing.T) {
	long := strings.Repeat("x", 5000)
	tests := []struct{ settings, setting, message string }{
		{``, "command", "missing: the program"},
		{`[]`, "", "read settings: not a JSON object"},
		{`null`, "", "read settings: not a JSON object"},
		{`{} {}`, "", "read settings: more than one JSON object"},
		{`{"command":[],"grase":"1s"}`, "grase", "unknown setting; did you mean grace?"},
		{`{"command":[],"Holder":"all"}`, "Holder", "unknown setting; did you mean holders?"},
		{`{"command":[],"a\n\u001b[31m":1}`, "a\n\x1b[31m", "unknown setting; there are command, grace, holders, force, factor, ceiling"},
		{`{"command":[],"` + long + `":1}`, long[:maxShown] + "...", "unknown setting; there are command, grace, holders, force, factor, ceiling"},
		{`{"command":"/bin/x"}`, "command", "want a list of texts"},
		{`{"command":null}`, "command", "want a list of texts"},
		{`{"command":["/bin/x",3]}`, "command", "entry 2: want a text in quotes"},
		{`{"command":["a\u0000b"]}`, "command", "entry 1: has a NUL byte"},
		{`{"command":["` + long + `"]}`, "command", "entry 1: longer than 4096 bytes"},
		{`{"command":[],"grace":5}`, "grace", `want a duration as text, e.g. "10s"`},
		{`{"command":[],"grace":"5\n"}`, "grace", `"5\n" is no duration, e.g. "10s"`},
		{`{"command":[],"force":"yes"}`, "force", "want true or false"},
		{`{"command":[],"factor":"2"}`, "factor", "want a number, e.g. 1.5"},
		{`{"command":[],"ceiling":1}`, "ceiling", `want a share, e.g. "15%" or 0.15`},
		{`{"command":[],"ceiling":"15"}`, "ceiling", `want a share, e.g. "15%" or 0.15`},
		{`{"command":[],"ceiling":null}`, "ceiling", `want a share, e.g. "15%" or 0.15`},
		{`{"command":[],"ceiling":"NaN%"}`, "ceiling", "want a share between 0% and 100%"},
		{`{"command":[],"ceiling":"101%"}`, "ceiling", "want a share between 0% and 100%"},
		{`{"command":[],"holders":7}`, "holders", "want a text in quotes"},
	}
	for _, tt := range tests {
		_, problems := Read(declared, remediate.Settings(tt.settings))
		want := []remediate.Problem{{Setting: tt.setting, Message: tt.message}}
		if diff := cmp.Diff(want, problems); diff != "" {
			t.Errorf("%.60s (-want +got):\n%s", tt.settings, diff)
		}
		if err := Err(problems); err == nil || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%.60s: error %q", tt.settings, err)
		}
	}
	if Err(nil) != nil {
		t.Error("an error from no problem")
	}
}

// TestBadDefault: a mistake of the program shows at once.
func TestBadDefault(t *testing.T) {
	for _, s := range []remediate.Setting{{Type: "duration", Default: "10"}, {Type: "bytes"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v: no panic", s)
				}
			}()
			Read([]remediate.Setting{s}, nil)
		}()
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"command":["/bin/x"],"grace":"1h","ceiling":"3%"}`))
	f.Add([]byte(`{"command":null,"force":0}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, problems := Read(declared, data)
		// Every setting has its type, whatever was given.
		v.List("command")
		v.String("holders")
		v.Bool("force")
		v.Duration("grace")
		if s := v.Float("ceiling"); !(s >= 0 && s <= 1) {
			t.Fatalf("%s: ceiling %v", data, s)
		}
		if problems == nil && !json.Valid(data) && len(strings.TrimSpace(string(data))) > 0 {
			t.Fatalf("%s: no problem", data)
		}
	})
}
