package trendtest

import (
	"context"
	"fmt"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Source is where a recording comes from: two functions of whatever reads the
// host, so that this package needs to know none of it.
type Source struct {
	Sample func(context.Context) (reading.Sample, error)
	Scan   func(context.Context) (reading.Reading, error)
}

// Plan says how to record.
type Plan struct {
	Duration time.Duration
	// SampleEvery is the time between samples, ScanEvery the time to the next
	// reading at a level; both as the daemon would.
	SampleEvery time.Duration
	ScanEvery   func(reading.Level) time.Duration
	// Step, where not nil, is called before each sample with the time since
	// the start: it makes and ends the sockets of the scene. It must be quick.
	Step func(ctx context.Context, since time.Duration) error
	// Keep chooses the owners to record, all where nil. Anonymize the rest of
	// the machine by leaving it out.
	Keep func(*reading.Owner) bool
	// Rename gives the key to record for an owner, the same where nil.
	Rename func(key string) string
}

// Record samples and scans src until the plan's duration is over. The
// header's limits are taken from the first reading.
func Record(ctx context.Context, h Header, p Plan, src Source) (*Recording, error) {
	r := &Recording{Header: h}
	r.Version = Version
	start := time.Now()
	var nextScan time.Time
	tick := time.NewTicker(p.SampleEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		since := time.Since(start)
		if since >= p.Duration {
			return r, nil
		}
		if p.Step != nil {
			if err := p.Step(ctx, since); err != nil {
				return nil, fmt.Errorf("record %s after %s: %w", h.Name, since.Round(time.Second), err)
			}
		}
		if now := time.Now(); !now.Before(nextScan) {
			full, err := src.Scan(ctx)
			if err != nil {
				return nil, fmt.Errorf("record %s: %w", h.Name, err)
			}
			if first {
				r.limits(&full.Sample)
			}
			r.Observations = append(r.Observations, p.rename(FromReading(&full, full.Sample.At.Sub(start), p.Keep)))
			nextScan = now.Add(p.ScanEvery(full.Level))
		} else {
			s, err := src.Sample(ctx)
			if err != nil {
				return nil, fmt.Errorf("record %s: %w", h.Name, err)
			}
			r.Observations = append(r.Observations, FromSample(&s, s.At.Sub(start)))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("record %s: %w", h.Name, ctx.Err())
		case <-tick.C:
		}
	}
}

func (r *Recording) limits(s *reading.Sample) {
	r.PageSize = s.PageSize
	r.Mem = [3]int64{int64(s.Mem.Min), int64(s.Mem.Pressure), int64(s.Mem.Max)}
	r.ReserveMax = s.ReserveMax
}

func (p *Plan) rename(o Observation) Observation {
	if p.Rename == nil {
		return o
	}
	for i := range o.Owners {
		o.Owners[i].Key = p.Rename(o.Owners[i].Key)
		for j := range o.Owners[i].Peers {
			if peer := &o.Owners[i].Peers[j]; peer.Owner != "" {
				peer.Owner = p.Rename(peer.Owner)
			}
		}
	}
	return o
}
