package words

import (
	"fmt"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

// Socket is what ss prints behind a socket: who, where, and its memory.
func Socket(s *api.Socket) string {
	parts := []string{skmemWords(&s.SkMem)}
	if h := s.Holder; h != nil {
		parts = append(parts, fmt.Sprintf("users:((%s,pid=%d))", prose.Escape(h.Command), h.PID))
	}
	parts = append(parts, fmt.Sprintf("uid:%d", s.UID), fmt.Sprintf("ino:%d", s.Inode), fmt.Sprintf("sk:%d", s.Cookie),
		fmt.Sprintf("netns:%d", s.Netns.Inode))
	if s.MPTCP {
		parts = append(parts, "mptcp")
	}
	return strings.Join(parts, " ")
}

// skmemWords is skmem as ss(8) prints it with -m.
func skmemWords(m *api.SkMem) string {
	return fmt.Sprintf("skmem:(r%d,rb%d,t%d,tb%d,f%d,w%d,o%d,bl%d,d%d)", m.RmemAlloc, m.Rcvbuf, m.WmemAlloc, m.Sndbuf,
		m.FwdAlloc, m.WmemQueued, m.Optmem, m.Backlog, m.Drops)
}

// Info is TCP_INFO in the words of ss(8) with -i.
func Info(i *api.TCPInfo) string {
	s := fmt.Sprintf("rtt:%g/%gms rto:%gms cwnd:%d unacked:%d retrans:%d/%d lastsnd:%dms lastrcv:%dms",
		float64(i.RTTMicros)/1000, float64(i.RTTVarMicros)/1000, float64(i.RTOMicros)/1000, i.Cwnd, i.Unacked,
		i.Retrans, i.TotalRetrans, i.LastDataSent, i.LastDataReceived)
	if i.BytesAcked != nil {
		s += fmt.Sprintf(" bytes_acked:%d", *i.BytesAcked)
	}
	if i.BytesReceived != nil {
		s += fmt.Sprintf(" bytes_received:%d", *i.BytesReceived)
	}
	if i.DeliveryRate != nil {
		s += " delivery_rate " + prose.Bytes(int64(min(*i.DeliveryRate, 1<<62))) + "/s"
	}
	return s
}

// Optional is a text that may not be known, "-" then.
func Optional(s *string) string {
	if s == nil {
		return "-"
	}
	return prose.Escape(*s)
}
