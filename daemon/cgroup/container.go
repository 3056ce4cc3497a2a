package cgroup

import (
	"strconv"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Runtimes as reading.Container names them.
const (
	containerd = "containerd"
	crio       = "cri-o"
	docker     = "docker"
	podman     = "podman"
)

// scopePrefixes are the scopes that a runtime with the systemd driver asks
// PID 1 for, each followed by the container's id. The monitor processes
// (crio-conmon-ID.scope, libpod-conmon-ID.scope) are not the container, and
// do not match since "conmon-ID" is no id.
var scopePrefixes = [...]struct{ prefix, runtime string }{
	{"cri-containerd-", containerd},
	{"nerdctl-", containerd},
	{"crio-", crio},
	{"docker-", docker},
	{"libpod-", podman},
}

// containerOfScope reads the container out of a unit directly below a slice.
func containerOfScope(unit string) *reading.Container {
	for _, s := range scopePrefixes {
		if id, ok := between(unit, s.prefix, ".scope"); ok && isContainerID(id) {
			return &reading.Container{ID: id, Runtime: s.runtime}
		}
	}
	return nil
}

// parseCgroupfs reads the directories that runtimes with the cgroupfs driver
// make at the root of the hierarchy: dir is the first one there, w the rest.
// Anywhere else such names mean nothing.
func parseCgroupfs(l *Label, dir string, w walker) {
	switch dir {
	case "docker":
		l.Container = bareContainer(w.next(), docker)
	case "default", "k8s.io": // containerd's namespaces of nerdctl and of CRI
		l.Container = bareContainer(w.next(), containerd)
	case "libpod_parent":
		name := w.next()
		if isContainerID(name) { // a podman pod
			name = w.next()
		}
		if id, ok := strings.CutPrefix(name, "libpod-"); ok {
			l.Container = bareContainer(id, podman)
		}
	case "kubepods":
		parseKubepods(l, w)
	case "lxc":
		l.Machine = w.next()
	default:
		if name, ok := strings.CutPrefix(dir, "lxc.payload."); ok {
			l.Machine = name
			return
		}
		parseMixedDrivers(l, dir)
	}
}

// parseKubepods reads [burstable/|besteffort/]podUID/CONTAINER, which kubelet
// and its runtime make below /kubepods with the cgroupfs driver
// (pkg/kubelet/cm/pod_container_manager_linux.go).
func parseKubepods(l *Label, w walker) {
	dir := w.next()
	if dir == "burstable" || dir == "besteffort" {
		dir = w.next()
	}
	uid, ok := strings.CutPrefix(dir, "pod")
	if !ok || !isPodUID(uid) {
		return
	}
	l.Pod = &reading.Pod{UID: uid}
	name := w.next()
	if id, ok := strings.CutPrefix(name, "crio-"); ok {
		l.Container = bareContainer(id, crio)
		return
	}
	l.Container = bareContainer(name, "")
}

// parseMixedDrivers reads SLICE:RUNTIME:ID, the name that runc makes one
// directory of when kubelet was told to use systemd and the runtime cgroupfs.
func parseMixedDrivers(l *Label, dir string) {
	slice, rest, ok := strings.Cut(dir, ":")
	if !ok {
		return
	}
	uid, ok := podOfSlice(slice)
	if !ok {
		return
	}
	runtime, id, _ := strings.Cut(rest, ":")
	for _, s := range scopePrefixes {
		if runtime+"-" == s.prefix && isContainerID(id) {
			l.Container = &reading.Container{ID: id, Runtime: s.runtime}
			l.Pod = &reading.Pod{UID: uid}
		}
	}
}

// podOfSlice reads the pod's uid out of kubepods[-burstable|-besteffort]-podUID.slice,
// in which kubelet writes "_" for "-" (a dash means one slice more). A
// kubelet with --cgroup-root has that root's name in front.
func podOfSlice(slice string) (string, bool) {
	before, name, ok := strings.Cut(strings.TrimSuffix(slice, ".slice"), "kubepods-")
	if !ok || before != "" && !strings.HasSuffix(before, "-") {
		return "", false
	}
	name = strings.TrimPrefix(strings.TrimPrefix(name, "burstable-"), "besteffort-")
	uid, ok := strings.CutPrefix(name, "pod")
	uid = strings.ReplaceAll(uid, "_", "-")
	return uid, ok && isPodUID(uid)
}

func bareContainer(id, runtime string) *reading.Container {
	if !isContainerID(id) {
		return nil
	}
	return &reading.Container{ID: id, Runtime: runtime}
}

// isContainerID: all four runtimes draw 32 random bytes and write them as hex.
func isContainerID(s string) bool {
	return len(s) == idLen && strings.Trim(s, hexDigits) == ""
}

const hexDigits = "0123456789abcdef"

// isPodUID accepts a UUID, the hash that names a static pod, and whatever
// else a static pod's manifest may have for a uid within the same characters.
func isPodUID(s string) bool {
	const maxLen = 64
	if s == "" || len(s) > maxLen {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-':
		default:
			return false
		}
	}
	return true
}

func utoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
