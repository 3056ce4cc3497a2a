package destroysockets

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/plugins/internal/settings"
	"github.com/tcpmemd/tcpmemd/plugins/internal/victims"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// choice is the settings of a step.
type choice struct {
	classes []string // nil where the verdict decides
	states  []string // nil for all
	remote  func(netip.AddrPort) bool
	most    int
}

func (a *Action) read(s remediate.Settings) (*choice, []remediate.Problem) {
	v, problems := settings.Read(a.Describe().Settings, s)
	if problems != nil {
		return nil, problems
	}
	c := &choice{classes: v.List("class"), states: v.List("state"), most: v.Int("max")}
	problem := func(setting, format string, args ...any) {
		problems = append(problems, remediate.Problem{Setting: setting, Message: fmt.Sprintf(format, args...)})
	}
	for _, name := range c.classes {
		switch class, ok := reading.ParseClass(name); {
		case !ok:
			problem("class", "%s is no class of sockets", settings.Quote(name))
		case class == reading.Kernel, class == reading.Unresolved:
			problem("class", "sockets of class %s are never touched", name)
		}
	}
	for _, name := range c.states {
		switch state, ok := reading.ParseState(name); {
		case !ok:
			problem("state", "%s is no state of a socket", settings.Quote(name))
		case state == reading.Listen:
			problem("state", "a listener is never destroyed")
		}
	}
	var err error
	if c.remote, err = parseRemote(v.String("remote")); err != nil {
		problem("remote", "%s is %v", settings.Quote(v.String("remote")), err)
	}
	if c.most < 1 {
		problem("max", "want 1 or more")
	}
	return c, problems
}

var errRemote = errors.New("no address, address:port or network, e.g. 192.0.2.0/24")

// parseRemote accepts an address with or without a port, or a network.
func parseRemote(text string) (func(netip.AddrPort) bool, error) {
	if text == "" {
		return func(netip.AddrPort) bool { return true }, nil
	}
	if at, err := netip.ParseAddrPort(text); err == nil {
		return func(a netip.AddrPort) bool {
			return a.Addr().Unmap() == at.Addr().Unmap() && a.Port() == at.Port()
		}, nil
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		return func(a netip.AddrPort) bool { return a.Addr().Unmap() == addr.Unmap() }, nil
	}
	if net, err := netip.ParsePrefix(text); err == nil {
		return func(a netip.AddrPort) bool { return net.Contains(a.Addr().Unmap()) }, nil
	}
	return nil, errRemote
}

// candidates are the sockets to destroy, those that free most first.
type candidates struct {
	sockets   []remediate.Socket
	predicted map[string]int64 // by class
	sum       reading.Tally
	leftOut   int // beyond the setting max
}

func (c *candidates) String() string {
	text := victims.Sockets(c.sum)
	if c.leftOut > 0 {
		text += fmt.Sprintf(" (%d more are beyond the setting max)", c.leftOut)
	}
	return text
}

// choose picks the sockets, or says why there are none.
func (c *choice) choose(r *remediate.Request) (*candidates, *remediate.Response) {
	classes := c.classes
	culprit := func(netip.AddrPort) bool { return true }
	if r.Owner.Verdict == string(reading.SlowPeer) {
		var err error
		if culprit, err = parseRemote(r.Owner.Culprit); err != nil || r.Owner.Culprit == "" {
			return nil, refused("culprit-local", fmt.Sprintf(
				"the peer that does not read is %s of this host: it is to be dealt with, not its connections", settings.Quote(r.Owner.Culprit)))
		}
		if classes == nil {
			classes = []string{reading.Orphan.String(), reading.Owned.String()}
		}
	}
	if classes == nil {
		classes = []string{reading.Orphan.String()}
	}
	found := &candidates{predicted: map[string]int64{}}
	for i := range r.Sockets {
		s := &r.Sockets[i]
		remote, err := netip.ParseAddrPort(s.Remote)
		if err == nil && slices.Contains(classes, s.Class) && (c.states == nil || slices.Contains(c.states, s.State)) &&
			c.remote(remote) && culprit(remote) {
			found.sockets = append(found.sockets, *s)
		}
	}
	if len(found.sockets) == 0 {
		return nil, refused("no-candidate", fmt.Sprintf("none of %d sockets is of class %s and matches the settings",
			len(r.Sockets), strings.Join(classes, " or ")))
	}
	orphans := func(s remediate.Socket) bool { return s.Class == reading.Orphan.String() }
	if !r.Host.OrphansVanish && slices.ContainsFunc(found.sockets, orphans) {
		if found.sockets = slices.DeleteFunc(found.sockets, orphans); len(found.sockets) == 0 {
			return nil, refused("orphans-stay", "on this kernel destroyed orphans are not known to vanish: the probe at start showed none that did")
		}
	}
	found.limit(c.most)
	if found.sum.Bytes == 0 {
		return nil, refused("frees-nothing", "their memory is freed only when their owner closes them: "+
			strings.Join(slices.Sorted(maps.Keys(found.predicted)), ", ")+" without unsent data")
	}
	return found, nil
}

// limit keeps those whose destruction frees something, the most first.
func (c *candidates) limit(most int) {
	all := c.sockets
	c.sockets = nil
	slices.SortStableFunc(all, func(x, y remediate.Socket) int { return cmp.Compare(frees(&y), frees(&x)) })
	for i := range all {
		s := &all[i]
		n := frees(s)
		c.predicted[s.Class] += 0
		switch {
		case n == 0:
		case len(c.sockets) == most:
			c.leftOut++
		default:
			c.sockets = append(c.sockets, *s)
			c.predicted[s.Class] += n
			c.sum.Add(1, n)
		}
	}
}

// frees is what the destruction of a socket frees (tcp_abort in net/ipv4/tcp.c). Of one
// that a descriptor leads to, that is its send queue: the receive queue stays
// until it is closed, and the queues of an MPTCP socket do.
func frees(s *remediate.Socket) int64 {
	switch s.Class {
	case reading.Orphan.String():
		return max(0, s.Bytes)
	case reading.Owned.String():
		if s.Send > 0 && !s.MPTCP {
			return max(0, s.Bytes-s.Receive)
		}
	}
	return 0
}

// unchanged compares a candidate with the row that was just dumped.
func (c *choice) unchanged(was *remediate.Socket, is *reading.Socket) string {
	switch {
	case is.Inode != was.Inode:
		return "another holds it now"
	case was.Class == reading.Orphan.String() && !victims.Orphan(is):
		return "no orphan any more"
	case was.Class == reading.Owned.String() && is.Mem.WmemQueued == 0:
		return "its send queue is empty now"
	case c.states != nil && !slices.Contains(c.states, is.State.String()):
		return "its state is another now"
	}
	return ""
}
