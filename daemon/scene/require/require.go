// Package require says what a test needs of the machine. Where it is missing
// the test is skipped with one sentence: what is missing, and what that costs.
// With TCPMEMD_TEST_REQUIRE=all, as CI sets it, it fails instead: a skip
// nobody looks at is no test.
package require

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

// Env is the variable; its one value is "all".
const Env = "TCPMEMD_TEST_REQUIRE"

// Root wants effective user id 0.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "root", "the real-kernel scenes are not built")
	}
}

// Cap wants the capabilities to be effective.
func Cap(t testing.TB, caps ...capability.Cap) {
	t.Helper()
	own, err := capability.NewPid2(0)
	if err == nil {
		err = own.Load()
	}
	if err != nil {
		t.Fatalf("read own capabilities: %v", err)
	}
	var lacking []string
	for _, c := range caps {
		if !own.Get(capability.EFFECTIVE, c) {
			lacking = append(lacking, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	if lacking != nil {
		Missing(t, strings.Join(lacking, ", "), "what needs it is not tried")
	}
}

// Kernel wants at least this version. Ask for it only where the kernel cannot
// be asked for the feature itself.
func Kernel(t testing.TB, major, minor int) {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatalf("uname: %v", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	have, err := parseRelease(release)
	if err != nil {
		t.Fatalf("uname: %v", err)
	}
	if have[0] < major || have[0] == major && have[1] < minor {
		Missing(t, fmt.Sprintf("Linux %d.%d (this is %s)", major, minor, release), "what is new in it is not tried")
	}
}

func parseRelease(release string) (v [2]int, err error) {
	if _, err := fmt.Sscanf(release, "%d.%d", &v[0], &v[1]); err != nil {
		return v, fmt.Errorf("parse kernel release %q: %w", release, err)
	}
	return v, nil
}

// Tool wants an executable in PATH and gives its path.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "the program "+name, "the comparison with it is left out")
	}
	return path
}

// Missing skips the test, or fails it where everything is required.
func Missing(t testing.TB, what, cost string) {
	t.Helper()
	text := fmt.Sprintf("needs %s: without it %s", what, cost)
	switch v := os.Getenv(Env); v {
	case "all":
		t.Fatalf("%s (%s=all)", text, Env)
	case "":
		t.Skip(text)
	default:
		t.Fatalf("%s=%q: the only value is \"all\"", Env, v)
	}
}
