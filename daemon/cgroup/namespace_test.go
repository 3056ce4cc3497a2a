package cgroup

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// envPart is the part that this program was started again for.
const envPart = "TCPMEMD_TEST_CGROUP_PART"

func TestMain(m *testing.M) {
	switch part, dir, _ := strings.Cut(os.Getenv(envPart), " "); part {
	case "":
		os.Exit(m.Run())
	case "init":
		os.Exit(beInit(dir))
	case "container":
		os.Exit(beContainer())
	}
}

// beInit is PID 1 of a PID namespace, outside the control group dir in which it
// starts a container with a cgroup namespace of its own.
func beInit(dir string) int {
	err := unix.Mount("proc", "/proc", "proc", 0, "")
	if err != nil {
		fmt.Println("mount /proc:", err)
		return 1
	}
	group, err := os.Open(dir)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envPart+"=container")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(group.Fd()), Cloneflags: unix.CLONE_NEWCGROUP,
	}
	if err := cmd.Run(); err != nil {
		fmt.Println("container:", err)
		return 1
	}
	return 0
}

func beContainer() int {
	text, _ := os.ReadFile("/proc/self/cgroup")
	_, path, _ := strings.Cut(string(text), "0::")
	fmt.Printf("foreign %t, in %s\n", Foreign("/proc"), strings.TrimSpace(path))
	if err := JoinNamespace("/proc"); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("joined")
	return 0
}

// TestJoinNamespace: a program in a container starts over in PID 1's cgroup
// namespace, once, and then sees paths as everybody does.
func TestJoinNamespace(t *testing.T) {
	tree, dir := realTree(t)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), envPart+"=init "+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	below, err := filepath.Rel(tree.Mountpoint(), dir)
	if err != nil {
		t.Fatal(err)
	}
	want := "foreign true, in /\nforeign false, in /" + below + "\njoined\n"
	if got := out.String(); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestForeign(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       bool
	}{
		{"host", "0::/init.scope\n", false},
		{"host, v1 and v2", "12:pids:/init.scope\n1:name=systemd:/init.scope\n0::/init.scope\n", false},
		{"container in a pod", "0::/../../../../init.scope\n", true},
		{"container, v1 hierarchies only", "12:pids:/../../init.scope\n", true},
		{"PID 1 of a container", "0::/\n", false},
		{"right below PID 1's", "0::/..\n", true},
		{"a directory of dots", "0::/...\n", false},
		{"cut short", "0:", false},
		{"nothing", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proc := t.TempDir()
			if err := os.Mkdir(proc+"/1", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(proc+"/1/cgroup", []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := Foreign(proc); got != tt.want {
				t.Errorf("Foreign = %t, want %t", got, tt.want)
			}
		})
	}
	if Foreign(t.TempDir()) {
		t.Error("without a PID 1 it is foreign")
	}
}
