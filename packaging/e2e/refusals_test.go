//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// refusalsPolicy has rules about owners that must not be touched, or not yet,
// or not so.
var refusalsPolicy = strings.Join([]string{
	enforcing("billing", "unit", `owner.unit == "billing.service" && owner.hidden_bytes > 1 * MiB`, "notify", "restart-unit", "signal-process"),
	enforcing("ssh", "unit", `owner.unit == "ssh.service" && owner.hidden_bytes > 1 * MiB`, "restart-unit"),
	enforcing("nobody", "owner", `owner.kind == "unresolved" && owner.bytes > 1 * MiB`, "notify", "restart-unit", "signal-process"),
	enforcing("base", "unit", `owner.unit == "base.service" && owner.hidden_bytes > 1 * MiB`, "restart-unit"),
	enforcing("trunk", "unit", `owner.unit == "trunk.service" && owner.hidden_bytes > 1 * MiB`, "restart-unit"),
	enforcing("stem", "unit", `owner.unit == "stem.service" && owner.hidden_bytes > 1 * MiB`, "restart-unit"),
}, "\n")

// protecting is the default list and one more, as it is written in tcpmemd.toml.
const protecting = `protect = ["init.scope", "systemd-*", "dbus*", "ssh*", "*journal*", "kubelet", "session-*", "user@*", "tcpmemd", "billing"]
`

// startRefused starts what leaks and must not be touched, and what a restart of
// it would take along.
func startRefused(t *testing.T, m *Machine) starts {
	t.Helper()
	leak := "[Service]\nType=notify\nExecStart=" + leakerPath + " -hidden 40 -bytes 50000\n"
	const sleep = "[Service]\nExecStart=/bin/sleep infinity\n"
	for unit, text := range map[string]string{
		"billing.service": leak,
		"ssh.service":     leak,
		"base.service":    leak,
		"trunk.service":   leak,
		"stem.service":    leak,
		// What a restart of these would take along.
		"kubelet.service":   "[Unit]\nBindsTo=base.service\nAfter=base.service\n" + sleep,
		"ssh-agent.service": "[Unit]\nPartOf=trunk.service\n" + sleep,
		"leaf.service":      "[Unit]\nPartOf=stem.service\n" + sleep,
	} {
		writeUnit(t, m, unit, text)
	}
	run(t, m, "systemctl", "daemon-reload")
	units := []string{
		"billing.service", "ssh.service", "base.service", "trunk.service", "stem.service",
		"kubelet.service", "ssh-agent.service", "leaf.service",
	}
	run(t, m, "systemctl", append([]string{"start"}, units...)...)
	// A process that the machine cannot see holds sockets in its network.
	scene.BuildT(t, scene.StartT(t, scene.ChildOptions{}), scene.Spec{Kind: scene.Unread, Pairs: 40, Bytes: 100_000})
	return startsOf(t, m, units...)
}

// checkProtected: one by the operator's list, one by the default list.
func checkProtected(t *testing.T, m *Machine) {
	expectDeed(t, m, wanted{rule: "billing", key: "system/billing.service", action: "notify", came: "delivered"})
	for _, action := range []string{"restart-unit", "signal-process"} {
		expectDeed(t, m, wanted{rule: "billing", key: "system/billing.service", action: action, came: "refused", reason: "protected", words: `glob "billing"`})
	}
	expectDeed(t, m, wanted{rule: "ssh", key: "system/ssh.service", action: "restart-unit", came: "refused", reason: "protected", words: `glob "ssh*"`})
}

// checkNobody: whose processes are not seen is told of and not touched.
func checkNobody(t *testing.T, m *Machine) {
	expectDeed(t, m, wanted{rule: "nobody", key: "unresolved", action: "notify", came: "delivered"})
	for _, action := range []string{"restart-unit", "signal-process"} {
		expectDeed(t, m, wanted{rule: "nobody", key: "unresolved", action: action, came: "refused", reason: "resolved", words: "nobody knows whose sockets these are"})
	}
}

// checkClosure: protected units go along with a restart, by BindsTo= and by
// PartOf=, and one that nobody allowed.
func checkClosure(t *testing.T, m *Machine) {
	for _, w := range []wanted{
		{key: "base", reason: "closure-protected", words: "takes kubelet.service along (BindsTo=base.service)"},
		{key: "trunk", reason: "closure-protected", words: "takes ssh-agent.service along (PartOf=trunk.service)"},
		{key: "stem", reason: "closure-not-allowed", words: "takes leaf.service (PartOf=stem.service) along"},
	} {
		w.rule, w.action, w.came = w.key, "restart-unit", "refused"
		w.key = "system/" + w.key + ".service"
		expectDeed(t, m, w)
	}
}

// expectOneAtATime checks that no touching action began before the one before
// it had ended.
func expectOneAtATime(t *testing.T, m *Machine) {
	t.Helper()
	var ran []deed
	for _, d := range askDeeds(t, m) {
		if d.Started && d.Touches != "nothing" {
			ran = append(ran, d)
		}
	}
	slices.SortFunc(ran, func(a, b deed) int { return a.At.Compare(b.At) })
	for i, d := range ran[1:] {
		if before := ran[i]; d.At.Before(before.At.Add(time.Duration(before.Took * float64(time.Second)))) {
			t.Errorf("%s on %s began at %s, while %s on %s ran from %s for %.1f s", d.Action, d.Key, d.At, before.Action, before.Key, before.At, before.Took)
		}
	}
	t.Logf("%d touching actions were begun", len(ran))
}
