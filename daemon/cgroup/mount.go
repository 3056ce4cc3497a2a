package cgroup

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// maxMountLine bounds a line of mountinfo: an overlay mount lists all its
// layers in one, and its options may be a page long several times over.
const maxMountLine = 1 << 20

// mount is one cgroup2 mount of this mount namespace.
type mount struct {
	point string // where it is mounted
	root  string // which directory of the hierarchy is mounted there
}

// mounts is what mountinfo says about cgroups.
type mounts struct {
	v2 []mount // the best one to use first
	v1 int     // hierarchies of version 1
}

// parseMountinfo reads the format of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
func parseMountinfo(r io.Reader) (mounts, error) {
	var m mounts
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxMountLine)
	for lines.Scan() {
		// 41 31 0:38 / /sys/fs/cgroup/unified rw,relatime [optional ...] - cgroup2 cgroup2 rw
		mounted, source, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(mounted)
		if !ok || len(fields) < 6 {
			return mounts{}, fmt.Errorf("parse mountinfo: unexpected line %q", lines.Text())
		}
		switch fsType, _, _ := strings.Cut(source, " "); fsType {
		case "cgroup":
			m.v1++
		case "cgroup2":
			m.v2 = append(m.v2, mount{root: unescapeMount(fields[3]), point: unescapeMount(fields[4])})
		}
	}
	if err := lines.Err(); err != nil {
		return mounts{}, fmt.Errorf("read mountinfo: %w", err)
	}
	slices.SortStableFunc(m.v2, func(a, b mount) int { return a.rank() - b.rank() })
	return m, nil
}

// rank prefers the mount that shows most, then the places where systemd
// mounts it (on a v2 host, then on a hybrid one).
func (m mount) rank() int {
	switch {
	case m.root != "/":
		return 3
	case m.point == "/sys/fs/cgroup":
		return 0
	case m.point == "/sys/fs/cgroup/unified":
		return 1
	}
	return 2
}

// path turns a path below the mount, as in "a/b", into the one that
// /proc/PID/cgroup shows: both are the same unless only a part of the
// hierarchy is mounted.
func (m mount) path(below string) Path {
	root := strings.TrimSuffix(m.root, "/")
	if below == "" || below == "." {
		return Path(root + "/")
	}
	return Path(root + "/" + below)
}

// unescapeMount undoes mangle() of fs/seq_file.c: space, tab, newline and
// backslash are written as three octal digits.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
