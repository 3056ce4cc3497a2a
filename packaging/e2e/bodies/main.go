// Command bodies is a service with large answers, and its client: -serve sends
// a body without end to each connection, -fetch reads one for some time and
// prints how many bytes came a second.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	serve := flag.String("serve", "", "send to each connection at this `address`")
	fetch := flag.String("fetch", "", "read from this `address`")
	within := flag.Duration("for", 2*time.Second, "how long -fetch reads")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := errors.New("want -serve or -fetch")
	switch {
	case *serve != "":
		err = send(ctx, *serve)
	case *fetch != "":
		err = receive(ctx, *fetch, *within)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bodies:", err)
		os.Exit(1)
	}
}

func send(ctx context.Context, address string) error {
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
