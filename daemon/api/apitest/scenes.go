package apitest

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Namespaces of the scenes.
var (
	HostNetns = reading.NetnsID{Inode: 4026531840, Cookie: 1}
	PodNetns  = reading.NetnsID{Inode: 4026532701}
)

// Leak is a host near its limit: a task queue that does not close its
// sockets, a pod whose peer does not read, and a bit of every class.
func Leak() *Host {
	h := New()
	h.Reading.Level = reading.Critical
	*h.Reading.Sample.UnderPressure = true

	task := reading.Owner{
		Key: "system/task-queue.service", Name: "task-queue.service", Kind: reading.KindService,
		Unit: "task-queue.service", Manager: "system", UnitVerified: true, Cgroup: "/system.slice/task-queue.service",
		UID: new(uint32), Command: "task-queue", HolderCount: 1,
		Holders:         []reading.Holder{{PID: 412, StartTime: 123, Command: "task-queue", Unit: "task-queue.service"}},
		GrowthPerMinute: new(int64(12 << 20)),
		Verdict:         &reading.Verdict{Kind: reading.Leak, Reasons: []string{"900 of its sockets are in close-wait", "its queues have not moved for 5 min"}},
	}
	s := reading.Socket{
		Netns: HostNetns, State: reading.CloseWait, Local: netip.MustParseAddrPort("10.0.0.5:40000"),
		Remote: netip.MustParseAddrPort("10.0.0.9:5672"), Inode: 77001, CgroupID: 4711,
		Mem:    reading.SkMem{RmemAlloc: 256 << 10, Rcvbuf: 6 << 20, Sndbuf: 87040, FwdAlloc: 4096},
		Rqueue: 200000, Class: reading.Owned, Evidence: reading.FD, Holder: &task.Holders[0],
	}
	h.Add(task, 900, s)
	s.State, s.Mem, s.Rqueue = reading.Established, reading.SkMem{RmemAlloc: 64 << 10, Rcvbuf: 6 << 20, Sndbuf: 87040}, 50000
	h.Add(task, 299, s)
	s.State, s.Class, s.Evidence, s.Holder, s.Inode = reading.FinWait1, reading.Orphan, reading.LastSeen, nil, 0
	s.Mem, s.Rqueue, s.Wqueue = reading.SkMem{WmemAlloc: 2304, WmemQueued: 1 << 20, FwdAlloc: -2048, Drops: 3}, 0, 900000
	h.Add(task, 4, s)

	pod := reading.Owner{
		Key: "container/3f2a9c", Name: "prod/checkout-7d9f (worker)", Kind: reading.KindContainer,
		Cgroup:    "/kubepods.slice/kubepods-pod1.slice/cri-containerd-3f2a9c.scope",
		Container: &reading.Container{ID: "3f2a9c", Runtime: "containerd", Name: "worker"},
		Pod:       &reading.Pod{Namespace: "prod", Name: "checkout-7d9f", UID: "0c3c1c9e"},
		UID:       new(uint32(1000)), Command: "java", HolderCount: 1,
		Holders: []reading.Holder{{PID: 900, StartTime: 9000, Command: "java"}},
		Verdict: &reading.Verdict{Kind: reading.SlowPeer, Reasons: []string{"96 % of it waits to be sent"}, Culprit: "10.9.8.7"},
		Peers:   []reading.Peer{{Address: "10.9.8.7", Tally: reading.Tally{Sockets: 20, Bytes: 40 << 20}}},
	}
	h.Add(pod, 20, reading.Socket{
		Netns: PodNetns, State: reading.Established, Local: netip.MustParseAddrPort("[fd00::5]:8443"),
		Remote: netip.MustParseAddrPort("10.9.8.7:39000"), Inode: 88001, UID: 1000, Wqueue: 1 << 21,
		Mem:   reading.SkMem{RmemAlloc: 4096, Rcvbuf: 131072, WmemAlloc: 2 << 20, Sndbuf: 4 << 20, WmemQueued: 2 << 20},
		Class: reading.Owned, Evidence: reading.FD, Holder: &pod.Holders[0],
	})
	h.Add(reading.Owner{
		Key: "system/web.service", Name: "web.service", Kind: reading.KindService, Unit: "web.service", Manager: "system",
		UnitVerified: true, Cgroup: "/system.slice/web.service", Command: "nginx",
	}, 50, reading.Socket{
		Netns: HostNetns, State: reading.Established, Local: netip.MustParseAddrPort("10.0.0.5:443"),
		Remote: netip.MustParseAddrPort("192.0.2.7:51000"), Mem: reading.SkMem{RmemAlloc: 8192},
		Class: reading.Unaccepted, Evidence: reading.Listener,
	})
	h.Add(reading.Owner{
		Key: "user@1000/sync.service", Name: "sync.service", Kind: reading.KindUserService, Unit: "sync.service", Manager: "user@1000",
		UID: new(uint32(1000)), Command: "sync", Protected: "user unit", HolderCount: 1,
		Holders: []reading.Holder{{PID: 700, StartTime: 7, Command: "sync", Unit: "sync.service"}},
	}, 3, reading.Socket{
		Netns: HostNetns, Mem: reading.SkMem{RmemAlloc: 1 << 20}, Class: reading.Hidden, Evidence: reading.FD,
		Holder: &reading.Holder{PID: 700, StartTime: 7, Command: "sync", Unit: "sync.service"},
	})
	h.Add(reading.Owner{Key: "kernel", Name: "kernel", Kind: reading.KindKernel}, 2, reading.Socket{
		Netns: HostNetns, State: reading.Established, Local: netip.MustParseAddrPort("10.0.0.5:800"),
		Remote: netip.MustParseAddrPort("10.0.0.6:2049"), Mem: reading.SkMem{WmemQueued: 64 << 10},
		Class: reading.Kernel, Evidence: reading.KernelUse,
	})
	h.Add(reading.Owner{Key: "unresolved", Name: "unresolved", Kind: reading.KindUnresolved}, 3, reading.Socket{
		Netns: PodNetns, State: reading.FinWait1, Local: netip.MustParseAddrPort("10.1.0.5:800"),
		Remote: netip.MustParseAddrPort("10.0.0.6:80"), Mem: reading.SkMem{WmemQueued: 128 << 10},
		Class: reading.Unresolved, Evidence: reading.Netns,
	})
	h.Add(reading.Owner{Key: "system/idle.service", Name: "idle.service", Kind: reading.KindService, Unit: "idle.service", Manager: "system"},
		1, reading.Socket{
			Netns: HostNetns, State: reading.Listen, Local: netip.MustParseAddrPort("[::]:22"), Wqueue: 128,
			Remote: netip.MustParseAddrPort("[::]:0"), Class: reading.Owned, Evidence: reading.FD,
		})
	h.Balance(100)

	r := &h.Reading
	r.Trend = reading.Trend{
		GrowthPerMinute: new(int64(14 << 20)),
		EtaMax:          new(190 * time.Second),
		Verdict:         &reading.Verdict{Kind: reading.Leak, Reasons: []string{"86 % of the growth is task-queue.service"}},
	}
	r.Gaps = []reading.Gap{{Code: "netns-unreadable", What: "netns 4026532000", Why: "permission denied", MayHideBytes: new(int64(2 << 20))}}
	r.Ledger.HiddenEstimate = 3
	r.Ledger.Checks = append(r.Ledger.Checks,
		reading.Check{Name: "orphan", Scope: "host", Before: 9, After: 11, Seen: 4, Status: reading.CheckUnsure},
		reading.Check{Name: "alloc", Scope: "host", Before: 1290, After: 1290, Seen: 1282, Tolerance: 2, Status: reading.CheckMismatch})
	h.Infos = map[reading.Cookie]*api.TCPInfo{1204: {
		RTTMicros: 1250, RTTVarMicros: 300, RTOMicros: 204000, Cwnd: 10, Unacked: 3, Retrans: 1, TotalRetrans: 7,
		LastDataSent: 9000, LastDataReceived: 12, BytesAcked: new(uint64(123456)), DeliveryRate: new(uint64(5000)),
	}}
	h.Checks = []api.DoctorCheck{
		api.NewDoctorCheck("kernel", api.DoctorOK, "Linux 6.18", ""),
		api.NewDoctorCheck("CAP_SYS_ADMIN", api.DoctorMissing, "not in the effective set", "sockets of other network namespaces are not seen: containers are left out"),
		api.NewDoctorCheck("cgroup", api.DoctorDegraded, "v1 controllers, v2 at /sys/fs/cgroup/unified", "no dump-free estimate by unit"),
	}
	return h
}

// Hostile is a host whose processes choose names that attack a terminal.
func Hostile() *Host {
	h := New()
	for i, name := range HostileNames {
		h.Add(reading.Owner{
			Key: fmt.Sprintf("process/%d/1", 100+i), Name: name, Kind: reading.KindProcess, Command: name, HolderCount: 1,
			Holders: []reading.Holder{{PID: 100 + i, StartTime: 1, Command: name}},
		}, 1, reading.Socket{
			Netns: HostNetns, State: reading.Established, Local: netip.MustParseAddrPort("127.0.0.1:1"),
			Remote: netip.MustParseAddrPort("127.0.0.1:2"), Mem: reading.SkMem{RmemAlloc: uint32(64-i) << 10},
			Class: reading.Owned, Evidence: reading.FD, Holder: &reading.Holder{PID: 100 + i, StartTime: 1, Command: name},
		})
	}
	h.Balance(0)
	h.Reading.Gaps = []reading.Gap{{Code: "process-unreadable", What: "process 1 \x1b[2J", Why: "line one\nline two"}}
	return h
}

// HostileNames are names that a process may give itself.
var HostileNames = []string{
	"\x1b[31mred\x1b[0m",
	"\x1b]0;title\a",
	"new\nline) R 1 1",
	"tab\tand\rreturn",
	"right\u202Eto left",
	"zero\u200Bwidth\u2060and\ufeffmore",
	"bad \xff\xfe utf8 \xef",
	`back\slash \x1b[31m`,
	"漢字の名前",
	"e\u0301\u0301\u0301 combining",
	"\u009b31mC1",
	"nul\x00byte",
	"filler\u3164\u115f",
	"🐙 octopus",
	"a very long name that somebody gave to a process so that the interesting end is cut off: worker-17",
}

// Many is a host with n owners, the first of them the biggest.
func Many(n int) *Host {
	h := New()
	h.Reading.Owners = make([]reading.Owner, 0, n)
	h.SocketList = make([]reading.Socket, 0, n)
	for i := range n {
		h.Reading.Owners = append(h.Reading.Owners, reading.Owner{
			Key: fmt.Sprintf("system/job@%05d.service", i), Name: fmt.Sprintf("job@%05d.service", i), Kind: reading.KindService,
			Unit: fmt.Sprintf("job@%05d.service", i), Manager: "system",
		})
		h.SocketList = append(h.SocketList, reading.Socket{
			Cookie: reading.Cookie(i + 1), Netns: HostNetns, State: reading.Established,
			Local:  netip.MustParseAddrPort("10.0.0.5:443"),
			Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1000),
			Mem:    reading.SkMem{RmemAlloc: uint32(n-i) * 16}, Class: reading.Owned, Evidence: reading.FD,
			Owner: h.Reading.Owners[i].Key,
		})
	}
	h.Balance(1)
	return h
}
