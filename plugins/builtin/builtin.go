// Package builtin lists the actions that tcpmemd brings along. Each is served
// by tcpmemd-action in a process of its own; described and asked whether
// settings are right it can be in any process.
package builtin

import (
	"github.com/tcpmemd/tcpmemd/plugins/destroy-sockets"
	"github.com/tcpmemd/tcpmemd/plugins/notify"
	"github.com/tcpmemd/tcpmemd/plugins/raise-tcp-mem"
	"github.com/tcpmemd/tcpmemd/plugins/restart-unit"
	"github.com/tcpmemd/tcpmemd/plugins/run-command"
	"github.com/tcpmemd/tcpmemd/plugins/signal-process"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// Actions gives the actions of a version of tcpmemd, in the order people read
// them.
func Actions(version string) []remediate.Action {
	return []remediate.Action{
		notify.New(version, "", ""),
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
