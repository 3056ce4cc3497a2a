package cgroup

import "strings"

// ProcCgroup is what /proc/PID/cgroup says of a process.
type ProcCgroup struct {
	// Unified is its path in the v2 hierarchy, "" where there is none.
	Unified Path
	// Named is its path in systemd's own v1 hierarchy (name=systemd): on a
	// host with v1 only this is what units can be read from.
	Named Path
	// Gone: the directory was removed while the process was in it, which can
	// only be said of a zombie.
	Gone bool
}

// ParseProcCgroup reads the text of /proc/PID/cgroup (cgroups(7)): lines of
// hierarchy id, controllers and path, with colons in between.
func ParseProcCgroup(text string) ProcCgroup {
	var p ProcCgroup
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok || !strings.HasPrefix(path, "/") {
			continue
		}
		switch controllers {
		case "":
			// proc_cgroup_show in kernel/cgroup/cgroup.c adds the word. A living
			// directory could be called that; nobody loses by it.
			path, p.Gone = strings.CutSuffix(path, " (deleted)")
			p.Unified = Path(path)
		case "name=systemd":
			p.Named = Path(path)
		}
	}
	return p
}

// Effective is the path to read a label from: in the v2 hierarchy, or in
// systemd's own where v2 has no directories for it (the root says nothing).
func (p ProcCgroup) Effective() Path {
	if p.Unified == "" || p.Unified == "/" && p.Named != "" {
		return p.Named
	}
	return p.Unified
}
