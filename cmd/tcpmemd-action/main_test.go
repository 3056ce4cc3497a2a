package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/tcpmemd/tcpmemd/plugins/builtin"
	"github.com/tcpmemd/tcpmemd/remediate/remediatetest"
	"github.com/tcpmemd/tcpmemd/remediate/runner"
)

// settings are valid ones, where an action needs some.
var settings = map[string]string{
	"run-command": `{"command":["/bin/true"]}`,
}

// TestContract holds every action against the contract.
func TestContract(t *testing.T) {
	for _, a := range builtin.Actions(version) {
		name := a.Describe().Name
		t.Run(name, func(t *testing.T) {
			var want remediatetest.Want
			if s := settings[name]; s != "" {
				want.Valid = []string{s}
			} else {
				want.Valid = []string{`{}`}
			}
			remediatetest.Check(t, a, want)
		})
	}
}

func TestProgram(t *testing.T) {
	program := remediatetest.Build(t, ".")
	t.Run("served", func(t *testing.T) { testServed(t, program) })
	t.Run("by hand", func(t *testing.T) { testByHand(t, program) })
}

// testServed starts each action as tcpmemd does, all at once.
func testServed(t *testing.T, program string) {
	var plugins []runner.Plugin
	var names []string
	for _, a := range builtin.Actions(version) {
		name := a.Describe().Name
		names = append(names, name)
		plugins = append(plugins, runner.Plugin{Name: name, BuiltIn: true})
	}
	r := remediatetest.Start(t, program, plugins...)
	if err := r.Ready(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Status() {
		if s.Description == nil || s.PID == 0 {
			t.Errorf("%s is not ready: %+v", s.Name, s)
			continue
		}
		resident, own := remediatetest.Memory(t, s.PID)
		t.Logf("%s: %.1f MB resident, %.1f MB of its own", s.Name, float64(resident)/1e6, float64(own)/1e6)
		problems, err := r.Validate(t.Context(), s.Name, nil)
		if wants := settings[s.Name] != ""; err != nil || (len(problems) > 0) != wants {
			t.Errorf("%s without settings: %v, %v", s.Name, problems, err)
		}
	}
}

func testByHand(t *testing.T, program string) {
	for args, want := range map[string]string{
		"":               "raise-tcp-mem",
		"no-such-action": "notify",
		"notify":         "not meant to be executed directly",
		"--launch":       "want a file or a descriptor",
	} {
		out, err := exec.CommandContext(t.Context(), program, strings.Fields(args)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%q: %v: %s", args, err, out)
		}
	}
}
