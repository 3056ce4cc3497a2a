package api

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Orphans is the document of "tcpmemctl orphans --json": sockets that nobody
// holds any more and the kernel still works on.
//
// The kernel compares a shifted count with its limit (tcp_out_of_resources in
// net/ipv4/tcp_timer.c): an orphan that makes no progress counts twice, one
// with a soft error (ICMP) as well four times, so that such orphans are killed
// from a half or a quarter of the limit on.
type Orphans struct {
	Header
	Count        int64  `json:"count"` // the kernel's
	Seen         *int64 `json:"seen"`  // by the scan
	Limit        int64  `json:"limit"` // net.ipv4.tcp_max_orphans
	LimitHalf    int64  `json:"limit_half"`
	LimitQuarter int64  `json:"limit_quarter"`

	Bytes     int64                    `json:"bytes"` // of the orphans seen
	Evidence  map[string]reading.Tally `json:"evidence"`
	States    map[string]int64         `json:"states"`
	Owners    []OrphanOwner            `json:"owners"`
	Truncated Truncated                `json:"truncated"`
	Gaps      []reading.Gap            `json:"gaps"`
}

// Keep keeps the n biggest owners; n <= 0 keeps all.
func (o *Orphans) Keep(n int) {
	if n <= 0 || len(o.Owners) <= n {
		return
	}
	for i := range o.Owners[n:] {
		o.Truncated.Owners++
		o.Truncated.Bytes += o.Owners[n+i].Bytes
	}
	o.Owners = o.Owners[:n:n]
}

// OrphanOwner is who left orphans behind, and how that is known.
type OrphanOwner struct {
	Key        string                   `json:"key"`
	Name       string                   `json:"name"`
	Kind       reading.Kind             `json:"kind"`
	Unit       *string                  `json:"unit"`
	CgroupGone bool                     `json:"cgroup_gone"`
	Sockets    int64                    `json:"sockets"`
	Bytes      int64                    `json:"bytes"`
	SendBytes  int64                    `json:"send_bytes"`
	Evidence   map[string]reading.Tally `json:"evidence"`
}

// CollectOrphans streams the orphans from src and sums them by owner and
// evidence; r is the reading whose owners they name.
func CollectOrphans(ctx context.Context, m Meta, r *reading.Reading, src streamer) (*Orphans, error) {
	doc := &Orphans{
		Header:       m.header(r),
		Count:        r.Sample.Orphans,
		Limit:        r.Sample.MaxOrphans,
		LimitHalf:    r.Sample.MaxOrphans / 2,
		LimitQuarter: r.Sample.MaxOrphans / 4,
		Evidence:     make(map[string]reading.Tally),
		States:       make(map[string]int64),
		Owners:       []OrphanOwner{},
		Gaps:         gapsFrom(r.Sample.Gaps, r.Gaps),
	}
	index := OwnerIndex(r)
	found := make(map[string]*OrphanOwner)
	var seen int64
	isOrphan := func(s *reading.Socket) bool { return s.Class == reading.Orphan }
	err := src.Sockets(ctx, isOrphan, func(s *reading.Socket) error {
		bytes := s.Mem.Bytes()
		seen++
		doc.Bytes += bytes
		doc.States[s.State.String()]++
		add(doc.Evidence, s.Evidence.String(), bytes)

		o := found[s.Owner]
		if o == nil {
			o = orphanOwner(s.Owner, index[s.Owner])
			found[o.Key] = o
		}
		o.Sockets++
		o.Bytes += bytes
		o.SendBytes += int64(s.Mem.WmemQueued)
		add(o.Evidence, s.Evidence.String(), bytes)
		return nil
	})
	if err != nil {
		return nil, err
	}
	doc.Seen = &seen
	for o := range maps.Values(found) {
		doc.Owners = append(doc.Owners, *o)
	}
	slices.SortFunc(doc.Owners, func(a, b OrphanOwner) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Key, b.Key))
	})
	return doc, nil
}

func orphanOwner(key string, o *reading.Owner) *OrphanOwner {
	out := &OrphanOwner{Key: key, Name: key, Kind: reading.KindUnresolved, Evidence: make(map[string]reading.Tally)}
	if o != nil {
		out.Name, out.Kind, out.Unit, out.CgroupGone = o.Name, o.Kind, known(o.Unit), o.CgroupGone
	}
	return out
}

func add(tallies map[string]reading.Tally, key string, bytes int64) {
	t := tallies[key]
	t.Add(1, bytes)
	tallies[key] = t
}
