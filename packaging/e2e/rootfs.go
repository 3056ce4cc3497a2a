package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Release is a Debian release to boot.
type Release string

// Releases that tcpmemd is tried on, with the systemd they bring.
const (
	Bookworm Release = "bookworm" // Debian 12, systemd 252
	Trixie   Release = "trixie"   // Debian 13, systemd 257
)

// packages is what an installed host has at the least: systemd as PID 1, a
// bus, and the tools that tests look around with; and rpm, to install ours.
var packages = []string{"systemd", "systemd-sysv", "dbus", "iproute2", "procps", "rpm"}

// defaultMirror serves debootstrap unless TCPMEMD_E2E_MIRROR names another.
const defaultMirror = "http://deb.debian.org/debian"

// cacheDir is where root file systems are kept between runs, outside the
// tree: TCPMEMD_E2E_CACHE, else $XDG_CACHE_HOME/tcpmemd-e2e, else
// /var/cache/tcpmemd-e2e.
func cacheDir() (string, error) {
	dir := "/var/cache/tcpmemd-e2e"
	if xdg := os.Getenv("XDG_CACHE_HOME"); xdg != "" {
		dir = filepath.Join(xdg, "tcpmemd-e2e")
	}
	if own := os.Getenv("TCPMEMD_E2E_CACHE"); own != "" {
		dir = own
	}
	return filepath.Abs(dir)
}

// rootfs returns a pristine root file system of rel below cache, made by
// debootstrap(8) when it is not there yet (about a minute). It must only be
// read: machines put an overlay on it. Two callers at once build it once.
func rootfs(ctx context.Context, cache string, rel Release) (string, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("make cache: %w", err)
	}
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()

	// Another list of packages is another root: the name carries the list.
	sum := sha256.Sum256([]byte(strings.Join(packages, ",")))
	dir := filepath.Join(cache, string(rel)+"-"+hex.EncodeToString(sum[:4]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look up root file system: %w", err)
	}

	// A run that was interrupted leaves only this name behind, never dir.
	partial := dir + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("remove interrupted root file system: %w", err)
	}
	mirror := os.Getenv("TCPMEMD_E2E_MIRROR")
	if mirror == "" {
		mirror = defaultMirror
	}
	cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase",
		"--include="+strings.Join(packages, ","), string(rel), partial, mirror)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("debootstrap %s: %w\n%s", rel, err, lastLines(string(out), 20))
	}
	debs, err := filepath.Glob(filepath.Join(partial, "var/cache/apt/archives/*.deb"))
	if err != nil {
		return "", fmt.Errorf("list downloaded packages: %w", err)
	}
	for _, deb := range debs {
		if err := os.Remove(deb); err != nil {
			return "", fmt.Errorf("remove downloaded package: %w", err)
		}
	}
	if err := os.Rename(partial, dir); err != nil {
		return "", fmt.Errorf("keep root file system: %w", err)
	}
	return dir, nil
}

// lock takes an exclusive flock(2) on path and returns its release. The kernel
// drops it too when the process dies.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// lastLines returns the last n lines of s.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
