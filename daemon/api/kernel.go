package api

import "github.com/tcpmemd/tcpmemd/daemon/reading"

// Kernel is what the kernel counted, over all network namespaces, since the
// daemon started; null is not known, and without a daemon nothing is.
type Kernel struct {
	MemoryPressures  *int64 `json:"memory_pressures"`    // entries into pressure
	PressureMillis   *int64 `json:"memory_pressures_ms"` // time spent in it
	AbortsOnMemory   *int64 `json:"aborts_on_memory"`    // connections ended for lack of memory
	PruneCalled      *int64 `json:"prune_called"`        // receive queues squeezed
	RcvPruned        *int64 `json:"rcv_pruned"`          // and data thrown away for it
	LogOutOfMemory   *int64 `json:"log_out_of_memory"`
	LogOrphans       *int64 `json:"log_too_many_orphans"`
	LogConntrackFull *int64 `json:"log_conntrack_full"`
	LogLost          *int64 `json:"log_lost"` // records overwritten before they were read
}

func kernelFrom(s *reading.Sample) Kernel {
	k := Kernel{
		MemoryPressures: s.Kernel.MemoryPressures, PressureMillis: s.Kernel.MemoryPressuresChrono,
		AbortsOnMemory: s.Kernel.AbortOnMemory, PruneCalled: s.Kernel.PruneCalled, RcvPruned: s.Kernel.RcvPruned,
	}
	if log := s.Log; log.Readable {
		k.LogOutOfMemory, k.LogOrphans = &log.OutOfMemory, &log.TooManyOrphans
		k.LogConntrackFull, k.LogLost = &log.ConntrackFull, &log.Lost
	}
	return k
}

// limitedFrom is nil where the kernel does not count the thing.
func limitedFrom(u *reading.Usage) *Limited {
	if u == nil {
		return nil
	}
	return &Limited{Count: u.Count, Limit: &u.Limit}
}
