package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/config"
)

type flags struct {
	config, socket string
	check, version bool
}

var errHelp = flag.ErrHelp

const usage = `tcpmemd watches a host's TCP memory (net.ipv4.tcp_mem) and says who holds it.

It runs in the foreground until SIGINT or SIGTERM, observing: it touches
nothing. Ask it with tcpmemctl.

Options:
`

// parseFlags reports what is wrong with the arguments to out.
func parseFlags(args []string, out io.Writer) (f flags, err error) {
	set := flag.NewFlagSet("tcpmemd", flag.ContinueOnError)
	set.SetOutput(out)
	set.Usage = func() {
		fmt.Fprint(out, usage)
		set.PrintDefaults()
	}
	set.StringVar(&f.config, "config", "", "read this `file` instead of those in /etc, /run and /usr/lib")
	set.StringVar(&f.socket, "socket", "", "`path` of the control socket (default: TCPMEMD_SOCKET, or "+api.SystemSocket+")")
	set.BoolVar(&f.check, "check", false, "check the configuration and exit: 0 if it is valid, 6 if not")
	set.BoolVar(&f.version, "version", false, "print the version and exit")
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if set.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q", set.Arg(0))
		fmt.Fprintf(out, "tcpmemd: %v\n", err)
		return f, err
	}
	return f, nil
}

// settings joins configuration and flags. Without root and without a place for
// the socket the daemon runs without one.
func settings(c config.Config, f flags, log *slog.Logger) daemon.Config {
	socket := c.Control.Socket
	if os.Getenv("TCPMEMD_SOCKET") != "" || os.Geteuid() != 0 {
		socket = api.DefaultSocket(os.Getenv, os.Geteuid())
	}
	if f.socket != "" {
		socket = f.socket
	}
	err := os.MkdirAll(filepath.Dir(socket), 0o750)
	if err == nil && f.socket == "" {
		err = unix.Access(filepath.Dir(socket), unix.W_OK) // root's, when root runs one too
	}
	if err != nil && f.socket == "" {
		log.Warn("no control socket: tcpmemctl cannot ask this daemon; set XDG_RUNTIME_DIR or --socket", "err", err)
		socket = ""
	}
	return daemon.Config{
		Version: version, Socket: socket,
		Sample: c.Sample.Interval, Calm: c.Scan.Calm, Pressed: c.Scan.Pressed, CPU: c.Scan.CPU,
		Protect: c.Protect, TableBytes: c.State.TableBytes, Log: log,
	}
}
