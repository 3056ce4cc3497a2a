package launch

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/capability"
)

// The test binary is also the launcher, and what is launched.
func TestMain(m *testing.M) {
	switch args := os.Args[1:]; {
	case len(args) > 1 && args[0] == "no-setpcap":
		runtime.LockOSThread()
		own, err := capability.NewPid2(0)
		if err == nil {
			err = own.Load()
		}
		if err == nil {
			own.Unset(capability.CAPS, capability.CAP_SETPCAP)
			err = own.Apply(capability.CAPS)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(Main(args[2:]))
	case len(args) > 0 && args[0] == "--launch":
		os.Exit(Main(args[1:]))
	}
	os.Exit(m.Run())
}

// launched runs a program through the launcher; before it is done with the
// arguments, too.
func launched(t *testing.T, s Spec, before ...string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append(before, s.Flags()...)...)
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd.ExtraFiles = []*os.File{null, null}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func status(keys ...string) Spec {
	return Spec{Target: "/bin/grep", Args: []string{"grep", "-E", "^(" + strings.Join(keys, "|") + "):", "/proc/self/status"}}
}

func TestRights(t *testing.T) {
	needRoot(t)
	const kill, none = "0000000000000020", "0000000000000000"
	for _, tt := range []struct {
		name   string
		caps   []string
		user   *User
		before []string
		want   string
	}{
		{name: "none", want: strings.Repeat(none+" ", 5) + "1"},
		{name: "one", caps: []string{"CAP_KILL"}, want: strings.Repeat(kill+" ", 5) + "1"},
		{name: "user", caps: []string{"CAP_KILL"}, user: &User{65534, 65534}, want: strings.Repeat(kill+" ", 5) + "1"},
		{name: "user, none", user: &User{65534, 65534}, want: strings.Repeat(none+" ", 5) + "1"},
		// The bounding set stays; no_new_privs makes it no matter.
		{name: "without CAP_SETPCAP", caps: []string{"CAP_KILL"}, before: []string{"no-setpcap"}, want: strings.Repeat(kill+" ", 3) + kill + " 1"},
		{name: "what there is not", caps: []string{"CAP_KILL", "CAP_SETPCAP"}, before: []string{"no-setpcap"}, want: strings.Repeat(kill+" ", 3) + kill + " 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys := []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"}
			if tt.before != nil {
				keys = append(keys[:3], keys[4:]...)
			}
			s := status(keys...)
			s.Caps, s.User = tt.caps, tt.user
			var got []string
			for line := range strings.Lines(launched(t, s, tt.before...)) {
				got = append(got, strings.Fields(line)[1])
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("sets (-want +got):\n%s", diff)
			}
		})
	}
	s := status("Uid", "Gid", "Groups")
	s.User = &User{65534, 65533}
	want := "Uid:\t65534\t65534\t65534\t65534\nGid:\t65533\t65533\t65533\t65533\nGroups:\t \n"
	if diff := cmp.Diff(want, launched(t, s)); diff != "" {
		t.Errorf("user (-want +got):\n%s", diff)
	}
}

func TestLimits(t *testing.T) {
	s := Spec{NoFile: 64, FSize: 4096, Target: "/bin/sh", Args: []string{"sh", "-c", "ulimit -n; ulimit -Hn; ulimit -f; ulimit -c"}}
	if diff := cmp.Diff("64\n64\n8\n0\n", launched(t, s)); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	s.NoFile, s.FSize = 1<<40, 0 // no more than there is
	launched(t, s)
}

func TestDescriptorsClosed(t *testing.T) {
	got := launched(t, Spec{Target: "/bin/ls", Args: []string{"ls", "/proc/self/fd"}})
	if diff := cmp.Diff("0\n1\n2\n3\n", got); diff != "" { // 3 is what ls reads
		t.Errorf("descriptors (-want +got):\n%s", diff)
	}
}

func TestByDescriptor(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", Spec{Target: "3", Args: []string{"echo", "hello"}}.Flags()...)
	echo, err := os.Open("/bin/echo")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	cmd.ExtraFiles = []*os.File{echo}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "hello\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestRefused(t *testing.T) {
	for args, want := range map[string]string{
		"":                                 "want a file or a descriptor",
		"-- /bin/true":                     "want a file or a descriptor",
		"--caps CAP_X -- /bin/true true":   `unknown capability "CAP_X"`,
		"--caps kill -- /bin/true true":    `unknown capability "kill"`,
		"--user root -- /bin/true true":    "want UID:GID",
		"--user 0:0 -- /bin/true true":     "leave the user out",
		"-- true true":                     "neither an absolute path nor a descriptor",
		"-- 1 true":                        "neither an absolute path nor a descriptor",
		"-- 17 true":                       "execute /proc/self/fd/17: no such file",
		"-- /no/such/file true":            "execute /no/such/file: no such file",
		"--nofile many -- /bin/true true":  "invalid value",
		"--no-such-flag -- /bin/true true": "not defined",
	} {
		var stderr bytes.Buffer
		cmd := exec.Command("/proc/self/exe", append([]string{"--launch"}, strings.Fields(args)...)...)
		cmd.Stderr = &stderr
		err := cmd.Run()
		if cmd.ProcessState.ExitCode() != exitCode || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: %v: %s", args, err, stderr.String())
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("TCPMEMD_TEST_REQUIRE") == "all":
		t.Fatal("needs root (TCPMEMD_TEST_REQUIRE=all)")
	default:
		t.Skip("needs root: without it rights are not tried")
	}
}
