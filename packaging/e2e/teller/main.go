// Command teller tells the journal what a file says, as tcpmemd does, and stays
// until it is killed, so that journald can look at who told it:
//
//	teller FILE           texts as a JSON list of event.Text
//	teller -fill SOCKET   entries that nobody reads, until the queue is full
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/journal"
)

func main() {
	fill := flag.String("fill", "", "path of a socket")
	flag.Parse()
	var err error
	if *fill != "" {
		err = fillQueue(*fill)
	} else {
		err = tell(flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func tell(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var texts []event.Text
	if err := json.Unmarshal(text, &texts); err != nil {
		return err
	}
	w := journal.New(journal.Socket, func(int, uint64) bool { return true })
	for _, t := range texts {
		w.Tell(t)
	}
	w.Close(10 * time.Second)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
	return nil
}

// fillQueue sends until the queue is full. One sender alone would first be
// stopped by what it may have under way (SO_SNDBUF).
func fillQueue(path string) error {
	for range 64 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		sent := 0
		for ; err == nil; sent++ {
			err = unix.Sendto(fd, []byte("x\n"), 0, &unix.SockaddrUnix{Name: path})
		}
		if err != unix.EAGAIN {
			return err
		}
		if sent == 1 {
			return nil
		}
	}
	return errors.New("the queue has no end")
}
