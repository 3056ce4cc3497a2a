package cli

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/api"
)

// The kernel's line is there when something has happened, and only then.
func TestKernelLine(t *testing.T) {
	n := func(n int64) *int64 { return &n }
	for _, tc := range []struct {
		doc  api.Status
		want string
	}{
		{api.Status{}, ""},
		{api.Status{Kernel: api.Kernel{AbortsOnMemory: n(0)}, Conntrack: &api.Limited{Count: 10, Limit: n(100)}}, ""},
		{
			api.Status{Kernel: api.Kernel{AbortsOnMemory: n(3), LogOutOfMemory: n(1)}},
			`the kernel, since the daemon started: connections aborted for lack of memory 3, logged "out of memory" 1`,
		},
		{
			api.Status{Conntrack: &api.Limited{Count: 80, Limit: n(100)}},
			"the kernel, since the daemon started: connection tracking 80 of 100",
		},
	} {
		if got := kernelLine(&tc.doc, false); got != tc.want {
			t.Errorf("kernelLine = %q, want %q", got, tc.want)
		}
	}
}
