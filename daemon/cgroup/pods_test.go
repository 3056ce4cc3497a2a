package cgroup

import (
	"os"
	"path/filepath"
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

	// A change in the very moment of the read is seen by the next one.
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := p.Refresh(now); err != nil {
		t.Fatal(err)
	}
	want.Container.Name = ""
	l = label()
	p.Name(&l)
	if diff := cmp.Diff(want, l); diff != "" {
		t.Errorf("after the container went (-want +got):\n%s", diff)
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
	if err := os.Remove(filepath.Join(pods, "a_b_"+uid)); err != nil {
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
		if id, c, ok := containerOfLink(name); ok && (c == "" || len(id) != 64) {
			t.Fatalf("containerOfLink(%q) = %q, %q", name, id, c)
		}
	})
}
