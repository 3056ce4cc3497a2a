package scan_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// drained is how many hidden sockets helpDrain holds, each with drainBytes.
const drained, drainBytes = 200, 20000

// helpDrain holds connections whose peers sent data and a reset. When told by
// a signal it reads what they sent, and keeps the sockets.
func helpDrain() error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	l, err := plainTCP.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var held []net.Conn
	for range drained {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		p, err := l.Accept()
		if err != nil {
			return err
		}
		held = append(held, p)
		if _, err := c.Write(make([]byte, drainBytes)); err != nil {
			return err
		}
		if err := errors.Join(c.(*net.TCPConn).SetLinger(0), c.Close()); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	<-told
	sum, buf := 0, make([]byte, drainBytes)
	for _, p := range held {
		for {
			n, err := p.Read(buf)
			if sum += n; err != nil {
				break
			}
		}
	}
	fmt.Println(sum)
	select {}
}

// What is left in a hidden socket may still be read: the next scan knows.
func TestHiddenAreAskedAgain(t *testing.T) {
	require.Root(t)
	s := open(t)
	h := startHelper(t, nil, nil, "drain")
	h.say(t)
	pid := h.cmd.Process.Pid
	key := processKey(t, pid)
	o := owner(t, readHidden(t, s, key), key)
	if got := o.Classes[reading.Hidden]; got.Sockets != drained || got.Bytes < drained*drainBytes {
		t.Fatalf("hidden %+v, built %d with %d bytes each", got, drained, drainBytes)
	}
	do(t, "tell", h.cmd.Process.Signal(syscall.SIGUSR1))
	if got, want := h.say(t), fmt.Sprint(drained*drainBytes); got != want {
		t.Fatalf("read %s bytes, want %s", got, want)
	}
	time.Sleep(10 * time.Millisecond)
	r := readWith(t, s, scan.Options{})
	if o, ok := lookOwner(r, key); ok && o.Classes[reading.Hidden].Bytes != 0 {
		t.Errorf("hidden %+v after all was read", o.Classes[reading.Hidden])
	}
}
