package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupPrefix marks the host's control groups that hold machines.
const cgroupPrefix = "tcpmemd-e2e-"

// cgroup is a control group of the host's v2 hierarchy that holds everything
// of one machine, so that its processes can be found and ended together.
type cgroup string

// newCgroup makes a fresh one for the machine called name, and removes those
// that killed runs left behind.
func newCgroup(name string) (cgroup, error) {
	top, err := cgroup2Root()
	if err != nil {
		return "", err
	}
	stale, err := filepath.Glob(filepath.Join(top, cgroupPrefix+"*"))
	if err != nil {
		return "", fmt.Errorf("list control groups: %w", err)
	}
	for _, dir := range stale {
		if old := cgroup(dir); old.abandoned() && !old.populated() {
			_ = old.remove() // another run may do the same right now
		}
	}
	c := cgroup(filepath.Join(top, cgroupPrefix+name))
	if err := os.Mkdir(string(c), 0o755); err != nil {
		return "", fmt.Errorf("make control group: %w", err)
	}
	return c, nil
}

// abandoned says whether the run that made c is over. That of a machine which is
// just being started has no process yet, either. Its name ends in "-PID-NUMBER".
func (c cgroup) abandoned() bool {
	fields := strings.Split(filepath.Base(string(c)), "-")
	_, err := os.Stat(filepath.Join("/proc", fields[max(0, len(fields)-2)], "stat"))
	return err != nil
}

// leader returns the host's PID of the machine's PID 1, or 0 while there is
// none. systemd-nspawn puts what it boots below "payload", and systemd itself
// into init.scope.
func (c cgroup) leader() (int, error) {
	b, err := os.ReadFile(filepath.Join(string(c), "payload/init.scope/cgroup.procs"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read processes of the machine: %w", err)
	}
	// Sorted by nothing in particular: systemd is the oldest.
	var pids []int
	for f := range strings.FieldsSeq(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			return 0, fmt.Errorf("read processes of the machine: %w", err)
		}
		pids = append(pids, pid)
	}
	if len(pids) == 0 {
		return 0, nil
	}
	return slices.Min(pids), nil
}

// populated says whether a process is left in c or below it.
func (c cgroup) populated() bool {
	b, err := os.ReadFile(filepath.Join(string(c), "cgroup.events"))
	return err == nil && strings.Contains(string(b), "populated 1")
}

// end kills what is left in c (cgroup.kill, Linux 5.14), waits for it, and
// removes c.
func (c cgroup) end(ctx context.Context) error {
	if c.populated() {
		if err := os.WriteFile(filepath.Join(string(c), "cgroup.kill"), []byte("1"), 0); err != nil {
			return fmt.Errorf("kill machine: %w", err)
		}
	}
	for c.populated() {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("wait for the machine's processes: %w", err)
		}
	}
	return c.remove()
}

// remove removes c and every group below it, deepest first.
func (c cgroup) remove() error {
	var dirs []string
	err := filepath.WalkDir(string(c), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("walk control group: %w", err)
	}
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil {
			return fmt.Errorf("remove control group: %w", err)
		}
	}
	return nil
}

// cgroup2Root returns where the v2 hierarchy is mounted: /sys/fs/cgroup, or
// its directory "unified" where v1 controllers are in use (systemd's hybrid
// layout).
func cgroup2Root() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("find cgroup v2: not mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified")
}

// pause waits for d, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
