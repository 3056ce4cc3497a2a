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
	var natural int64 // use of the pool, in pages
	eventually(t, patience, func() string {
		if natural = used(t, m); natural < 2000 {
			return fmt.Sprintf("%d pages are used: nothing is busy", natural)
		}
		return ""
	})
	// What it takes comes and goes: the least of some seconds, and less than that.
	for range 10 {
		if err := pause(t.Context(), 200*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		natural = min(natural, used(t, m))
	}
	pool := reading.Pages(max(natural, 2000) * 3 / 4)
	lease := scene.LowerTCPMemT(t, reading.TCPMem{Min: pool * 90 / 100, Pressure: pool * 95 / 100, Max: pool})
	run(t, m, "systemctl", "restart", "tcpmemd")

	eventually(t, time.Minute, func() string {
		if _, ok := incidentOf(t, m, "tcp-critical"); !ok {
			return fmt.Sprintf("the host is not critical: %d pages of %d used", used(t, m), pool)
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
	rate := bytesPerSecond(t, m, address)
	t.Logf("it serves a fifth client %.1f MB/s\n%s", float64(rate)/1e6, run(t, m, "tcpmemctl", "owners"))
	if rate == 0 {
		t.Error("busy.service serves nobody")
	}
	if err := lease.Restore(); err != nil {
		t.Error(err)
	}
	run(t, m, "systemctl", "stop", "tcpmemd", "busy.service", "clients.service")
}

// bytesPerSecond is how fast a service answers one more client.
func bytesPerSecond(t *testing.T, m *Machine, address string) (rate int64) {
	t.Helper()
	if _, err := fmt.Sscan(run(t, m, bodiesPath, "-fetch", address), &rate); err != nil {
		t.Fatal(err)
	}
	return rate
}
