// Command bodies is a service with large answers, and its clients: -serve sends
// a body without end to each connection, -fetch reads one for some time and
// prints how many bytes came a second, -sip is load: more and more clients that
// read slowly and all the time. -hook is a webhook: it prints what is posted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	serve := flag.String("serve", "", "send to each connection at this `address`")
	fetch := flag.String("fetch", "", "read from this `address`")
	within := flag.Duration("for", 2*time.Second, "how long -fetch reads")
	sip := flag.String("sip", "", "download from this `address`, more and more clients")
	hook := flag.String("hook", "", "serve HTTP at this `address`")
	buffer := flag.Int("buffer", 0, "send buffer of -serve in bytes, 0 for the kernel's choice")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := errors.New("want -serve, -fetch, -sip or -hook")
	switch {
	case *serve != "":
		err = send(ctx, *serve, *buffer)
	case *fetch != "":
		err = receive(ctx, *fetch, *within)
	case *sip != "":
		grow(ctx, *sip)
		err = nil
	case *hook != "":
		err = answer(ctx, *hook)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bodies:", err)
		os.Exit(1)
	}
}

func send(ctx context.Context, address string, buffer int) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	body := make([]byte, 64<<10)
	for {
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if tcp, ok := conn.(*net.TCPConn); ok && buffer > 0 {
			_ = tcp.SetWriteBuffer(buffer) // fails where the peer is gone
		}
		go func() {
			defer conn.Close()
			for {
				if _, err := conn.Write(body); err != nil {
					return // the client has enough, or the kernel no memory
				}
			}
		}()
	}
}

// receive counts what comes, which may be nothing: that is the answer, too.
func receive(ctx context.Context, address string, within time.Duration) error {
	deadline := time.Now().Add(within)
	d := net.Dialer{Deadline: deadline}
	var n int64
	conn, err := d.DialContext(ctx, "tcp4", address)
	if err == nil {
		defer conn.Close()
		if err := conn.SetReadDeadline(deadline); err != nil {
			return err
		}
		n, _ = io.Copy(io.Discard, conn) // ends by the deadline, or a reset
	}
	fmt.Printf("%d\n", int64(float64(n)/within.Seconds()))
	return nil
}

// answer prints what is posted to it.
func answer(ctx context.Context, address string) error {
	s := http.Server{Addr: address, ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Printf("%s %s: %s %v\n", r.Method, r.URL, body, err)
	})}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })() // it ends
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Load of grow: some clients at once, then ever more, so that what the last
// minute added is most of it.
const (
	firstClients = 8
	maxClients   = 300
	sipBytes     = 96 << 10 // of each client
	sipEvery     = 800 * time.Millisecond
)

// grow adds clients until ctx is done: n of them by the time of 10 s x the root
// of n.
func grow(ctx context.Context, address string) {
	start := time.Now()
	for n := range maxClients {
		if later := n - firstClients; later > 0 {
			at := time.Duration(math.Sqrt(float64(later)) * float64(10*time.Second))
			wait(ctx, time.Until(start.Add(at)))
		}
		go func() {
			for ctx.Err() == nil { // again where the kernel had no memory for it
				sipFrom(ctx, address)
				wait(ctx, sipEvery)
			}
		}()
	}
	<-ctx.Done()
}

// sipFrom is a client, until its connection breaks.
func sipFrom(ctx context.Context, address string) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", address)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	for {
		if _, err := io.CopyN(io.Discard, conn, sipBytes); err != nil {
			return
		}
		wait(ctx, sipEvery)
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
