//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// busyPolicy lets the shipped rules about owners act, and soon.
const busyPolicy = `
[rule.tcp-leak]
mode = "enforce"
for = "4s"
[rule.slow-peer]
mode = "enforce"
for = "4s"
[rule.container-leak]
mode = "enforce"
for = "4s"
`

// checkBusy: a healthy service moves so much that it fills a pool which is small
// for it, and has most of it. The host is critical, and told of; the service
// and its clients are nobody's leak and nobody's victim.
func checkBusy(t *testing.T, m *Machine) {
	address := loopback(7941)
	configure(t, m, enforcingConfig, busyPolicy)
	startService(t, m, "busy.service", "[Service]\nExecStart="+bodiesPath+" -serve "+address+"\n")
	startService(t, m, "clients.service", "[Service]\nExecStart=/bin/sh -c 'for i in 1 2 3 4; do "+bodiesPath+" -fetch "+address+" -for 1h & done; wait'\n")
	units := startsOf(t, m, "busy.service", "clients.service")
	t.Cleanup(func() { ask(t, m, "systemctl", "stop", "tcpmemd", "busy.service", "clients.service") })
	lease := scene.LowerTCPMemT(t, reading.TCPMem{Min: 2700, Pressure: 2850, Max: 3000})
	run(t, m, "systemctl", "restart", "tcpmemd")

	eventually(t, time.Minute, func() string {
		if _, ok := incidentOf(t, m, "tcp-critical"); !ok {
			return fmt.Sprintf("the host is not critical: %d pages used", used(t, m))
		}
		owners, err := askOwners(t, m)
		if err != nil {
			return err.Error()
		}
		busy, problem := find(owners, name{key: "system/busy.service", kind: "service", verified: true})
		if problem != "" {
			return problem
		}
		var all int64
		for _, o := range owners {
			all += o.Bytes
		}
		if busy.Bytes < all/3 {
			return fmt.Sprintf("busy.service holds %d of %d bytes", busy.Bytes, all)
		}
		return ""
	})
	// Several readings, and longer than the rules ask for.
	if err := pause(t.Context(), 12*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, rule := range []string{"tcp-leak", "slow-peer", "container-leak"} {
		if in, ok := incidentOf(t, m, rule); ok {
			t.Errorf("%s fired:\n%s", rule, run(t, m, "tcpmemctl", "incidents", "show", in.ID))
		}
	}
	units.expectUntouched(t, m)
	t.Logf("\n%s", run(t, m, "tcpmemctl", "owners"))
	if err := lease.Restore(); err != nil {
		t.Error(err)
	}
	run(t, m, "systemctl", "stop", "tcpmemd", "busy.service", "clients.service")
}
