package procfs

import (
	"bytes"
	"fmt"
	"strings"
)

// Cgroup is what /proc/PID/cgroup says of a process (proc_cgroup_show in
// kernel/cgroup/cgroup.c). Paths are relative to the reader's cgroup namespace
// root. Whoever owns a delegated subtree chooses the names in it.
type Cgroup struct {
	// Path is the path in the v2 hierarchy, "" where the host has none.
	Path string
	// Gone: the cgroup was removed under the process, which is a zombie.
	Gone bool
	// V1 is a label from the v1 hierarchies, "" where there are none: the
	// path in the one that systemd manages (name=systemd), else the longest.
	// A v1 path says nothing about the cgroup id of a socket.
	V1 string
}

// V1Only reports whether the process is in v1 hierarchies and in none of v2.
func (c Cgroup) V1Only() bool { return c.Path == "" && c.V1 != "" }

// maxCgroup bounds /proc/PID/cgroup: a dozen paths of PATH_MAX.
const maxCgroup = 64 << 10

// Cgroup reads /proc/PID/cgroup.
func (f FS) Cgroup(pid int) (Cgroup, error) {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	// Usually one short line; but a path may have 4 kB, and v1 a dozen of them.
	path := f.pidPath(pid, "cgroup")
	data, full, err := readOnce(path, (*buf)[:firstRead])
	if err == nil && full {
		data, full, err = readOnce(path, make([]byte, maxCgroup))
	}
	if err != nil {
		return Cgroup{}, err
	}
	if full {
		return Cgroup{}, fmt.Errorf("read %s: longer than %d bytes", path, len(data))
	}
	c, err := parseCgroup(data)
	if err != nil {
		return Cgroup{}, fmt.Errorf("parse %s: %w", path, err)
	}
	return c, nil
}

// parseCgroup reads lines "ID:CONTROLLERS:PATH". The kernel refuses newlines in
// cgroup names (cgroup_mkdir), colons it allows.
func parseCgroup(data []byte) (Cgroup, error) {
	var c Cgroup
	var longest string
	for len(data) > 0 {
		line, rest, ok := nextLine(data)
		if !ok {
			return Cgroup{}, errTruncated
		}
		data = rest
		id, line, ok1 := bytes.Cut(line, []byte{':'})
		controllers, path, ok2 := bytes.Cut(line, []byte{':'})
		if !ok1 || !ok2 || len(path) == 0 || path[0] != '/' {
			return Cgroup{}, fmt.Errorf("line %.32q: not ID:CONTROLLERS:PATH", line)
		}
		if _, err := count(id); err != nil {
			return Cgroup{}, fmt.Errorf("hierarchy: %w", err)
		}
		switch {
		case string(id) == "0" && len(controllers) == 0:
			c.Path = string(path)
		case string(controllers) == "name=systemd":
			c.V1 = string(path)
		case len(path) > len(longest):
			longest = string(path)
		}
	}
	// systemd's own hierarchy says "/" where systemd does not run.
	if len(c.V1) <= 1 && longest != "" {
		c.V1 = longest
	}
	// Only the v2 hierarchy marks a removed cgroup. A directory may be named
	// so too, by someone who may create its namesake anyway.
	c.Path, c.Gone = strings.CutSuffix(c.Path, " (deleted)")
	return c, nil
}
