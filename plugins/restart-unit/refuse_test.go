package restartunit

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/units/unitstest"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// TestRefuses: each reason has a code and a sentence, in a dry run too, and
// PID 1 is asked for nothing that changes anything.
func TestRefuses(t *testing.T) {
	owner := func(change func(*remediate.Owner)) func(*unitstest.Host, *remediate.Request) {
		return func(_ *unitstest.Host, r *remediate.Request) { change(r.Owner) }
	}
	unit := func(properties map[string]any) func(*unitstest.Host, *remediate.Request) {
		return func(h *unitstest.Host, _ *remediate.Request) { h.Set(queue, properties) }
	}
	along := func(relation, name string) func(*unitstest.Host, *remediate.Request) {
		return func(h *unitstest.Host, _ *remediate.Request) {
			h.Set(queue, map[string]any{relation: []string{name}})
			h.Add(name, nil)
		}
	}
	tests := []struct {
		code, says string
		settings   string
		change     func(*unitstest.Host, *remediate.Request)
	}{
		{code: "no-unit", says: "no unit", change: func(_ *unitstest.Host, r *remediate.Request) { r.Owner = nil }},
		{code: "no-unit", says: "no unit", change: owner(func(o *remediate.Owner) { o.Unit = "" })},
		{code: "unverified", says: "PID 1", change: owner(func(o *remediate.Owner) { o.UnitVerified = false })},
		{code: "unverified", says: "PID 1", change: owner(func(o *remediate.Owner) { o.Manager = "" })},
		{code: "user-manager", says: "user@1000", change: owner(func(o *remediate.Owner) { o.Manager, o.UnitVerified = "user@1000", false })},
		{code: "scope", says: "is a scope", change: owner(func(o *remediate.Owner) { o.Unit = "batch.scope" })},
		{code: "slice", says: "is a slice", change: owner(func(o *remediate.Owner) { o.Unit = "system.slice" })},
		{code: "no-service", says: "no service", change: owner(func(o *remediate.Owner) { o.Unit = "act.socket" })},
		{code: "protected", says: "opted out", change: owner(func(o *remediate.Owner) { o.Protected = "it opted out" })},
		{code: "protected", says: "ssh*", change: owner(func(o *remediate.Owner) { o.Unit = "sshd.service" })},
		{code: "protected", says: "task-*", settings: `{"protect":["task-*"]}`},
		{code: "protected", says: "ssh*", change: unit(map[string]any{"Id": "ssh.service"})}, // the name was an alias
		{code: "shared", says: "other units", change: owner(func(o *remediate.Owner) { o.Shared = true })},
		{code: "slow-peer", says: "192.0.2.7", change: owner(func(o *remediate.Owner) { o.Verdict, o.Culprit = "slow-peer", "192.0.2.7" })},
		{code: "identity-changed", says: "not known", change: owner(func(o *remediate.Owner) { o.InvocationID = "" })},
		{code: "identity-changed", says: "started anew", change: func(h *unitstest.Host, _ *remediate.Request) { h.Started(queue) }},
		{code: "unit-gone", says: "knows no unit", change: func(h *unitstest.Host, _ *remediate.Request) { h.Unload(queue) }},
		{code: "unit-gone", says: "file", change: unit(map[string]any{"LoadState": "not-found"})},
		{code: "masked", says: "masked", change: unit(map[string]any{"LoadState": "masked"})},
		{code: "masked", says: "masked", change: unit(map[string]any{"UnitFileState": "masked-runtime"})},
		{code: "not-loaded", says: "bad-setting", change: unit(map[string]any{"LoadState": "bad-setting"})},
		{code: "not-active", says: "failed", change: unit(map[string]any{"ActiveState": "failed", "SubState": "failed"})},
		{code: "not-active", says: "deactivating", change: unit(map[string]any{"ActiveState": "deactivating"})},
		{code: "auto-restart", says: "by itself", change: unit(map[string]any{"ActiveState": "activating", "SubState": "auto-restart"})},
		{code: "pending-job", says: "17", change: unit(map[string]any{"Job": struct {
			ID     uint32
			Object objectPath
		}{17, "/org/freedesktop/systemd1/job/17"}})},
		{code: "oneshot", says: "oneshot", change: unit(map[string]any{"Type": "oneshot"})},
		{code: "remain-after-exit", says: "RemainAfterExit", change: unit(map[string]any{"RemainAfterExit": true})},
		{code: "kill-mode", says: "KillMode=process", change: unit(map[string]any{"KillMode": "process"})},
		{code: "kill-mode", says: "KillMode=none", change: unit(map[string]any{"KillMode": "none"})},
		{code: "refuse-manual", says: "RefuseManual", change: unit(map[string]any{"RefuseManualStart": true})},
		{code: "refuse-manual", says: "RefuseManual", change: unit(map[string]any{"RefuseManualStop": true})},
		{code: "start-limit", says: "of 5 in 10s", change: unit(map[string]any{
			"NRestarts": uint32(3), "ActiveEnterTimestampMonotonic": uint64((time.Hour - 3*time.Second).Microseconds()),
		})},
		{code: "closure-protected", says: "NetworkManager.service along (PartOf=task-queue.service)", change: along("ConsistsOf", "NetworkManager.service")},
		{code: "closure-protected", says: "kubelet.service", settings: `{"allow":["*"]}`, change: along("BoundBy", "kubelet.service")},
		{code: "closure-not-allowed", says: "web.service (Requires=task-queue.service)", change: along("RequiredBy", "web.service")},
		{code: "closure-not-allowed", says: "web.service", settings: `{"allow":["webby"]}`, change: along("PropagatesStopTo", "web.service")},
		{code: "closure-too-large", says: "more than", settings: `{"allow":["*"]}`, change: func(h *unitstest.Host, _ *remediate.Request) {
			var many []string
			for i := range 200 {
				many = append(many, fmt.Sprintf("web%d.service", i))
				h.Add(many[i], nil)
			}
			h.Set(queue, map[string]any{"RequiredBy": many})
		}},
		{code: "frees-nothing", says: "free nothing", change: func(_ *unitstest.Host, r *remediate.Request) {
			r.Sockets = []remediate.Socket{
				{Class: "owned", Bytes: 100, Receive: 100, HolderPID: 1}, {Class: "orphan", Bytes: 100, Send: 100},
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.code+" "+test.says, func(t *testing.T) {
			h, a := host(t)
			r := request(h, test.settings)
			if test.change != nil {
				test.change(h, r)
			}
			for _, dry := range []bool{true, false} {
				r.DryRun = dry
				resp := run(t, a, r)
				if resp.Result != remediate.Refused || resp.Code != test.code || !strings.Contains(resp.Message, test.says) {
					t.Errorf("dry %v: %+v, want code %s and %q", dry, resp, test.code, test.says)
				}
				if resp.Changes != nil || h.Calls("TryRestartUnit") != 0 {
					t.Errorf("changes %v, %d restarts", resp.Changes, h.Calls("TryRestartUnit"))
				}
			}
		})
	}
}

func TestStartLimit(t *testing.T) {
	ago := func(d time.Duration) uint64 { return uint64((time.Hour - d).Microseconds()) }
	for _, test := range []struct {
		restarts, burst uint32
		interval        time.Duration
		last            uint64
		want            string
	}{
		{0, 5, 10 * time.Second, ago(time.Second), ""},
		{2, 5, 10 * time.Second, ago(time.Second), ""},
		{3, 5, 10 * time.Second, ago(time.Second), "start-limit"}, // 4 used, the 5th would be ours
		{9, 5, 10 * time.Second, ago(time.Second), "start-limit"},
		{9, 5, 10 * time.Second, ago(10 * time.Second), ""},
		{0, 1, time.Minute, ago(time.Second), "start-limit"},
		{0, 1, time.Minute, ago(time.Hour), ""},
		{0, 2, time.Minute, ago(time.Second), "start-limit"},
		{0, 3, time.Minute, ago(time.Second), ""},
		{9, 0, time.Minute, ago(time.Second), ""}, // no limit
		{9, 5, 0, ago(time.Second), ""},           // no limit
		{9, 5, 1 << 62, ago(59 * time.Minute), "start-limit"},
	} {
		h, a := host(t)
		h.Set(queue, map[string]any{
			"NRestarts": test.restarts, "StartLimitBurst": test.burst,
			"StartLimitIntervalUSec": uint64(test.interval.Microseconds()), "ActiveEnterTimestampMonotonic": test.last,
		})
		r := request(h, "")
		r.DryRun = true
		if resp := run(t, a, r); resp.Code != test.want {
			t.Errorf("%+v: %s", test, resp.Code)
		}
	}
}

// TestPredict: what ends with the processes, what only the clean-up frees, and
// what PID 1 keeps.
func TestPredict(t *testing.T) {
	socket := func(class string, receive, send, bytes int64) remediate.Socket {
		return remediate.Socket{Class: class, Receive: receive, Send: send, Bytes: bytes, HolderPID: 7, Local: "192.0.2.1:80", Remote: "192.0.2.2:1000"}
	}
	kept := socket("owned", 1000, 1000, 2000)
	kept.HolderPID = 1
	stored := socket("owned", 3000, 0, 3000) // by the service and PID 1
	stored.Inode = 4711
	// Both ends of one connection are the unit's.
	near, far := socket("owned", 0, 300, 310), socket("owned", 200, 0, 200)
	near.Local, near.Remote = "127.0.0.1:80", "127.0.0.1:99"
	far.Local, far.Remote = "[::ffff:127.0.0.1]:99", "[::ffff:127.0.0.1]:80"
	all := []remediate.Socket{
		socket("owned", 10, 100, 120), socket("owned", 50, 0, 60), near, far, kept, stored,
		socket("hidden", 70, 0, 70), socket("unaccepted", 80, 0, 90), socket("orphan", 0, 500, 500), socket("unresolved", 1, 1, 2),
	}
	for name, test := range map[string]struct {
		settings string
		change   func(*unitstest.Host, *remediate.Request)
		want     map[string]int64
	}{
		"with the clean-up":    {want: map[string]int64{"owned": 690, "hidden": 70, "unaccepted": 90}},
		"without the clean-up": {settings: `{"clean_orphans":false}`, want: map[string]int64{"owned": 590, "hidden": 70, "unaccepted": 90}},
		"orphans stay": {
			change: func(_ *unitstest.Host, r *remediate.Request) { r.Host.OrphansVanish = false },
			want:   map[string]int64{"owned": 590, "hidden": 70, "unaccepted": 90},
		},
		"socket activation": {
			change: func(h *unitstest.Host, _ *remediate.Request) {
				h.Set(queue, map[string]any{"TriggeredBy": []string{"task-queue.socket"}})
			},
			want: map[string]int64{"owned": 690, "hidden": 70},
		},
		"more than the request holds": {
			change: func(_ *unitstest.Host, r *remediate.Request) {
				r.SocketsLeftOut = 5
				r.Owner.Classes = map[string]remediate.Tally{"hidden": {Sockets: 4, Bytes: 1000}, "unaccepted": {Sockets: 1, Bytes: 95}}
			},
			want: map[string]int64{"owned": 690, "hidden": 1000, "unaccepted": 90},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, a := host(t)
			a.proc = procfs.New(initWith(t, "socket:[4711]", "socket:[x]", "/dev/null"))
			r := request(h, test.settings)
			r.Sockets, r.DryRun = all, true
			if test.change != nil {
				test.change(h, r)
			}
			resp := run(t, a, r)
			if diff := cmp.Diff(test.want, resp.Predicted); resp.Result != remediate.DryRun || diff != "" {
				t.Errorf("%+v (-want +got):\n%s", resp, diff)
			}
		})
	}
}

// initWith is a proc file system whose PID 1 has these descriptors.
func initWith(t *testing.T, links ...string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(root+"/1/fd", 0o700); err != nil {
		t.Fatal(err)
	}
	for i, link := range links {
		if err := os.Symlink(link, fmt.Sprintf("%s/1/fd/%d", root, i)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestValidate(t *testing.T) {
	_, a := host(t)
	for given, want := range map[string]string{
		``: "",
		`{"timeout":"90s","allow":["web*"],"clean_orphans":false,"protect":[]}`: "",
		`{"timeout":"0s"}`:          "timeout: want a duration between",
		`{"timeout":"2h"}`:          "timeout: want a duration between",
		`{"timeout":30}`:            "timeout: want a duration as text",
		`{"allow":["a["]}`:          `allow: check glob "a["`,
		`{"protect":["a["]}`:        `protect: check glob "a["`,
		`{"clean-orphans":true}`:    "did you mean clean_orphans?",
		`{"unit":"nginx.service"}`:  "unknown setting",
		`{"clean_orphans":"false"}`: "want true or false",
	} {
		var got []string
		for _, p := range a.Validate(t.Context(), remediate.Settings(given)) {
			got = append(got, p.Setting+": "+p.Message)
		}
		if text := strings.Join(got, "; "); (text == "") != (want == "") || !strings.Contains(text, want) {
			t.Errorf("%s: %q, want %q", given, text, want)
		}
	}
	d := a.Describe()
	if d.Name != "restart-unit" || d.EvidenceShare != 0.5 || len(d.Evidence) != 1 || d.Evidence[0] != "fd" || !d.NeedsSockets {
		t.Errorf("%+v", d)
	}
	if c, problems := a.read(nil); problems != nil || len(c.protect) == 0 || !c.clean || c.timeout != time.Minute {
		t.Errorf("defaults %+v, problems %v", c, problems)
	}
}
