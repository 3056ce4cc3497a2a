package launch

import (
	"errors"
	"fmt"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

// drop keeps those of the wanted capabilities that the process has. What it
// lacks is not its business: the daemon compares an action's needs with its
// own rights when it loads a policy.
//
// With no_new_privs, an execve by root gives no capability that the process
// did not have before (cap_bprm_creds_from_file in security/commoncap.c), so
// that this also holds where CAP_SETPCAP, which the bounding set needs, is not
// among the daemon's.
func drop(want []capability.Cap, user *User) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	own, err := capability.NewPid2(0)
	if err == nil {
		err = own.Load()
	}
	if err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	var keep []capability.Cap
	for _, c := range want {
		if own.Get(capability.PERMITTED, c) {
			keep = append(keep, c)
		}
	}
	setpcap := own.Get(capability.EFFECTIVE, capability.CAP_SETPCAP)
	if user != nil {
		if err := become(*user); err != nil {
			return err
		}
	}

	const sets = capability.CAPS | capability.AMBIENT
	if setpcap {
		if err := boundTo(keep); err != nil {
			return err
		}
	}
	own.Clear(sets)
	own.Set(sets, keep...)
	if err := own.Apply(capability.CAPS | capability.AMBIENT); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// boundTo takes all others out of the bounding set. A change of user keeps the
// permitted set (become), but not the effective one, which this needs.
func boundTo(keep []capability.Cap) error {
	own, err := capability.NewPid2(0)
	if err == nil {
		err = own.Load()
	}
	if err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	own.Set(capability.EFFECTIVE, capability.CAP_SETPCAP)
	if err := own.Apply(capability.CAPS); err != nil {
		return fmt.Errorf("raise CAP_SETPCAP: %w", err)
	}
	known, err := capability.ListSupported()
	if err != nil {
		return fmt.Errorf("list capabilities: %w", err)
	}
	kept := make(map[capability.Cap]bool, len(keep))
	for _, c := range keep {
		kept[c] = true
	}
	for _, c := range known {
		if kept[c] {
			continue
		}
		if err := capability.DropBound(c); err != nil {
			return fmt.Errorf("drop %v from the bounding set: %w", c, err)
		}
	}
	return nil
}

// become changes the user of this thread and keeps its permitted capabilities.
// The raw calls concern one thread; package syscall's would change the others,
// which end at the execve.
func become(u User) error {
	if u.UID <= 0 || u.GID <= 0 {
		return errors.New("run as user 0: leave the user out instead")
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		return fmt.Errorf("leave groups: %w", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(u.GID), uintptr(u.GID), uintptr(u.GID)); errno != 0 {
		return fmt.Errorf("become group %d: %w", u.GID, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(u.UID), uintptr(u.UID), uintptr(u.UID)); errno != 0 {
		return fmt.Errorf("become user %d: %w", u.UID, errno)
	}
	return nil
}
