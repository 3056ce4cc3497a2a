package npdtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// script is a plugin.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func config(t *testing.T, plugin, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.json")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "PLUGIN", plugin)), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path, nil)
}

const one = `{"plugin":"custom","source":"s","pluginConfig":{"timeout":"1s"MORE},
	"conditions":[{"type":"C","reason":"Fine","message":"all is well"}],
	"rules":[{"type":"permanent","condition":"C","reason":"Bad","path":"PLUGIN","timeout":"500ms"}]}`

func TestRefusedConfigurations(t *testing.T) {
	plugin := script(t, "")
	for _, tt := range []struct{ name, text, want string }{
		{"a key that is not known", strings.Replace(one, "MORE", `,"max_outputlength":80`, 1), "unknown field"},
		{"another plugin", `{"plugin":"kmsg"}`, "not custom"},
		{"a rule's timeout", strings.Replace(strings.Replace(one, "MORE", "", 1), "500ms", "2s", 1), "longer than that of all"},
		{"no default", strings.Replace(strings.Replace(one, "MORE", "", 1), `"type":"C"`, `"type":"D"`, 1), "has no default"},
		{"no plugin there", strings.Replace(strings.Replace(one, "MORE", "", 1), "PLUGIN", "/nonexistent/x", 1), "no such file"},
		{"no duration", strings.Replace(strings.Replace(one, "MORE", "", 1), "500ms", "5", 1), "missing unit"},
	} {
		if _, err := config(t, plugin, tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestRun(t *testing.T) {
	for _, tt := range []struct{ name, script, status, message string }{
		{"fine", "echo fine; exit 0", "False", "fine"},
		{"bad", "echo ' bad '; exit 1", "True", "bad"},
		{"unknown", "echo dunno; exit 2", "Unknown", "dunno"},
		{"another code", "echo hm; exit 77", "Unknown", "hm"},
		{"standard error", "echo lost >&2; exit 1", "True", ""},
		{"long", "printf '%0100d' 7; exit 1", "True", strings.Repeat("0", 80)},
		{"very long", "i=0; while [ $i -lt 3000 ]; do printf 'xxxxxxxxxx'; i=$((i+1)); done; exit 0", "False", strings.Repeat("x", 80)},
		{"4 KiB and no more", "printf '%5000s' x; exit 0", "False", ""},
		{"killed", "kill -9 $$", "Unknown", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := config(t, script(t, tt.script), strings.Replace(one, "MORE", "", 1))
			if err != nil {
				t.Fatal(err)
			}
			got := c.Run(&c.Rules[0])
			if diff := cmp.Diff([]string{tt.status, tt.message}, []string{got.Status, got.Message}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestTimeout: the whole process group ends, and the message is the detector's.
func TestTimeout(t *testing.T) {
	c, err := config(t, script(t, "echo begun; sleep 30 & sleep 30"), strings.Replace(one, "MORE", `,"max_output_length":1000`, 1))
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	got := c.Run(&c.Rules[0])
	if got.Status != "Unknown" || !strings.HasPrefix(got.Message, "Timeout when running plugin") || !strings.HasSuffix(got.Message, `output - "begun"`) {
		t.Errorf("%s: %s", got.Status, got.Message)
	}
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestConditions goes through each transition, with and without updates for
// changed messages.
func TestConditions(t *testing.T) {
	plugin := script(t, `. "$(dirname "$0")/says"; echo "$line"; exit "$code"`)
	says := func(line, code string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(filepath.Dir(plugin), "says"), []byte("line='"+line+"'; code="+code), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		more string
		want []string
	}{
		{"", []string{
			"False Fine all is well 1", "False Fine all is well 1", "True Bad first 2", "True Bad first 2", "Unknown Fine third 3",
			"Unknown Fine third 3", "True Bad fifth 4", "False Fine all is well 5", "Unknown Fine seventh 6", "False Fine all is well 7",
		}},
		{`,"enable_message_change_based_condition_update":true`, []string{
			"False Fine all is well 1", "False Fine all is well 1", "True Bad first 2", "True Bad second 3", "Unknown Fine third 4",
			"Unknown Fine third 4", "True Bad fifth 5", "False Fine all is well 6", "Unknown Fine seventh 7", "False Fine all is well 8",
		}},
	} {
		c, err := config(t, plugin, strings.Replace(one, "MORE", tt.more, 1))
		if err != nil {
			t.Fatal(err)
		}
		m := Start(c, time.Time{})
		state := func() string {
			now := m.Conditions[0]
			return now.Status + " " + now.Reason + " " + now.Message + " " + string(rune('0'+m.Updates))
		}
		got := []string{state()}
		for _, step := range [][2]string{
			{"calm", "0"}, {"first", "1"}, {"second", "1"}, {"third", "2"}, {"fourth", "3"}, {"fifth", "1"}, {"sixth", "0"}, {"seventh", "2"}, {"eighth", "0"},
		} {
			says(step[0], step[1])
			m.Turn(time.Time{})
			got = append(got, state())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.more, diff)
		}
	}
}

// TestSkippedStatus: what has no condition to begin with never gets one.
func TestSkippedStatus(t *testing.T) {
	c, err := config(t, script(t, "exit 1"), strings.Replace(one, "MORE", `,"skip_initial_status":true`, 1))
	if err != nil {
		t.Fatal(err)
	}
	m := Start(c, time.Time{})
	if m.Turn(time.Time{}); len(m.Conditions) != 0 {
		t.Errorf("conditions %v", m.Conditions)
	}
}
