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
// peer's last words turn CLOSE_WAIT into LAST_ACK. It ends early, with what it
// has, when ctx does.
func (s *Set) CleanUp(ctx context.Context, linger time.Duration) (Report, error) {
	return s.repeat(ctx, linger, func(_ *remediate.Socket, is *reading.Socket) string {
		if !Orphan(is) {
			return Held
		}
		return ""
	}, func(r *Report) bool { return len(r.Left) > 0 })
}

// DestroyNow destroys the sockets that judge says nothing against, and looks
// for some time whether those are gone then.
func (s *Set) DestroyNow(ctx context.Context, judge Judge) (Report, error) {
	return s.repeat(ctx, vanishTime, judge, func(r *Report) bool { return r.Left[Stays].Sockets > 0 })
}

// vanishTime is what destroyed sockets get to vanish. TCP needs none; an MPTCP
// orphan is let go of by a worker, within a second after its subflow.
const vanishTime = 2 * time.Second

// repeat looks until a look has destroyed nothing and there is no reason to
// look again. A dump walks the sockets of the whole host, so that the looks
// grow apart.
func (s *Set) repeat(ctx context.Context, linger time.Duration, judge Judge, again func(*Report) bool) (Report, error) {
	limited, cancel := context.WithTimeout(ctx, linger)
	defer cancel()
	var last Report
	for wait := firstWait; ; wait = min(2*wait, maxWait) {
		r, err := s.Destroy(limited, judge)
		switch {
		case limited.Err() != nil && last.Left != nil:
			// The look was cut short; what it destroyed counts all the same.
			last.Destroyed = r.Destroyed
			return last, nil
		case err != nil:
			return r, fmt.Errorf("destroy sockets: %w", err)
		}
		settled := r.Destroyed == last.Destroyed && !again(&r)
		last = r
		if settled {
			return last, nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-limited.Done():
			t.Stop()
			return last, nil
		}
	}
}

// Between two looks.
const (
	firstWait = 100 * time.Millisecond
	maxWait   = 2 * time.Second
)

// String says it in one sentence: "3 sockets with 96 KiB destroyed, 40 sockets
// with 1.2 MiB gone by themselves; left are 2 sockets with 64 KiB: still held".
func (r *Report) String() string {
	text := "nothing destroyed"
	if r.Destroyed.Sockets > 0 {
		text = Sockets(r.Destroyed) + " destroyed"
	}
	if r.Gone.Sockets > 0 {
		text += ", " + Sockets(r.Gone) + " gone by themselves"
	}
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
