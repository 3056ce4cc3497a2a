package require

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/moby/sys/capability"
)

// recorder is a test that keeps how it ended.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Skip(args ...any) {
	r.skipped = fmt.Sprint(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// run lets f end its goroutine, as a test does.
func run(t *testing.T, f func(testing.TB)) *recorder {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r
}

func TestMissing(t *testing.T) {
	tests := []struct {
		env, skipped, failed string
	}{
		{"", "needs Linux 99.0 (this is ", ""},
		{"all", "", "needs Linux 99.0 (this is "},
		{"some", "", `TCPMEMD_TEST_REQUIRE="some"`},
	}
	for _, tt := range tests {
		t.Setenv(Env, tt.env)
		r := run(t, func(tb testing.TB) { Kernel(tb, 99, 0) })
		if !strings.HasPrefix(r.skipped, tt.skipped) || !strings.HasPrefix(r.failed, tt.failed) ||
			(r.skipped == "") == (r.failed == "") {
			t.Errorf("%s=%q: skipped %q, failed %q", Env, tt.env, r.skipped, r.failed)
		}
	}
}

func TestPresent(t *testing.T) {
	t.Setenv(Env, "")
	for name, f := range map[string]func(testing.TB){
		"Kernel": func(tb testing.TB) { Kernel(tb, 2, 6) },
		"Tool":   func(tb testing.TB) { Tool(tb, "sh") },
		"Cap":    func(tb testing.TB) { Cap(tb) },
	} {
		if r := run(t, f); r.skipped != "" || r.failed != "" {
			t.Errorf("%s: skipped %q, failed %q", name, r.skipped, r.failed)
		}
	}
	for name, f := range map[string]func(testing.TB){
		"Tool": func(tb testing.TB) { Tool(tb, "no such program") },
		"Cap":  func(tb testing.TB) { Cap(tb, capability.Cap(63)) },
	} {
		if r := run(t, f); !strings.HasPrefix(r.skipped, "needs ") {
			t.Errorf("%s: skipped %q, failed %q", name, r.skipped, r.failed)
		}
	}
}

func TestParseRelease(t *testing.T) {
	for release, want := range map[string][2]int{"6.18.44-fc": {6, 18}, "5.10.0-8-amd64": {5, 10}, "7.2": {7, 2}} {
		if got, err := parseRelease(release); err != nil || got != want {
			t.Errorf("%s: %v, %v", release, got, err)
		}
	}
	if _, err := parseRelease("linux"); err == nil {
		t.Error("no error")
	}
}
