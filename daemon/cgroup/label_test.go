package cgroup

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const (
	idA = "4f6bd3f2a1c0de9b8e7a6f5c4d3e2b1a0f9e8d7c6b5a49382716f5e4d3c2b1a0"
	idB = "0b1c2d3e4f5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
	uid = "8dbc5577-d0e2-4706-8787-57d52c03ddf2"
	// a static pod: the hash of its manifest
	hash = "a3b1f60b8a0f1a7a1f4c8bb6d2f0d7e9"
)

var uidInSlice = strings.ReplaceAll(uid, "-", "_")

func system(unit, slice string) Label {
	return Label{Unit: unit, SystemUnit: unit, Manager: "system", Slice: slice}
}

func (l Label) with(change func(*Label)) Label { change(&l); return l }

func container(id, runtime string) func(*Label) {
	return func(l *Label) { l.Container = &reading.Container{ID: id, Runtime: runtime} }
}

func inPod(id, runtime, uid string) func(*Label) {
	return func(l *Label) {
		l.Container = &reading.Container{ID: id, Runtime: runtime}
		l.Pod = &reading.Pod{UID: uid}
	}
}

func user(uid uint32, unit, slice string) Label {
	manager := "user@" + utoa(uid)
	return Label{Unit: unit, SystemUnit: manager + ".service", Manager: manager, Slice: slice, UID: &uid}
}

func TestParse(t *testing.T) {
	burstable := "kubepods-burstable-pod" + uidInSlice + ".slice"
	podSlice := "/kubepods.slice/kubepods-burstable.slice/" + burstable
	tests := []struct {
		name string
		path string
		want Label
		kind reading.Kind
	}{
		// systemd
		{"root", "/", Label{Slice: "-.slice"}, ""},
		{"empty", "", Label{Slice: "-.slice"}, ""},
		{"service", "/system.slice/task-queue.service", system("task-queue.service", "system.slice"), reading.KindService},
		{"template", "/system.slice/system-work.slice/work@7.service", system("work@7.service", "system-work.slice"), reading.KindService},
		{"own slice", `/batch.slice/batch-night.slice/dash\x2dname.service`, system(`dash\x2dname.service`, "batch-night.slice"), reading.KindService},
		{"escaped for a controller", "/system.slice/_cpu.service", system("cpu.service", "system.slice"), reading.KindService},
		{"escaped underscore", "/system.slice/__under.service", system("_under.service", "system.slice"), reading.KindService},
		{"socket", "/system.slice/act.socket", system("act.socket", "system.slice"), reading.KindService},
		{
			"instance per connection", "/system.slice/system-each.slice/each@0-127.0.0.1:47814-127.0.0.1:47552.service",
			system("each@0-127.0.0.1:47814-127.0.0.1:47552.service", "system-each.slice"), reading.KindService,
		},
		{"mount", "/dev-hugepages.mount", system("dev-hugepages.mount", "-.slice"), reading.KindService},
		{"init", "/init.scope", system("init.scope", "-.slice"), reading.KindScope},
		{"slice alone", "/system.slice", Label{Slice: "system.slice"}, ""},
		{"no unit in slice", "/system.slice/whatever", Label{Slice: "system.slice"}, ""},
		{"not a unit's name", "/system.slice/a b.service/x.service", Label{Slice: "system.slice"}, ""},
		{"v1 leftovers", "/a/b/nginx.service", Label{Slice: "-.slice"}, ""},
		{"outside the namespace", "/../system.slice/nginx.service", Label{Slice: "-.slice"}, ""},

		// users
		{
			"session", "/user.slice/user-1000.slice/session-3.scope",
			system("session-3.scope", "user-1000.slice").with(func(l *Label) { l.UID, l.Session = new(uint32(1000)), "3" }), reading.KindSession,
		},
		{
			"user manager", "/user.slice/user-1000.slice/user@1000.service",
			system("user@1000.service", "user-1000.slice").with(func(l *Label) { l.UID = new(uint32(1000)) }), reading.KindService,
		},
		{"user manager itself", "/user.slice/user-1000.slice/user@1000.service/init.scope", user(1000, "init.scope", "-.slice"), reading.KindScope},
		{"user unit", "/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service", user(1000, "foo.service", "app.slice"), reading.KindUserService},
		{"user unit, before app.slice", "/user.slice/user-0.slice/user@0.service/foo.service", user(0, "foo.service", "-.slice"), reading.KindUserService},
		{
			"user scope", `/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-org.gnome.Terminal\x2d1.scope`,
			user(1000, `app-gnome-org.gnome.Terminal\x2d1.scope`, "app.slice"), reading.KindScope,
		},
		{
			"no unit in user manager", "/user.slice/user-1000.slice/user@1000.service/x/foo.service",
			system("user@1000.service", "user-1000.slice").with(func(l *Label) { l.UID = new(uint32(1000)) }), reading.KindService,
		},
		{
			"another user's manager", "/user.slice/user-1000.slice/user@0.service/foo.service",
			system("user@0.service", "user-1000.slice").with(func(l *Label) { l.UID = new(uint32(1000)) }), reading.KindService,
		},
		{"user manager elsewhere", "/system.slice/user@1000.service/foo.service", system("user@1000.service", "system.slice"), reading.KindService},
		{"uid with zeros", "/user.slice/user-01000.slice/user@01000.service/foo.service", system("user@01000.service", "user-01000.slice"), reading.KindService},

		// forged below what is delegated
		{"unit in service", "/system.slice/delegated.service/nginx.service/deeper", system("delegated.service", "system.slice"), reading.KindService},
		{"slice in service", "/system.slice/delegated.service/system.slice/nginx.service", system("delegated.service", "system.slice"), reading.KindService},
		{"container in service", "/system.slice/delegated.service/docker-" + idA + ".scope", system("delegated.service", "system.slice"), reading.KindService},
		{"pod in service", "/system.slice/delegated.service/kubepods/pod" + uid + "/" + idA, system("delegated.service", "system.slice"), reading.KindService},
		{"docker in service", "/system.slice/delegated.service/docker/" + idA, system("delegated.service", "system.slice"), reading.KindService},
		{
			"unit in container", "/system.slice/docker-" + idA + ".scope/nginx.service",
			system("docker-"+idA+".scope", "system.slice").with(container(idA, "docker")), reading.KindContainer,
		},
		{
			"container in container", "/system.slice/docker-" + idA + ".scope/docker/" + idB,
			system("docker-"+idA+".scope", "system.slice").with(container(idA, "docker")), reading.KindContainer,
		},
		{
			"pod in user manager", "/user.slice/user-1000.slice/user@1000.service" + podSlice + "/cri-containerd-" + idA + ".scope",
			user(1000, "cri-containerd-"+idA+".scope", burstable).with(container(idA, "containerd")), reading.KindContainer,
		},
		{"mixed drivers below another service", "/system.slice/x.service/" + burstable + ":cri-containerd:" + idA, system("x.service", "system.slice"), reading.KindService},

		// Kubernetes
		{
			"containerd, systemd driver", podSlice + "/cri-containerd-" + idA + ".scope",
			system("cri-containerd-"+idA+".scope", burstable).with(inPod(idA, "containerd", uid)), reading.KindContainer,
		},
		{
			"cri-o, systemd driver", podSlice + "/crio-" + idA + ".scope/container",
			system("crio-"+idA+".scope", burstable).with(inPod(idA, "cri-o", uid)), reading.KindContainer,
		},
		{
			"cri-o's monitor", podSlice + "/crio-conmon-" + idA + ".scope",
			system("crio-conmon-"+idA+".scope", burstable).with(func(l *Label) { l.Pod = &reading.Pod{UID: uid} }), reading.KindScope,
		},
		{
			"cri-dockerd, systemd driver", podSlice + "/docker-" + idA + ".scope",
			system("docker-"+idA+".scope", burstable).with(inPod(idA, "docker", uid)), reading.KindContainer,
		},
		{
			"guaranteed", "/kubepods.slice/kubepods-pod" + uidInSlice + ".slice/cri-containerd-" + idA + ".scope",
			system("cri-containerd-"+idA+".scope", "kubepods-pod"+uidInSlice+".slice").with(inPod(idA, "containerd", uid)), reading.KindContainer,
		},
		{
			"static pod", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + hash + ".slice/cri-containerd-" + idA + ".scope",
			system("cri-containerd-"+idA+".scope", "kubepods-besteffort-pod"+hash+".slice").with(inPod(idA, "containerd", hash)), reading.KindContainer,
		},
		{
			"kubelet with a root", "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + uidInSlice + ".slice/cri-containerd-" + idA + ".scope",
			system("cri-containerd-"+idA+".scope", "kubelet-kubepods-besteffort-pod"+uidInSlice+".slice").with(inPod(idA, "containerd", uid)), reading.KindContainer,
		},
		{"pod itself", podSlice, Label{Slice: burstable, Pod: &reading.Pod{UID: uid}}, ""},
		{
			"cgroupfs driver", "/kubepods/burstable/pod" + uid + "/" + idA,
			Label{Slice: "-.slice"}.with(inPod(idA, "", uid)), reading.KindContainer,
		},
		{
			"cgroupfs driver, guaranteed", "/kubepods/pod" + uid + "/" + idA + "/below",
			Label{Slice: "-.slice"}.with(inPod(idA, "", uid)), reading.KindContainer,
		},
		{
			"cri-o, cgroupfs driver", "/kubepods/besteffort/pod" + uid + "/crio-" + idA,
			Label{Slice: "-.slice"}.with(inPod(idA, "cri-o", uid)), reading.KindContainer,
		},
		{
			"cri-o's monitor, cgroupfs driver", "/kubepods/besteffort/pod" + uid + "/crio-conmon-" + idA,
			Label{Slice: "-.slice", Pod: &reading.Pod{UID: uid}},
			"",
		},
		{"mixed drivers", "/" + burstable + ":cri-containerd:" + idA, Label{Slice: "-.slice"}.with(inPod(idA, "containerd", uid)), reading.KindContainer},
		{
			"mixed drivers below containerd", "/system.slice/containerd.service/" + burstable + ":cri-containerd:" + idA,
			system("containerd.service", "system.slice").with(inPod(idA, "containerd", uid)), reading.KindContainer,
		},
		{
			"mixed drivers below k3s", "/system.slice/k3s-agent.service/" + burstable + ":cri-containerd:" + idA,
			system("k3s-agent.service", "system.slice").with(inPod(idA, "containerd", uid)), reading.KindContainer,
		},
		{
			"mixed drivers, runtime.slice", "/runtime.slice/containerd.service/" + burstable + ":cri-containerd:" + idA,
			system("containerd.service", "runtime.slice").with(inPod(idA, "containerd", uid)), reading.KindContainer,
		},
		{
			"mixed drivers in another slice", "/other.slice/containerd.service/" + burstable + ":cri-containerd:" + idA,
			system("containerd.service", "other.slice"), reading.KindService,
		},
		{
			"kind, seen from its node", "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + uidInSlice + ".slice/cri-containerd-" + idA + ".scope",
			system("cri-containerd-"+idA+".scope", "kubelet-kubepods-burstable-pod"+uidInSlice+".slice").with(inPod(idA, "containerd", uid)), reading.KindContainer,
		},
		{
			"kind: a node in docker", "/system.slice/docker-" + idA + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + uidInSlice + ".slice/cri-containerd-" + idB + ".scope",
			system("docker-"+idA+".scope", "system.slice").with(container(idA, "docker")), reading.KindContainer,
		},

		// docker, containerd, podman
		{
			"docker, systemd driver", "/system.slice/docker-" + idA + ".scope",
			system("docker-"+idA+".scope", "system.slice").with(container(idA, "docker")), reading.KindContainer,
		},
		{"docker, cgroupfs driver", "/docker/" + idA, Label{Slice: "-.slice"}.with(container(idA, "docker")), reading.KindContainer},
		{"docker in docker, cgroupfs driver", "/docker/" + idA + "/docker/" + idB, Label{Slice: "-.slice"}.with(container(idA, "docker")), reading.KindContainer},
		{"docker's build", "/docker/buildkit/" + idA, Label{Slice: "-.slice"}, ""},
		{"docker, short id", "/system.slice/docker-4f6bd3f2a1c0.scope", system("docker-4f6bd3f2a1c0.scope", "system.slice"), reading.KindScope},
		{
			"nerdctl", "/system.slice/nerdctl-" + idA + ".scope",
			system("nerdctl-"+idA+".scope", "system.slice").with(container(idA, "containerd")), reading.KindContainer,
		},
		{"nerdctl, cgroupfs driver", "/default/" + idA, Label{Slice: "-.slice"}.with(container(idA, "containerd")), reading.KindContainer},
		{
			"ECS task", "/ecstasks.slice/ecstasks-0f9de17a6465404e8b1b2356dc13c2f8.slice/docker-" + idA + ".scope",
			system("docker-"+idA+".scope", "ecstasks-0f9de17a6465404e8b1b2356dc13c2f8.slice").with(container(idA, "docker")), reading.KindContainer,
		},
		{
			"podman", "/machine.slice/libpod-" + idA + ".scope/container",
			system("libpod-"+idA+".scope", "machine.slice").with(container(idA, "podman")), reading.KindContainer,
		},
		{
			"podman pod", "/machine.slice/machine-libpod_pod_" + idB + ".slice/libpod-" + idA + ".scope",
			system("libpod-"+idA+".scope", "machine-libpod_pod_"+idB+".slice").with(container(idA, "podman")), reading.KindContainer,
		},
		{"podman's monitor", "/machine.slice/libpod-conmon-" + idA + ".scope", system("libpod-conmon-"+idA+".scope", "machine.slice"), reading.KindScope},
		{
			"podman rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + idA + ".scope/container",
			user(1000, "libpod-"+idA+".scope", "user.slice").with(container(idA, "podman")), reading.KindContainer,
		},
		{"podman as a unit", "/system.slice/web.service/libpod-payload-" + idA, system("web.service", "system.slice"), reading.KindService},
		{"podman, cgroupfs driver", "/libpod_parent/libpod-" + idA + "/container", Label{Slice: "-.slice"}.with(container(idA, "podman")), reading.KindContainer},
		{"podman pod, cgroupfs driver", "/libpod_parent/" + idB + "/libpod-" + idA, Label{Slice: "-.slice"}.with(container(idA, "podman")), reading.KindContainer},
		{"podman's monitor, cgroupfs driver", "/libpod_parent/conmon", Label{Slice: "-.slice"}, ""},

		// machines
		{"LXC", "/lxc.payload.web/system.slice/nginx.service", Label{Slice: "-.slice", Machine: "web"}, ""},
		{"LXC 3", "/lxc/web/system.slice/nginx.service", Label{Slice: "-.slice", Machine: "web"}, ""},
		{"LXC's monitor", "/lxc.monitor.web", Label{Slice: "-.slice"}, ""},
		{
			"nspawn unit", `/machine.slice/systemd-nspawn@web\x2d1.service/payload/system.slice/nginx.service`,
			system(`systemd-nspawn@web\x2d1.service`, "machine.slice").with(func(l *Label) { l.Machine = "web-1" }), reading.KindService,
		},
		{
			"nspawn scope", "/machine.slice/machine-web.scope/payload/system.slice/nginx.service",
			system("machine-web.scope", "machine.slice").with(func(l *Label) { l.Machine = "web" }), reading.KindScope,
		},
		{
			"libvirt", `/machine.slice/machine-qemu\x2d1\x2ddb.scope/libvirt/emulator`,
			system(`machine-qemu\x2d1\x2ddb.scope`, "machine.slice").with(func(l *Label) { l.Machine = "qemu-1-db" }), reading.KindScope,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Parse(Path(test.path))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", test.path, diff)
			}
			if got := got.Kind(); got != test.kind {
				t.Errorf("Kind = %q, want %q", got, test.kind)
			}
		})
	}
}

// FuzzParse holds what no path may break: what is below a unit never changes
// which unit, container or pod it is.
func FuzzParse(f *testing.F) {
	for _, p := range []string{
		"/", "", "//", "/system.slice/_cpu.service", "/user.slice/user-1000.slice/user@1000.service/a.slice/b.service",
		"/docker/" + idA, "/kubepods/pod" + uid + "/" + idA, "/x.slice/_", "/_.slice", "/system.slice/.service", "/lxc.payload./x",
		"/kubepods.slice/kubepods-pod" + uidInSlice + ".slice/crio-" + idA + ".scope", "/\xff.service",
	} {
		f.Add(p, "nginx.service")
	}
	f.Fuzz(func(t *testing.T, path, below string) {
		l := Parse(Path(path))
		if l.Slice == "" {
			t.Fatalf("Parse(%q): no slice", path)
		}
		if (l.Unit == "") != (l.Manager == "") || (l.Unit == "") != (l.SystemUnit == "") {
			t.Fatalf("Parse(%q): unit %q, manager %q, PID 1's unit %q", path, l.Unit, l.Manager, l.SystemUnit)
		}
		if l.Unit != "" && !strings.Contains(path, l.Unit) {
			t.Fatalf("Parse(%q): unit %q is not in the path", path, l.Unit)
		}
		deeper := Parse(Path(strings.TrimRight(path, "/") + "/" + below))
		if l.SystemUnit != "" && deeper.SystemUnit != l.SystemUnit {
			t.Fatalf("Parse(%q): PID 1's unit %q became %q by going on with %q", path, l.SystemUnit, deeper.SystemUnit, below)
		}
		if l.Container != nil && cmp.Diff(l.Container, deeper.Container) != "" {
			t.Fatalf("Parse(%q): another container by going on with %q", path, below)
		}
	})
}
