package top

import (
	"fmt"
	"strings"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

// ofOwner says all that matters of an owner: who it is, what is wrong with it,
// and what it holds.
func ofOwner(o *api.Owner, paint layout.Painter) []string {
	s := paint.Style(words.Owner(o), layout.Bold) + ": " + string(o.Kind)
	if o.Unit != nil && !o.UnitVerified {
		s += " (not confirmed by PID 1)"
	}
	if o.CgroupGone {
		s += ", its cgroup is gone"
	}
	var who []string
	for _, h := range o.Holders {
		who = append(who, fmt.Sprintf("%s[%d]", prose.Escape(h.Command), h.PID))
	}
	if more := o.HolderCount - len(o.Holders); more > 0 {
		who = append(who, fmt.Sprintf("and %d more", more))
	}
	if len(who) > 0 {
		s += ", held by " + strings.Join(who, ", ")
	}
	if o.UID != nil {
		s += fmt.Sprintf(", uid %d", *o.UID)
	}
	if o.Shared {
		s += ", shared with other owners"
	}
	if o.Protected != nil {
		s += ", protected: " + prose.Escape(*o.Protected)
	}
	out := []string{s}
	if o.Verdict != nil {
		out = append(out, words.Verdict(&o.Judgement, paint))
	}

	s = fmt.Sprintf("%s with %s: receive %s, send %s", prose.Plural(o.Sockets, "socket"), prose.Bytes(o.Bytes),
		prose.Bytes(o.ReceiveBytes), prose.Bytes(o.SendBytes))
	if o.UnreadBytes > 0 {
		s += ", unread " + prose.Bytes(o.UnreadBytes)
	}
	if o.StalledBytes != nil && *o.StalledBytes > 0 {
		s += ", stalled " + prose.Bytes(*o.StalledBytes)
	}
	if n := closeWait(o); n > 0 {
		s += fmt.Sprintf(", %d in close-wait", n)
	}
	return append(out, s+"; "+words.Classes(&o.Classes)+"; by "+words.Parts(o.Evidence))
}
