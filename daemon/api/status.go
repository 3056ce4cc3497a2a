package api

import (
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// TopOwners is how many owners a status names.
const TopOwners = 5

// Status is the document of "tcpmemctl status --json". Its header is that of
// the last sample, which is newer than the last scan that the ledger and the
// owners come from (ScanAgeSeconds; null, with no ledger, before a first scan).
type Status struct {
	Header
	Level            reading.Level `json:"level"`
	Since            *time.Time    `json:"since"`   // of the level
	Started          *time.Time    `json:"started"` // the daemon; null without one
	Memory           Memory        `json:"memory"`
	Orphans          OrphanCount   `json:"orphans"`
	TimeWait         Limited       `json:"time_wait"`
	SocketsAllocated int64         `json:"sockets_allocated"`
	Kernel           Kernel        `json:"kernel"`
	Conntrack        *Limited      `json:"conntrack"`    // null where connections are not tracked
	FileHandles      *Limited      `json:"file_handles"` // of the host
	Ledger           *Ledger       `json:"ledger"`
	ScanAgeSeconds   *float64      `json:"scan_age_seconds"`
	TopOwners        []Owner       `json:"top_owners"`
	Truncated        Truncated     `json:"truncated"`
	// ModeWhy says what the mode rests on, null without a daemon.
	ModeWhy     *string     `json:"mode_reason"`
	Rules       []RuleState `json:"rules"` // that are pending, fire, or are held
	RulesLoaded int         `json:"rules_loaded"`
	Pause       *Pause      `json:"pause"`
	Stop        *string     `json:"stop"` // the emergency stop, and why
	Blind       []Blindness `json:"blind"`
	// RightsMissing are those that rules want in vain.
	RightsMissing []MissingRight `json:"rights_missing"`
	// Journal is null where the daemon tells a terminal.
	Journal *Journal      `json:"journal"`
	Gaps    []reading.Gap `json:"gaps"`
	Cost    *Cost         `json:"cost"`
}

// Journal counts what was to be told and is not delivered.
type Journal struct {
	Waiting int   `json:"waiting"` // tried again until the journal takes it
	Lost    int64 `json:"lost"`    // since the daemon started, for want of room
}

// Cost is what the daemon itself has used.
type Cost struct {
	CPUSeconds float64 `json:"cpu_seconds"` // user and system, since it started
	RSSBytes   int64   `json:"rss_bytes"`
}

// State is what a running daemon knows beside its readings. Sample is the
// newest one, Trend the judgement over it; Reading is the last full scan, nil
// before the first. Times that are zero are not known.
type State struct {
	Sample  reading.Sample
	Level   reading.Level
	Trend   reading.Trend
	Since   time.Time // of the level
	Started time.Time
	Reading *reading.Reading
	Cost    *Cost
	Conduct *Conduct // nil without a daemon
	Watch   *Watch   // nil without a daemon
}

// StateOf is the state that a single reading gives, without a daemon.
func StateOf(r *reading.Reading) State {
	return State{Sample: r.Sample, Level: r.Level, Trend: r.Trend, Reading: r}
}

// StatusFrom describes the daemon's state.
func StatusFrom(m Meta, s State) *Status {
	h := m.sampleHeader(&s.Sample)
	memory := memoryFrom(&s.Sample, s.Level, s.Trend, h.Stale)
	doc := &Status{
		Header:           h,
		Level:            memory.Level,
		Since:            knownTime(s.Since),
		Started:          knownTime(s.Started),
		Memory:           memory,
		Orphans:          OrphanCount{Count: s.Sample.Orphans, Limit: s.Sample.MaxOrphans},
		TimeWait:         Limited{Count: s.Sample.TimeWait, Limit: s.Sample.MaxTimeWait},
		SocketsAllocated: s.Sample.Alloc,
		Kernel:           kernelFrom(&s.Sample),
		Conntrack:        limitedFrom(s.Sample.Conntrack),
		FileHandles:      limitedFrom(s.Sample.Files),
		TopOwners:        []Owner{},
		Rules:            []RuleState{},
		Blind:            []Blindness{},
		RightsMissing:    []MissingRight{},
		Gaps:             gapsFrom(s.Sample.Gaps),
		Cost:             s.Cost,
	}
	if c := s.Conduct; c != nil {
		doc.ModeWhy, doc.Pause, doc.Stop = known(c.ModeWhy), c.Pause, known(c.Stop)
		doc.Rules, doc.RulesLoaded = busy(c.Rules), len(c.Rules)
		doc.Blind, doc.RightsMissing, doc.Journal = list(c.Blind), list(c.Rights), c.Journal
		doc.Memory.lease(c.Lease)
	}
	if s.Reading == nil {
		return doc
	}
	owners := OwnersFrom(m, s.Reading)
	owners.Keep(TopOwners)
	doc.TookSeconds, doc.Partial = owners.TookSeconds, owners.Partial
	doc.Orphans.Seen = owners.Orphans.Seen
	doc.Ledger = &owners.Ledger
	doc.ScanAgeSeconds = &owners.AgeSeconds
	doc.TopOwners, doc.Truncated = owners.Owners, owners.Truncated
	doc.Gaps = gapsFrom(s.Sample.Gaps, s.Reading.Sample.Gaps, s.Reading.Gaps)
	return doc
}

func knownTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = utc(t)
	return &t
}
