package daemon

import (
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/engine/level"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// watchSample notes the kernel's own word that memory is out: connections that
// it aborted, or its log where that can be read. Counters decide, and the log
// tells of namespaces that were not read.
func watchSample(w *api.Watch, before, s *reading.Sample) {
	rose := func(before, now *int64) bool { return before != nil && now != nil && *now > *before }
	if rose(before.Kernel.AbortOnMemory, s.Kernel.AbortOnMemory) ||
		before.Log.Readable && s.Log.Readable && s.Log.OutOfMemory > before.Log.OutOfMemory {
		w.OutOfMemory = s.At
	}
	w.Fill = level.Tens(w.Fill, s.Fill())
}

// watchReading notes who is named first.
func watchReading(w *api.Watch, r *reading.Reading) {
	o := api.WorstOwner(r, w.Owner)
	if o == nil {
		w.Owner, w.Share = "", 0
		return
	}
	if o.Key != w.Owner {
		w.Owner, w.Share = o.Key, 0
	}
	w.Share = level.Tens(w.Share, api.OwnerShare(r, o))
}
