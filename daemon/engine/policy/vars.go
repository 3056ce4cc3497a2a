package policy

import (
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Truth is the value of a condition. Unknown: it needed a value that is not
// known, which is neither fine nor a reason to act.
type Truth uint8

// Truths.
const (
	No Truth = iota
	Yes
	Unknown
)

// Facts is what a turn knows of the host.
type Facts struct {
	Sample *reading.Sample
	Level  reading.Level
	Trend  reading.Trend
	// Base is net.ipv4.tcp_mem without a lease of ours; the sample's where
	// there is none.
	Base reading.TCPMem
	// Reading is the last full one, nil before the first; Age is how old it is.
	Reading *reading.Reading
	Age     time.Duration
	// Rates are those of the kernel's counters over the last seconds.
	Rates Rates
	// Blind lists in which ways the daemon cannot see or act just now (ids of
	// the event catalogue).
	Blind []string
}

// Rates stands for what a Window gives.
type Rates struct{}

// Window remembers the counters of the last seconds.
type Window struct{}

// Observe takes a sample.
func (w *Window) Observe(*reading.Sample) {}

// Rates gives the rates as of the last sample.
func (w *Window) Rates() Rates { return Rates{} }

// Vars are the variables of a condition with their values.
type Vars struct{}

// HostVars gives the variables of the host.
func HostVars(*Facts) *Vars { return &Vars{} }

// WithOwner adds those of an owner, or of a group summed up in one. rank is
// from 1.
func (v *Vars) WithOwner(*Facts, *reading.Owner, int) *Vars { return v }

// Condition is a compiled expression.
type Condition struct{ text string }

// Compile checks and compiles an expression for rules of a scope.
func Compile(text string, _ Scope) (*Condition, error) { return &Condition{text}, nil }

// String gives the expression's text.
func (c *Condition) String() string { return c.text }

// Eval gives the condition's value.
func (c *Condition) Eval(*Vars) Truth { return Unknown }

// Numbers gives the variables that the condition names, with their values.
func (c *Condition) Numbers(*Vars) record.Numbers { return nil }

// NeedsReading reports whether the condition names a variable that only a full
// reading has.
func (c *Condition) NeedsReading() bool { return false }
