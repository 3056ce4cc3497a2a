//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// consumerAddress is where consumer.service accepts and never reads.
func consumerAddress() string { return loopback(7003) }

func checkSlowPeer(t *testing.T, m *Machine) {
	startService(t, m, "consumer.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -listen "+consumerAddress()+"\n")
	startService(t, m, "producer.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -dial "+consumerAddress()+" -count 8 -bytes 0\n")
	eventually(t, patience, func() string {
		owners, err := askOwners(t, m)
		if err != nil {
			return err.Error()
		}
		want := kernelSays(t, m, "dst", consumerAddress())
		o, problem := find(owners, name{key: "system/producer.service", kind: "service", verified: true})
		switch {
		case problem != "":
			return problem
		case o.Sockets != 8 || !near(o.Bytes, want.Bytes):
			return fmt.Sprintf("producer.service: %v, want %v", o.tally, want)
		}
		return expectPeer(o, "system/consumer.service", 8)
	})
}

// checkOrphansOfRestart: what the producer of checkSlowPeer left behind when it
// was restarted is its own still, and its control group is not gone: that of
// the start before is.
func checkOrphansOfRestart(t *testing.T, m *Machine) {
	run(t, m, "systemctl", "restart", "producer.service")
	eventually(t, patience, func() string {
		owners, err := askOwners(t, m)
		if err != nil {
			return err.Error()
		}
		o, problem := find(owners, name{key: "system/producer.service", kind: "service", verified: true})
		switch {
		case problem != "":
			return problem
		case o.Classes["owned"].Sockets != 8 || o.Classes["orphan"].Sockets != 8:
			return fmt.Sprintf("producer.service: %v, want 8 owned and 8 orphans", o.Classes)
		case o.Evidence["fd"].Sockets != 8 || o.Evidence["last-seen"].Sockets != 8:
			return fmt.Sprintf("producer.service: evidence %v, want fd for 8 and last-seen for 8", o.Evidence)
		case o.CgroupGone:
			return "producer.service: the control group that it runs in is said to be gone"
		}
		return expectPeer(o, "system/consumer.service", 16)
	})
	run(t, m, "systemctl", "stop", "producer.service", "consumer.service")
}

// checkOrphansSeen: the daemon saw who held the sockets that are orphans now.
// The unit and its file are gone; nobody else could name them.
func checkOrphansSeen(t *testing.T, m *Machine) {
	run(t, m, "systemctl", "start", "consumer.service")
	startService(t, m, "litter.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -dial "+consumerAddress()+" -count 8 -bytes 0\n")
	eventually(t, patience, func() string {
		owners, err := askOwners(t, m)
		if err != nil {
			return err.Error()
		}
		_, problem := find(owners, name{key: "system/litter.service", kind: "service", verified: true})
		return problem
	})
	removeService(t, m, "litter.service")
	expectOrphans(t, m, "system/litter.service", "last-seen")
	expectHonest(t, m, "litter")
	run(t, m, "systemctl", "stop", "consumer.service")
}

// checkOrphansUnseen: the daemon first sees the orphans when nobody holds them
// any more. Their control group names them, also after it is gone.
func checkOrphansUnseen(t *testing.T, m *Machine) {
	run(t, m, "systemctl", "start", "consumer.service")
	run(t, m, "systemctl", "stop", "tcpmemd")
	startService(t, m, "rubbish.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -dial "+consumerAddress()+" -count 8 -bytes 0 -leave\n")
	run(t, m, "systemctl", "start", "tcpmemd")
	eventually(t, patience, func() string {
		owners, err := askOwners(t, m)
		if err != nil {
			return err.Error()
		}
		o, problem := find(owners, name{key: "system/rubbish.service", kind: "service", verified: true})
		switch {
		case problem != "":
			return problem
		case o.CgroupGone || o.Evidence["cgroup"].Sockets != 8:
			return fmt.Sprintf("rubbish.service: cgroup gone %t, evidence %v, want cgroup for 8", o.CgroupGone, o.Evidence)
		}
		return ""
	})
	expectSockets(t, m, "system/rubbish.service", "cgroup", "--direct")
	removeService(t, m, "rubbish.service")
	expectOrphans(t, m, "system/rubbish.service", "cgroup")
	expectHonest(t, m, "rubbish")
	run(t, m, "systemctl", "stop", "consumer.service")
}

// expectPeer says what is wrong with who is at the other end of an owner's send
// queues, "" where it is only the owner with key.
func expectPeer(o owner, key string, sockets int64) string {
	if len(o.Peers) != 1 || o.Peers[0].Owner == nil || *o.Peers[0].Owner != key || o.Peers[0].Sockets != sockets {
		return fmt.Sprintf("%s: peers %s, want %s in %d sockets", o.Key, text(o.Peers), key, sockets)
	}
	return ""
}

// expectOrphans waits until `tcpmemctl orphans` has the eight of the owner with
// key, known by evidence alone, in a control group that is gone.
func expectOrphans(t *testing.T, m *Machine, key, evidence string) {
	t.Helper()
	eventually(t, patience, func() string {
		var doc struct {
			Owners []owner `json:"owners"`
		}
		if err := json.Unmarshal([]byte(run(t, m, "tcpmemctl", "orphans", "--json")), &doc); err != nil {
			return err.Error()
		}
		want := kernelSays(t, m, "dst", consumerAddress())
		i := slices.IndexFunc(doc.Owners, func(o owner) bool { return o.Key == key })
		if i < 0 {
			return fmt.Sprintf("%s left no orphans, but %s", key, text(doc.Owners))
		}
		switch o := doc.Owners[i]; {
		case want.Sockets != 8 || o.Sockets != 8 || !near(o.Bytes, want.Bytes):
			return fmt.Sprintf("%s left %v, want %v", key, o.tally, want)
		case len(o.Evidence) != 1 || o.Evidence[evidence].Sockets != 8:
			return fmt.Sprintf("%s: evidence %v, want %s for 8", key, o.Evidence, evidence)
		case !o.CgroupGone:
			return key + ": its control group is not said to be gone"
		}
		return ""
	})
	expectSockets(t, m, key, evidence)
}

// expectHonest asks without a daemon: a process without memory sees as many
// orphans and invents no name for them.
func expectHonest(t *testing.T, m *Machine, invented string) {
	t.Helper()
	if out := run(t, m, "tcpmemctl", "--direct", "orphans", "--json"); strings.Contains(out, invented) {
		t.Errorf("--direct orphans knows %s:\n%s", invented, out)
	}
	expectSockets(t, m, "unresolved", "netns", "--direct")
}

// expectSockets checks that `tcpmemctl sockets` lists the eight orphans to the
// consumer, each of the owner with key by evidence.
func expectSockets(t *testing.T, m *Machine, key, evidence string, flags ...string) {
	t.Helper()
	type socket struct {
		Class    string `json:"class"`
		Evidence string `json:"evidence"`
		Owner    string `json:"owner"`
	}
	var doc struct {
		Sockets []socket `json:"sockets"`
	}
	args := append(flags, "sockets", "--json", "--all", "dst = "+consumerAddress())
	if err := json.Unmarshal([]byte(run(t, m, "tcpmemctl", args...)), &doc); err != nil {
		t.Fatal(err)
	}
	want := slices.Repeat([]socket{{Class: "orphan", Evidence: evidence, Owner: key}}, 8)
	if !slices.Equal(doc.Sockets, want) {
		t.Errorf("%s: %v, want %v", strings.Join(args, " "), doc.Sockets, want)
	}
}

// removeService stops a service and leaves nothing of it.
func removeService(t *testing.T, m *Machine, unit string) {
	t.Helper()
	run(t, m, "systemctl", "stop", unit)
	run(t, m, "rm", "/etc/systemd/system/"+unit)
	run(t, m, "systemctl", "daemon-reload")
}
