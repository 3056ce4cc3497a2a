package policy

import (
	"math"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Type is what a variable or a part of a condition is. Only equal ones are
// compared, added and subtracted; a share and a number are equal here.
type Type string

// Types.
const (
	TypeBool     Type = "bool"
	TypeNumber   Type = "number"
	TypeShare    Type = "share" // from 0 to 1
	TypeBytes    Type = "bytes"
	TypeDuration Type = "duration"
	TypeString   Type = "string"
	TypeList     Type = "list" // of strings
	TypeLevel    Type = "level"
)

// Cadence says which reading brings a variable.
type Cadence string

// Cadences.
const (
	EachSample  Cadence = "sample"  // the counters, each second
	EachReading Cadence = "reading" // the scan of all sockets
)

// Variable is a name that a condition may use.
type Variable struct {
	Name    string
	Type    Type
	Unit    string   // in words, beyond what the type says; "" where there is no more
	Values  []string // all it can be, nil where that is no list
	Cadence Cadence
	// Nullable: it can be unknown although the sample, or the reading, is there.
	Nullable bool
	Doc      string

	number number
	text   text
	truth  truth
	list   list
}

// How a value is taken. A Truth has its own word for the unknown.
type (
	number func(*Vars) (float64, bool)
	text   func(*Vars) (string, bool)
	truth  func(*Vars) Truth
	list   func(*Vars) []string
)

// Scopes lists the scopes of the rules that may use the variable.
func (v *Variable) Scopes() []Scope {
	if v.ofOwner() {
		return Scopes()[1:]
	}
	return Scopes()
}

// In reports whether a rule for each scope may use the variable.
func (v *Variable) In(s Scope) bool { return slices.Contains(v.Scopes(), s) }

func (v *Variable) ofOwner() bool { return len(v.Name) > 6 && v.Name[:6] == "owner." }

// Variables lists them in the order people read them. Do not change it.
func Variables() []Variable { return variables }

const noVerdict = "none"

var (
	levels   = []string{"calm", "elevated", "pressure", "critical"}
	verdicts = []string{noVerdict, string(reading.Leak), string(reading.Load), string(reading.SlowPeer)}
	kinds    = []string{
		string(reading.KindService), string(reading.KindUserService), string(reading.KindSession),
		string(reading.KindScope), string(reading.KindContainer), string(reading.KindProcess),
		string(reading.KindKernel), string(reading.KindUnresolved),
	}
)

var variables = slices.Concat(hostVariables, ownerVariables)

var hostVariables = []Variable{
	{
		Name: "tcp.used", Type: TypeBytes, Cadence: EachSample, number: ofSample(func(v *Vars) float64 { return v.pages(v.sample.Used) }),
		Doc: "TCP memory in use on the host",
	},
	{
		Name: "tcp.min", Type: TypeBytes, Cadence: EachSample, number: ofSample(func(v *Vars) float64 { return v.pages(v.base().Min) }),
		Doc: "At or below it the kernel leaves pressure: net.ipv4.tcp_mem without a lease of tcpmemd, as the next two",
	},
	{
		Name: "tcp.pressure", Type: TypeBytes, Cadence: EachSample, number: ofSample(func(v *Vars) float64 { return v.pages(v.base().Pressure) }),
		Doc: "Above it the kernel enters pressure",
	},
	{
		Name: "tcp.max", Type: TypeBytes, Cadence: EachSample, number: ofSample(func(v *Vars) float64 { return v.pages(v.base().Max) }),
		Doc: "Above it the kernel refuses memory",
	},
	{
		Name: "tcp.fill", Type: TypeShare, Cadence: EachSample, number: ofPages(func(v *Vars) reading.Pages { return v.base().Max }),
		Doc: "used / max, without a lease of tcpmemd; can be above 1",
	},
	{
		Name: "tcp.fill_live", Type: TypeShare, Cadence: EachSample, number: ofPages(func(v *Vars) reading.Pages { return v.sample.Mem.Max }),
		Doc: "used / max as it is now, lease and all",
	},
	{
		Name: "tcp.fill_pressure", Type: TypeNumber, Unit: "1 is at the limit", Cadence: EachSample, number: ofPages(func(v *Vars) reading.Pages { return v.base().Pressure }),
		Doc: "used / pressure, without a lease of tcpmemd",
	},
	{
		Name: "tcp.under_pressure", Type: TypeBool, Cadence: EachSample, Nullable: true, truth: underPressure,
		Doc: "The kernel's own flag",
	},
	{
		Name: "tcp.level", Type: TypeLevel, Values: levels, Cadence: EachSample, text: levelText, number: levelRank,
		Doc: "What the host is without any policy; has an order, so >= works",
	},
	{
		Name: "tcp.growth", Type: TypeBytes, Unit: "per minute", Cadence: EachSample, Nullable: true,
		number: func(v *Vars) (float64, bool) { return optional(v.trend().GrowthPerMinute) },
		Doc:    "How fast use grows; negative where it falls",
	},
	{
		Name: "tcp.eta", Type: TypeDuration, Cadence: EachSample, Nullable: true, number: etaToMax,
		Doc: "Time until use reaches max at this pace; longer than any other where it does not grow",
	},
	{
		Name: "tcp.verdict", Type: TypeString, Values: verdicts, Cadence: EachReading, Nullable: true,
		text: func(v *Vars) (string, bool) { t := v.trend(); return verdictOf(t.Verdict, t.GrowthPerMinute) },
		Doc:  "What the growth of the whole host looks like",
	},

	{
		Name: "orphans.count", Type: TypeNumber, Unit: "sockets", Cadence: EachSample, number: ofSample(func(v *Vars) float64 { return float64(v.sample.Orphans) }),
		Doc: "Orphans on the host: closed, and the kernel still works on them",
	},
	{
		Name: "orphans.limit", Type: TypeNumber, Unit: "sockets", Cadence: EachSample, number: ofSample(func(v *Vars) float64 { return float64(v.sample.MaxOrphans) }),
		Doc: "net.ipv4.tcp_max_orphans; the kernel may count an orphan two or four times",
	},
	{
		Name: "orphans.share", Type: TypeShare, Cadence: EachSample, number: ofSample(func(v *Vars) float64 { return part(v.sample.Orphans, v.sample.MaxOrphans) }),
		Doc: "count / limit",
	},
	{
		Name: "orphans.rise", Type: TypeNumber, Unit: "sockets in 10 s", Cadence: EachSample, Nullable: true, number: ofRate(orphanCount),
		Doc: "How many more there are than 10 s ago; negative where fewer",
	},
	{
		Name: "orphans.bytes", Type: TypeBytes, Cadence: EachReading, number: ofClass(reading.Orphan, tallyBytes),
		Doc: "What they hold",
	},

	{
		Name: "kernel.aborts_on_memory", Type: TypeNumber, Unit: "in 10 s", Cadence: EachSample, Nullable: true, number: ofRate(abortsOnMemory),
		Doc: "TCPAbortOnMemory, over all network namespaces as all counters here: connections ended for lack of memory",
	},
	{
		Name: "kernel.pressure_entries", Type: TypeNumber, Unit: "in 10 s", Cadence: EachSample, Nullable: true, number: ofRate(pressureEntries),
		Doc: "TCPMemoryPressures: how often pressure began",
	},
	{
		Name: "kernel.prunes", Type: TypeNumber, Unit: "in 10 s", Cadence: EachSample, Nullable: true, number: ofRate(prunes),
		Doc: "PruneCalled: receive queues cut for lack of memory",
	},
	{
		Name: "kernel.rcvq_drops", Type: TypeNumber, Unit: "packets in 10 s", Cadence: EachSample, Nullable: true, number: ofRate(rcvqDrops),
		Doc: "TCPRcvQDrop: received and thrown away for lack of memory",
	},
	{
		Name: "kernel.zero_window_drops", Type: TypeNumber, Unit: "packets in 10 s", Cadence: EachSample, Nullable: true, number: ofRate(zeroWindowDrops),
		Doc: "TCPZeroWindowDrop: thrown away since the window was closed",
	},
	{
		Name: "kernel.wqueue_too_big", Type: TypeNumber, Unit: "in 10 s", Cadence: EachSample, Nullable: true, number: ofRate(wqueueTooBig),
		Doc: "TCPWqueueTooBig: writes refused for a send queue that is too long",
	},
	{
		Name: "kernel.listen_overflows", Type: TypeNumber, Unit: "in 10 s", Cadence: EachSample, Nullable: true, number: ofRate(listenOverflows),
		Doc: "ListenOverflows: connections refused since an accept queue was full",
	},
	{
		Name: "kernel.log_out_of_memory", Type: TypeNumber, Unit: "records in 10 s", Cadence: EachSample, Nullable: true, number: ofRate(logOutOfMemory),
		Doc: `"TCP: out of memory" in the kernel log`,
	},
	{
		Name: "kernel.log_orphans", Type: TypeNumber, Unit: "records in 10 s", Cadence: EachSample, Nullable: true, number: ofRate(logOrphans),
		Doc: `"TCP: too many orphaned sockets" in the kernel log`,
	},
	{
		Name: "kernel.log_conntrack_full", Type: TypeNumber, Unit: "records in 10 s", Cadence: EachSample, Nullable: true, number: ofRate(logConntrackFull),
		Doc: `"nf_conntrack: table full" in the kernel log`,
	},
	{
		Name: "kernel.log_lost", Type: TypeNumber, Unit: "records in 10 s", Cadence: EachSample, Nullable: true, number: ofRate(logLost),
		Doc: "Records of the kernel log overwritten before they were read",
	},

	{
		Name: "conntrack.count", Type: TypeNumber, Unit: "entries", Cadence: EachSample, Nullable: true, number: ofConntrack(func(u *reading.Usage) float64 { return float64(u.Count) }),
		Doc: "Connections that the kernel tracks; unknown where it tracks none, as the next two",
	},
	{
		Name: "conntrack.limit", Type: TypeNumber, Unit: "entries", Cadence: EachSample, Nullable: true, number: ofConntrack(func(u *reading.Usage) float64 { return float64(u.Limit) }),
		Doc: "net.netfilter.nf_conntrack_max",
	},
	{
		Name: "conntrack.share", Type: TypeShare, Cadence: EachSample, Nullable: true, number: ofConntrack(func(u *reading.Usage) float64 { return part(u.Count, u.Limit) }),
		Doc: "count / limit",
	},

	{
		Name: "hidden.bytes", Type: TypeBytes, Cadence: EachReading, number: ofClass(reading.Hidden, tallyBytes),
		Doc: "Held by sockets that a process has open and no dump shows",
	},
	{
		Name: "hidden.sockets", Type: TypeNumber, Unit: "sockets", Cadence: EachReading, number: ofClass(reading.Hidden, tallySockets),
		Doc: "How many of them were found",
	},
	{
		Name: "hidden.estimate", Type: TypeNumber, Unit: "sockets", Cadence: EachReading, number: ofReading(func(r *reading.Reading) float64 { return float64(r.Ledger.HiddenEstimate) }),
		Doc: "How many there are by the kernel's counters, an upper bound",
	},
	{Name: "hidden.share", Type: TypeShare, Cadence: EachReading, number: ofReading(func(r *reading.Reading) float64 {
		return part(r.Ledger.Classes[reading.Hidden].Bytes, r.Sample.Used.Bytes(r.Sample.PageSize))
	}), Doc: "bytes / used"},

	{
		Name: "coverage", Type: TypeShare, Cadence: EachReading, number: ofReading(func(r *reading.Reading) float64 { return r.Ledger.Coverage }),
		Doc: "Share of the memory in use whose owner is known",
	},

	{
		Name: "daemon.blind", Type: TypeNumber, Unit: "ways", Cadence: EachSample, number: func(v *Vars) (float64, bool) { return float64(len(v.facts.Blind)), true },
		Doc: "In how many ways tcpmemd cannot see or act just now",
	},
	{
		Name: "daemon.blind_ids", Type: TypeList, Cadence: EachSample, list: func(v *Vars) []string { return v.facts.Blind },
		Doc: `Which ones, for the operator in: "blind-coverage" in daemon.blind_ids`,
	},
}

func underPressure(v *Vars) Truth {
	if v.sample == nil || v.sample.UnderPressure == nil {
		return Unknown
	}
	return truthOf(*v.sample.UnderPressure)
}

func levelText(v *Vars) (string, bool) {
	return v.facts.Level.String(), v.facts.Level != reading.Unknown
}

// levelRank is the level's place in levels.
func levelRank(v *Vars) (float64, bool) {
	return float64(v.facts.Level - reading.Calm), v.facts.Level != reading.Unknown
}

// etaToMax is in seconds. A trend that knows the growth and tells no time sees
// no end.
func etaToMax(v *Vars) (float64, bool) {
	t := v.trend()
	if t.EtaMax != nil {
		return t.EtaMax.Seconds(), true
	}
	return math.Inf(1), t.GrowthPerMinute != nil
}

func ofClass(c reading.Class, of func(reading.Tally) int64) number {
	return ofReading(func(r *reading.Reading) float64 { return float64(of(r.Ledger.Classes[c])) })
}

func tallyBytes(t reading.Tally) int64   { return t.Bytes }
func tallySockets(t reading.Tally) int64 { return t.Sockets }
