package victims

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// Held is why CleanUp leaves a socket that no orphan is.
const Held = "still held, or waiting to be accepted"

// CleanUp destroys the sockets that have become orphans, and looks again for
// as long as linger while others are left: a process may close late, and a
// peer's last words turn CLOSE_WAIT into LAST_ACK. A dump walks the whole
// host's sockets, so that the looks grow apart. It ends early, with what it
// has, when ctx does.
func (s *Set) CleanUp(ctx context.Context, linger time.Duration) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, linger)
	defer cancel()
	var last Report
	for wait := firstWait; ; wait = min(2*wait, maxWait) {
		r, err := s.Destroy(ctx, func(_ *remediate.Socket, is *reading.Socket) string {
			if !Orphan(is) {
				return Held
			}
			return ""
		})
		switch {
		case ctx.Err() != nil && last.Left != nil:
			return last, nil
		case err != nil:
			return r, fmt.Errorf("clean up orphans: %w", err)
		}
		settled := r.Destroyed == last.Destroyed && len(r.Left) == 0
		last = r
		if settled {
			return last, nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return last, nil
		}
	}
}

// Between two looks of CleanUp.
const (
	firstWait = 100 * time.Millisecond
	maxWait   = 2 * time.Second
)

// String says it in one sentence: "3 orphans with 96 KiB destroyed, 40 sockets
// with 1.2 MiB gone; left are 2 sockets with 64 KiB: still held".
func (r *Report) String() string {
	text := fmt.Sprintf("%s destroyed, %s gone", Sockets(r.Destroyed), Sockets(r.Gone))
	if len(r.Left) > 0 {
		text += "; left are " + strings.Join(r.Reasons(), "; ")
	}
	return text
}

// Sockets says a tally: "3 sockets with 96 KiB".
func Sockets(t reading.Tally) string {
	noun := "sockets"
	if t.Sockets == 1 {
		noun = "socket"
	}
	return fmt.Sprintf("%d %s with %s", t.Sockets, noun, Size(t.Bytes))
}

// Size says bytes with a unit: "96 KiB".
func Size(n int64) string {
	const unit = 1024
	if n < unit && n > -unit {
		return fmt.Sprintf("%d B", n)
	}
	value, suffix := float64(n)/unit, "KiB"
	for _, next := range []string{"MiB", "GiB", "TiB"} {
		if value < unit && value > -unit {
			break
		}
		value, suffix = value/unit, next
	}
	return fmt.Sprintf("%.4g %s", value, suffix)
}
