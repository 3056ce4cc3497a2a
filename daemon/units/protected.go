package units

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// DefaultProtected are the units that no action touches unless the operator
// says otherwise: what the host stands on, what people log in by, and what
// would take every container with it.
func DefaultProtected() []string { return slices.Clone(defaultProtected) }

var defaultProtected = []string{
	"init.scope", "systemd-*", "dbus*", "ssh*", "*journal*", "*udev*", "polkit*", "NetworkManager*",
	// k3s-agent and rke2-server are what these two are called on most nodes.
	"kubelet", "k3s*", "rke2*", "containerd", "crio", "docker", "podman",
	"session-*", "user@*", "tcpmemd",
}

// Protected says why a unit is protected, "" where it is not. A glob
// (path.Match) is held against the name with and without its type, so that
// "docker" means docker.service and docker.socket. A glob that is malformed
// protects every unit: the careful reading of a list that cannot be read.
func Protected(name string, globs []string) (why string) {
	stem := strings.TrimSuffix(name, path.Ext(name))
	for _, glob := range globs {
		whole, err := path.Match(glob, name)
		if err != nil {
			return fmt.Sprintf("the list of protected units has a malformed glob %q", glob)
		}
		short, _ := path.Match(glob, stem)
		if whole || short {
			return fmt.Sprintf("%s matches the protected glob %q", name, glob)
		}
	}
	return ""
}

// drill begins the names of the units that "tcpmemctl drill" makes.
const drill = "tcpmemd-drill-"

// DrillUnit is the unit that a drill of the process pid leaks in.
func DrillUnit(pid int) string { return fmt.Sprintf("%s%d.service", drill, pid) }

// OptedOut says why a unit is told of and never touched: its leak is a fire
// drill, or the operator's globs say so. It is "" where neither is the case.
func OptedOut(name string, globs []string) (why string) {
	if strings.HasPrefix(name, drill) && strings.HasSuffix(name, ".service") {
		return "its leak is a drill of tcpmemctl"
	}
	return Protected(name, globs)
}

// CheckGlobs returns an error that names the first malformed glob: for the
// loader of a configuration.
func CheckGlobs(globs []string) error {
	for _, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("check glob %q: %w", glob, err)
		}
	}
	return nil
}
