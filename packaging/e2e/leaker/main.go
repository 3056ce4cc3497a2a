// Command leaker is a service that leaks: it opens connections to itself, has
// data sent to them and never reads it. A part of them is reset by the peer and
// kept, so that no socket dump lists it.
//
// With -listen or -dial it is one end of connections between two services
// instead: the end that accepts and never reads, or the one that sends.
//
// Once all is there it writes what it holds, as the kernel told it, as JSON to
// the file named by -report and says READY=1 to its service manager.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

func main() {
	scene.RunIfChild()
	comm := flag.String("comm", "leaker", "name of the process that holds the sockets")
	unread := flag.Int("unread", 0, "connections that are held and never read")
	hidden := flag.Int("hidden", 0, "connections that the peer resets and that are kept")
	size := flag.Int("bytes", 100_000, "payload of each connection, 0 with -dial for as much as fits")
	report := flag.String("report", "", "where to write what is held, nowhere by default")
	listen := flag.String("listen", "", "accept at this `address`, or at what systemd passed where it is fd, and never read")
	dial := flag.String("dial", "", "connect to this `address` and send")
	count := flag.Int("count", 1, "connections of -dial")
	leave := flag.Bool("leave", false, "close the connections of -dial once their data is sent")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var err error
	switch {
	case *listen != "":
		err = accept(ctx, *listen)
	case *dial != "":
		err = send(ctx, *dial, *count, *size, *leave)
	default:
		err = leak(ctx, *comm, *report, []scene.Spec{
			{Kind: scene.Unread, Pairs: *unread, Bytes: *size},
			{Kind: scene.Hidden, Pairs: *hidden, Bytes: *size},
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "leaker:", err)
		os.Exit(1)
	}
}

// leak makes what specs order, reports it, and holds it until ctx is done.
func leak(ctx context.Context, comm, report string, specs []scene.Spec) error {
	child, err := scene.Start(ctx, scene.ChildOptions{Comm: comm, Argv0: comm})
	if err != nil {
		return err
	}
	defer child.Kill()

	// The keys are those of an owner in `tcpmemctl owners --json`.
	type tally struct {
		Sockets int64 `json:"sockets"`
		Bytes   int64 `json:"bytes"`
	}
	var held struct {
		tally
		Classes map[string]tally `json:"classes"`
	}
	held.Classes = make(map[string]tally)
	for _, spec := range specs {
		if spec.Pairs == 0 {
			continue
		}
		built, err := child.Build(ctx, spec)
		if err != nil {
			return err
		}
		for i := range built.Sockets {
			s := &built.Sockets[i]
			if s.Mini || s.Gone {
				continue
			}
			class := held.Classes[s.Class.String()]
			class.Sockets++
			class.Bytes += s.Bytes()
			held.Classes[s.Class.String()] = class
			held.Sockets++
			held.Bytes += s.Bytes()
		}
	}

	text, err := json.Marshal(held)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	if report != "" {
		if err := os.WriteFile(report, text, 0o644); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	if err := notifyReady(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// notifyReady is sd_notify(3) with READY=1: nothing where nobody waits for it.
func notifyReady(ctx context.Context) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixgram", socket)
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	_, err = conn.Write([]byte("READY=1"))
	if err := errors.Join(err, conn.Close()); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}
