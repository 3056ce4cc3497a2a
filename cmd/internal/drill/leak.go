// Package drill makes the small leak of "tcpmemctl drill": sockets on the
// loopback address with data that nobody reads, in a process of its own that
// ends with whoever started it.
package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
)

// Plan is how the leak grows.
type Plan struct {
	Bytes int64         // of kernel memory, at most
	Over  time.Duration // the time in which it grows to that, evenly
}

// Held is what the leak's process holds, as its own sockets say
// (getsockopt SO_MEMINFO): what others find is held against it.
type Held struct {
	All    reading.Tally `json:"all"`
	Hidden reading.Tally `json:"hidden"` // of all: reset by the peer, and kept
}

const (
	// step is the time between two looks at how much is due.
	step = time.Second
	// Bounds of a connection's payload: a page is kept for each socket anyhow, and
	// a receiver begins with a window of 64 KiB.
	leastPayload, mostPayload = 2 << 10, 48 << 10
	// maxPairs bounds descriptors, two for each pair.
	maxPairs = 2000
	// arrival is how long data may take to the other end on the loopback.
	arrival = time.Second
)

// Leak grows by p, writes a line of JSON (a Held) to out after each change, and
// then holds it, until parent is at its end or ctx is done. Two of three
// connections are reset by their peer and kept, as a program does that does not
// close in an edge case; of the third kind both ends stand. It leaves no orphan
// and no TIME_WAIT behind.
func Leak(ctx context.Context, p Plan, parent io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, parent) // ends with the parent, or with this process
		cancel()
	}()
	var l net.ListenConfig
	listener, err := l.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen on loopback: %w", err)
	}
	defer listener.Close()
	h := &hoard{payload: p.payload(), listener: listener}
	defer h.end()
	report := json.NewEncoder(out)
	begun := time.Now()
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		due := p.Bytes
		if since := time.Since(begun); since < p.Over {
			due = int64(float64(p.Bytes) * float64(since) / float64(p.Over))
		}
		held, grown, err := h.growTo(ctx, due)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if grown {
			if err := report.Encode(held); err != nil {
				return fmt.Errorf("report: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// payload of a connection: the more of them the sooner they are found, because
// some dozens of hidden sockets are looked for whatever they hold.
func (p Plan) payload() int {
	return int(min(max(p.Bytes/maxPairs/2, leastPayload), mostPayload))
}

// room is what a connection may take: its payload twice, with what the kernel
// adds, and a page for each end.
func room(payload int) int64 { return int64(2*payload + 2*os.Getpagesize()) }

// hoard is what is held.
type hoard struct {
	payload  int
	listener net.Listener
	pairs    []pair
	held     Held
}

// pair is a connection to ourselves. The near end has the data and does not
// read it; far is nil where it has reset the connection.
type pair struct{ near, far *net.TCPConn }

// growTo adds connections while one more stays within bytes.
func (h *hoard) growTo(ctx context.Context, bytes int64) (held Held, grown bool, err error) {
	for len(h.pairs) < maxPairs && h.held.All.Bytes+room(h.payload) <= bytes && ctx.Err() == nil {
		if err := h.add(ctx, len(h.pairs)%3 != 2); err != nil {
			return h.held, grown, err
		}
		grown = true
	}
	return h.held, grown, nil
}

func (h *hoard) add(ctx context.Context, reset bool) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", h.listener.Addr().String())
	if err != nil {
		return fmt.Errorf("connect to ourselves: %w", err)
	}
	far := conn.(*net.TCPConn) //nolint:forcetypeassert // as the network says
	conn, err = h.listener.Accept()
	if err != nil {
		_ = far.Close() // what failed is told
		return fmt.Errorf("accept from ourselves: %w", err)
	}
	p := pair{near: conn.(*net.TCPConn), far: far} //nolint:forcetypeassert // as the network says
	h.pairs = append(h.pairs, p)
	if _, err := far.Write(make([]byte, h.payload)); err != nil {
		return fmt.Errorf("write to ourselves: %w", err)
	}
	// What has not arrived is lost with a reset.
	if err := arrived(ctx, p.near, h.payload); err != nil {
		return err
	}
	if reset {
		if err := errors.Join(far.SetLinger(0), far.Close()); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
		h.pairs[len(h.pairs)-1].far = nil
	}
	return h.count(&h.pairs[len(h.pairs)-1])
}

// arrived waits until all of the payload can be read.
func arrived(ctx context.Context, c *net.TCPConn, payload int) error {
	for deadline := time.Now().Add(arrival); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		var here int
		err := with(c, func(fd int) (err error) {
			here, err = unix.IoctlGetInt(fd, unix.SIOCINQ)
			return err
		})
		if err != nil {
			return fmt.Errorf("ask receive queue: %w", err)
		}
		if here >= payload {
			return nil
		}
	}
	return nil // the window is full: what is there is there
}

// count adds what a pair holds. A connection that was reset has one socket
// left, and no listing shows that.
func (h *hoard) count(p *pair) error {
	for _, c := range []*net.TCPConn{p.near, p.far} {
		if c == nil {
			continue
		}
		var mem reading.SkMem
		err := with(c, func(fd int) (err error) {
			mem, err = sockdiag.SkMemOf(fd)
			return err
		})
		if err != nil {
			return fmt.Errorf("ask memory of a socket: %w", err)
		}
		h.held.All.Add(1, mem.Bytes())
		if p.far == nil {
			h.held.Hidden.Add(1, mem.Bytes())
		}
	}
	return nil
}

// end resets what still stands.
func (h *hoard) end() {
	for _, p := range h.pairs {
		for _, c := range []*net.TCPConn{p.far, p.near} {
			if c != nil {
				_ = errors.Join(c.SetLinger(0), c.Close()) // the process ends, and with it all of them
			}
		}
	}
}

func with(c *net.TCPConn, do func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("use descriptor: %w", err)
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return fmt.Errorf("use descriptor: %w", err)
	}
	return os.NewSyscallError("socket", inner)
}
