// Command tcpmemd-action is the actions that tcpmemd brings along: one
// executable, one process for each action that is in use. tcpmemd starts it; a
// person has no use for it.
//
//	tcpmemd-action NAME              serves the action
//	tcpmemd-action --launch ...      executes a plugin with the rights it declared
//	tcpmemd-action --end-leases FILE UNIT
//	                                 gives back what a daemon that ended had lent,
//	                                 unless systemd starts its unit again
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/tcpmemd/tcpmemd/plugins/builtin"
	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/launch"
)

// version is set by the linker (-X main.version=...).
var version = "0.1.0-dev"

const exitUsage = 2

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--launch" {
		os.Exit(launch.Main(args[1:]))
	}
	if len(args) == 3 && args[0] == "--end-leases" {
		os.Exit(endLeases(context.Background(), args[1], "/proc", unitComesBack(args[2]), os.Stderr))
	}
	if len(args) == 1 {
		if a := builtin.Find(version, args[0]); a != nil {
			// Executed by its descriptor, the process has that's number as its name.
			_ = os.WriteFile("/proc/self/comm", []byte(args[0]), 0)
			remediate.Serve(a)
			return
		}
	}
	fmt.Fprintf(os.Stderr, "tcpmemd-action %s is started by tcpmemd. It has these actions:\n", version)
	for _, a := range builtin.Actions(version) {
		fmt.Fprintln(os.Stderr, " ", a.Describe().Name)
	}
	os.Exit(exitUsage)
}
