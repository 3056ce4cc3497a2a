package scan

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/netns"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
)

// FindingState says how well a thing works.
type FindingState uint8

// States of a finding.
const (
	Works FindingState = iota
	Degraded
	Missing
)

// Finding is one thing that the scanner needs, and what its lack costs.
type Finding struct {
	Name  string
	State FindingState
	What  string
	Costs string // "" where nothing lacks
}

// Examine tries what the scanner rests on, each by doing it. It makes a scan
// where there was none.
func (s *Scanner) Examine(ctx context.Context) ([]Finding, error) {
	if s.last == nil {
		if _, err := s.Scan(ctx, Options{Thorough: true}); err != nil {
			return nil, err
		}
	}
	findings := []Finding{kernelVersion()}
	findings = append(findings, capabilities()...)
	findings = append(findings, s.counters(), s.socketDump(ctx), s.mptcpDump(), s.namespaces(), s.pidNamespace(), s.processes(), s.fetching(), s.cgroups(), s.bus(ctx), kernelLog())
	findings = append(findings, s.limits()...)
	return findings, nil
}

func kernelVersion() Finding {
	f := Finding{Name: "kernel"}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		f.State, f.What, f.Costs = Degraded, "its version is not known: "+err.Error(), "features are only tried, not expected"
		return f
	}
	release := unix.ByteSliceToString(u.Release[:])
	f.What = "Linux " + release
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err == nil && (major < 5 || major == 5 && minor < 10) {
		f.State, f.Costs = Degraded, "tcpmemd is tested on 5.10 and later: cgroup ids and fetching descriptors may be missing"
	}
	return f
}

// capabilities lists the rights that other things below rest on
// (capabilities(7)).
func capabilities() []Finding {
	need := []struct {
		c     capability.Cap
		costs string
	}{
		{capability.CAP_SYS_PTRACE, "processes of other users are not read: their sockets are named by cgroup only, hidden ones not at all"},
		{capability.CAP_DAC_READ_SEARCH, "as CAP_SYS_PTRACE; and the id of a new cgroup needs a walk of the tree"},
		{capability.CAP_SYS_ADMIN, "sockets of other network namespaces (containers) are not seen: a gap of unknown size"},
		{capability.CAP_SYSLOG, "kernel log records about TCP memory are not seen where kernel.dmesg_restrict is set"},
	}
	set, err := capability.NewPid2(0)
	if err == nil {
		err = set.Load()
	}
	out := make([]Finding, 0, len(need))
	for _, n := range need {
		f := Finding{Name: "CAP_" + strings.ToUpper(n.c.String()), What: "held"}
		switch {
		case err != nil:
			f.State, f.What, f.Costs = Degraded, "cannot tell: "+err.Error(), n.costs
		case !set.Get(capability.EFFECTIVE, n.c):
			f.State, f.What, f.Costs = Missing, "not held", n.costs
		}
		out = append(out, f)
	}
	return out
}

func (s *Scanner) counters() Finding {
	v, err := s.host.read()
	if err != nil {
		return Finding{"counters", Missing, err.Error(), "nothing can be said of this host"}
	}
	f := Finding{Name: "counters", What: fmt.Sprintf("tcp_mem %d %d %d pages of %d bytes, %d used",
		v.Mem.Min, v.Mem.Pressure, v.Mem.Max, v.PageSize, v.Used)}
	if v.Mem.Min >= v.Mem.Pressure || v.Mem.Pressure >= v.Mem.Max {
		f.State = Degraded
		f.Costs = "tcp_mem's min, pressure and max do not rise: the kernel has no zone in which it only slows down before it refuses"
	}
	return f
}

func (s *Scanner) socketDump(ctx context.Context) Finding {
	conn, err := sockdiag.Open(s.buf)
	if err == nil {
		defer conn.Close()
		err = conn.DumpTCP(ctx, func(*reading.Socket) {})
	}
	if err != nil {
		return Finding{"sock_diag", Missing, err.Error(), "no socket can be seen: load the module tcp_diag"}
	}
	return Finding{Name: "sock_diag", What: "TCP sockets of this namespace can be listed"}
}

func (s *Scanner) mptcpDump() Finding {
	if s.noMPTCP {
		return Finding{
			"mptcp_diag", Degraded, "MPTCP sockets cannot be listed",
			"their memory is unseen if this host uses MPTCP; load the module mptcp_diag",
		}
	}
	return Finding{Name: "mptcp_diag", What: "MPTCP sockets can be listed"}
}

func (s *Scanner) namespaces() Finding {
	f := Finding{Name: "network namespaces"}
	list := s.netns.All()
	var failed int
	var why error
	for _, n := range list {
		if err := s.enterable(n); err != nil {
			failed++
			why = err
		}
	}
	f.What = fmt.Sprintf("%d found, all can be entered", len(list))
	if failed > 0 {
		f.State = Degraded
		f.What = fmt.Sprintf("%d found, %d cannot be entered: %v", len(list), failed, why)
		f.Costs = "their sockets are not seen"
	}
	return f
}

func (s *Scanner) enterable(n *netns.Namespace) error {
	return s.netns.Do(n, func() error { return nil })
}

func (s *Scanner) pidNamespace() Finding {
	if !s.hostPIDs {
		return Finding{
			"PID namespace", Degraded, "not the host's",
			"processes outside it are not seen: their sockets are named by cgroup only",
		}
	}
	return Finding{Name: "PID namespace", What: "the host's"}
}

func (s *Scanner) processes() Finding {
	var unread int
	var why error
	for _, p := range s.index.All {
		if p.Unread != nil {
			unread++
			why = p.Unread
		}
	}
	f := Finding{Name: "processes", What: fmt.Sprintf("%d found, descriptors of all can be read", s.index.Living())}
	if unread > 0 {
		f.State = Degraded
		f.What = fmt.Sprintf("%d found, descriptors of %d cannot be read: %v", s.index.Living(), unread, why)
		f.Costs = "their sockets are named by cgroup only"
	}
	return f
}

// fetching tries pidfd_getfd on ourselves.
func (s *Scanner) fetching() Finding {
	const costs = "sockets that no dump shows (reset by their peer and still held) are counted but have no owner"
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return Finding{"pidfd_getfd", Missing, err.Error(), costs}
	}
	defer unix.Close(pidfd)
	got, err := unix.PidfdGetfd(pidfd, pidfd, 0)
	if err != nil {
		return Finding{"pidfd_getfd", Missing, err.Error(), costs}
	}
	unix.Close(got)
	if b, err := os.ReadFile(s.cfg.Proc + "/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(b)) == "3" {
		return Finding{"pidfd_getfd", Missing, "kernel.yama.ptrace_scope is 3", costs}
	}
	return Finding{Name: "pidfd_getfd", What: "closed sockets that a process still holds can be found"}
}

func (s *Scanner) cgroups() Finding {
	if ok, why := s.tree.Available(); !ok {
		return Finding{"cgroup v2", Missing, why, "orphans of ended processes have no name"}
	}
	f := Finding{Name: "cgroup v2", What: "hierarchy at " + s.tree.Mountpoint()}
	switch err := s.tree.Handles(); {
	case s.foreign:
		f.State, f.What = Degraded, "seen from a cgroup namespace that is not PID 1's"
		f.Costs = "services and containers are named by process only: joining PID 1's needs CAP_SYS_ADMIN and CAP_SYS_PTRACE"
	case err != nil:
		f.State, f.Costs = Degraded, "the name of a new cgroup id needs a walk of the tree: "+err.Error()
	}
	return f
}

func (s *Scanner) bus(ctx context.Context) Finding {
	via, version, err := s.units.Connected(ctx)
	if err != nil {
		return Finding{"systemd", Missing, err.Error(), "unit names are read from cgroup paths: labels, never targets of an action"}
	}
	return Finding{Name: "systemd", What: fmt.Sprintf("systemd %s, asked over %s", version, via)}
}

func kernelLog() Finding {
	f, err := os.Open("/dev/kmsg")
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return Finding{"kernel log", Missing, err.Error(), "its records about TCP memory are not seen; counters decide all the same"}
	}
	return Finding{Name: "kernel log", What: "/dev/kmsg can be read"}
}

// limits checks that the namespaces' counters fit into the open files allowed.
func (s *Scanner) limits() []Finding {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return nil
	}
	const each, base = 4, 64
	need := uint64(base + each*len(s.netns.All()))
	f := Finding{Name: "open files", What: fmt.Sprintf("limit %d, about %d needed", r.Cur, need)}
	if r.Cur < need {
		f.State, f.Costs = Degraded, "some namespaces cannot be read: raise LimitNOFILE="
	}
	return []Finding{f}
}
