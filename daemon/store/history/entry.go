// Package history keeps what the daemon saw: each sample of the last hour (the
// fine tier) and one a minute for two weeks (the coarse one), with full
// readings, in a folder that never outgrows its bound.
//
// A tier is a sequence of segments, NAME-NUMBER.seg while it is written and
// NAME-NUMBER.seg.gz afterwards. A segment is a sequence of frames: length and
// CRC-32C of the payload (4 bytes each, little endian), then the payload. The
// first payload is a [header] in JSON, which names the values that follow; the
// others are entries, each told by what changed since the one before. So a
// damaged frame costs the rest of its segment, never more, and a field that
// is added to a reading costs no older segment.
package history

import (
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Name is the folder's name in the state folder.
const Name = "history"

// Entry is one moment. Entries that are read share memory: they are not to be
// changed.
type Entry struct {
	record.Stamp
	Events []string // ids of what happened
	Level  reading.Level
	Sample reading.Sample
	// Reading is the full scan that came since the entry before, nil if none
	// did. It has its biggest owners and those with a verdict, each with its
	// first holder.
	Reading *reading.Reading
}

// What is kept of one entry at most: names are the kernel's and bounded, so
// that the whole is.
const (
	maxOwners   = 64  // the biggest
	maxVerdicts = 256 // further ones, for their verdict
	maxDetails  = 8   // of an owner: namespaces, peers
	maxList     = 32  // gaps, checks, events
)

// trim gives what is kept of r, which stays as it is.
func trim(r *reading.Reading) *reading.Reading {
	kept := *r
	kept.Owners = make([]reading.Owner, 0, min(len(r.Owners), maxOwners))
	verdicts := 0
	for i := range r.Owners {
		o := r.Owners[i]
		if i >= maxOwners {
			if o.Verdict == nil || verdicts == maxVerdicts {
				continue
			}
			verdicts++
		}
		o.Holders = head(o.Holders, 1)
		o.Netns = head(o.Netns, maxDetails)
		o.Peers = head(o.Peers, maxDetails)
		kept.Owners = append(kept.Owners, o)
	}
	kept.Gaps = head(r.Gaps, maxList)
	kept.Sample.Gaps = head(r.Sample.Gaps, maxList)
	kept.Ledger.Checks = head(r.Ledger.Checks, maxList)
	return &kept
}

func head[T any](list []T, n int) []T { return slices.Clip(list[:min(n, len(list))]) }
