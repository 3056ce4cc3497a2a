package cgroup

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Foreign reports whether /proc/PID/cgroup shows this process other paths than
// PID 1 sees. In a container with a cgroup namespace of its own
// (cgroup_namespaces(7)) all that lies outside it, PID 1 too, reads
// "/../../system.slice/x.service", which names nobody. proc is the root of the
// proc file system.
func Foreign(proc string) bool {
	text, err := os.ReadFile(proc + "/1/cgroup")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		// 0::/../../init.scope
		if parts := strings.SplitN(line, ":", 3); len(parts) == 3 && strings.HasPrefix(strings.TrimSpace(parts[2])+"/", "/../") {
			return true
		}
	}
	return false
}

// JoinNamespace has this program start over in PID 1's cgroup namespace, where
// it is in a foreign one, and then does not return. A namespace is joined by a
// thread, and the runtime has made others by now: so the thread that joined
// executes the program again, which ends the others. It needs CAP_SYS_ADMIN,
// and CAP_SYS_PTRACE to open PID 1's. It must come before anything that an exec
// would lose.
func JoinNamespace(proc string) error {
	if !Foreign(proc) {
		return nil
	}
	if err := startOver(proc); err != nil {
		return fmt.Errorf("join cgroup namespace of PID 1: %w", err)
	}
	return nil
}

// startOver returns only with an error.
func startOver(proc string) error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	ns, err := os.Open(proc + "/1/ns/cgroup")
	if err != nil {
		return err
	}
	defer ns.Close()
	// Not unlocked once it has joined: what else runs must not see this
	// thread's paths in one place and its own in another.
	runtime.LockOSThread()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWCGROUP); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("setns: %w", err)
	}
	if Foreign(proc) { // it would start over for ever
		return errors.New("its control group is outside it")
	}
	return fmt.Errorf("execute %s again: %w", path, syscall.Exec(path, os.Args, os.Environ()))
}
