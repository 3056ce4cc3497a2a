package main

import (
	"flag"
	"fmt"
	"io"

	"github.com/tcpmemd/tcpmemd/daemon/api"
)

type flags struct {
	config, state, socket string
	check, version        bool
}

var errHelp = flag.ErrHelp

const usage = `tcpmemd watches a host's TCP memory (net.ipv4.tcp_mem) and says who holds it.

It runs in the foreground until SIGINT or SIGTERM. SIGHUP reads the files again.
As shipped it observes: it decides, records and tells, and touches nothing. Ask
it with tcpmemctl.

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
	set.StringVar(&f.config, "config", "", "read this `file`, and the policy.d beside it, instead of those in /etc, /run and /usr/lib")
	set.StringVar(&f.state, "state", "", "`directory` for the action log and what else outlives the daemon (default: "+systemState+")")
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
