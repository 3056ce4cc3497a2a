package api

import (
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// HealthStatus is what a check comes to.
type HealthStatus string

// The words of Health.Status. Any other, as none at all, is unknown.
const (
	HealthOK      HealthStatus = "ok"
	HealthProblem HealthStatus = "problem"
	HealthUnknown HealthStatus = "unknown"
)

// Reasons of Health.Reasons.
const (
	ReasonLevel       = "level"         // pressure or critical
	ReasonOutOfMemory = "out-of-memory" // the kernel's word, within OutOfMemoryRecent
	ReasonRule        = "rule"          // one of severity critical fires
)

// OutOfMemoryRecent is how long the kernel's word that it ended a connection
// for lack of memory stays a problem: longer than monitors wait between two
// looks, so that none misses it.
const OutOfMemoryRecent = 5 * time.Minute

// Health is the document behind "tcpmemctl health": small, of what the daemon
// knows already, and of the same size whatever the host holds.
type Health struct {
	Header
	Status HealthStatus `json:"status"`
	// Critical is a problem that stops connections already: the level critical,
	// the kernel's word, or a rule.
	Critical bool     `json:"critical"`
	Reasons  []string `json:"reasons"` // of a problem
	Memory   Memory   `json:"memory"`
	// OutOfMemoryAt is when the kernel last said so; null: not since the daemon
	// started.
	OutOfMemoryAt *time.Time   `json:"out_of_memory_at"`
	Rules         []string     `json:"rules"` // of severity critical, that fire
	Held          bool         `json:"held"`  // a budget of one of them is spent
	Owner         *HealthOwner `json:"owner"` // the worst; null where none holds anything, or before a scan
	// Acting is the action under way, for Owner or for the host; ActingElsewhere
	// that there is one for another owner.
	Acting          *string  `json:"acting"`
	ActingElsewhere bool     `json:"acting_elsewhere"`
	ScanAgeSeconds  *float64 `json:"scan_age_seconds"`
	// FillTens is memory.fill_live in steps of ten percent that a value near a
	// limit does not change; null without a daemon.
	FillTens *int `json:"fill_tens"`
}

// HealthOwner is who is named first.
type HealthOwner struct {
	Key       string               `json:"key"`
	Name      string               `json:"name"`
	Bytes     int64                `json:"bytes"`
	Share     float64              `json:"share"` // of all TCP memory
	ShareTens *int                 `json:"share_tens"`
	Verdict   *reading.VerdictKind `json:"verdict"`
	Culprit   *string              `json:"verdict_culprit"`
}

// Watch is what a daemon keeps for checks from one sample to the next, so that
// what they say does not flap.
type Watch struct {
	OutOfMemory time.Time // zero: never
	Fill        int       // tens of percent
	Owner       string    // the key of who is named
	Share       int       // its tens of percent
}

// HealthFrom judges the daemon's state. The level is the daemon's, which has
// leave levels of its own, so that a check needs none. A rule of severity
// critical counts whatever its mode: it says that something is wrong, and not
// that somebody may act.
func HealthFrom(m Meta, s State) *Health {
	h := m.sampleHeader(&s.Sample)
	doc := &Health{
		Header: h, Status: HealthOK, Reasons: []string{}, Rules: []string{},
		Memory: memoryFrom(&s.Sample, s.Level, s.Trend, h.Stale),
	}
	if w := s.Watch; w != nil {
		doc.OutOfMemoryAt, doc.FillTens = knownTime(w.OutOfMemory), &w.Fill
		if !w.OutOfMemory.IsZero() && m.Now.Sub(w.OutOfMemory) < OutOfMemoryRecent {
			doc.Reasons, doc.Critical = append(doc.Reasons, ReasonOutOfMemory), true
		}
	}
	doc.owner(m, &s)
	if c := s.Conduct; c != nil {
		doc.Memory.lease(c.Lease)
		doc.rules(c.Rules)
	}
	switch doc.Memory.Level {
	case reading.Unknown:
		doc.Status = HealthUnknown
		return doc
	case reading.Pressure, reading.Critical:
		doc.Reasons = slices.Insert(doc.Reasons, 0, ReasonLevel)
		doc.Critical = doc.Critical || doc.Memory.Level == reading.Critical
	}
	if len(doc.Reasons) > 0 {
		doc.Status = HealthProblem
	}
	return doc
}

func (h *Health) owner(m Meta, s *State) {
	r := s.Reading
	if r == nil {
		return
	}
	age := m.header(r).AgeSeconds
	h.ScanAgeSeconds = &age
	held := ""
	if s.Watch != nil {
		held = s.Watch.Owner
	}
	o := WorstOwner(r, held)
	if o == nil {
		return
	}
	h.Owner = &HealthOwner{Key: o.Key, Name: o.Name, Bytes: o.Sum.Bytes, Share: finite(OwnerShare(r, o))}
	if s.Watch != nil && s.Watch.Owner == o.Key {
		h.Owner.ShareTens = &s.Watch.Share
	}
	if v := o.Verdict; v != nil {
		h.Owner.Verdict, h.Owner.Culprit = &v.Kind, known(v.Culprit)
	}
}

func (h *Health) rules(all []RuleState) {
	for i := range all {
		r := &all[i]
		if r.Severity == "critical" && r.Firing > 0 {
			h.Rules = append(h.Rules, r.Name)
			h.Held = h.Held || r.Held
		}
		for j := range r.Keys {
			k := &r.Keys[j]
			switch {
			case !k.Acting || k.Phase != record.Firing || k.Action == "notify":
			case r.ForEach == "host" || h.Owner != nil && k.Key == h.Owner.Key:
				h.Acting = &k.Action
			default:
				h.ActingElsewhere = true
			}
		}
	}
	if len(h.Rules) > 0 {
		h.Reasons, h.Critical = append(h.Reasons, ReasonRule), true
	}
}

// WorstOwner is who is named first: the biggest owner, or the biggest leak
// where that holds at least half as much. The one that was named before, held,
// stays until another is a fifth bigger, or a leak where it is none: two that
// are alike must not take turns. It is nil where nobody holds anything.
func WorstOwner(r *reading.Reading, held string) *reading.Owner {
	var biggest, leak, before *reading.Owner
	for i := range r.Owners {
		o := &r.Owners[i]
		if o.Sum.Bytes <= 0 {
			continue
		}
		if biggest == nil || o.Sum.Bytes > biggest.Sum.Bytes {
			biggest = o
		}
		if leaks(o) && (leak == nil || o.Sum.Bytes > leak.Sum.Bytes) {
			leak = o
		}
		if held != "" && o.Key == held {
			before = o
		}
	}
	worst := biggest
	if leak != nil && 2*leak.Sum.Bytes >= biggest.Sum.Bytes {
		worst = leak
	}
	if before != nil && leaks(before) == leaks(worst) && before.Sum.Bytes+before.Sum.Bytes/5 >= worst.Sum.Bytes {
		return before
	}
	return worst
}

func leaks(o *reading.Owner) bool { return o.Verdict != nil && o.Verdict.Kind == reading.Leak }

// OwnerShare is an owner's part of all that is used, or of all that was seen
// where the per-CPU reserve makes that a little more.
func OwnerShare(r *reading.Reading, o *reading.Owner) float64 {
	whole := max(r.Sample.Used.Bytes(r.Sample.PageSize), r.Ledger.Seen)
	if whole <= 0 {
		return 0
	}
	return float64(o.Sum.Bytes) / float64(whole)
}
