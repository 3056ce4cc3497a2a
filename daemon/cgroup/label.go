package cgroup

import (
	"slices"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Path is a cgroup's path in the v2 hierarchy as /proc/PID/cgroup shows it:
// "/system.slice/x.service", "/" for the root.
type Path string

// RootSlice is systemd's name of the root of the hierarchy.
const RootSlice = "-.slice"

// Label is what a path says. Zero fields were not in it. Names in it were
// chosen by whoever made the directory: they are data.
type Label struct {
	// Unit is the outermost unit below the slices: of PID 1, or, in a user
	// manager, of that. Nothing below a unit ever names one: what runs in a
	// delegated subtree may call its directories as it likes.
	Unit string
	// Manager is "system" or "user@UID", "" without a unit.
	Manager string
	// SystemUnit is PID 1's unit: Unit, or user@UID.service around it.
	SystemUnit string
	// Slice is the innermost slice around Unit, of the same manager; "-.slice"
	// is the root.
	Slice string
	// UID is of the user whose slice (user-UID.slice) it lies in.
	UID *uint32
	// Session is the login session's id, as in session-3.scope.
	Session string

	// Container is the outermost one: the host's runtime knows it, and ends or
	// restarts it. A container inside was made by what runs in the outer one,
	// which could write any id there. Runtime is "" for a bare id in a pod
	// of the cgroupfs driver: containerd and cri-dockerd look alike there.
	Container *reading.Container
	// Pod has only the UID; see [Pods].
	Pod *reading.Pod
	// Machine is the name of an LXC or nspawn container or a virtual machine.
	Machine string
}

// Kind is the kind of owner that the label speaks of, "" where it names
// neither unit nor container. Sockets, mounts and swaps count as services of
// their manager.
func (l *Label) Kind() reading.Kind {
	switch {
	case l.Container != nil:
		return reading.KindContainer
	case l.Unit == "":
		return ""
	case l.Session != "":
		return reading.KindSession
	case strings.HasSuffix(l.Unit, ".scope"):
		return reading.KindScope
	case l.Manager != systemManager:
		return reading.KindUserService
	}
	return reading.KindService
}

const systemManager = "system"

// Parse reads a label out of a path. It never fails: a path that systemd and
// the container runtimes do not make gives a label without names.
func Parse(p Path) Label {
	w := walker(strings.TrimPrefix(string(p), "/"))
	l := Label{Slice: RootSlice}
	depth := 0
	for slice := range w.slices() {
		depth++
		// systemd-logind makes user.slice/user-UID.slice, and nothing else may.
		if name, ok := between(slice, "user-", ".slice"); ok && depth == 2 && l.Slice == "user.slice" {
			if uid, ok := parseUID(name); ok {
				l.UID = &uid
			}
		}
		if uid, ok := podOfSlice(slice); ok {
			l.Pod = &reading.Pod{UID: uid}
		}
		l.Slice = slice
	}
	dir := w.next()
	unit, ok := unitOf(dir)
	if !ok {
		if depth == 0 {
			parseCgroupfs(&l, dir, w)
		}
		return l
	}
	l.Unit, l.SystemUnit, l.Manager = unit, unit, systemManager
	switch {
	case l.UID != nil && unit == userManager(*l.UID)+".service":
		parseUserManager(&l, w)
	case l.UID != nil && strings.HasPrefix(unit, "session-"):
		l.Session, _ = between(unit, "session-", ".scope")
	case l.Slice == "machine.slice":
		parseMachine(&l)
	case (l.Slice == "system.slice" || l.Slice == "runtime.slice") && slices.Contains(runtimeUnits, unit):
		// Directly below the daemon's own cgroup, where it puts containers if
		// kubelet and runtime were told different cgroup drivers.
		parseMixedDrivers(&l, w.next())
	}
	if l.Container == nil {
		l.Container = containerOfScope(l.Unit)
	}
	return l
}

// runtimeUnits run the container runtimes of Kubernetes, as root.
var runtimeUnits = []string{
	"containerd.service", "crio.service", "k3s.service", "k3s-agent.service", "rke2-server.service", "rke2-agent.service",
}

// parseUserManager looks for the unit of a user's manager. The user owns all
// of it and could claim anything, so a pod is never seen there.
func parseUserManager(l *Label, w walker) {
	inner := RootSlice
	for slice := range w.slices() {
		inner = slice
	}
	if unit, ok := unitOf(w.next()); ok {
		l.Unit, l.Manager, l.Slice = unit, userManager(*l.UID), inner
	}
}

// parseMachine reads the units that systemd-machined and systemd-nspawn make.
func parseMachine(l *Label) {
	if name, ok := between(l.Unit, "systemd-nspawn@", ".service"); ok {
		l.Machine = unescapeName(name)
	} else if name, ok := between(l.Unit, "machine-", ".scope"); ok {
		l.Machine = unescapeName(name)
	}
}

// userManager names a user's manager as the owner's key does.
func userManager(uid uint32) string { return "user@" + utoa(uid) }

// walker takes a path apart from the root on.
type walker string

// next returns the next directory, "" at the end.
func (w *walker) next() string {
	dir, rest, _ := strings.Cut(string(*w), "/")
	*w = walker(rest)
	return dir
}

// slices yields the slices up to the first directory that is none.
func (w *walker) slices() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for {
			rest := *w
			slice, ok := sliceOf(rest.next())
			if !ok {
				return
			}
			*w = rest
			if !yield(slice) {
				return
			}
		}
	}
}
