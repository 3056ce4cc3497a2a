package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// envJob says as what this test was started again.
const envJob = "TCPMEMD_TEST_JOB"

// runJob does the job that this process was started for, if any.
func runJob() {
	if os.Getenv(remediate.CookieKey) == remediate.CookieValue {
		serveProbe()
		os.Exit(0)
	}
	var err error
	switch os.Getenv(envJob) {
	case "":
		return
	case "daemon":
		os.Exit(run())
	case "api":
		err = apiJob()
	case "queue":
		err = queueJob()
	case "upstream":
		err = upstreamJob()
	case "supervisor":
		err = superviseJob()
	case "worker":
		err = workerJob()
	default:
		err = errors.New("no such job")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "job:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// untilStdinEnds is the life of a helper.
func untilStdinEnds() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	return ctx
}

const (
	apiConnections = 4
	apiMessage     = 1 << 20
	apiTick        = 250 * time.Millisecond
	// apiDistance is between two reads: what is on its way meanwhile needs
	// memory, as it does over any distance. Without it loopback needs none.
	apiDistance = 20 * time.Millisecond
)

// apiJob is a server and its clients, which send it real bytes; it prints how
// many arrive in each tick, and how many connections broke.
func apiJob() error {
	ctx := untilStdinEnds()
	_ = os.WriteFile("/proc/self/comm", []byte("st-api"), 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var moved, broken atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for buf := make([]byte, apiMessage); ; time.Sleep(apiDistance) {
					n, err := c.Read(buf)
					if err != nil {
						broken.Add(1)
						return
					}
					moved.Add(int64(n))
				}
			}()
		}
	}()
	for range apiConnections {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		go func() {
			buf := make([]byte, apiMessage)
			for err := error(nil); err == nil; {
				_, err = c.Write(buf)
			}
			broken.Add(1)
		}()
	}
	for tick := time.NewTicker(apiTick); ; {
		select {
		case <-tick.C:
			fmt.Println(moved.Swap(0), broken.Load())
		case <-ctx.Done():
			return nil
		}
	}
}

// What the queue leaks at most.
const (
	queueRounds  = 220 // each of one connection of each kind
	queuePayload = 256 << 10
	queuePace    = 60 * time.Millisecond
	queueWrite   = 40 * time.Millisecond // then the peer takes no more
)

// queueJob is a task queue that forgets connections: some whose data it never
// reads, some that the peer has reset since, and some towards an upstream that
// does not read. It lives until it is ended.
func queueJob() error {
	ctx := untilStdinEnds()
	_ = os.WriteFile("/proc/self/comm", []byte("st-queue"), 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	accepted := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	var forgotten []net.Conn
	payload := make([]byte, 4*queuePayload)
	write := func(to string, n int) *net.TCPConn {
		c, err := net.Dial("tcp", to)
		if err != nil {
			return nil
		}
		_ = c.SetWriteDeadline(time.Now().Add(queueWrite))
		_, _ = c.Write(payload[:n])
		forgotten = append(forgotten, c)
		return c.(*net.TCPConn)
	}
	for round := 0; round < queueRounds && ctx.Err() == nil; round++ {
		write(l.Addr().String(), queuePayload)
		forgotten = append(forgotten, <-accepted)
		if c := write(l.Addr().String(), queuePayload); c != nil {
			forgotten = append(forgotten, <-accepted)
			_ = c.SetLinger(0)
			_ = c.Close()
		}
		write(os.Getenv(envUpstream), 4*queuePayload)
		time.Sleep(queuePace)
	}
	<-ctx.Done()
	runtime.KeepAlive(forgotten)
	return nil
}

// envUpstream is where the queue sends to.
const envUpstream = "TCPMEMD_TEST_UPSTREAM"

// upstreamJob accepts and never reads. It prints its address.
func upstreamJob() error {
	ctx := untilStdinEnds()
	_ = os.WriteFile("/proc/self/comm", []byte("st-upstream"), 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	var kept []net.Conn
	context.AfterFunc(ctx, func() { _ = l.Close() })
	for {
		c, err := l.Accept()
		if err != nil {
			runtime.KeepAlive(kept)
			return nil //nolint:nilerr // ctx is over
		}
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		kept = append(kept, c)
	}
}

// superviseJob starts a worker, and another whenever one ends, as a container's
// runtime does. It prints their pids.
func superviseJob() error {
	ctx := untilStdinEnds()
	_ = os.WriteFile("/proc/self/comm", []byte("st-supervisor"), 0)
	for ctx.Err() == nil {
		cmd := exec.CommandContext(ctx, "/proc/self/exe")
		cmd.Env = append(os.Environ(), envJob+"=worker")
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		fmt.Println(cmd.Process.Pid)
		_ = cmd.Wait() // however it ended
		_ = stdin.Close()
		select {
		case <-time.After(200 * time.Millisecond): // not in a hurry, as runtimes are not
		case <-ctx.Done():
		}
	}
	return nil
}

// workerJob leaks, at about half a megabyte a second.
func workerJob() error {
	_ = os.WriteFile("/proc/self/comm", []byte("st-worker"), 0)
	return scene.Leaker(untilStdinEnds(), scene.LeakSpec{Unread: 150, Hidden: 50, Bytes: 100 << 10, PerSecond: 5})
}
