package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func TestPods(t *testing.T) {
	root := t.TempDir()
	p := NewPods(root)
	now := time.Now()
	if err := p.Refresh(now); err != nil {
		t.Fatalf("without kubelet: %v", err)
	}
	label := func() Label {
		return Parse(Path("/kubepods/burstable/pod" + uid + "/" + idA))
	}
	l := label()
	p.Name(&l)
	if diff := cmp.Diff(label(), l); diff != "" {
		t.Errorf("without kubelet (-want +got):\n%s", diff)
	}

	for _, dir := range []string{"pods/payments_api-7d9c_" + uid + "/server", "pods/lost+found", "pods/__", "containers"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(root, "containers", "api-7d9c_payments_side-car-"+idA+".log")
	if err := os.Symlink(filepath.Join(root, "pods/payments_api-7d9c_"+uid+"/side-car/0.log"), link); err != nil {
		t.Fatal(err)
	}
	if err := p.Refresh(now); err != nil {
		t.Fatal(err)
	}
	want := label()
	want.Pod = &reading.Pod{Namespace: "payments", Name: "api-7d9c", UID: uid}
	want.Container.Name = "side-car"
	l = label()
	p.Name(&l)
	if diff := cmp.Diff(want, l); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// A change in the very moment of the read is seen by the next one: the
	// container was restarted, and has another id.
	if err := os.Rename(link, filepath.Join(root, "containers", "api-7d9c_payments_side-car-"+idB+".log")); err != nil {
		t.Fatal(err)
	}
	if err := p.Refresh(now); err != nil {
		t.Fatal(err)
	}
	again := Parse(Path("/kubepods/burstable/pod" + uid + "/" + idB))
	if p.Name(&again); again.Container.Name != "side-car" {
		t.Errorf("after a restart: %+v", again.Container)
	}

	// The pod is deleted, its logs with it. Its orphans are still its own.
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	if err := p.Refresh(now); err != nil {
		t.Fatal(err)
	}
	l = label()
	p.Name(&l)
	if diff := cmp.Diff(want, l); diff != "" {
		t.Errorf("after the pod went (-want +got):\n%s", diff)
	}
}

// TestPodTree: what kubelet leaves of pods of all kinds, with the names that it
// writes: static pods, init and ephemeral containers, containers that were
// restarted, and names so long that the end of the id is cut off.
func TestPodTree(t *testing.T) {
	root := t.TempDir()
	long := strings.Repeat("a-very-long-name-", 9) + "x"
	id := func(c string) string { return strings.Repeat(c, 64) }
	for _, c := range []struct{ namespace, pod, uid, name, id string }{
		{"kube-system", "etcd-node-1", hash, "etcd", id("1")},
		{"shop", "queue-0", uid, "init-schema", id("2")}, // ended
		{"shop", "queue-0", uid, "worker", id("3")},      // before its restart
		{"shop", "queue-0", uid, "worker", id("4")},
		{"shop", "queue-0", uid, "debugger-x7k2p", id("5")},
		{"shop", long, uid[:35] + "f", "worker", id("6")},
	} {
		dir := filepath.Join("pods", c.namespace+"_"+c.pod+"_"+c.uid, c.name)
		link := c.pod + "_" + c.namespace + "_" + c.name + "-" + c.id
		link = link[:min(len(link), 251)] + ".log"
		err := errors.Join(os.MkdirAll(filepath.Join(root, dir), 0o755), os.MkdirAll(filepath.Join(root, "containers"), 0o755),
			os.Symlink(filepath.Join("/var/log", dir, "0.log"), filepath.Join(root, "containers", link)))
		if err != nil {
			t.Fatal(err)
		}
	}
	p := NewPods(root)
	if err := p.Refresh(time.Now()); err != nil {
		t.Fatal(err)
	}
	slice := func(uid string) string {
		return "/kubepods.slice/kubepods-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice/"
	}
	for path, want := range map[string]string{
		slice(hash) + "cri-containerd-" + id("1") + ".scope":                                 "kube-system/etcd-node-1/etcd",
		"/kubepods/burstable/pod" + uid + "/" + id("2"):                                      "shop/queue-0/init-schema",
		slice(uid) + "crio-" + id("3") + ".scope/container":                                  "shop/queue-0/worker",
		slice(uid) + "docker-" + id("4") + ".scope":                                          "shop/queue-0/worker",
		slice(uid) + "cri-containerd-" + id("5") + ".scope":                                  "shop/queue-0/debugger-x7k2p",
		slice(uid[:35]+"f") + "cri-containerd-" + id("6") + ".scope":                         "shop/" + long + "/worker",
		slice(uid) + "cri-containerd-" + id("7") + ".scope":                                  "shop/queue-0/", // its sandbox has no log
		slice(uid[:35]+"e") + "cri-containerd-" + id("8") + ".scope":                         "//",            // not there yet
		"/system.slice/k3s.service/kubepods-pod" + hash + ".slice:cri-containerd:" + id("1"): "kube-system/etcd-node-1/etcd",
	} {
		l := Parse(Path(path))
		p.Name(&l)
		if l.Pod == nil || l.Container == nil {
			t.Errorf("%s: %+v", path, l)
			continue
		}
		if got := l.Pod.Namespace + "/" + l.Pod.Name + "/" + l.Container.Name; got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// A directory that has not changed is not read again.
func TestPodsCachedByMtime(t *testing.T) {
	root := t.TempDir()
	pods := filepath.Join(root, "pods")
	if err := os.MkdirAll(filepath.Join(pods, "a_b_"+uid), 0o755); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	stamp := func() {
		if err := os.Chtimes(pods, old, old); err != nil {
			t.Fatal(err)
		}
	}
	stamp()
	p := NewPods(root)
	if err := p.Refresh(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(pods, "a_b_"+uid), filepath.Join(pods, "a_c_"+uid)); err != nil {
		t.Fatal(err)
	}
	stamp()
	if err := p.Refresh(time.Now()); err != nil {
		t.Fatal(err)
	}
	l := Label{Pod: &reading.Pod{UID: uid}}
	if p.Name(&l); l.Pod.Name != "b" {
		t.Errorf("read again although the mtime is the same: %+v", l.Pod)
	}
}

func TestContainerOfLink(t *testing.T) {
	for _, name := range []string{"", ".log", "a_b_c.log", "a_b_c-" + idA, "a_b_-" + idA + ".log", "a_b_c_d-" + idA + ".log", "a_b-" + idA + ".log", "a_b_" + idA + ".log"} {
		if id, c, ok := containerOfLink(name); ok {
			t.Errorf("containerOfLink(%q) = %q, %q", name, id, c)
		}
	}
}

func FuzzPodNames(f *testing.F) {
	f.Add("payments_api-7d9c_" + uid)
	f.Add("api_payments_c-" + idA + ".log")
	f.Fuzz(func(t *testing.T, name string) {
		if uid, pod, ok := podOfDir(name); ok && (pod.Namespace+"_"+pod.Name+"_"+uid != name) {
			t.Fatalf("podOfDir(%q) = %q, %+v", name, uid, pod)
		}
		if id, c, ok := containerOfLink(name); ok && (c == "" || len(id) != 64 && len(name) != 255) {
			t.Fatalf("containerOfLink(%q) = %q, %q", name, id, c)
		}
	})
}
