// Package e2e boots real systemd machines and installs tcpmemd's package into
// them, as an administrator would.
//
// A machine is a systemd-nspawn container with a pure cgroup v2 tree, the
// host's network (net.ipv4.tcp_mem exists only there), a writable /proc/sys
// and the kernel log. Its root file system is a cached debootstrap below an
// overlay in memory, so every machine starts from the same state and leaves
// nothing behind, also when the test is killed. It needs root, debootstrap,
// systemd-nspawn and nsenter.
//
// The tests have the build tag e2e: `make e2e` builds the package and runs
// them.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed boot.sh
var bootScript string

// stopTimeout bounds an orderly power-off; what is left then is killed.
const stopTimeout = 30 * time.Second

// Machine is one booted system.
type Machine struct {
	cgroup  cgroup
	leader  int      // the host's PID of its systemd
	console *os.File // all output of the boot, unlinked
	root    *os.Root
	ended   chan struct{} // closed when systemd-nspawn has ended
	exit    error         // how, to be read after that
}

// Boot starts a machine of the given release and waits until its start-up jobs
// are done. The first boot of a release on a host also makes its root file
// system. The caller must call Stop.
func Boot(ctx context.Context, rel Release) (*Machine, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("boot machine: needs root for namespaces, mounts and control groups")
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, fmt.Errorf("find cache: %w", err)
	}
	lower, err := rootfs(ctx, cache, rel)
	if err != nil {
		return nil, err
	}
	// Only an empty mount point: the file systems on it live in the machine's
	// own mount namespace.
	mnt := filepath.Join(cache, "mnt")
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		return nil, fmt.Errorf("make mount point: %w", err)
	}

	name := fmt.Sprintf("%s-%d-%d", rel, os.Getpid(), time.Now().UnixNano()%1e6)
	group, err := newCgroup(name)
	if err != nil {
		return nil, err
	}
	m := &Machine{cgroup: group}
	if err := m.start(lower, mnt, name); err != nil {
		return nil, errors.Join(err, m.Stop())
	}
	if err := m.waitBooted(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("boot %s: %w\n%s", rel, err, lastLines(m.Console(), 30)), m.Stop())
	}
	return m, nil
}

// Run runs a command inside the machine, as root, and returns what it wrote to
// stdout. Where it exits with another status than 0 the error wraps
// *exec.ExitError and says what it wrote to stderr; stdout is returned too.
func (m *Machine) Run(ctx context.Context, name string, args ...string) (string, error) {
	argv := append([]string{
		"--target", strconv.Itoa(m.leader), "--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net",
		"--", name,
	}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", argv...)
	cmd.Dir = "/"
	// Nothing of the caller's environment: what works here works after a login.
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LANG=C.UTF-8", "TERM=dumb", "DEBIAN_FRONTEND=noninteractive",
		"SYSTEMD_PAGER=", "SYSTEMD_COLORS=0",
	}
	// A daemon that the command leaves behind may keep the pipes open.
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("run %s: %w: %s", strings.Join(append([]string{name}, args...), " "),
			err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Copy copies the host's file src to the absolute path dst inside the machine.
func (m *Machine) Copy(src, dst string, perm fs.FileMode) error {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("copy to machine: %w", err)
	}
	defer in.Close()
	return m.write(dst, in, perm)
}

// WriteFile writes data to the absolute path dst inside the machine.
func (m *Machine) WriteFile(dst string, data []byte, perm fs.FileMode) error {
	return m.write(dst, bytes.NewReader(data), perm)
}

// Journal returns the machine's journal as journalctl(1) prints it with the
// given arguments.
func (m *Machine) Journal(ctx context.Context, args ...string) (string, error) {
	return m.Run(ctx, "journalctl", append([]string{"--no-pager"}, args...)...)
}

// Console returns all that the machine's boot has printed.
func (m *Machine) Console() string {
	if m.console == nil {
		return ""
	}
	b, err := io.ReadAll(io.NewSectionReader(m.console, 0, 1<<20))
	if err != nil {
		return "read console: " + err.Error()
	}
	return string(b)
}

// Reboot has the machine restart in good order and waits until it has booted
// again, on the same root file system. Its boot ID is another one; the kernel,
// and with it the uptime and net.ipv4.tcp_mem, stays the host's.
func (m *Machine) Reboot(ctx context.Context) error {
	before := m.leader
	if err := m.signal(5); err != nil {
		return fmt.Errorf("reboot machine: %w", err)
	}
	for pid := before; pid == before; {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("wait for the machine to go down: %w", err)
		}
		var err error
		if pid, err = m.cgroup.leader(); err != nil {
			return err
		}
	}
	m.root.Close()
	if err := m.waitBooted(ctx); err != nil {
		return fmt.Errorf("reboot: %w\n%s", err, lastLines(m.Console(), 30))
	}
	return nil
}

// Stop powers the machine off, kills what does not end by itself, and removes
// all traces of it from the host.
func (m *Machine) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*stopTimeout)
	defer cancel()
	if m.leader != 0 {
		if err := m.signal(4); err == nil {
			select {
			case <-m.ended:
			case <-time.After(stopTimeout):
			}
		}
	}
	err := m.cgroup.end(ctx)
	if m.root != nil {
		m.root.Close()
	}
	if m.console != nil {
		m.console.Close()
	}
	return err
}

// signal sends SIGRTMIN+n to the machine's systemd. See systemd(1): 4 starts
// poweroff.target, 5 reboot.target.
func (m *Machine) signal(n int) error {
	const rtmin = 34 // as glibc counts: the first two are its own
	return syscall.Kill(m.leader, syscall.Signal(rtmin+n))
}

// start runs the boot script as PID 1 of a new PID namespace, in a mount
// namespace of its own and inside the machine's control group. When this
// process dies, however it dies, the kernel ends that namespace and with it
// everything below.
func (m *Machine) start(lower, mnt, name string) error {
	console, err := os.CreateTemp("", "tcpmemd-e2e-console-")
	if err != nil {
		return fmt.Errorf("make console: %w", err)
	}
	m.console = console
	if err := os.Remove(console.Name()); err != nil {
		return fmt.Errorf("unlink console: %w", err)
	}
	group, err := os.Open(string(m.cgroup))
	if err != nil {
		return fmt.Errorf("open control group: %w", err)
	}
	defer group.Close()

	// Not bound to a context: it outlives the call, and Stop ends it.
	cmd := exec.CommandContext(context.Background(), "sh", "-euc", bootScript, "boot", lower, mnt, name, string(m.cgroup))
	cmd.Env = append(os.Environ(),
		"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes")
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		Setsid:      true, // Ctrl-C ends the test, which ends the machine
		Pdeathsig:   syscall.SIGKILL,
		UseCgroupFD: true,
		CgroupFD:    int(group.Fd()),
	}
	started := make(chan error, 1)
	m.ended = make(chan struct{})
	go func() {
		// Pdeathsig is about the thread that forked, not the process: keep it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			m.exit = cmd.Wait()
		}
		close(m.ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start machine: %w", err)
	}
	return nil
}

// waitBooted waits until the machine's systemd says that it has no start-up
// jobs left. "degraded" counts as booted: what failed is for the caller to
// judge.
func (m *Machine) waitBooted(ctx context.Context) error {
	for {
		select {
		case <-m.ended:
			return fmt.Errorf("systemd-nspawn ended: %w", cmp.Or(m.exit, errors.New("exit status 0")))
		default:
		}
		pid, err := m.cgroup.leader()
		if err != nil {
			return err
		}
		if pid != 0 {
			m.leader = pid
			// Fails until the manager's socket is there.
			state, _ := m.Run(ctx, "systemctl", "is-system-running", "--wait")
			if slices.Contains([]string{"running", "degraded"}, strings.TrimSpace(state)) {
				break
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("wait for start-up jobs: %w", err)
		}
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root", m.leader))
	if err != nil {
		return fmt.Errorf("open root of the machine: %w", err)
	}
	m.root = root
	return nil
}

func (m *Machine) write(dst string, from io.Reader, perm fs.FileMode) error {
	name := strings.TrimPrefix(filepath.Clean(dst), "/")
	if err := m.root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("copy to machine: %w", err)
	}
	out, err := m.root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perm)
	if err != nil {
		return fmt.Errorf("copy to machine: %w", err)
	}
	_, err = io.Copy(out, from)
	// The umask of the caller is none of the machine's business.
	if err := errors.Join(err, out.Chmod(perm), out.Close()); err != nil {
		return fmt.Errorf("copy to machine: %w", err)
	}
	return nil
}
