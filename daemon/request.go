package daemon

import (
	"slices"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// request tells an action what it needs to know.
func (j *judge) request(a *action, target *policy.Target) *remediate.Request {
	d := &a.dec
	r := &remediate.Request{
		ActionID: a.id, IncidentID: a.incident, Rule: d.Rule.Name, About: d.Rule.About, Key: d.Key(), Step: d.Record.Step,
		Hostname: j.cfg.Hostname, BootID: a.began.BootID, Settings: remediate.Settings(j.settings(d.Step)),
		Host: j.hostOf(), Sockets: socketsOf(a.sockets, &d.Info), SocketsLeftOut: a.leftOut,
	}
	if target != nil && target.Owner != nil {
		r.Owner = j.ownerOf(target.Owner)
	}
	return r
}

// settings are the step's, with what the daemon adds for those who must know
// it: the protected units.
func (j *judge) settings(step *policy.Step) []byte {
	if step == nil || len(step.Settings) == 0 {
		return []byte("{}")
	}
	return step.Settings
}

// hostOf describes the pool as it is.
func (j *judge) hostOf() remediate.Host {
	s := &j.now.Sample
	base := j.lease.base(s.Mem)
	h := remediate.Host{
		PageSize: s.PageSize, UsedPages: int64(s.Used),
		MinPages: int64(s.Mem.Min), PressurePages: int64(s.Mem.Pressure), MaxPages: int64(s.Mem.Max),
		BaseMin: int64(base.Min), BasePressure: int64(base.Pressure), BaseMax: int64(base.Max),
		Level: j.now.Level.Level.String(), Fill: s.Fill(), EtaSeconds: -1,
		Orphans: s.Orphans, MaxOrphans: s.MaxOrphans, OrphansVanish: j.policy.OrphansVanish,
		ReserveBytes: s.ReserveMax.Bytes(s.PageSize),
	}
	if v := j.now.Trend.Verdict; v != nil {
		h.Verdict = string(v.Kind)
	}
	if eta := j.now.Trend.EtaMax; eta != nil {
		h.EtaSeconds = eta.Seconds()
	}
	if r := j.now.Reading; r != nil {
		h.Coverage = r.Ledger.Coverage
	}
	return h
}

// ownerOf describes an owner to an action.
func (j *judge) ownerOf(o *reading.Owner) *remediate.Owner {
	out := &remediate.Owner{
		Key: o.Key, Name: o.Name, Kind: string(o.Kind), Unit: o.Unit, Manager: o.Manager, UnitVerified: o.UnitVerified,
		InvocationID: o.InvocationID, Cgroup: o.Cgroup, UID: o.UID, Command: o.Command,
		Bytes: o.Sum.Bytes, Protected: o.Protected, Shared: o.Shared, Classes: make(map[string]remediate.Tally),
	}
	if r := j.now.Reading; r != nil {
		out.Share = float64(o.Sum.Bytes) / float64(max(1, r.Ledger.Seen))
	}
	if o.Container != nil {
		out.Container = o.Container.Name
		if out.Container == "" {
			out.Container = o.Container.ID
		}
	}
	if o.Pod != nil {
		out.Pod = strings.Trim(o.Pod.Namespace+"/"+o.Pod.Name, "/")
	}
	for _, h := range o.Holders {
		out.Holders = append(out.Holders, remediate.Holder{PID: h.PID, StartTime: h.StartTime, Command: h.Command})
	}
	if v := o.Verdict; v != nil {
		out.Verdict, out.Reasons, out.Culprit = string(v.Kind), v.Reasons, v.Culprit
	}
	for c, t := range o.Classes {
		if t.Sockets != 0 {
			out.Classes[reading.Class(c).String()] = remediate.Tally(t)
		}
	}
	return out
}

// socketsOf gives the sockets that an action may count on being the owner's:
// what only a control group or a namespace says is told and not acted on. One
// that ends connections has only those of the kinds that it may act on.
func socketsOf(sockets []reading.Socket, info *policy.ActionInfo) []remediate.Socket {
	sockets = slices.DeleteFunc(slices.Clone(sockets), func(s reading.Socket) bool {
		switch s.Evidence {
		case reading.FD:
			return false
		case reading.Listener, reading.ClosedBy, reading.LastSeen:
			return info.Connections && !slices.Contains(info.Evidence, s.Evidence.String())
		}
		return true
	})
	inside := make(map[uint32]int) // a process of each namespace
	for i := range sockets {
		if s := &sockets[i]; s.Holder != nil {
			inside[s.Netns.Inode] = s.Holder.PID
		}
	}
	list := make([]remediate.Socket, len(sockets))
	for i := range sockets {
		s := &sockets[i]
		list[i] = remediate.Socket{
			NetnsInode: s.Netns.Inode, NetnsCookie: s.Netns.Cookie, Cookie: uint64(s.Cookie), MPTCP: s.MPTCP,
			State: s.State.String(), Class: s.Class.String(), Local: reading.AddressText(s.Local), Remote: reading.AddressText(s.Remote),
			Interface: s.Interface, Inode: s.Inode, CgroupID: s.CgroupID,
			Receive: int64(s.Mem.RmemAlloc), Send: int64(s.Mem.WmemQueued), Bytes: s.Mem.Bytes(),
			NetnsPID: inside[s.Netns.Inode],
		}
		if s.Holder != nil {
			list[i].HolderPID = s.Holder.PID
		}
	}
	return list
}
