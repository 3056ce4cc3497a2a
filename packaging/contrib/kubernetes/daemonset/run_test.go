package daemonset

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

const (
	envNode = "TCPMEMD_TEST_NODE" // the folder of the node that this program is to be
	podUID  = "0f6dd1c5-3cb4-4a4a-9a55-0f6c7a1a2b3c"
	// worker is a container beside tcpmemd's.
	worker = "aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999"
	// own is tcpmemd's.
	own = "9999888877776666555544443333222211110000ffffeeeeddddccccbbbbaaaa"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	if dir := os.Getenv(envNode); dir != "" {
		if err := beNode(dir); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// seen is what a node tells its test.
type seen struct {
	Inside, Outside api.Owners
	Doctor          api.Doctor
	Plugins         api.Plugins
	Log             string
}

// TestRun runs the pod as a runtime does, in a PID namespace that is a node for
// it: with the capabilities of the example, a cgroup namespace and a /dev of its
// own. From inside, a service and a container beside it have the names that they
// have outside, and sockets that no dump shows are found.
func TestRun(t *testing.T) {
	require.Root(t)
	require.Tool(t, "runc")
	built := t.TempDir()
	image(t, built)
	for _, variant := range []string{"observing", "acting"} {
		t.Run(variant, func(t *testing.T) { runOn(t, built, variant) })
	}
}

// runOn runs the image that is built on a node.
func runOn(t *testing.T, built, variant string) {
	dir := t.TempDir()
	if err := os.Rename(filepath.Join(built, "rootfs"), filepath.Join(dir, "rootfs")); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Rename(filepath.Join(dir, "rootfs"), filepath.Join(built, "rootfs")); err != nil {
			t.Error(err)
		}
	}()
	group := cgroupMount(t)
	unit := fmt.Sprintf("tcpmemdpod%d.service", os.Getpid())
	for _, g := range []string{"system.slice/" + unit, podSlice() + "/cri-containerd-" + worker + ".scope", podSlice() + "/" + own} {
		path := filepath.Join(group, g)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { removeGroups(group, g) })
	}
	runtime.LockOSThread() // Pdeathsig comes when this thread ends
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), envNode+"="+dir, "TCPMEMD_TEST_UNIT="+unit, "TCPMEMD_TEST_CGROUPS="+group, "TCPMEMD_TEST_VARIANT="+variant)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.Bytes())
	}
	var got seen
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s%s", err, out.Bytes(), errs.Bytes())
	}
	t.Logf("the daemon: %s", got.Log)
	check(t, &got, unit)
	for _, p := range got.Plugins.Plugins {
		if p.Verified == nil || !*p.Verified || p.Problem != nil {
			t.Errorf("an action cannot be started in the pod: %s", text(p))
		}
	}
	if want := map[string]string{"observing": "observe", "acting": "enforce"}[variant]; got.Inside.Mode != want {
		t.Errorf("the mode is %s, want %s", got.Inside.Mode, want)
	}
}

func check(t *testing.T, got *seen, unit string) {
	t.Helper()
	service, container := find(t, &got.Inside, "system/"+unit), find(t, &got.Inside, "container/"+worker)
	if c := service.Classes.Hidden; c.Sockets < hiddenPairs {
		t.Errorf("%s: %d hidden sockets, want %d", unit, c.Sockets, hiddenPairs)
	}
	switch c, p := container.Container, container.Pod; {
	case c == nil || c.Name == nil || *c.Name != "worker":
		t.Errorf("container: %s", text(c))
	case p == nil || p.Name == nil || *p.Name != "queue-0" || p.Namespace == nil || *p.Namespace != "shop":
		t.Errorf("pod: %s", text(p))
	}
	for _, key := range []string{service.Key, container.Key} {
		in, out := find(t, &got.Inside, key), find(t, &got.Outside, key)
		if in.Sockets != out.Sockets || in.Cgroup == nil || out.Cgroup == nil || *in.Cgroup != *out.Cgroup {
			t.Errorf("%s: inside %s, outside %s", key, text(in), text(out))
		}
	}
	if in, out := got.Inside.Ledger.Coverage, got.Outside.Ledger.Coverage; in < out-0.01 {
		t.Errorf("coverage %.3f, outside %.3f", in, out)
	}
	outside := map[string]bool{}
	for _, g := range got.Outside.Gaps {
		outside[g.Code] = true
	}
	for _, g := range got.Inside.Gaps {
		if !outside[g.Code] {
			t.Errorf("a gap that there is not outside: %+v", g)
		}
	}
	// What the example says it lacks, and what this node lacks.
	lacks := []string{"CAP_SYSLOG", "kernel log", "systemd", "PID namespace"}
	for _, c := range got.Doctor.Checks {
		if c.Status != api.DoctorOK && !slices.Contains(lacks, c.Name) {
			t.Errorf("doctor: %+v", c)
		}
	}
}

func find(t *testing.T, doc *api.Owners, key string) api.Owner {
	t.Helper()
	for _, o := range doc.Owners {
		if o.Key == key {
			return o
		}
	}
	var keys []string
	for _, o := range doc.Owners {
		keys = append(keys, o.Key)
	}
	t.Fatalf("%s is not among the owners %q", key, keys)
	return api.Owner{}
}

func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// image makes below dir what Containerfile does.
func image(t *testing.T, dir string) {
	t.Helper()
	rootfs := filepath.Join(dir, "rootfs")
	for _, path := range Files() {
		dst := filepath.Join(rootfs, path)
		if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch name := filepath.Base(path); {
		case name == "policy.d":
			err = os.CopyFS(dst, os.DirFS("../../../../daemon/config/defaults/policy.d"))
		case strings.HasSuffix(name, ".toml"):
			var b []byte
			if b, err = os.ReadFile("../../../../daemon/config/defaults/" + name); err == nil {
				err = os.WriteFile(dst, b, 0o644)
			}
		default:
			build := exec.CommandContext(t.Context(), "go", "build", "-o", dst, "../../../../cmd/"+name)
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
			var out []byte
			if out, err = build.CombinedOutput(); err != nil {
				err = fmt.Errorf("%w\n%s", err, out)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func podSlice() string {
	return "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(podUID, "-", "_") + ".slice"
}

// cgroupMount is where the v2 hierarchy is mounted.
func cgroupMount(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(dir + "/cgroup.procs"); err == nil && unix.Access(dir, unix.W_OK) == nil {
			return dir
		}
	}
	require.Missing(t, "a writable cgroup2 mount", "the example is only read, not run")
	return ""
}

// removeGroups removes a group, whose processes may be on their way out, and
// those above it that are empty then.
func removeGroups(mount, group string) {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err := os.Remove(filepath.Join(mount, group)); err == nil || errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	for dir := filepath.Dir(group); dir != "."; dir = filepath.Dir(dir) {
		if os.Remove(filepath.Join(mount, dir)) != nil {
			return
		}
	}
}

// hiddenPairs are enough to be looked for.
const hiddenPairs = 200

// beNode is PID 1 of a node that has a service, a container and the pod.
func beNode(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	defer cancel()
	groups := os.Getenv("TCPMEMD_TEST_CGROUPS")
	err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("proc", "/proc", "proc", 0, ""))
	if groups != "/sys/fs/cgroup" {
		// A node with cgroup v2 alone.
		err = errors.Join(err, unix.Mount(groups, "/sys/fs/cgroup", "", unix.MS_BIND, ""))
	}
	for _, hidden := range []string{"/run", "/var/lib", "/var/log"} {
		err = errors.Join(err, unix.Mount("tmpfs", hidden, "tmpfs", 0, "mode=755"))
	}
	if err != nil {
		return err
	}
	const link = "/var/log/containers/queue-0_shop_worker-" + worker + ".log"
	err = errors.Join(os.MkdirAll("/var/log/pods/shop_queue-0_"+podUID+"/worker", 0o755), os.MkdirAll(filepath.Dir(link), 0o755),
		os.Symlink("/var/log/pods/shop_queue-0_"+podUID+"/worker/0.log", link), os.MkdirAll("/run/dbus", 0o755),
		os.MkdirAll("/run/tcpmemd", 0o755), os.MkdirAll("/var/lib/tcpmemd", 0o755))
	if err != nil {
		return err
	}
	for group, spec := range map[string]scene.Spec{
		"system.slice/" + os.Getenv("TCPMEMD_TEST_UNIT"):    {Kind: scene.Hidden, Pairs: hiddenPairs, Bytes: 20_000},
		podSlice() + "/cri-containerd-" + worker + ".scope": {Kind: scene.Unread, Pairs: 5, Bytes: 50_000},
	} {
		child, err := scene.Start(ctx, scene.ChildOptions{Comm: "node-" + string(spec.Kind), Cgroup: &scene.Cgroup{Path: filepath.Join("/sys/fs/cgroup", group), Name: "/" + group}})
		if err != nil {
			return err
		}
		defer child.Kill()
		if _, err := child.Build(ctx, spec); err != nil {
			return err
		}
	}
	return runPod(ctx, dir)
}

// runPod runs the pod, asks it and the host, and ends it.
func runPod(ctx context.Context, dir string) error {
	manifest := Observing()
	if os.Getenv("TCPMEMD_TEST_VARIANT") == "acting" {
		manifest = Acting()
	}
	m, err := Read(manifest)
	if err != nil {
		return err
	}
	config := filepath.Join(dir, "config")
	b, err := m.Bundle(BundleOptions{Rootfs: filepath.Join(dir, "rootfs"), CgroupsPath: "/" + podSlice() + "/" + own, ConfigDir: config})
	if err != nil {
		return err
	}
	spec, err := json.Marshal(b)
	if err := errors.Join(err, m.WriteConfig(config), mountPoints(m, filepath.Join(dir, "rootfs")), os.WriteFile(filepath.Join(dir, "config.json"), spec, 0o600)); err != nil {
		return err
	}
	runc := func(args ...string) *exec.Cmd {
		return exec.CommandContext(ctx, "runc", append([]string{"--root", "/run/runc"}, args...)...)
	}
	pod := runc("run", "--bundle", dir, "tcpmemd")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	pod.Stdout, pod.Stderr = log, log
	if err := pod.Start(); err != nil {
		return err
	}
	inside := func(out any, args ...string) error {
		text, err := runc(append([]string{"exec", "tcpmemd", "/usr/bin/tcpmemctl"}, args...)...).Output()
		if out == nil || err != nil {
			return err
		}
		return json.Unmarshal(text, out)
	}
	said := func() string {
		b, _ := os.ReadFile(log.Name())
		return string(b)
	}
	// As kubelet asks whether it lives.
	for inside(nil, m.Container().LivenessProbe.Exec.Command[1:]...) != nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the pod does not answer: %w\n%s", ctx.Err(), said())
		case <-time.After(100 * time.Millisecond):
		}
	}
	var got seen
	outside := func(out any, args ...string) error {
		text, err := exec.CommandContext(ctx, filepath.Join(dir, "rootfs/usr/bin/tcpmemctl"), append(args, "--direct")...).Output()
		if err != nil {
			return err
		}
		return json.Unmarshal(text, out)
	}
	err = errors.Join(untilFound(&got.Inside, inside), untilFound(&got.Outside, outside), inside(&got.Doctor, "doctor", "--json"),
		inside(&got.Plugins, "plugins", "verify", "--json"))
	if err != nil {
		return fmt.Errorf("%w\n%s", err, said())
	}
	// The pod's socket is there for the node's own tcpmemctl, too.
	if out, err := exec.CommandContext(ctx, filepath.Join(dir, "rootfs/usr/bin/tcpmemctl"), "status").CombinedOutput(); err != nil {
		return fmt.Errorf("the node's tcpmemctl: %w\n%s", err, out)
	}
	if err := runc("kill", "tcpmemd", "TERM").Run(); err != nil {
		return err
	}
	if err := pod.Wait(); err != nil {
		return fmt.Errorf("the daemon ends with: %w\n%s", err, said())
	}
	got.Log = said()
	out, err := json.Marshal(got)
	if err == nil {
		_, err = io.Copy(os.Stdout, bytes.NewReader(out))
	}
	return err
}

// untilFound asks until the hidden sockets are found: where other work moves the
// sums that ask for a search, the first scan need not make it.
func untilFound(out *api.Owners, ask func(out any, args ...string) error) error {
	for range 20 {
		*out = api.Owners{}
		if err := ask(out, "owners", "--all", "--json"); err != nil {
			return err
		}
		if slices.ContainsFunc(out.Owners, func(o api.Owner) bool {
			return o.Name == os.Getenv("TCPMEMD_TEST_UNIT") && o.Classes.Hidden.Sockets >= hiddenPairs
		}) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

// mountPoints: a root that is read-only must have them, and the runtime cannot
// make them in it.
func mountPoints(m *Manifest, rootfs string) error {
	dirs := []string{"/proc", "/dev", "/sys"}
	for _, vm := range m.Container().VolumeMounts {
		dirs = append(dirs, vm.MountPath)
	}
	var errs []error
	for _, d := range dirs {
		if !strings.HasPrefix(d, "/sys/") {
			errs = append(errs, os.MkdirAll(filepath.Join(rootfs, d), 0o755))
		}
	}
	return errors.Join(errs...)
}
