// Package metrics says for Prometheus what the daemon knows: facts in, metric
// families out, and their text. It only computes; who serves them, and who
// gathers the facts, is elsewhere.
//
// Three rules hold for every family. What is not known is absent, never 0. No
// label carries what changes with every process or connection: a pid, an
// address, a port, a cookie, an inode, an invocation id, a whole container id.
// And whatever happens on the host, there are never more than MaxSeries.
package metrics

import (
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// MaxSeries bounds the series of one host, over all families. With the handful
// that Prometheus adds to each target it stays below 200.
const MaxSeries = 190

// MaxOwners bounds the owners that have series of their own.
const MaxOwners = 10

// Facts is what the daemon knows at one moment. Families changes nothing of
// it.
type Facts struct {
	Version string
	Started time.Time // the daemon; zero: not known

	Sample *reading.Sample // nil before the first
	// Level and Trend are of the host: Unknown and empty where the sample is too
	// old to say anything.
	Level   reading.Level
	Trend   reading.Trend
	Reading *reading.Reading // nil before the first full reading
	// Owners is how many of the biggest owners are told apart, MaxOwners at most.
	Owners int

	// Conduct is nil where the daemon's loop did not answer in time.
	Conduct *Conduct
	Process Process
}

// Conduct is what only the daemon's loop knows: what it may do, where its
// rules stand, what it did.
type Conduct struct {
	Enforcing bool // the mode in effect
	Paused    bool
	Stopped   bool // the emergency stop
	// Base is net.ipv4.tcp_mem without a lease of the daemon's, LeaseExpires the
	// end of that lease, nil without one.
	Base         reading.TCPMem
	LeaseExpires *time.Time

	ActionsInProgress int
	Rules             []Rule
	IncidentsOpen     int
	Blind             []string // ids of the event catalogue
	RightsMissing     int
	Journal           *Journal // nil where nothing is told to it
	Counts            Counts
}

// Rule is where a rule stands: its keys by phase, and whether a spent budget
// holds it.
type Rule struct {
	Name, Severity  string
	Pending, Firing int
	Held            bool
}

// Journal counts what the journal has not taken yet, and what it never will.
type Journal struct {
	Waiting int
	Lost    int64
}

// Counts is what was recorded since the daemon started. Each list is in the
// order in which things first happened, which is what keeps a series once it
// is there.
type Counts struct {
	Decisions map[record.Choice]int64
	Refusals  []Count // by guard
	Actions   []Count // by action and outcome
	Effects   []Count // by action and verdict
	Incidents int64
}

// Count is how often something happened. Of is a guard or an action, Came what
// came of the action.
type Count struct {
	Of, Came string
	N        int64
}

// Add counts one more of a kind; with n 0 it says that the kind may come.
func Add(list []Count, of, came string, n int64) []Count {
	for i := range list {
		if list[i].Of == of && list[i].Came == came {
			list[i].N += n
			return list
		}
	}
	return append(list, Count{of, came, n})
}

// Process is what the daemon's own process has used; nil and zero are not
// known.
type Process struct {
	CPUSeconds    *float64
	ResidentBytes *int64
	OpenFDs       *int64
	Started       time.Time
}
