package metrics

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const (
	id64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	uuid = "6b0f3e43-9c1a-4d8e-8f50-0a4f9e3ad0c1"
)

// TestWho: an owner is named by what outlives its processes and connections.
func TestWho(t *testing.T) {
	service := func(unit string) reading.Owner {
		return reading.Owner{Key: "system/" + unit, Name: unit, Unit: unit, Manager: "system", Kind: reading.KindService}
	}
	process := func(command string) reading.Owner {
		return reading.Owner{Key: "process/4711/99", Name: command, Command: command, Kind: reading.KindProcess}
	}
	container := func(name string, pod *reading.Pod) reading.Owner {
		return reading.Owner{
			Key: "container/" + id64, Name: "whatever", Kind: reading.KindContainer, Pod: pod, Unit: "docker-" + id64 + ".scope",
			Container: &reading.Container{ID: id64, Runtime: "containerd", Name: name},
		}
	}
	long := strings.Repeat("ä", 5000)
	for name, tc := range map[string]struct {
		owner reading.Owner
		want  who
	}{
		"service":               {service("task-queue.service"), who{owner: "task-queue.service", kind: "service"}},
		"template":              {service("redis@6379.service"), who{owner: "redis@6379.service", kind: "service"}},
		"user's manager":        {service("user@1000.service"), who{owner: "user@1000.service", kind: "service"}},
		"connection":            {service("sshd@3-10.0.0.1:22-10.0.0.2:50000.service"), who{owner: "sshd@*.service", kind: "service"}},
		"connection over IPv6":  {service("sshd@3-fe80::1:22-fe80::2:50000.service"), who{owner: "sshd@*.service", kind: "service"}},
		"connection of process": {service("systemd-coredump@0-34567_34568-0.service"), who{owner: "systemd-coredump@*.service", kind: "service"}},
		"transient":             {service("run-r" + id64[:32] + ".service"), who{owner: "run-*.service", kind: "service"}},
		"transient, by pid":     {service("run-p34567-i890.service"), who{owner: "run-*.service", kind: "service"}},
		"session":               {service("session-12.scope"), who{owner: "session-12.scope", kind: "service"}},
		"desktop's program":     {service("app-gnome-editor-34567.scope"), who{owner: "app-gnome-editor-*.scope", kind: "service"}},
		"terminal":              {service("vte-spawn-" + uuid + ".scope"), who{owner: "vte-spawn-*.scope", kind: "service"}},
		"no suffix":             {service("odd"), who{owner: "odd", kind: "service"}},
		"user's service": {
			reading.Owner{Key: "user@1000/x.service", Name: "x.service", Unit: "x.service", Manager: "user@1000", Kind: reading.KindUserService},
			who{owner: "user@1000/x.service", kind: "user-service"},
		},
		"control group": {
			reading.Owner{Key: "cgroup/jobs/1234/" + id64, Name: "/jobs/1234/" + id64, Kind: reading.KindScope},
			who{owner: "/jobs/*/*", kind: "scope"},
		},
		"container in a pod": {
			container("web", &reading.Pod{Namespace: "shop", Name: "cart-0", UID: uuid}),
			who{owner: "web", kind: "container", namespace: "shop", pod: "cart-0", container: "web"},
		},
		"container of a pod without a name": {container("web", &reading.Pod{UID: uuid}), who{owner: "web", kind: "container", container: "web"}},
		"container without a name": {
			container("", nil), who{owner: "containerd 0123456789ab", kind: "container", container: "containerd 0123456789ab"},
		},
		"process":           {process("node"), who{owner: "node", kind: "process"}},
		"class of C++":      {process("std::thread"), who{owner: "std::thread", kind: "process"}},
		"version":           {process("python3.11"), who{owner: "python3.11", kind: "process"}},
		"its peer's name":   {process("ftpd: 10.1.2.3"), who{owner: "ftpd: *", kind: "process"}},
		"kernel":            {reading.Owner{Name: "nfs4 mount of 10.0.0.1:/export", Kind: reading.KindKernel}, who{owner: "nfs4 mount of *:/export", kind: "kernel"}},
		"kernel, IPv6":      {reading.Owner{Name: "nfs mount of [fd00::1]:/export", Kind: reading.KindKernel}, who{owner: "nfs mount of [*]:/export", kind: "kernel"}},
		"no name":           {process(""), who{owner: "unnamed", kind: "process"}},
		"newline":           {process("a\nb\r\x1b[31m"), who{owner: "a\uFFFDb\uFFFD\uFFFD[31m", kind: "process"}},
		"direction":         {process("a\u202eb"), who{owner: "a\uFFFDb", kind: "process"}},
		"quotes":            {process(`"} 1\`), who{owner: `"} 1\`, kind: "process"}},
		"invalid UTF-8":     {process("\xff\xfea"), who{owner: "\uFFFD\uFFFDa", kind: "process"}},
		"10 kB":             {process(long), who{owner: long[:128], kind: "process"}},
		"10 kB of nothing":  {process(strings.Repeat("\xff", 10_000)), who{owner: strings.Repeat("\uFFFD", 42), kind: "process"}},
		"cut within a rune": {process("x" + long), who{owner: "x" + long[:126], kind: "process"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := whoOf(&tc.owner); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// TestGrouped: the biggest by themselves, those of equal labels together, and
// the rest as one that is always there.
func TestGrouped(t *testing.T) {
	o := func(name string, bytes int64, growth *int64, verdict reading.VerdictKind) reading.Owner {
		out := reading.Owner{Name: name, Kind: reading.KindProcess, Sum: reading.Tally{Sockets: 1, Bytes: bytes}, GrowthPerMinute: growth}
		if verdict != "" {
			out.Verdict = &reading.Verdict{Kind: verdict}
		}
		return out
	}
	owners := []reading.Owner{
		o("big", 100, new(int64(1)), reading.Load), o("twin", 60, new(int64(2)), reading.Load),
		o("twin", 50, nil, reading.Leak), o("small", 20, nil, ""), o("debt", -5, nil, ""),
		{Name: other, Kind: other, Sum: reading.Tally{Sockets: 1, Bytes: 1}},
	}
	type row struct {
		Owner          string
		Bytes, Sockets int64
		Growing        bool
		Verdict        string
	}
	for _, tc := range []struct {
		n    int
		want []row
	}{
		{2, []row{{"twin", 110, 2, false, "leak"}, {"big", 100, 1, true, "load"}, {"other", 16, 3, false, ""}}},
		{0, []row{{"other", 226, 6, false, ""}}},
		{10, []row{{"twin", 110, 2, false, "leak"}, {"big", 100, 1, true, "load"}, {"small", 20, 1, false, ""}, {"debt", -5, 1, false, ""}, {"other", 1, 1, false, ""}}},
		{-1, []row{{"other", 226, 6, false, ""}}},
	} {
		var got []row
		for _, g := range grouped(owners, tc.n) {
			r := row{g.owner, g.bytes, g.sockets, g.growing > 0 && g.growing == g.members, ""}
			if g.verdict > 0 {
				r.Verdict = string(verdicts[g.verdict-1])
			}
			got = append(got, r)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%d owners (-want +got):\n%s", tc.n, diff)
		}
	}
	if got := grouped(nil, 10); len(got) != 1 || !got[0].isRest() {
		t.Errorf("of nobody: %+v", got)
	}
}

// FuzzLabel: whatever a process calls itself, a label is valid, short, printable
// and the same when it is made again.
func FuzzLabel(f *testing.F) {
	for _, s := range []string{
		"", "nginx.service", "a\nb", "\xff\xfe", strings.Repeat("ä", 100), `"\`, "sshd@3-10.0.0.1:22-10.0.0.2:50000.service",
		"run-r" + id64, "app-x-123.scope", uuid, "::", "1.2.3.4.5", id64 + id64, "\u202e", "/a/1/b-2.scope",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, o := range []reading.Owner{
			{Name: text, Kind: reading.KindProcess},
			{Unit: text, Manager: "system"},
			{Unit: text, Manager: text},
			{Container: &reading.Container{Name: text, ID: text, Runtime: text}, Pod: &reading.Pod{Namespace: text, Name: text}},
			{Container: &reading.Container{ID: text, Runtime: text}},
			{Name: "/" + text},
		} {
			w := whoOf(&o)
			for _, value := range []string{w.owner, w.namespace, w.pod, w.container} {
				if !utf8.ValidString(value) || len(value) > maxLabel || strings.ContainsAny(value, "\n\r\x00\x1b\x7f\u202e\u2028") {
					t.Errorf("%q becomes %q", text, value)
				}
				if value != "" && label(value) != value {
					t.Errorf("%q becomes %q, and that %q", text, value, label(value))
				}
			}
			if w.owner == "" {
				t.Errorf("%q becomes nobody", text)
			}
		}
		if once := steady(text); len(once) > len(text) {
			t.Errorf("%q grows to %q", text, once)
		}
	})
}
