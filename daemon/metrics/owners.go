package metrics

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// who is what the labels of an owner's series say.
type who struct{ owner, kind, namespace, pod, container string }

// rest stands for all owners that are not told apart. No owner's kind is that.
var rest = who{owner: other, kind: other}

// group is the owners with the same labels: two processes of one command, a
// container that was started anew beside what the one before left.
type group struct {
	who
	bytes, sockets int64
	growth         int64 // per minute, over members whose growth is known
	members        int32
	growing        int32 // whose growth is known
	verdict        int8  // the gravest, from 1: its place in verdicts
}

func (g *group) labels() []string {
	return []string{g.owner, g.kind, g.namespace, g.pod, g.container}
}

func (g *group) isRest() bool { return g.who == rest }

// grouped gives the n biggest groups of owners, and last the rest, which is
// there also where it is empty: together they are always all that was seen.
func grouped(owners []reading.Owner, n int) []group {
	n = min(max(n, 0), MaxOwners)
	// By a hash of the labels, and the next number where two have the same one:
	// for thousands of owners that is a quarter of the garbage.
	seed := maphash.MakeSeed()
	index := make(map[uint64]int32, len(owners)+1)
	groups := make([]group, 0, len(owners)+1)
	at := func(w who) *group {
		for h := maphash.Comparable(seed, w); ; h++ {
			i, ok := index[h]
			switch {
			case !ok:
				index[h] = int32(len(groups))
				groups = append(groups, group{who: w})
				return &groups[len(groups)-1]
			case groups[i].who == w:
				return &groups[i]
			}
		}
	}
	at(rest)
	for i := range owners {
		o := &owners[i]
		at(whoOf(o)).take(o)
	}
	all := groups[0]
	groups = groups[1:]
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), a.compare(&b.who))
	})
	n = min(n, len(groups))
	for i := range groups[n:] {
		g := &groups[n+i]
		all.bytes += g.bytes
		all.sockets += g.sockets
	}
	return append(groups[:n:n], all)
}

func (g *group) take(o *reading.Owner) {
	g.members++
	g.bytes += o.Sum.Bytes
	g.sockets += o.Sum.Sockets
	if o.GrowthPerMinute != nil {
		g.growth += *o.GrowthPerMinute
		g.growing++
	}
	if o.Verdict != nil {
		v := int8(slices.Index(verdicts, o.Verdict.Kind) + 1)
		if v > 0 && (g.verdict == 0 || v < g.verdict) {
			g.verdict = v
		}
	}
}

func (w *who) compare(x *who) int {
	return cmp.Or(cmp.Compare(w.owner, x.owner), cmp.Compare(w.kind, x.kind), cmp.Compare(w.namespace, x.namespace),
		cmp.Compare(w.pod, x.pod), cmp.Compare(w.container, x.container))
}

// shortID is how many digits of a container's id stand for it.
const shortID = 12

// whoOf names an owner by what outlives its processes.
func whoOf(o *reading.Owner) who {
	w := who{kind: label(string(o.Kind))}
	switch {
	case o.Container != nil:
		name := o.Container.Name
		if name == "" {
			name = o.Container.Runtime + " " + o.Container.ID[:min(len(o.Container.ID), shortID)]
		}
		w.owner = label(name)
		w.container = w.owner
	case o.Unit != "":
		unit := steadyUnit(o.Unit)
		if o.Manager != "" && o.Manager != "system" {
			unit = o.Manager + "/" + unit
		}
		w.owner = label(unit)
	case strings.HasPrefix(o.Name, "/"): // a control group that no unit names
		w.owner = label(steadyGroup(o.Name))
	default:
		w.owner = label(steady(o.Name))
	}
	if p := o.Pod; p != nil {
		w.namespace, w.pod = optionalLabel(p.Namespace), optionalLabel(p.Name)
	}
	return w
}
