package policy

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// HostKey is the key of a rule about the host.
const HostKey = "host"

// subject is one key of a rule in one reading.
type subject struct {
	key string
	// about is who the condition is asked of: an owner, or several summed up;
	// nil for the host.
	about *reading.Owner
	// target is who an action would touch; nil where that is the host, or
	// nobody.
	target *reading.Owner
	rank   int
	bytes  int64
}

// subjects lists whom a rule is about, the most bytes first.
func (r *Rule) subjects(f *Facts) []subject {
	if r.ForEach == Host {
		s := subject{key: HostKey}
		if r.TargetTop && f.Reading != nil && len(f.Reading.Owners) > 0 {
			s.target = &f.Reading.Owners[0]
			s.bytes = s.target.Sum.Bytes
		}
		return []subject{s}
	}
	if f.Reading == nil {
		return nil
	}
	var list []subject
	switch r.ForEach {
	case Pod:
		list = groups(f.Reading, func(o *reading.Owner, yield func(key, name string)) {
			if o.Pod != nil {
				yield("pod/"+o.Pod.UID, o.Pod.Namespace+"/"+o.Pod.Name)
			}
		})
	case Netns:
		list = namespaces(f.Reading)
	default:
		for i := range f.Reading.Owners {
			if o := &f.Reading.Owners[i]; r.ForEach.has(o) {
				list = append(list, subject{key: o.Key, about: o, target: o, rank: i + 1, bytes: o.Sum.Bytes})
			}
		}
	}
	if r.ForEach == Pod || r.ForEach == Netns {
		for i := range list {
			list[i].rank = i + 1
			if !r.TargetTop {
				list[i].target = nil
			}
		}
	}
	return list
}

// has says whether an owner is one of those that the scope is about.
func (s Scope) has(o *reading.Owner) bool {
	switch s {
	case EachOwner:
		return true
	case Unit:
		return o.Unit != "" && o.Container == nil && (o.Kind == reading.KindService || o.Kind == reading.KindUserService ||
			o.Kind == reading.KindScope || o.Kind == reading.KindSession)
	case Container:
		return o.Container != nil
	case Process:
		return o.Kind == reading.KindProcess
	}
	return false
}

// groups sums owners up by the keys that of gives them. The sums are good for
// conditions only; the target is the biggest member.
func groups(r *reading.Reading, of func(*reading.Owner, func(key, name string))) []subject {
	byKey := make(map[string]int)
	var list []subject
	for i := range r.Owners {
		o := &r.Owners[i]
		of(o, func(key, name string) {
			at, ok := byKey[key]
			if !ok {
				at = len(list)
				byKey[key] = at
				sum := *o
				sum.Key, sum.Name = key, name
				list = append(list, subject{key: key, about: &sum, target: o, bytes: o.Sum.Bytes})
				return
			}
			add(list[at].about, o)
			list[at].bytes += o.Sum.Bytes
		})
	}
	slices.SortFunc(list, func(a, b subject) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.key, b.key))
	})
	return list
}

// add adds an owner to a sum, whose verdict stays that of the biggest.
func add(sum, o *reading.Owner) {
	sum.Sum.Add(o.Sum.Sockets, o.Sum.Bytes)
	sum.Receive += o.Receive
	sum.Send += o.Send
	sum.Reserved += o.Reserved
	sum.Unread += o.Unread
	for i := range sum.Classes {
		sum.Classes[i].Add(o.Classes[i].Sockets, o.Classes[i].Bytes)
	}
	for i := range sum.Evidence {
		sum.Evidence[i].Add(o.Evidence[i].Sockets, o.Evidence[i].Bytes)
	}
	for i := range sum.States {
		sum.States[i] += o.States[i]
	}
	switch {
	case o.GrowthPerMinute == nil:
	case sum.GrowthPerMinute == nil:
		sum.GrowthPerMinute = o.GrowthPerMinute
	default:
		both := *sum.GrowthPerMinute + *o.GrowthPerMinute
		sum.GrowthPerMinute = &both
	}
}

// namespaces groups the owners that hold sockets of one network namespace only
// by it. What an owner of several holds in each is not known.
func namespaces(r *reading.Reading) []subject {
	return groups(r, func(o *reading.Owner, yield func(key, name string)) {
		if len(o.Netns) == 1 {
			n := o.Netns[0]
			yield("netns/"+strconv.FormatUint(n.Cookie, 10), "netns "+strconv.FormatUint(uint64(n.Inode), 10))
		}
	})
}

// Suspect describes an owner as a decision saw it.
func Suspect(r *reading.Reading, o *reading.Owner) record.Suspect {
	s := record.Suspect{
		Key: o.Key, Name: o.Name, Kind: o.Kind, Unit: o.Unit, Manager: o.Manager, UnitVerified: o.UnitVerified,
		InvocationID: o.InvocationID, Container: o.Container, Pod: o.Pod, UID: o.UID, Command: o.Command,
		Holders: o.Holders[:min(len(o.Holders), maxHolders)],
		Sockets: o.Sum.Sockets, Bytes: o.Sum.Bytes, Growth: o.GrowthPerMinute, Verdict: o.Verdict,
		Protected: o.Protected, Shared: o.Shared,
		Classes: make(map[string]int64), Evidence: make(map[string]int64),
	}
	if s.Holders == nil {
		s.Holders = []reading.Holder{}
	}
	if r != nil {
		s.Share = float64(o.Sum.Bytes) / float64(max(1, r.Ledger.Seen))
	}
	for c, t := range o.Classes {
		if t.Sockets != 0 {
			s.Classes[reading.Class(c).String()] = t.Bytes
		}
	}
	for e, t := range o.Evidence {
		if t.Sockets != 0 {
			s.Evidence[reading.Evidence(e).String()] = t.Bytes
		}
	}
	return s
}

// maxHolders bounds the processes that a record names of an owner.
const maxHolders = 4
