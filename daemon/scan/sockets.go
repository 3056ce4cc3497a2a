package scan

import (
	"context"
	"errors"
	"fmt"

	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
)

// Sockets lists every socket of the host with its owner as the last scan found
// it; Scan must have run. The row is reused between calls of yield; an error
// of yield ends the list and is returned.
func (s *Scanner) Sockets(ctx context.Context, yield func(*reading.Socket) error) error {
	if s.last == nil {
		return errors.New("list sockets: no scan was made")
	}
	seen := make(map[reading.Cookie]struct{}, s.table.Len())
	for _, n := range s.spaces {
		if inuse, err := s.netns.Inuse(n); err != nil || inuse == 0 {
			continue // a gap of the scan's
		}
		var stop error
		dctx, cancel := context.WithCancel(ctx)
		err := s.dump(dctx, n, func(sock *reading.Socket) {
			if stop != nil || sock.State == reading.TimeWait {
				return
			}
			if _, twice := seen[owner.Key(sock)]; twice {
				return
			}
			seen[owner.Key(sock)] = struct{}{}
			sock.Netns = n.ID
			s.last.Lookup(sock)
			if stop = yield(sock); stop != nil {
				cancel()
			}
		})
		cancel()
		if stop != nil {
			return stop
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && n.Home {
			return fmt.Errorf("list sockets: %w", err)
		}
		// Any other namespace that cannot be entered is a gap of the reading.
	}
	for _, h := range s.hidden {
		sock := h.socket
		if _, twice := seen[owner.Key(&sock)]; twice {
			continue // another process holds it, too
		}
		seen[owner.Key(&sock)] = struct{}{}
		for _, n := range s.spaces {
			if n.ID.Cookie == sock.Netns.Cookie {
				sock.Netns = n.ID
			}
		}
		s.last.Lookup(&sock)
		if err := yield(&sock); err != nil {
			return err
		}
	}
	return nil
}

// Info asks the kernel how a connection of the last list moves.
func (s *Scanner) Info(ctx context.Context, sock *reading.Socket) (*sockdiag.TCPInfo, error) {
	for _, n := range s.spaces {
		if n.ID != sock.Netns {
			continue
		}
		conn, err := s.connect(n)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		return conn.Info(ctx, sock)
	}
	return nil, fmt.Errorf("netns %d: %w", sock.Netns.Inode, sockdiag.ErrNotFound)
}
