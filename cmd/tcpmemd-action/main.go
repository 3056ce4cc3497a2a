// Command tcpmemd-action is the actions that tcpmemd brings along: one
// executable, one process for each action that is in use. tcpmemd starts it; a
// person has no use for it.
//
//	tcpmemd-action NAME              serves the action
//	tcpmemd-action --launch ...      executes a plugin with the rights it declared
package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/launch"
)

// builtIn are the actions by name, as in a policy.
var builtIn = map[string]func() remediate.Action{}

const exitUsage = 2

func main() {
	switch args := os.Args[1:]; {
	case len(args) > 0 && args[0] == "--launch":
		os.Exit(launch.Main(args[1:]))
	case len(args) == 1 && builtIn[args[0]] != nil:
		// Executed by descriptor, the process is called by that's number.
		_ = os.WriteFile("/proc/self/comm", []byte(args[0]), 0)
		remediate.Serve(builtIn[args[0]]())
	default:
		fmt.Fprintf(os.Stderr, "tcpmemd-action is started by tcpmemd. It has the actions: %s\n",
			strings.Join(slices.Sorted(maps.Keys(builtIn)), ", "))
		os.Exit(exitUsage)
	}
}
