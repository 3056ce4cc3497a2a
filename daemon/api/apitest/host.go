// Package apitest is a host that exists only in memory: sockets and owners
// whose reading is balanced by construction. Tests of the documents, the
// socket server and the commands share it.
package apitest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// At is when the host's reading was taken.
var At = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// PageSize of the host, in bytes.
const PageSize = 4096

// Host answers like the daemon's source and like a direct reader. Fill it,
// then call Balance. It is stricter than real ones: it hands out sockets that
// are overwritten after each yield, and fails a test's misuse with an error.
type Host struct {
	Reading     reading.Reading
	SocketList  []reading.Socket
	Infos       map[reading.Cookie]*api.TCPInfo
	Checks      []api.DoctorCheck
	Known       *api.State    // what State answers, nil for that of Reading
	Err         error         // what every call fails with
	Block       chan struct{} // if not nil, calls wait until it is closed or ctx ends
	Mode        string
	Source      string
	AnswerAfter time.Duration // age of the reading when it is asked for
	Deeds

	mu    sync.Mutex
	fresh int
	reads int
}

// Balance computes the owners' sums, the ledger and used memory from the
// sockets. unseen is added to what the sockets hold, in pages.
func (h *Host) Balance(unseen reading.Pages) {
	r := &h.Reading
	byKey := make(map[string]*reading.Owner)
	for i := range r.Owners {
		byKey[r.Owners[i].Key] = &r.Owners[i]
	}
	l := &r.Ledger
	for i := range h.SocketList {
		s := &h.SocketList[i]
		bytes := s.Mem.Bytes()
		o := byKey[s.Owner]
		o.Sum.Add(1, bytes)
		o.Receive += int64(s.Mem.RmemAlloc)
		o.Send += int64(s.Mem.WmemQueued)
		o.Reserved += int64(s.Mem.FwdAlloc)
		o.Classes[s.Class].Add(1, bytes)
		o.Evidence[s.Evidence].Add(1, bytes)
		o.States[s.State]++
		if !slices.Contains(o.Netns, s.Netns) {
			o.Netns = append(o.Netns, s.Netns)
		}
		l.Classes[s.Class].Add(1, bytes)
		l.Seen += bytes
		if s.Class == reading.Orphan {
			l.OrphansSeen++
		}
		if s.Class != reading.Unresolved {
			l.Named += bytes
		}
	}
	slices.SortFunc(r.Owners, func(a, b reading.Owner) int {
		return cmp.Or(cmp.Compare(b.Sum.Bytes, a.Sum.Bytes), cmp.Compare(a.Key, b.Key))
	})
	s := &r.Sample
	s.Used = reading.Pages(l.Seen/PageSize) + unseen
	s.Orphans = l.OrphansSeen
	s.Alloc = int64(len(h.SocketList))
	l.Unseen = s.Used.Bytes(PageSize) - l.Seen
	l.ReserveMax = s.ReserveMax.Bytes(PageSize)
	l.Coverage = float64(l.Named) / float64(max(l.Seen, s.Used.Bytes(PageSize)-l.ReserveMax, PageSize))
}

// New returns a calm host without sockets: 2 CPUs, and the tcp_mem of a
// machine with 2 GB.
func New() *Host {
	limit := int64(131072)
	return &Host{
		Mode: "observe",
		Reading: reading.Reading{
			Sample: reading.Sample{
				At:            At,
				PageSize:      PageSize,
				Mem:           reading.TCPMem{Min: 43257, Pressure: 57676, Max: 86514},
				ReserveMax:    512,
				UnderPressure: new(bool),
				MaxOrphans:    131072,
				TimeWait:      12,
				MaxTimeWait:   &limit,
			},
			Level:  reading.Calm,
			Took:   200 * time.Millisecond,
			Ledger: reading.Ledger{Checks: []reading.Check{{Name: "inuse", Scope: "host", Status: reading.CheckOK}}},
		},
	}
}

// Add gives the host an owner with n sockets like s, whose cookies and ports
// are counted up.
func (h *Host) Add(owner reading.Owner, n int, s reading.Socket) {
	if !slices.ContainsFunc(h.Reading.Owners, func(o reading.Owner) bool { return o.Key == owner.Key }) {
		h.Reading.Owners = append(h.Reading.Owners, owner)
	}
	s.Owner = owner.Key
	for range n {
		s.Cookie = reading.Cookie(len(h.SocketList) + 1)
		h.SocketList = append(h.SocketList, s)
	}
}

// Meta is the host's.
func (h *Host) Meta() api.Meta {
	return api.Meta{
		DaemonVersion: "0.1.0", Hostname: "n1", BootID: "8ee26d30-1f4b-4a4c-9b0c-0d7e3b6f7a11", Mode: h.Mode,
		Source: cmp.Or(h.Source, api.SourceDaemon), Tier: "netlink", Now: At.Add(h.AnswerAfter), StaleAfter: time.Minute,
	}
}

// State is that of the host's reading, unless Known is set.
func (h *Host) State(ctx context.Context) (api.State, error) {
	if err := h.wait(ctx); err != nil {
		return api.State{}, err
	}
	if h.Known != nil {
		return *h.Known, nil
	}
	state := api.StateOf(&h.Reading)
	state.Conduct = h.Conduct
	return state, nil
}

// Read returns the reading and counts how often, and how often freshly.
func (h *Host) Read(ctx context.Context, fresh bool) (*reading.Reading, error) {
	if err := h.wait(ctx); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads++
	if fresh {
		h.fresh++
	}
	return &h.Reading, nil
}

// Reads counts the calls of Read, and those that asked for a fresh reading.
func (h *Host) Reads() (all, fresh int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reads, h.fresh
}

// SocketsRead counts nothing.
func (h *Host) SocketsRead() int64 { return 0 }

// Sockets streams through one reused socket, as a real source does.
func (h *Host) Sockets(ctx context.Context, want func(*reading.Socket) bool, yield func(*reading.Socket) error) error {
	if err := h.wait(ctx); err != nil {
		return err
	}
	var reused reading.Socket
	var holder reading.Holder
	for i := range h.SocketList {
		if err := ctx.Err(); err != nil {
			return err
		}
		reused = h.SocketList[i]
		if reused.Holder != nil {
			holder = *reused.Holder
			reused.Holder = &holder
		}
		if !want(&reused) {
			continue
		}
		if err := yield(&reused); err != nil {
			return err
		}
		reused, holder = reading.Socket{}, reading.Holder{Command: "kept after yield"}
	}
	return nil
}

// Info answers from Infos.
func (h *Host) Info(ctx context.Context, s *reading.Socket) (*api.TCPInfo, error) {
	if info := h.Infos[s.Cookie]; info != nil {
		return info, nil
	}
	return nil, errors.New("no such socket")
}

// Doctor answers with Checks.
func (h *Host) Doctor(ctx context.Context) ([]api.DoctorCheck, error) {
	return h.Checks, h.wait(ctx)
}

func (h *Host) wait(ctx context.Context) error {
	if h.Block != nil {
		select {
		case <-h.Block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return cmp.Or(h.Err, ctx.Err())
}
