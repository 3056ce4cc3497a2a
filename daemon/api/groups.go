package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// By is a way to group the ledger.
type By string

// The ways to group. Slices and pods are not owners; they are groups.
const (
	ByOwner     By = "owner"
	ByUnit      By = "unit"
	ByProcess   By = "process"
	ByContainer By = "container"
	ByPod       By = "pod"
	ByCgroup    By = "cgroup"
	ByNetns     By = "netns"
	ByClass     By = "class"
	ByRemote    By = "remote"
)

// Bys lists the ways to group in the order of the contract.
func Bys() []By {
	return []By{ByOwner, ByUnit, ByProcess, ByContainer, ByPod, ByCgroup, ByNetns, ByClass, ByRemote}
}

// ParseBy accepts the words of Bys.
func ParseBy(s string) (By, error) {
	if by := By(s); slices.Contains(Bys(), by) {
		return by, nil
	}
	var words []string
	for _, by := range Bys() {
		words = append(words, string(by))
	}
	return "", fmt.Errorf("unknown grouping %q: want %s", s, strings.Join(words, ", "))
}

// MaxGroups bounds the groups that are kept apart: remote addresses are as
// many as the outside wants. What comes later is summed in one group "other".
const MaxGroups = 16384

// Groups is the document of "tcpmemctl owners --by X --json" for any X but
// owner: the same bytes, summed differently.
type Groups struct {
	Header
	Memory    Memory          `json:"memory"`
	Ledger    Ledger          `json:"ledger"`
	By        By              `json:"by"`
	Groups    []Group         `json:"groups"`
	Truncated TruncatedGroups `json:"truncated"`
	Gaps      []reading.Gap   `json:"gaps"`
}

// Group sums sockets. Key is null for those that do not belong to any group,
// such as sockets without a unit. The parts of Bytes are null where only the
// sum is known. Owner is the name of the owner of most bytes in it, Owners
// how many there are.
type Group struct {
	Key           *string `json:"key"`
	Name          string  `json:"name"`
	Owner         *string `json:"owner"`
	Owners        int     `json:"owners"`
	Sockets       int64   `json:"sockets"`
	Bytes         int64   `json:"bytes"`
	ReceiveBytes  *int64  `json:"receive_bytes"`
	SendBytes     *int64  `json:"send_bytes"`
	ReservedBytes *int64  `json:"reserved_bytes"`
	Classes       Classes `json:"classes"`
}

// TruncatedGroups counts the groups that a limit cut off, and their bytes.
type TruncatedGroups struct {
	Groups int   `json:"groups"`
	Bytes  int64 `json:"bytes"`
}

// Keep keeps the n biggest groups; n <= 0 keeps all.
func (g *Groups) Keep(n int) {
	if n <= 0 || len(g.Groups) <= n {
		return
	}
	for _, cut := range g.Groups[n:] {
		g.Truncated.Groups++
		g.Truncated.Bytes += cut.Bytes
	}
	g.Groups = g.Groups[:n:n]
}

// CollectGroups sums a reading by something other than owner. Processes,
// namespaces and remote addresses divide owners, so those sockets are
// streamed from src; the others are sums over the reading's owners.
func CollectGroups(ctx context.Context, m Meta, r *reading.Reading, src streamer, by By) (*Groups, error) {
	g := grouping{groups: make(map[string]*group)}
	var err error
	switch by {
	case ByProcess, ByNetns, ByRemote:
		index := OwnerIndex(r)
		every := func(*reading.Socket) bool { return true }
		err = src.Sockets(ctx, every, func(s *reading.Socket) error {
			key, name := socketGroup(by, s)
			g.addSocket(key, name, s, index[s.Owner])
			return nil
		})
	case ByUnit, ByContainer, ByPod, ByCgroup:
		for i := range r.Owners {
			key, name := ownerGroup(by, &r.Owners[i])
			g.addOwner(key, name, &r.Owners[i])
		}
	case ByClass:
		g.addClasses(&r.Ledger.Classes)
	case ByOwner:
		return nil, fmt.Errorf("group by owner: the owners themselves are that document")
	default:
		_, err = ParseBy(string(by))
	}
	if err != nil {
		return nil, err
	}
	h := m.header(r)
	return &Groups{
		Header: h,
		Memory: memoryFrom(&r.Sample, r.Level, r.Trend, h.Stale),
		Ledger: ledgerFrom(r),
		By:     by,
		Groups: g.sorted(),
		Gaps:   gapsFrom(r.Sample.Gaps, r.Gaps),
	}, nil
}

// socketGroup is the group of one socket; key "" for none.
func socketGroup(by By, s *reading.Socket) (key, name string) {
	switch by {
	case ByProcess:
		if s.Holder == nil {
			return "", "(no process)"
		}
		return fmt.Sprintf("%d/%d", s.Holder.PID, s.Holder.StartTime), fmt.Sprintf("%s[%d]", s.Holder.Command, s.Holder.PID)
	case ByNetns:
		key = fmt.Sprintf("%d", s.Netns.Inode)
		return key, key
	default: // ByRemote
		if a := s.Remote.Addr(); a.IsValid() && !a.IsUnspecified() {
			key = a.Unmap().WithZone("").String()
			return key, key
		}
		return "", "(not connected)"
	}
}

// ownerGroup is the group of an owner; key "" for none.
func ownerGroup(by By, o *reading.Owner) (key, name string) {
	switch by {
	case ByUnit:
		if o.Unit == "" {
			return "", "(no unit)"
		}
		if o.Manager != "" && o.Manager != "system" {
			return o.Manager + "/" + o.Unit, o.Unit + " (" + o.Manager + ")"
		}
		return o.Manager + "/" + o.Unit, o.Unit
	case ByContainer:
		if o.Container == nil {
			return "", "(no container)"
		}
		return o.Container.ID, cmp.Or(o.Container.Name, o.Container.ID)
	case ByPod:
		if o.Pod == nil {
			return "", "(no pod)"
		}
		if o.Pod.Name != "" {
			return o.Pod.UID, o.Pod.Namespace + "/" + o.Pod.Name
		}
		return o.Pod.UID, o.Pod.UID
	default: // ByCgroup
		if o.Cgroup == "" {
			return "", "(no cgroup)"
		}
		return o.Cgroup, o.Cgroup
	}
}

type grouping struct{ groups map[string]*group }

type group struct {
	Group
	byOwner map[string]int64 // bytes by owner name
}

// at finds or makes a group. A group without key is apart from the one that
// overflow goes to.
func (g *grouping) at(key, name string) *group {
	found := g.groups[key]
	if found == nil && key != "" && len(g.groups) >= MaxGroups {
		key, name = "\x00other", "(other)"
		found = g.groups[key]
	}
	if found == nil {
		found = &group{Group: Group{Name: name}, byOwner: make(map[string]int64)}
		if key != "\x00other" {
			found.Key = known(key)
		}
		g.groups[key] = found
	}
	return found
}

func (g *grouping) addSocket(key, name string, s *reading.Socket, owner *reading.Owner) {
	to := g.at(key, name)
	bytes := s.Mem.Bytes()
	to.Sockets++
	to.Bytes += bytes
	to.parts(int64(s.Mem.RmemAlloc), int64(s.Mem.WmemQueued), int64(s.Mem.FwdAlloc))
	to.Classes.at(s.Class).Add(1, bytes)
	if owner != nil {
		to.byOwner[owner.Name] += bytes
	} else {
		to.byOwner[s.Owner] += bytes
	}
}

func (g *grouping) addOwner(key, name string, o *reading.Owner) {
	to := g.at(key, name)
	to.Sockets += o.Sum.Sockets
	to.Bytes += o.Sum.Bytes
	to.parts(o.Receive, o.Send, o.Reserved)
	for class, t := range o.Classes {
		to.Classes.at(reading.Class(class)).Add(t.Sockets, t.Bytes)
	}
	to.byOwner[o.Name] += o.Sum.Bytes
}

// addClasses makes one group of each class, also of those without a socket:
// the ledger knows their sums but not the parts.
func (g *grouping) addClasses(classes *[reading.NumClasses]reading.Tally) {
	for class, t := range classes {
		class := reading.Class(class)
		to := g.at(class.String(), class.String())
		to.Sockets, to.Bytes = t.Sockets, t.Bytes
		*to.Classes.at(class) = t
	}
}

func (g *group) parts(receive, send, reserved int64) {
	if g.ReceiveBytes == nil {
		g.ReceiveBytes, g.SendBytes, g.ReservedBytes = new(int64), new(int64), new(int64)
	}
	*g.ReceiveBytes += receive
	*g.SendBytes += send
	*g.ReservedBytes += reserved
}

func (g *grouping) sorted() []Group {
	out := make([]Group, 0, len(g.groups))
	for _, in := range g.groups {
		in.Owners = len(in.byOwner)
		best := int64(0)
		for name, bytes := range in.byOwner {
			if in.Owner == nil || bytes > best || bytes == best && name < *in.Owner {
				in.Owner, best = &name, bytes
			}
		}
		out = append(out, in.Group)
	}
	slices.SortFunc(out, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name), comparePointers(a.Key, b.Key))
	})
	return out
}

func comparePointers(a, b *string) int {
	if a == nil || b == nil {
		return 0
	}
	return cmp.Compare(*a, *b)
}
