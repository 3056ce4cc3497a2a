package wire

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

// Merge lays a step's settings over those of the plugin's own table.
func Merge(own, step remediate.Settings) (string, error) {
	all := make(map[string]json.RawMessage)
	for _, layer := range []remediate.Settings{own, step} {
		if len(layer) == 0 {
			continue
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(layer, &keys); err != nil {
			return "", fmt.Errorf("read settings: %w", err)
		}
		maps.Copy(all, keys)
	}
	text, err := json.Marshal(all)
	return string(text), err
}

// RunRequest is r with other settings and another deadline.
func RunRequest(r *remediate.Request, settings string, deadline time.Time) *proto.RunRequest {
	out := &proto.RunRequest{
		ActionId: r.ActionID, IncidentId: r.IncidentID, Rule: r.Rule, About: r.About, Key: r.Key,
		Step: int32(min(r.Step, math.MaxInt32)), Hostname: r.Hostname, BootId: r.BootID, SettingsJson: settings,
		DeadlineUnixMs: deadline.UnixMilli(), DryRun: r.DryRun, Host: hostToProto(r.Host),
		SocketsLeftOut: r.SocketsLeftOut, Text: r.Text, Event: r.Event, Severity: r.Severity, PlanJson: string(r.Plan),
	}
	if r.Owner != nil {
		out.Owner = ownerToProto(r.Owner)
	}
	for i := range r.RunnersUp {
		out.RunnersUp = append(out.RunnersUp, ownerToProto(&r.RunnersUp[i]))
	}
	for i := range r.Sockets {
		out.Sockets = append(out.Sockets, socketToProto(&r.Sockets[i]))
	}
	return out
}

// UndoRequest is r with other settings and another deadline.
func UndoRequest(r *remediate.UndoRequest, settings string, deadline time.Time) *proto.UndoRequest {
	return &proto.UndoRequest{
		ActionId: r.ActionID, UndoJson: string(r.Undo), SettingsJson: settings,
		DeadlineUnixMs: deadline.UnixMilli(), Host: hostToProto(r.Host),
	}
}

func hostToProto(h remediate.Host) *proto.Host {
	return &proto.Host{
		PageSize: int64(h.PageSize), UsedPages: h.UsedPages,
		MinPages: h.MinPages, PressurePages: h.PressurePages, MaxPages: h.MaxPages,
		BaseMinPages: h.BaseMin, BasePressurePages: h.BasePressure, BaseMaxPages: h.BaseMax,
		Level: h.Level, Fill: h.Fill, Verdict: h.Verdict, EtaSeconds: h.EtaSeconds, Coverage: h.Coverage,
		Orphans: h.Orphans, MaxOrphans: h.MaxOrphans, OrphansVanish: h.OrphansVanish, ReserveBytes: h.ReserveBytes,
	}
}

func ownerToProto(o *remediate.Owner) *proto.Owner {
	out := &proto.Owner{
		Key: o.Key, Name: o.Name, Kind: o.Kind, Unit: o.Unit, Manager: o.Manager, UnitVerified: o.UnitVerified,
		InvocationId: o.InvocationID, Cgroup: o.Cgroup, Uid: o.UID, Command: o.Command, Container: o.Container, Pod: o.Pod,
		Verdict: o.Verdict, Reasons: o.Reasons, Culprit: o.Culprit, Bytes: o.Bytes, Share: o.Share,
		Protected: o.Protected, Shared: o.Shared, Classes: make(map[string]*proto.Tally, len(o.Classes)),
	}
	for _, h := range o.Holders {
		out.Holders = append(out.Holders, &proto.Holder{Pid: int64(h.PID), StartTime: h.StartTime, Command: h.Command})
	}
	for class, t := range o.Classes {
		out.Classes[class] = &proto.Tally{Sockets: t.Sockets, Bytes: t.Bytes}
	}
	return out
}

func socketToProto(s *remediate.Socket) *proto.Socket {
	return &proto.Socket{
		NetnsInode: s.NetnsInode, NetnsCookie: s.NetnsCookie, Cookie: s.Cookie, Mptcp: s.MPTCP,
		State: s.State, Class: s.Class, Local: s.Local, Remote: s.Remote,
		Interface: s.Interface, Inode: s.Inode, CgroupId: s.CgroupID,
		Receive: s.Receive, Send: s.Send, Bytes: s.Bytes,
		HolderPid: int64(s.HolderPID), NetnsPid: int64(s.NetnsPID),
	}
}
