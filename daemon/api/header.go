package api

import (
	"math"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Meta is what a document says about its maker rather than about the host's
// memory. Now is the time of the answer; a reading older than StaleAfter is
// called stale (0: readings do not age, as when they were taken just now).
type Meta struct {
	DaemonVersion string
	Hostname      string
	BootID        string // "" where unknown
	Mode          string // observe, enforce
	Source        string // SourceDaemon, SourceDirect or SourceExport
	Tier          string // netlink
	Now           time.Time
	StaleAfter    time.Duration
	// ReadingStaleAfter is that of full readings, which are taken less often than
	// samples; 0 stands for StaleAfter.
	ReadingStaleAfter time.Duration
}

// Values of Meta.Source.
const (
	SourceDaemon = "daemon" // the daemon's last or a fresh reading
	SourceDirect = "direct" // the command read the kernel itself
	SourceExport = "export" // a file that a command wrote earlier
)

// Header opens every document that rests on a reading.
type Header struct {
	Version       int       `json:"version"`
	DaemonVersion string    `json:"daemon_version"`
	Hostname      string    `json:"hostname"`
	BootID        *string   `json:"boot_id"`
	Mode          string    `json:"mode"`
	Source        string    `json:"source"`
	Tier          string    `json:"tier"`
	TakenAt       time.Time `json:"taken_at"` // UTC, milliseconds
	TookSeconds   float64   `json:"took_seconds"`
	AgeSeconds    float64   `json:"age_seconds"`
	Stale         bool      `json:"stale"`
	Partial       bool      `json:"partial"`
}

func (m Meta) header(r *reading.Reading) Header {
	if m.ReadingStaleAfter > 0 {
		m.StaleAfter = m.ReadingStaleAfter
	}
	h := m.sampleHeader(&r.Sample)
	h.TookSeconds = seconds(r.Took)
	h.Partial = r.Partial
	return h
}

func (m Meta) sampleHeader(s *reading.Sample) Header {
	age := max(m.Now.Sub(s.At), 0)
	if m.Now.IsZero() || s.At.IsZero() {
		age = 0
	}
	return Header{
		Version:       Version,
		DaemonVersion: m.DaemonVersion,
		Hostname:      m.Hostname,
		BootID:        known(m.BootID),
		Mode:          m.Mode,
		Source:        m.Source,
		Tier:          m.Tier,
		TakenAt:       utc(s.At),
		AgeSeconds:    seconds(age),
		Stale:         m.StaleAfter > 0 && age > m.StaleAfter,
	}
}

// Memory is the pool that net.ipv4.tcp_mem limits.
type Memory struct {
	PageSize      int           `json:"page_size"` // bytes
	UsedPages     reading.Pages `json:"used_pages"`
	MinPages      reading.Pages `json:"min_pages"`
	PressurePages reading.Pages `json:"pressure_pages"`
	MaxPages      reading.Pages `json:"max_pages"`
	UsedBytes     int64         `json:"used_bytes"`
	MaxBytes      int64         `json:"max_bytes"`
	// Fill is used / max against the triple without a lease of ours, FillLive
	// against the triple as it is now.
	Fill          float64       `json:"fill"`
	FillLive      float64       `json:"fill_live"`
	UnderPressure *bool         `json:"under_pressure"`
	Level         reading.Level `json:"level"`
	Judgement
	GrowthBytesPerMinute *int64   `json:"growth_bytes_per_minute"`
	EtaPressureSeconds   *float64 `json:"eta_pressure_seconds"`
	EtaSeconds           *float64 `json:"eta_seconds"` // to max
	Lease                *Lease   `json:"lease"`
}

// Lease is a raise of tcp_mem that ends by itself: the triple it started from
// and its end.
type Lease struct {
	BaseMinPages      reading.Pages `json:"base_min_pages"`
	BasePressurePages reading.Pages `json:"base_pressure_pages"`
	BaseMaxPages      reading.Pages `json:"base_max_pages"`
	ExpiresAt         time.Time     `json:"expires_at"`
}

// Judgement is a verdict (leak, load or slow-peer; null where there is too
// little data) with its reasons in words. Culprit is the key of the owner, or
// the address, that does not read; only a slow-peer verdict has one.
type Judgement struct {
	Verdict *reading.VerdictKind `json:"verdict"`
	Reasons []string             `json:"verdict_reasons"`
	Culprit *string              `json:"verdict_culprit"`
}

func judgementFrom(v *reading.Verdict) Judgement {
	if v == nil {
		return Judgement{Reasons: []string{}}
	}
	return Judgement{Verdict: &v.Kind, Reasons: list(v.Reasons), Culprit: known(v.Culprit)}
}

// memoryFrom describes the pool; stale counters have no level (POLICY: old
// data is unknown, never fine).
func memoryFrom(s *reading.Sample, level reading.Level, t reading.Trend, stale bool) Memory {
	if stale {
		level = reading.Unknown
	}
	return Memory{
		PageSize:      s.PageSize,
		UsedPages:     s.Used,
		MinPages:      s.Mem.Min,
		PressurePages: s.Mem.Pressure,
		MaxPages:      s.Mem.Max,
		UsedBytes:     s.Used.Bytes(s.PageSize),
		MaxBytes:      s.Mem.Max.Bytes(s.PageSize),
		Fill:          finite(s.Fill()),
		FillLive:      finite(s.Fill()),
		UnderPressure: s.UnderPressure,
		Level:         level,

		Judgement:            judgementFrom(t.Verdict),
		GrowthBytesPerMinute: t.GrowthPerMinute,
		EtaPressureSeconds:   optionalSeconds(t.EtaPressure),
		EtaSeconds:           optionalSeconds(t.EtaMax),
	}
}

// lease notes a lease: Fill is against the triple that it started from.
func (m *Memory) lease(l *Lease) {
	m.Lease = l
	if l != nil && l.BaseMaxPages > 0 {
		m.Fill = finite(float64(m.UsedPages) / float64(l.BaseMaxPages))
	}
}

// Limited is a count beside the limit that the kernel sets, null where the
// limit is not known.
type Limited struct {
	Count int64  `json:"count"`
	Limit *int64 `json:"limit"`
}

// OrphanCount is the kernel's count of orphans, how many of them the scan
// saw (null where there was no scan), and net.ipv4.tcp_max_orphans.
type OrphanCount struct {
	Count int64  `json:"count"`
	Seen  *int64 `json:"seen"`
	Limit int64  `json:"limit"`
}

// gapsFrom joins the gaps of lists, each once.
func gapsFrom(lists ...[]reading.Gap) []reading.Gap {
	type id struct{ code, what string }
	all := []reading.Gap{}
	seen := make(map[id]bool)
	for _, gaps := range lists {
		for _, g := range gaps {
			if k := (id{g.Code, g.What}); !seen[k] {
				seen[k] = true
				all = append(all, g)
			}
		}
	}
	return all
}

// known is null for the empty string.
func known(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// list is s, or an empty list where s is nil: JSON lists are never null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// seconds rounds to microseconds: more digits would be noise in a document.
func seconds(d time.Duration) float64 { return finite(d.Seconds()) }

func optionalSeconds(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	s := seconds(*d)
	return &s
}

// finite rounds to six digits after the point, and turns what JSON cannot
// say (NaN, infinities) into 0.
func finite(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return math.Round(f*1e6) / 1e6
}
