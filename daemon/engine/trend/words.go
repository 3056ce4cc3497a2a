package trend

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// The reasons, in words. Each has its numbers, so that it can be argued with.

func (k *track) aboutUnread(f *facts, at float64) string {
	s := fmt.Sprintf("receive queues of %s on %s (%s of its memory) stand still",
		size(f.stuckUnread), sockets(f.unreadSockets), percent(f.stuckUnread, f.sum))
	if grown := k.loose.grown(); grown >= 0.05*f.stalled {
		return fmt.Sprintf("%s and only grew for %s, by %s", s, period(k.loose.age(at)), size(grown))
	}
	return fmt.Sprintf("%s; nothing was read for %s", s, period(min(k.loose.age(at), k.heavy.seconds(at))))
}

func (k *track) aboutHidden(o *reading.Owner) string {
	h := o.Classes[reading.Hidden]
	if h.Sockets == 0 {
		return ""
	}
	return fmt.Sprintf("%s that the peer has ended hold %s and were not closed",
		sockets(float64(h.Sockets)), size(float64(h.Bytes)))
}

func (k *track) aboutWaiting(f *facts) string {
	if f.waiting < worthWaiting || f.waiting < 0.1*f.sockets {
		return ""
	}
	s := fmt.Sprintf("close-wait %.0f of %s", f.waiting, sockets(f.sockets))
	if n := len(k.long.points); n >= 2 {
		rate := k.long.change(waitingOf) / (k.long.points[n-1].at - k.long.points[0].at) * 60
		if rate >= 1 {
			return fmt.Sprintf("%s and rising %.0f/min", s, rate)
		}
	}
	return s
}

func (k *track) aboutOrphans(o *reading.Owner, f *facts, at float64) string {
	return fmt.Sprintf("%s closed with %s unsent (%s of its memory) stand still and only grew for %s, by %s, to many peers",
		sockets(float64(o.Classes[reading.Orphan].Sockets)), size(f.orphan), percent(f.orphan, f.sum),
		period(k.loose.age(at)), size(k.loose.grown()))
}

func (k *track) aboutSockets(f *facts) string {
	n := len(k.long.points)
	if n < 2 {
		return ""
	}
	change := k.long.change(socketsOf)
	if math.Abs(change) < max(1, 0.02*f.sockets) {
		return fmt.Sprintf("about %s throughout", sockets(f.sockets))
	}
	return fmt.Sprintf("%s, %+.0f/min", sockets(f.sockets),
		change/(k.long.points[n-1].at-k.long.points[0].at)*60)
}

func peerName(p *reading.Peer) string {
	if p.Owner != "" {
		return printable(p.Owner)
	}
	return printable(p.Address)
}

// printable quotes a name that could move a terminal or pose as other words.
// Names of processes and units below a delegated subtree are anyone's choice.
func printable(name string) string {
	odd := func(r rune) bool { return !unicode.IsGraphic(r) || r == '"' || r == unicode.ReplacementChar }
	if name == "" || strings.ContainsFunc(name, odd) {
		return strconv.QuoteToASCII(name)
	}
	return name
}

func size(bytes float64) string {
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for i < len(units)-1 && math.Abs(bytes) >= 1024 {
		bytes /= 1024
		i++
	}
	if i == 0 || math.Abs(bytes) >= 10 {
		return fmt.Sprintf("%.0f %s", bytes, units[i])
	}
	return fmt.Sprintf("%.1f %s", bytes, units[i])
}

func period(seconds float64) string {
	switch {
	case seconds < 120:
		return fmt.Sprintf("%.0f s", seconds)
	case seconds < 2*3600:
		return fmt.Sprintf("%.0f min", math.Floor(seconds/60))
	}
	return fmt.Sprintf("%.0f h", math.Floor(seconds/3600))
}

func percent(part, whole float64) string {
	if whole <= 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.0f %%", min(part/whole, 1)*100)
}

func sockets(n float64) string { return count(int(n), "socket") }

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
