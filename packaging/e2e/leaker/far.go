package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// sendBuffer bounds what a connection to a peer that does not read holds;
	// the kernel doubles it.
	sendBuffer = 128 << 10
	// full is how long a send queue takes nothing more before it counts as full.
	full = 100 * time.Millisecond
)

// accept takes every connection to address, or to the socket that systemd
// passes (sd_listen_fds(3)) where that is "fd", and reads none of them, until
// ctx is done.
func accept(ctx context.Context, address string) error {
	listener, err := listen(ctx, address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	if err := notifyReady(ctx); err != nil {
		return err
	}
	// Referred to, or the garbage collector would close them.
	var held []net.Conn
	defer func() { closeAll(held) }()
	for {
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		held = append(held, conn)
	}
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	if address != "fd" {
		var config net.ListenConfig
		return config.Listen(ctx, "tcp4", address)
	}
	const first = 3 // SD_LISTEN_FDS_START
	passed := os.NewFile(first, "passed")
	defer passed.Close()
	return net.FileListener(passed)
}

// send opens count connections to address and sends size bytes on each, as much
// as fits where size is 0. It holds them until ctx is done, closes them at SIGHUP,
// or at once where leave is set; what is unsent then stays behind as orphans.
func send(ctx context.Context, address string, count, size int, leave bool) error {
	var held []net.Conn
	defer func() { closeAll(held) }()
	for range count {
		conn, err := connect(ctx, address, size)
		if err != nil {
			return fmt.Errorf("send to %s: %w", address, err)
		}
		held = append(held, conn)
	}
	if leave {
		closeAll(held)
		held = nil
	}
	if err := notifyReady(ctx); err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	select {
	case <-hangup:
		closeAll(held)
		held = nil
		<-ctx.Done()
	case <-ctx.Done():
	}
	return nil
}

func connect(ctx context.Context, address string, size int) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", address)
	if err != nil {
		return nil, err
	}
	if err := conn.(*net.TCPConn).SetWriteBuffer(sendBuffer); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if size > 0 {
		_, err = conn.Write(make([]byte, size))
	} else {
		err = fill(conn)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// fill writes until the peer's window and the send queue take nothing more.
func fill(conn net.Conn) error {
	chunk := make([]byte, 16<<10)
	for {
		if err := conn.SetWriteDeadline(time.Now().Add(full)); err != nil {
			return err
		}
		_, err := conn.Write(chunk)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
	}
}

// closeAll closes in order: data that is not sent yet goes on.
func closeAll(conns []net.Conn) {
	for _, conn := range conns {
		conn.Close()
	}
}
