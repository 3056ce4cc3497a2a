package policy

import "github.com/tcpmemd/tcpmemd/daemon/reading"

// ownerVariables are known in rules that are not for the host.
var ownerVariables = []Variable{
	{
		Name: "owner.key", Type: TypeString, Cadence: EachReading, text: nameOfOwner(func(o *reading.Owner) string { return o.Key }),
		Doc: `Who it is, e.g. "system/task-queue.service"`,
	},
	{
		Name: "owner.name", Type: TypeString, Cadence: EachReading, text: nameOfOwner(func(o *reading.Owner) string { return o.Name }),
		Doc: "The name a person knows; a process or container may have chosen it",
	},
	{
		Name: "owner.kind", Type: TypeString, Values: kinds, Cadence: EachReading, text: nameOfOwner(func(o *reading.Owner) string { return string(o.Kind) }),
		Doc: "What it is",
	},
	{
		Name: "owner.unit", Type: TypeString, Cadence: EachReading, text: nameOfOwner(func(o *reading.Owner) string { return o.Unit }),
		Doc: `Its unit, "" where it has none`,
	},
	{
		Name: "owner.manager", Type: TypeString, Cadence: EachReading, text: nameOfOwner(func(o *reading.Owner) string { return o.Manager }),
		Doc: `"system", "user@UID", or "" without a unit`,
	},
	{
		Name: "owner.command", Type: TypeString, Cadence: EachReading, text: nameOfOwner(func(o *reading.Owner) string { return o.Command }),
		Doc: "Of the process that holds most, chosen by that process",
	},
	{
		Name: "owner.container", Type: TypeString, Cadence: EachReading, text: nameOfOwner(containerOf),
		Doc: `Name of its container, else the id, else ""`,
	},
	{
		Name: "owner.pod", Type: TypeString, Cadence: EachReading, text: nameOfOwner(podOf),
		Doc: `Its pod as "namespace/name", else the uid, else ""`,
	},
	{
		Name: "owner.protected", Type: TypeBool, Cadence: EachReading, truth: flagOfOwner(func(o *reading.Owner) bool { return o.Protected != "" }),
		Doc: "No action touches it",
	},
	{
		Name: "owner.shared", Type: TypeBool, Cadence: EachReading, truth: flagOfOwner(func(o *reading.Owner) bool { return o.Shared }),
		Doc: "Processes of several units hold one of its sockets",
	},
	{
		Name: "owner.bytes", Type: TypeBytes, Cadence: EachReading, number: ofOwner(func(o *reading.Owner) float64 { return float64(o.Sum.Bytes) }),
		Doc: "TCP memory that it holds",
	},
	{
		Name: "owner.share", Type: TypeShare, Cadence: EachReading, number: ownerShare,
		Doc: "bytes / the bytes of all sockets seen",
	},
	{
		Name: "owner.rank", Type: TypeNumber, Unit: "1 holds the most", Cadence: EachReading, number: func(v *Vars) (float64, bool) { return float64(v.rank), v.rank > 0 },
		Doc: "Its place among all owners, or among all pods or namespaces",
	},
	{
		Name: "owner.sockets", Type: TypeNumber, Unit: "sockets", Cadence: EachReading, number: ofOwner(func(o *reading.Owner) float64 { return float64(o.Sum.Sockets) }),
		Doc: "How many it has",
	},
	{Name: "owner.growth", Type: TypeBytes, Unit: "per minute", Cadence: EachReading, Nullable: true, number: func(v *Vars) (float64, bool) {
		if v.owner == nil {
			return 0, false
		}
		return optional(v.owner.GrowthPerMinute)
	}, Doc: "How fast its memory grows; negative where it falls"},
	{Name: "owner.verdict", Type: TypeString, Values: verdicts, Cadence: EachReading, Nullable: true, text: func(v *Vars) (string, bool) {
		if v.owner == nil {
			return "", false
		}
		return verdictOf(v.owner.Verdict, v.owner.GrowthPerMinute)
	}, Doc: "What its growth looks like"},
	{
		Name: "owner.receive_bytes", Type: TypeBytes, Cadence: EachReading, number: ofOwner(func(o *reading.Owner) float64 { return float64(o.Receive) }),
		Doc: "In receive queues",
	},
	{
		Name: "owner.send_bytes", Type: TypeBytes, Cadence: EachReading, number: ofOwner(func(o *reading.Owner) float64 { return float64(o.Send) }),
		Doc: "In send queues",
	},
	{
		Name: "owner.send_share", Type: TypeShare, Cadence: EachReading, number: ofOwner(func(o *reading.Owner) float64 { return part(o.Send, o.Sum.Bytes) }),
		Doc: "send_bytes / bytes",
	},
	{
		Name: "owner.unread_bytes", Type: TypeBytes, Cadence: EachReading, number: ofOwner(func(o *reading.Owner) float64 { return float64(o.Unread) }),
		Doc: "Received, and it has not read it",
	},
	{Name: "owner.stalled_bytes", Type: TypeBytes, Cadence: EachReading, Nullable: true, number: func(v *Vars) (float64, bool) {
		if v.owner == nil {
			return 0, false
		}
		return optional(v.owner.Stalled)
	}, Doc: "On sockets whose queues have stood still for 30 s or longer"},
	{
		Name: "owner.orphan_bytes", Type: TypeBytes, Cadence: EachReading, number: ofOwner(func(o *reading.Owner) float64 { return float64(o.Classes[reading.Orphan].Bytes) }),
		Doc: "On orphans that it left behind",
	},
	{
		Name: "owner.hidden_bytes", Type: TypeBytes, Cadence: EachReading, number: ofOwner(func(o *reading.Owner) float64 { return float64(o.Classes[reading.Hidden].Bytes) }),
		Doc: "On hidden sockets",
	},
	{
		Name: "owner.unaccepted_bytes", Type: TypeBytes, Cadence: EachReading, number: ofOwner(func(o *reading.Owner) float64 { return float64(o.Classes[reading.Unaccepted].Bytes) }),
		Doc: "On connections that it has not accepted",
	},
	{
		Name: "owner.close_wait", Type: TypeNumber, Unit: "sockets", Cadence: EachReading, number: ofOwner(func(o *reading.Owner) float64 { return float64(o.States[reading.CloseWait]) }),
		Doc: "In CLOSE_WAIT: the peer has closed and the owner has not",
	},
	{
		Name: "owner.top_remote_share", Type: TypeShare, Cadence: EachReading, number: ofOwner(topRemoteShare),
		Doc: "Share of send_bytes that waits for one peer, the one with the most",
	},
	{
		Name: "owner.evidence_fd_share", Type: TypeShare, Cadence: EachReading, number: ofOwner(func(o *reading.Owner) float64 { return part(o.Evidence[reading.FD].Bytes, o.Sum.Bytes) }),
		Doc: "Share of bytes on sockets that a process of it has open now",
	},
}

func containerOf(o *reading.Owner) string {
	switch {
	case o.Container == nil:
		return ""
	case o.Container.Name == "":
		return o.Container.ID
	}
	return o.Container.Name
}

func podOf(o *reading.Owner) string {
	switch {
	case o.Pod == nil:
		return ""
	case o.Pod.Name == "":
		return o.Pod.UID
	}
	return o.Pod.Namespace + "/" + o.Pod.Name
}

func ownerShare(v *Vars) (float64, bool) {
	if v.owner == nil || v.facts.Reading == nil {
		return 0, false
	}
	return part(v.owner.Sum.Bytes, v.facts.Reading.Ledger.Seen), true
}

// topRemoteShare rests on the queues of the largest sockets: peers of small
// ones are not looked up.
func topRemoteShare(o *reading.Owner) float64 {
	if len(o.Peers) == 0 {
		return 0
	}
	return min(1, part(o.Peers[0].Bytes, o.Send))
}
