package remediate

import (
	"encoding/json"
	"time"

	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

// The contract's values as messages: the half that a plugin needs. Package
// runner has the other.

var touchesToProto = map[Touches]proto.Touches{
	TouchesNothing: proto.Touches_TOUCHES_NOTHING,
	TouchesHost:    proto.Touches_TOUCHES_HOST,
	TouchesOwner:   proto.Touches_TOUCHES_OWNER,
}

var resultToProto = map[Result]proto.Result{
	Done:        proto.Result_RESULT_DONE,
	Refused:     proto.Result_RESULT_REFUSED,
	Failed:      proto.Result_RESULT_FAILED,
	TimedOut:    proto.Result_RESULT_TIMED_OUT,
	DryRun:      proto.Result_RESULT_DRY_RUN,
	Delivered:   proto.Result_RESULT_DELIVERED,
	Undelivered: proto.Result_RESULT_UNDELIVERED,
}

func descriptionToProto(d Description) *proto.Description {
	out := &proto.Description{
		Name: clip(d.Name, MaxCodeBytes), Version: clip(d.Version, MaxCodeBytes), About: clip(d.About, MaxTextBytes),
		Touches: touchesToProto[d.Touches], Capabilities: d.Capabilities,
		Evidence: d.Evidence, EvidenceShare: d.EvidenceShare,
		Connections: d.Connections, NeedsSockets: d.NeedsSockets, Lease: d.Lease, CanUndo: d.CanUndo,
	}
	for _, s := range d.Settings {
		out.Settings = append(out.Settings, &proto.Setting{
			Name: s.Name, Type: s.Type, Required: s.Required,
			Default: clip(s.Default, MaxTextBytes), About: clip(s.About, MaxTextBytes),
		})
	}
	return out
}

func problemsToProto(problems []Problem) *proto.ValidateResponse {
	out := &proto.ValidateResponse{}
	for _, p := range problems[:min(len(problems), MaxProblems)] {
		out.Problems = append(out.Problems, &proto.Problem{
			Setting: clip(p.Setting, MaxTextBytes), Message: clip(p.Message, MaxTextBytes),
		})
	}
	return out
}

func responseToProto(r *Response) *proto.Response {
	out := &proto.Response{
		Result: resultToProto[r.Result], Code: clip(r.Code, MaxCodeBytes), Message: clip(r.Message, MaxMessageBytes),
		Predicted: r.Predicted, UndoJson: string(r.Undo), RetryJson: string(r.Retry),
	}
	for _, c := range r.Changes[:min(len(r.Changes), MaxChanges)] {
		out.Changes = append(out.Changes, &proto.Change{
			What: clip(c.What, MaxTextBytes), Before: clip(c.Before, MaxTextBytes), After: clip(c.After, MaxTextBytes),
		})
	}
	return out
}

func settingsFromProto(s string) Settings {
	if s == "" {
		return Settings("{}")
	}
	return Settings(s)
}

func rawFromProto(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}

// timeFromProto keeps "no deadline" the zero time.
func timeFromProto(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func undoFromProto(r *proto.UndoRequest) *UndoRequest {
	return &UndoRequest{
		ActionID: r.GetActionId(), Undo: rawFromProto(r.GetUndoJson()), Settings: settingsFromProto(r.GetSettingsJson()),
		Deadline: timeFromProto(r.GetDeadlineUnixMs()), Host: hostFromProto(r.GetHost()),
	}
}

func requestFromProto(r *proto.RunRequest) *Request {
	out := &Request{
		ActionID: r.GetActionId(), IncidentID: r.GetIncidentId(), Rule: r.GetRule(), About: r.GetAbout(),
		Key: r.GetKey(), Step: int(r.GetStep()), Hostname: r.GetHostname(), BootID: r.GetBootId(),
		Settings: settingsFromProto(r.GetSettingsJson()), Deadline: timeFromProto(r.GetDeadlineUnixMs()), DryRun: r.GetDryRun(),
		Host: hostFromProto(r.GetHost()), SocketsLeftOut: r.GetSocketsLeftOut(),
		Text: r.GetText(), Event: r.GetEvent(), Severity: r.GetSeverity(), Plan: rawFromProto(r.GetPlanJson()),
	}
	if r.GetOwner() != nil {
		o := ownerFromProto(r.GetOwner())
		out.Owner = &o
	}
	for _, o := range r.GetRunnersUp() {
		out.RunnersUp = append(out.RunnersUp, ownerFromProto(o))
	}
	for _, s := range r.GetSockets() {
		out.Sockets = append(out.Sockets, socketFromProto(s))
	}
	return out
}

func hostFromProto(h *proto.Host) Host {
	return Host{
		PageSize: int(h.GetPageSize()), UsedPages: h.GetUsedPages(),
		MinPages: h.GetMinPages(), PressurePages: h.GetPressurePages(), MaxPages: h.GetMaxPages(),
		BaseMin: h.GetBaseMinPages(), BasePressure: h.GetBasePressurePages(), BaseMax: h.GetBaseMaxPages(),
		Level: h.GetLevel(), Fill: h.GetFill(), Verdict: h.GetVerdict(), EtaSeconds: h.GetEtaSeconds(), Coverage: h.GetCoverage(),
		Orphans: h.GetOrphans(), MaxOrphans: h.GetMaxOrphans(), OrphansVanish: h.GetOrphansVanish(), ReserveBytes: h.GetReserveBytes(),
	}
}

func ownerFromProto(o *proto.Owner) Owner {
	out := Owner{
		Key: o.GetKey(), Name: o.GetName(), Kind: o.GetKind(), Unit: o.GetUnit(), Manager: o.GetManager(),
		UnitVerified: o.GetUnitVerified(), InvocationID: o.GetInvocationId(), Cgroup: o.GetCgroup(), UID: o.Uid,
		Command: o.GetCommand(), Container: o.GetContainer(), Pod: o.GetPod(), Verdict: o.GetVerdict(),
		Reasons: o.GetReasons(), Culprit: o.GetCulprit(), Bytes: o.GetBytes(), Share: o.GetShare(),
		Protected: o.GetProtected(), Shared: o.GetShared(),
	}
	for _, h := range o.GetHolders() {
		out.Holders = append(out.Holders, Holder{PID: int(h.GetPid()), StartTime: h.GetStartTime(), Command: h.GetCommand()})
	}
	for class, t := range o.GetClasses() {
		if out.Classes == nil {
			out.Classes = make(map[string]Tally, len(o.GetClasses()))
		}
		out.Classes[class] = Tally{Sockets: t.GetSockets(), Bytes: t.GetBytes()}
	}
	return out
}

func socketFromProto(s *proto.Socket) Socket {
	return Socket{
		NetnsInode: s.GetNetnsInode(), NetnsCookie: s.GetNetnsCookie(), Cookie: s.GetCookie(), MPTCP: s.GetMptcp(),
		State: s.GetState(), Class: s.GetClass(), Local: s.GetLocal(), Remote: s.GetRemote(),
		Interface: s.GetInterface(), Inode: s.GetInode(), CgroupID: s.GetCgroupId(),
		Receive: s.GetReceive(), Send: s.GetSend(), Bytes: s.GetBytes(),
		HolderPID: int(s.GetHolderPid()), NetnsPID: int(s.GetNetnsPid()),
	}
}
