package wire

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	pb "google.golang.org/protobuf/proto"

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
//
// Sockets beyond what a request may hold are left out, and counted.
func RunRequest(r *remediate.Request, settings string, deadline time.Time) *proto.RunRequest {
	out := &proto.RunRequest{
		ActionId: valid(r.ActionID), IncidentId: valid(r.IncidentID), Rule: valid(r.Rule), About: valid(r.About), Key: valid(r.Key),
		Step: int32(min(r.Step, math.MaxInt32)), Hostname: valid(r.Hostname), BootId: valid(r.BootID), SettingsJson: valid(settings),
		DeadlineUnixMs: deadline.UnixMilli(), DryRun: r.DryRun, Host: hostToProto(r.Host),
		SocketsLeftOut: r.SocketsLeftOut, Text: valid(r.Text), Event: valid(r.Event), Severity: valid(r.Severity), PlanJson: valid(string(r.Plan)),
	}
	if r.Owner != nil {
		out.Owner = ownerToProto(r.Owner)
	}
	for i := range r.RunnersUp {
		out.RunnersUp = append(out.RunnersUp, ownerToProto(&r.RunnersUp[i]))
	}
	size := pb.Size(out)
	for i := range r.Sockets {
		m := socketToProto(&r.Sockets[i])
		if size += protowire.SizeTag(socketsField) + protowire.SizeBytes(pb.Size(m)); size > remediate.MaxRequestBytes {
			out.SocketsLeftOut += int64(len(r.Sockets) - i)
			break
		}
		out.Sockets = append(out.Sockets, m)
	}
	return out
}

// socketsField is the number of RunRequest.sockets.
const socketsField = 15

// valid makes a string one that a message can hold: what a process calls
// itself need not be UTF-8.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func validAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = valid(s)
	}
	return out
}

// UndoRequest is r with other settings and another deadline.
func UndoRequest(r *remediate.UndoRequest, settings string, deadline time.Time) *proto.UndoRequest {
	return &proto.UndoRequest{
		ActionId: valid(r.ActionID), UndoJson: valid(string(r.Undo)), SettingsJson: valid(settings),
		DeadlineUnixMs: deadline.UnixMilli(), Host: hostToProto(r.Host),
	}
}

func hostToProto(h remediate.Host) *proto.Host {
	return &proto.Host{
		PageSize: int64(h.PageSize), UsedPages: h.UsedPages,
		MinPages: h.MinPages, PressurePages: h.PressurePages, MaxPages: h.MaxPages,
		BaseMinPages: h.BaseMin, BasePressurePages: h.BasePressure, BaseMaxPages: h.BaseMax,
		Level: valid(h.Level), Fill: h.Fill, Verdict: valid(h.Verdict), EtaSeconds: h.EtaSeconds, Coverage: h.Coverage,
		Orphans: h.Orphans, MaxOrphans: h.MaxOrphans, OrphansVanish: h.OrphansVanish, ReserveBytes: h.ReserveBytes,
	}
}

func ownerToProto(o *remediate.Owner) *proto.Owner {
	out := &proto.Owner{
		Key: valid(o.Key), Name: valid(o.Name), Kind: valid(o.Kind), Unit: valid(o.Unit), Manager: valid(o.Manager), UnitVerified: o.UnitVerified,
		InvocationId: valid(o.InvocationID), Cgroup: valid(o.Cgroup), Uid: o.UID, Command: valid(o.Command), Container: valid(o.Container), Pod: valid(o.Pod),
		Verdict: valid(o.Verdict), Reasons: validAll(o.Reasons), Culprit: valid(o.Culprit), Bytes: o.Bytes, Share: o.Share,
		Protected: valid(o.Protected), Shared: o.Shared, Classes: make(map[string]*proto.Tally, len(o.Classes)),
	}
	for _, h := range o.Holders {
		out.Holders = append(out.Holders, &proto.Holder{Pid: int64(h.PID), StartTime: h.StartTime, Command: valid(h.Command)})
	}
	for class, t := range o.Classes {
		out.Classes[valid(class)] = &proto.Tally{Sockets: t.Sockets, Bytes: t.Bytes}
	}
	return out
}

func socketToProto(s *remediate.Socket) *proto.Socket {
	return &proto.Socket{
		NetnsInode: s.NetnsInode, NetnsCookie: s.NetnsCookie, Cookie: s.Cookie, Mptcp: s.MPTCP,
		State: valid(s.State), Class: valid(s.Class), Local: valid(s.Local), Remote: valid(s.Remote),
		Interface: s.Interface, Inode: s.Inode, CgroupId: s.CgroupID,
		Receive: s.Receive, Send: s.Send, Bytes: s.Bytes,
		HolderPid: int64(s.HolderPID), NetnsPid: int64(s.NetnsPID),
	}
}
