package owner

import (
	"cmp"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// UnresolvedKey is the key of the owner that stands for nobody known.
const UnresolvedKey = "unresolved"

const maxPeers = 5

// owners turns the running sums into owners, biggest first.
func (a *attribution) owners() []reading.Owner {
	holders := a.holdersByOwner()
	out := make([]reading.Owner, 0, len(a.accs))
	for ref := range a.accs {
		o := &a.accs[ref]
		if o.Sum.Sockets == 0 {
			continue
		}
		if ref == 0 {
			o.Owner.Key, o.Owner.Name, o.Owner.Kind = UnresolvedKey, UnresolvedKey, reading.KindUnresolved
		} else {
			o.Owner = identityWithSums(a.b.Get(Ref(ref)), &o.Owner)
		}
		a.fillHolders(o, holders[Ref(ref)])
		for _, ns := range o.ns {
			if int(ns) < len(a.in.Namespaces) {
				o.Netns = append(o.Netns, a.in.Namespaces[ns])
			}
		}
		stalled, young := o.stalled, o.young
		o.Stalled, o.Young = &stalled, &young
		recv, send := o.recv, o.send
		o.StalledReceive, o.StalledSend = &recv, &send
		o.Peers = peersOf(o.peers)
		out = append(out, o.Owner)
	}
	slices.SortFunc(out, func(x, y reading.Owner) int {
		return cmp.Or(-cmp.Compare(x.Sum.Bytes, y.Sum.Bytes), cmp.Compare(x.Key, y.Key))
	})
	return out
}

// identityWithSums takes who from the book and how much from the pass.
func identityWithSums(id, sums *reading.Owner) reading.Owner {
	o := *id
	o.Shared = sums.Shared
	o.Sum, o.Receive, o.Send, o.Reserved = sums.Sum, sums.Receive, sums.Send, sums.Reserved
	o.Classes, o.Evidence, o.States = sums.Classes, sums.Evidence, sums.States
	o.Unread = sums.Unread
	return o
}

func (a *attribution) holdersByOwner() map[Ref][]ProcRef {
	out := map[Ref][]ProcRef{}
	for i, p := range a.procs {
		if p.holds {
			ref := a.in.Procs[i].Owner
			out[ref] = append(out[ref], ProcRef(i+1))
		}
	}
	return out
}

// fillHolders lists who holds the owner's sockets, the holder of most bytes
// first; it also speaks for the owner's command and user.
func (a *attribution) fillHolders(o *acc, own []ProcRef) {
	procs := append(own, o.foreign...)
	slices.SortFunc(procs, func(p, q ProcRef) int {
		return cmp.Or(-cmp.Compare(a.procs[p-1].bytes, a.procs[q-1].bytes),
			cmp.Compare(a.in.Procs[p-1].PID, a.in.Procs[q-1].PID))
	})
	o.HolderCount = len(procs)
	for _, p := range procs[:min(len(procs), reading.MaxHolders)] {
		o.Holders = append(o.Holders, a.in.Procs[p-1].Holder)
	}
	if len(own) > 0 {
		o.Command, o.UID = o.Holders[0].Command, a.in.Procs[procs[0]-1].UID
	}
}

func peersOf(m map[peerKey]reading.Tally) []reading.Peer {
	peers := make([]reading.Peer, 0, len(m))
	for k, t := range m {
		peers = append(peers, reading.Peer{Owner: k.owner, Address: k.address, Tally: t})
	}
	slices.SortFunc(peers, func(x, y reading.Peer) int {
		return cmp.Or(-cmp.Compare(x.Bytes, y.Bytes), cmp.Compare(x.Owner, y.Owner), cmp.Compare(x.Address, y.Address))
	})
	return peers[:min(len(peers), maxPeers)]
}
