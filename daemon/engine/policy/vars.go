package policy

import (
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Facts is what a turn knows of the host.
type Facts struct {
	// Sample is the newest one; the level unknown means that it says nothing.
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

// BlindBus is, of those ids, that PID 1 cannot be asked.
const BlindBus = "blind-bus"

// Vars are the variables of a condition with their values. A value is taken
// from the facts when a condition asks for it.
type Vars struct {
	facts  *Facts
	sample *reading.Sample // nil where it is none or too old
	owner  *reading.Owner
	rank   int
}

// HostVars gives the variables of the host.
func HostVars(f *Facts) *Vars {
	v := &Vars{facts: f}
	if f.Level != reading.Unknown {
		v.sample = f.Sample
	}
	return v
}

// WithOwner adds those of an owner, or of a group summed up in one. rank is
// from 1.
func (v *Vars) WithOwner(f *Facts, o *reading.Owner, rank int) *Vars {
	return &Vars{facts: f, sample: v.sample, owner: o, rank: rank}
}

// pages gives a count of pages in bytes.
func (v *Vars) pages(p reading.Pages) float64 { return float64(p.Bytes(v.sample.PageSize)) }

// trend is empty without a sample: it is no newer.
func (v *Vars) trend() reading.Trend {
	if v.sample == nil {
		return reading.Trend{}
	}
	return v.facts.Trend
}

// base is the triple without a lease of ours. Only with a sample.
func (v *Vars) base() reading.TCPMem {
	if v.facts.Base == (reading.TCPMem{}) {
		return v.sample.Mem
	}
	return v.facts.Base
}

// A number of an owner, of a full reading, ... is unknown without one.

func ofSample(get func(*Vars) float64) number {
	return func(v *Vars) (float64, bool) {
		if v.sample == nil {
			return 0, false
		}
		return get(v), true
	}
}

func ofReading(get func(*reading.Reading) float64) number {
	return func(v *Vars) (float64, bool) {
		if v.facts.Reading == nil {
			return 0, false
		}
		return get(v.facts.Reading), true
	}
}

func ofOwner(get func(*reading.Owner) float64) number {
	return func(v *Vars) (float64, bool) {
		if v.owner == nil {
			return 0, false
		}
		return get(v.owner), true
	}
}

func nameOfOwner(get func(*reading.Owner) string) text {
	return func(v *Vars) (string, bool) {
		if v.owner == nil {
			return "", false
		}
		return get(v.owner), true
	}
}

func flagOfOwner(get func(*reading.Owner) bool) truth {
	return func(v *Vars) Truth {
		if v.owner == nil {
			return Unknown
		}
		return truthOf(get(v.owner))
	}
}

// ofPages gives the share that pages are of a limit, unknown without a limit.
func ofPages(limit func(*Vars) reading.Pages) number {
	return func(v *Vars) (float64, bool) {
		if v.sample == nil {
			return 0, false
		}
		n := limit(v)
		return float64(v.sample.Used) / float64(max(n, 1)), n > 0
	}
}

func ofRate(i counter) number {
	return func(v *Vars) (float64, bool) {
		r := v.facts.Rates.rises[i]
		return float64(r.n), r.known && v.sample != nil
	}
}

// ofConntrack is unknown where the kernel tracks no connections.
func ofConntrack(get func(*reading.Usage) float64) number {
	return func(v *Vars) (float64, bool) {
		if v.sample == nil || v.sample.Conntrack == nil {
			return 0, false
		}
		return get(v.sample.Conntrack), true
	}
}

// verdictOf gives the word for a judgement: "none" where the trend watched for
// long enough and sees neither leak nor load nor slow peer, unknown before.
func verdictOf(v *reading.Verdict, growth *int64) (string, bool) {
	if v != nil {
		return string(v.Kind), true
	}
	return noVerdict, growth != nil
}

func optional(n *int64) (float64, bool) {
	if n == nil {
		return 0, false
	}
	return float64(*n), true
}

// part is a share of a whole; of nothing everything is 0.
func part(of, whole int64) float64 {
	if whole <= 0 {
		return 0
	}
	return float64(of) / float64(whole)
}
