//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestSlowPeer: who waits for a peer that does not read is not restarted. Its
// connections would be ended where the peer is far; here it is a service of
// this host, and named as the one to be dealt with.
func TestSlowPeer(t *testing.T) {
	t.Parallel() // beside TestLease: that it is so takes minutes to be known
	m := boot(t, Bookworm)
	install(t, m)
	installLeaker(t, m)
	configure(t, m, enforcingConfig, enforcing("victim", "unit", `owner.unit == "producer.service" && owner.verdict == "slow-peer"`,
		"notify", "restart-unit", "signal-process", "destroy-sockets"))
	allowActing(t, m)
	address := loopback(7931)
	startService(t, m, "consumer.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -listen "+address+"\n")
	startService(t, m, "producer.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -dial "+address+" -count 100 -bytes 0\n")
	units := startsOf(t, m, "producer.service", "consumer.service")
	run(t, m, "systemctl", "start", "tcpmemd")

	eventually(t, 6*time.Minute, func() string {
		if _, ok := incidentOf(t, m, "victim"); !ok {
			return "the verdict is not there\n" + ask(t, m, "tcpmemctl", "owners")
		}
		return ""
	})
	const key = "system/producer.service"
	for _, action := range []string{"restart-unit", "signal-process"} {
		expectDeed(t, m, wanted{rule: "victim", key: key, action: action, came: "refused", reason: "slow-peer", words: "a peer that does not read"})
	}
	expectDeed(t, m, wanted{rule: "victim", key: key, action: "destroy-sockets", came: "refused", reason: "culprit-local", words: "consumer.service"})
	told := journal(t, m, "TCPMEMD_RULE=victim", "TCPMEMD_EVENT=rule-firing")
	if len(told) != 1 || !strings.Contains(told[0].Message, "consumer.service") {
		t.Errorf("told: %+v, want one entry that names who does not read", told)
	}
	units.expectUntouched(t, m)
}
