// Package launch turns a process into a plugin: it gives up every right that
// the plugin has not declared, bounds what is left, and executes the plugin in
// its own place. `tcpmemd-action --launch` is its command line; package runner
// starts every plugin through it.
package launch

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

// Spec is how a plugin is executed.
type Spec struct {
	Caps   []string // names of capabilities(7); the process keeps no others
	NoFile uint64   // RLIMIT_NOFILE, 0 to leave it
	FSize  uint64   // RLIMIT_FSIZE in bytes, 0 to leave it
	User   *User    // nil: whoever started it
	// Target is what is executed: an absolute path, or the number of an
	// inherited descriptor, which names the file that was checked whatever has
	// happened to its path since.
	Target string
	Args   []string // with the name, argv[0]
}

// User is whom the plugin runs as, with no other groups.
type User struct{ UID, GID int }

// exitCode is that of a shell that cannot execute a file.
const exitCode = 126

// Main is the command line after --launch. It only returns, with an exit code,
// when the plugin could not be executed; why is on standard error.
func Main(args []string) int {
	spec, err := parse(args)
	if err == nil {
		err = Exec(spec, os.Environ())
	}
	fmt.Fprintf(os.Stderr, "launch: %v\n", err)
	return exitCode
}

// Flags is the command line that makes Main do what s says.
func (s Spec) Flags() []string {
	args := []string{"--launch"}
	if len(s.Caps) > 0 {
		args = append(args, "--caps", strings.Join(s.Caps, ","))
	}
	if s.NoFile > 0 {
		args = append(args, "--nofile", strconv.FormatUint(s.NoFile, 10))
	}
	if s.FSize > 0 {
		args = append(args, "--fsize", strconv.FormatUint(s.FSize, 10))
	}
	if s.User != nil {
		args = append(args, "--user", fmt.Sprintf("%d:%d", s.User.UID, s.User.GID))
	}
	return append(append(args, "--", s.Target), s.Args...)
}

func parse(args []string) (s Spec, err error) {
	set := flag.NewFlagSet("launch", flag.ContinueOnError)
	caps := set.String("caps", "", "the capabilities to keep, separated by commas")
	set.Uint64Var(&s.NoFile, "nofile", 0, "the most open files")
	set.Uint64Var(&s.FSize, "fsize", 0, "the most bytes of a file that is written")
	user := set.String("user", "", "run as `UID:GID`")
	if err := set.Parse(args); err != nil {
		return s, err
	}
	if *caps != "" {
		s.Caps = strings.Split(*caps, ",")
	}
	if *user != "" {
		s.User = &User{}
		if _, err := fmt.Sscanf(*user, "%d:%d", &s.User.UID, &s.User.GID); err != nil {
			return s, fmt.Errorf("parse user %q: want UID:GID", *user)
		}
	}
	if set.NArg() < 2 {
		return s, errors.New("want a file or a descriptor, and the name of the program")
	}
	s.Target, s.Args = set.Arg(0), set.Args()[1:]
	return s, nil
}

// Exec does what s says. Rights and no_new_privs belong to a thread; execve(2)
// keeps the calling one's and ends the others.
func Exec(s Spec, env []string) error {
	path, err := target(s.Target)
	if err != nil {
		return err
	}
	keep, err := parseCaps(s.Caps)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := limit(s); err != nil {
		return err
	}
	if err := closeOnExec(); err != nil {
		return err
	}
	if err := drop(keep, s.User); err != nil {
		return err
	}
	if err := syscall.Exec(path, s.Args, env); err != nil {
		return fmt.Errorf("execute %s: %w", path, err)
	}
	return nil
}

func target(s string) (string, error) {
	if filepath.IsAbs(s) {
		return s, nil
	}
	if fd, err := strconv.ParseUint(s, 10, 31); err == nil && fd > 2 {
		return fmt.Sprintf("/proc/self/fd/%d", fd), nil
	}
	return "", fmt.Errorf("execute %q: neither an absolute path nor a descriptor", s)
}

// ParseCap is the capability of a name in capabilities(7).
func ParseCap(name string) (capability.Cap, error) {
	for _, c := range capability.ListKnown() {
		if name == "CAP_"+strings.ToUpper(c.String()) {
			return c, nil
		}
	}
	return 0, fmt.Errorf("unknown capability %q", name)
}

func parseCaps(names []string) (caps []capability.Cap, err error) {
	for _, name := range names {
		c, err := ParseCap(name)
		if err != nil {
			return nil, err
		}
		caps = append(caps, c)
	}
	return caps, nil
}

// limit bounds the process. It never dumps core: the memory of an action holds
// what the daemon knows of the host.
func limit(s Spec) error {
	for _, l := range []struct {
		what     string
		resource int
		most     uint64
		set      bool
	}{
		{"open files", unix.RLIMIT_NOFILE, s.NoFile, s.NoFile > 0},
		{"file size", unix.RLIMIT_FSIZE, s.FSize, s.FSize > 0},
		{"core size", unix.RLIMIT_CORE, 0, true},
	} {
		if !l.set {
			continue
		}
		var now unix.Rlimit
		if err := unix.Prlimit(0, l.resource, nil, &now); err != nil {
			return fmt.Errorf("read limit of %s: %w", l.what, err)
		}
		most := min(l.most, now.Max)
		// Through package syscall, which else restores the limit of open files
		// that it raised when the process started.
		if err := syscall.Setrlimit(l.resource, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("limit %s: %w", l.what, err)
		}
	}
	return nil
}

// closeOnExec leaves the plugin its standard files alone. (close_range(2) can
// do so since Linux 5.11.)
func closeOnExec() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list own descriptors: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
