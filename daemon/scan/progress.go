package scan

import (
	"context"

	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// progress asks the large queues that seem to stand still whether they do. A
// queue that is always full and always moves has the same size at each scan:
// the reader takes 64 KiB, 64 KiB come in. TCP_INFO knows when data last came
// or went (tcpi_last_data_recv, tcpi_last_data_sent). It takes the socket's
// lock and some microseconds, so only those are asked, at most as many as Ends
// keeps, and one that moves not again for reading.StalledAfter.
func (s *Scanner) progress(ctx context.Context, w *sweep) {
	standing := make([][]standingEnd, len(s.spaces))
	w.ends.Standing(s.table, func(n owner.End, receive bool) {
		if int(n.NS) < len(standing) {
			standing[n.NS] = append(standing[n.NS], standingEnd{n, receive})
		}
	})
	for ns, ends := range standing {
		for _, e := range ends {
			conn, err := s.finders.in(s, s.spaces[ns])
			if err != nil || ctx.Err() != nil {
				break // they count as standing, as their sizes say
			}
			sock := reading.Socket{Local: e.Local, Remote: e.Remote, Interface: e.Interface}
			info, err := conn.Info(ctx, &sock)
			if err != nil {
				continue
			}
			last := info.LastDataSent
			if e.receive {
				last = info.LastDataRecv
			}
			if int64(last) < reading.StalledAfter.Milliseconds() {
				s.table.Moves(e.Cookie)
			}
		}
	}
}

// standingEnd is a socket and which of its queues seems to stand still.
type standingEnd struct {
	owner.End
	receive bool
}
