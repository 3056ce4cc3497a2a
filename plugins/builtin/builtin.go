// Package builtin lists the actions that tcpmemd brings along. Each is served
// by tcpmemd-action in a process of its own; described and asked whether
// settings are right it can be in any process.
package builtin

import (
	destroysockets "github.com/tcpmemd/tcpmemd/plugins/destroy-sockets"
	"github.com/tcpmemd/tcpmemd/plugins/notify"
	raisetcpmem "github.com/tcpmemd/tcpmemd/plugins/raise-tcp-mem"
	restartunit "github.com/tcpmemd/tcpmemd/plugins/restart-unit"
	runcommand "github.com/tcpmemd/tcpmemd/plugins/run-command"
	signalprocess "github.com/tcpmemd/tcpmemd/plugins/signal-process"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// Actions gives the actions of a version of tcpmemd, in the order people read
// them.
func Actions(version string) []remediate.Action {
	return []remediate.Action{
		notify.New(version),
		restartunit.New(version, "/proc"),
		signalprocess.New(version, "/proc"),
		destroysockets.New(version, "/proc"),
		raisetcpmem.New(version, "/proc"),
		runcommand.New(version),
	}
}

// Find gives the action of a name, nil where there is none.
func Find(version, name string) remediate.Action {
	for _, a := range Actions(version) {
		if a.Describe().Name == name {
			return a
		}
	}
	return nil
}
