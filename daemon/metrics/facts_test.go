package metrics

import (
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

var testStart = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// whole is a host of which everything is known, so that every family has a
// series.
func whole() *Facts {
	sample := &reading.Sample{
		At: testStart.Add(time.Hour), PageSize: 4096, Mem: reading.TCPMem{Min: 100, Pressure: 200, Max: 300}, Used: 150,
		ReserveMax: 10, UnderPressure: new(false), Orphans: 3, MaxOrphans: 1000, Alloc: 863,
		Kernel: reading.Counters{
			MemoryPressures: new(int64(2)), MemoryPressuresChrono: new(int64(1500)), AbortOnMemory: new(int64(4)),
			PruneCalled: new(int64(5)), RcvPruned: new(int64(6)),
		},
		Log:  reading.LogCounts{Readable: true, OutOfMemory: 7, TooManyOrphans: 8, ConntrackFull: 9, Lost: 10},
		Gaps: []reading.Gap{{Code: "netns-unreadable", What: "netns 4026532000", Why: "permission denied"}},
	}
	r := &reading.Reading{
		Sample: *sample, Took: 200 * time.Millisecond,
		Ledger: reading.Ledger{
			Seen: 600_000, Named: 500_000, Unseen: 14_400, ReserveMax: 40_960, Coverage: 0.83, HiddenEstimate: 839,
			Checks: []reading.Check{{Name: "inuse", Status: reading.CheckMismatch}, {Name: "orphan", Status: reading.CheckOK}},
		},
		// The sample's gap once more, and two of one code.
		Gaps: []reading.Gap{sample.Gaps[0], {Code: "netns-unseen", What: "3 orphans"}, {Code: "netns-unseen", What: "4 sockets"}},
		Owners: []reading.Owner{
			{
				Key: "system/task-queue.service", Name: "task-queue.service", Unit: "task-queue.service", Manager: "system",
				Kind: reading.KindService, Sum: reading.Tally{Sockets: 1203, Bytes: 400_000}, Unread: 300_000, Send: 1000,
				Stalled: new(int64(250_000)), GrowthPerMinute: new(int64(6000)), Verdict: &reading.Verdict{Kind: reading.Leak},
			},
			{
				Key: "container/0123456789abcdef", Name: "shop/cart-0/web", Kind: reading.KindContainer,
				Container: &reading.Container{ID: "0123456789abcdef", Runtime: "containerd", Name: "web"},
				Pod:       &reading.Pod{Namespace: "shop", Name: "cart-0", UID: "u"},
				Sum:       reading.Tally{Sockets: 5, Bytes: 150_000}, Unread: 1, Send: 140_000, Stalled: new(int64(0)),
				Verdict: &reading.Verdict{Kind: reading.SlowPeer},
			},
			{
				Key: "unresolved", Name: "unresolved", Kind: reading.KindUnresolved, Sum: reading.Tally{Sockets: 2, Bytes: 50_000},
				Stalled: new(int64(0)),
			},
		},
	}
	r.Ledger.Classes[reading.Owned] = reading.Tally{Sockets: 1208, Bytes: 550_000}
	r.Ledger.Classes[reading.Unresolved] = reading.Tally{Sockets: 2, Bytes: 50_000}
	return &Facts{
		Version: "0.1.0", Started: testStart, Sample: sample, Level: reading.Elevated, Reading: r, Owners: 10,
		Trend: reading.Trend{
			GrowthPerMinute: new(int64(-60)), EtaPressure: new(time.Minute), EtaMax: new(time.Hour),
			Verdict: &reading.Verdict{Kind: reading.Leak},
		},
		Conduct: &Conduct{
			Enforcing: true, Paused: true, Base: reading.TCPMem{Min: 100, Pressure: 150, Max: 200}, LeaseExpires: new(testStart.Add(2 * time.Hour)),
			ActionsInProgress: 1, IncidentsOpen: 1, Blind: []string{event.BlindNetns}, RightsMissing: 2,
			Rules: []Rule{
				{Name: "leaking-service", Severity: "critical", Firing: 2, Pending: 1, Held: true},
				{Name: "memory-high", Severity: "warning", Pending: 1},
				{Name: "quiet", Severity: "info"},
			},
			Journal: &Journal{Waiting: 1, Lost: 2},
			Counts: Counts{
				Decisions: map[record.Choice]int64{record.ChoseAct: 3, record.ChoseRefuse: 2},
				Refusals:  []Count{{"protected", "", 2}}, Actions: []Count{{"restart-unit", "done", 1}, {"restart-unit", "failed", 0}},
				Effects: []Count{{"restart-unit", "helped", 1}}, Incidents: 4,
			},
		},
		Process: Process{CPUSeconds: new(1.5), ResidentBytes: new(int64(20 << 20)), OpenFDs: new(int64(33)), Started: testStart},
	}
}
