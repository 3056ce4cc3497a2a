package main

import (
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/remediatetest"
	"github.com/tcpmemd/tcpmemd/remediate/runner"
)

// BenchmarkStart is the start of a built-in action: from nothing to its
// answer, and from a call to the answer of one that is ready.
func BenchmarkStart(b *testing.B) {
	program := remediatetest.Build(b, ".")
	request := func() *remediate.Request {
		return &remediate.Request{DryRun: true, Settings: remediate.Settings(`{"command":["/bin/true"]}`), Deadline: time.Now().Add(10 * time.Second)}
	}
	run := func(b *testing.B, r *runner.Runner) {
		if _, err := r.Run(b.Context(), "run-command", request()); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("cold", func(b *testing.B) {
		r := remediatetest.Start(b, program, runner.Plugin{Name: "run-command", BuiltIn: true})
		run(b, r) // described from here on
		for b.Loop() {
			run(b, r)
		}
	})
	b.Run("ready", func(b *testing.B) {
		r := remediatetest.Start(b, program, runner.Plugin{Name: "run-command", BuiltIn: true})
		if err := r.Ready(b.Context(), "run-command"); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			run(b, r)
		}
	})
}
