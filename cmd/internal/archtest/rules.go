package archtest

import (
	"slices"
	"strings"
)

// module is the path of this module.
const module = "github.com/tcpmemd/tcpmemd"

// pkg is what `go list -json` tells about a package. Test files are left out:
// a test may import what its package may not.
type pkg struct {
	ImportPath string
	Imports    []string // direct
	Deps       []string // direct and through others
}

// rule limits what some packages import. Paths are relative to the module, and
// mean the package with all below it; "=daemon" is only the package itself,
// "*test" every package whose name ends so.
type rule struct {
	why string

	from []string // the packages it is about
	not  []string // that are not, although from says so

	// only, where not nil, lists all of this module that from may reach,
	// beside itself.
	only []string
	// never lists what from must not reach, also through others.
	never []string
	// direct lists packages outside the module that from must not import by
	// itself; what it imports may.
	direct []string
}

// impure is what a function that only computes has no use for.
var impure = []string{"os", "os/exec", "os/signal", "net", "net/http", "syscall", "golang.org/x/sys/unix"}

var rules = []rule{{
	why:  "a lock knows files and nothing else",
	from: []string{"daemon/lockfile"},
	only: []string{},
}, {
	why:  "a socket knows its lock and nothing else",
	from: []string{"daemon/unixsocket"},
	only: []string{"daemon/lockfile"},
}, {
	why:  "metrics are brought out here; what they are is decided elsewhere",
	from: []string{"daemon/metrics/serve"},
	only: []string{"daemon/metrics", "daemon/unixsocket", "daemon/lockfile", "daemon/reading", "daemon/record"},
}, {
	why:  "names are compared here, and nothing is known of them",
	from: []string{"daemon/nearest"},
	only: []string{},
}, {
	why:  "the shared vocabulary is plain values that every room can use",
	from: []string{"daemon/reading"},
	only: []string{},
}, {
	why:    "what was decided is plain values, too, with no more words than it needs",
	from:   []string{"daemon/record"},
	only:   []string{"daemon/reading"},
	direct: impure,
}, {
	why:    "what is told of a record is computed from it alone",
	from:   []string{"daemon/event"},
	only:   []string{"daemon/reading", "daemon/record", "daemon/event"},
	direct: impure,
}, {
	why:  "the journal is told texts; what is told, and how loud, is decided elsewhere",
	from: []string{"daemon/journal"},
	only: []string{"daemon/reading", "daemon/record", "daemon/event"},
}, {
	why:    "metrics are computed from what is known; who asks for them, and how, is no part of it",
	from:   []string{"=daemon/metrics"},
	only:   []string{"daemon/reading", "daemon/record"},
	direct: impure,
}, {
	why:  "a leaf reads one kernel interface; what readings mean together is decided above",
	from: []string{"daemon/procfs", "daemon/kmsg", "daemon/sockdiag", "daemon/cgroup", "daemon/units"},
	only: []string{"daemon/reading"},
}, {
	why:  "a namespace is entered and kept here, its files are read as procfs reads the host's",
	from: []string{"daemon/netns"},
	only: []string{"daemon/reading", "daemon/procfs"},
}, {
	why:  "the descriptor index answers who holds an inode; scan decides when to ask",
	from: []string{"daemon/fds"},
	only: []string{"daemon/reading", "daemon/owner", "daemon/procfs", "daemon/sockdiag"},
}, {
	why:    "who owns what must be computable from rows alone, in a test as on a host",
	from:   []string{"daemon/owner", "daemon/ledger"},
	not:    []string{"*test"},
	only:   []string{"daemon/reading", "daemon/owner", "daemon/ledger"},
	direct: impure,
}, {
	why:    "one pure turn serves the loop, replay and the drill alike",
	from:   []string{"daemon/engine"},
	not:    []string{"*test"},
	only:   []string{"daemon/reading", "daemon/record", "daemon/nearest", "daemon/engine"},
	direct: impure,
}, {
	why:  "the store keeps plain values; what they mean is decided elsewhere",
	from: []string{"daemon/store"},
	only: []string{"daemon/reading", "daemon/record", "daemon/lockfile", "daemon/store"},
}, {
	why:   "only cmd/tcpmemd starts the loop",
	from:  []string{""},
	not:   []string{"cmd/tcpmemd", "=daemon"},
	never: []string{"=daemon"},
}, {
	why:  "tcpmemctl knows the daemon by its JSON and its recorded readings, or reads the kernel itself",
	from: []string{"cmd/tcpmemctl", "cmd/internal/cli", "cmd/internal/top"},
	never: []string{
		"=daemon", "daemon/control", "daemon/sdnotify",
		"=daemon/store", "daemon/store/actions", "daemon/store/incident",
	},
}, {
	why:    "how text is laid out does not depend on what it says",
	from:   []string{"cmd/internal/layout"},
	only:   []string{},
	direct: impure,
}, {
	why:    "a view is given documents, keys and times, and is told where to draw",
	from:   []string{"cmd/internal/top"},
	never:  []string{"cmd/internal/cli", "daemon/direct", "daemon/scan"},
	direct: impure,
}, {
	why:    "a document is put into words from itself alone",
	from:   []string{"cmd/internal/words"},
	not:    []string{"*test"},
	never:  []string{"cmd/internal/cli", "daemon/direct", "daemon/scan"},
	direct: impure,
}, {
	why:  "a drill makes sockets and asks nobody what they are",
	from: []string{"cmd/internal/drill"},
	only: []string{"daemon/reading", "daemon/sockdiag", "daemon/units"},
}, {
	why:    "a page is made of documents alone, and is the same wherever it is made",
	from:   []string{"cmd/internal/page"},
	only:   []string{"cmd/internal/layout", "cmd/internal/words", "daemon/api", "daemon/event", "daemon/reading", "daemon/record"},
	direct: impure,
}, {
	why:    "an export is what the daemon's socket gives, written down; how it is shown is not its part",
	from:   []string{"cmd/internal/export"},
	never:  []string{"=daemon", "cmd/internal/cli", "cmd/internal/words", "daemon/control", "daemon/direct", "daemon/scan", "=daemon/store", "daemon/store/actions", "daemon/store/incident"},
	direct: []string{"os", "os/exec", "net", "net/http"},
}, {
	why:  "the bill of materials is read from finished programs, whatever they are",
	from: []string{"cmd/internal/sbom"},
	only: []string{},
}, {
	why:   "a plugin author pulls in no kernel code",
	from:  []string{"remediate"},
	never: []string{"daemon", "cmd", "plugins"},
}, {
	why:   "what starts plugins is not linked into them",
	from:  []string{"=remediate", "remediate/proto"},
	never: []string{"remediate/runner", "remediate/launch", "remediate/internal", "remediate/remediatetest"},
}, {
	why:  "what executes a plugin knows processes and rights, not the contract",
	from: []string{"remediate/launch"},
	only: []string{},
}, {
	why:  "the runner knows plugins by the contract alone",
	from: []string{"remediate/runner"},
	only: []string{"=remediate", "remediate/proto", "remediate/launch", "remediate/internal"},
}, {
	why:   "fakes are for tests",
	from:  []string{""},
	not:   []string{"*test"},
	never: []string{"*test"},
}, {
	why:   "the daemon never makes sockets for show",
	from:  []string{"cmd/tcpmemd", "=daemon", "daemon/scan"},
	never: []string{"daemon/scene"},
}, {
	why:    "go-systemd's package is called daemon too; sdnotify wraps it",
	from:   []string{""},
	not:    []string{"daemon/sdnotify"},
	direct: []string{"github.com/coreos/go-systemd/v22/daemon"},
}}

// violations says which of r's limits p breaks, in words.
func (r rule) violations(p pkg) []string {
	self, ok := relative(p.ImportPath)
	if !ok || !within(self, r.from) || within(self, r.not) {
		return nil
	}
	var broken []string
	for _, dep := range p.Deps {
		rel, ours := relative(dep)
		if !ours {
			continue
		}
		if r.only != nil && !within(rel, r.only) && !within(rel, []string{self}) || within(rel, r.never) {
			broken = append(broken, self+" reaches "+rel+": "+r.why)
		}
	}
	for _, imp := range p.Imports {
		if slices.Contains(r.direct, imp) {
			broken = append(broken, self+" imports "+imp+": "+r.why)
		}
	}
	return broken
}

// relative returns path relative to the module, "" for its top, and whether it
// is of the module at all.
func relative(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// within says whether the relative path is one of the listed ones or below.
func within(path string, list []string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		if exact, ok := strings.CutPrefix(entry, "="); ok {
			return path == exact
		}
		if suffix, ok := strings.CutPrefix(entry, "*"); ok {
			return strings.HasSuffix(path, suffix)
		}
		return entry == "" || path == entry || strings.HasPrefix(path, entry+"/")
	})
}
