// Package sdnotify tells the service manager how the daemon is, by the
// protocol of sd_notify(3). Without a manager that listens, all of it does
// nothing.
//
// It is the only importer of go-systemd's package daemon, whose name is that
// of the daemon here. Of that package it takes the protocol's words, not
// SdNotify: that one reads the process's environment, and waits without end
// while the manager's queue is full.
package sdnotify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// sendTimeout bounds the wait for a manager whose queue is full: the loop must
// go on, and the next message says it anew.
const sendTimeout = 250 * time.Millisecond

// Notifier sends messages to the service manager. It is not safe for
// concurrent use. Its methods return nil where no manager listens.
//
// A failure that lasts is returned once, so that a caller can log each error
// it gets, also of a ping each second: the same error comes again only after
// a message went through.
type Notifier struct {
	socket   string // address in the form of NOTIFY_SOCKET, "" for none
	interval string // WATCHDOG_USEC
	pid      string // WATCHDOG_PID
	last     string // text of the error returned last, "" after a success
}

// New reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID through getenv,
// which is os.Getenv but for tests.
func New(getenv func(string) string) *Notifier {
	return &Notifier{
		socket:   getenv("NOTIFY_SOCKET"),
		interval: getenv("WATCHDOG_USEC"),
		pid:      getenv("WATCHDOG_PID"),
	}
}

// Ready says that start-up, or a reload, is finished.
func (n *Notifier) Ready(status string) error {
	return n.send(daemon.SdNotifyReady, statusLine(status))
}

// Status sets the one line that `systemctl status` shows.
func (n *Notifier) Status(text string) error {
	return n.send(statusLine(text))
}

// Reloading says that a reload has begun; Ready ends it. It carries the time
// that Type=notify-reload (systemd 253) asks for.
func (n *Notifier) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("read the monotonic clock: %w", err)
	}
	return n.send(daemon.SdNotifyReloading, "MONOTONIC_USEC="+strconv.FormatInt(now.Nano()/1000, 10))
}

// Stopping says that the end has begun.
func (n *Notifier) Stopping() error {
	return n.send(daemon.SdNotifyStopping)
}

// Watchdog says that a turn was completed. Nothing else may call it: a ping
// that comes whatever happens guards nothing.
func (n *Notifier) Watchdog() error {
	return n.send(daemon.SdNotifyWatchdog)
}

// WatchdogInterval is the time after which the manager takes a daemon without
// a ping for dead: ping at least twice in it. It is 0 where the manager does
// not watch, or watches another process (sd_watchdog_enabled(3)).
func (n *Notifier) WatchdogInterval() (time.Duration, error) {
	if n.interval == "" || n.pid != "" && n.pid != strconv.Itoa(os.Getpid()) {
		return 0, nil
	}
	const most = 1<<63 - 1
	usec, err := strconv.ParseInt(n.interval, 10, 64)
	if err != nil || usec <= 0 || usec > most/int64(time.Microsecond) {
		return 0, fmt.Errorf("read WATCHDOG_USEC: %q is not a number of microseconds", n.interval)
	}
	return time.Duration(usec) * time.Microsecond, nil
}

// send puts the lines into one message, and gives the error unless it is the
// one given last.
func (n *Notifier) send(lines ...string) error {
	if n.socket == "" {
		return nil
	}
	err := deliver(n.socket, strings.Join(lines, "\n"))
	if err == nil {
		n.last = ""
		return nil
	}
	if err.Error() == n.last {
		return nil
	}
	n.last = err.Error()
	return fmt.Errorf("notify the service manager at %s: %w", printable(n.socket), err)
}

// deliver dials for each message: there are few, and the manager may have
// been executed anew since the last.
func deliver(socket, message string) error {
	if socket[0] != '/' && socket[0] != '@' {
		return errors.New("the address is neither a path nor an abstract one")
	}
	// package net takes a leading @ for the abstract namespace, as systemd does.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return cause(err)
	}
	defer func() { _ = conn.Close() }() // the message is out, or its error known
	if err := conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return cause(err)
	}
	_, err = conn.Write([]byte(message))
	return cause(err)
}
