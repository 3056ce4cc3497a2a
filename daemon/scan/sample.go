package scan

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// hostFiles are the counters of the whole host, kept open: a sample is taken
// each second. The optional ones are nil where they could not be opened; for
// all but conntrack, which most hosts do not have, that is a gap.
type hostFiles struct {
	fs        procfs.FS
	mem       *procfs.TCPMemFile
	sockstat  *procfs.SockstatFile
	protocols *procfs.ProtocolsFile
	orphans   *procfs.CountFile
	timeWait  *procfs.CountFile
	files     *procfs.UsageFile
	conntrack atomic.Pointer[procfs.ConntrackFile] // nil while the module is not loaded
	quantum   int                                  // bytes, the unit of sockstat's mem
	reserve   reading.Pages
	gaps      []reading.Gap
}

// openHost opens the counters below fs; sys is the root of sysfs.
func openHost(fs procfs.FS, sys string) (h *hostFiles, err error) {
	h = &hostFiles{fs: fs, quantum: memQuantum(kernelRelease(), pageSize)}
	defer func() {
		if err != nil {
			h.close()
			h = nil
		}
	}()
	if h.mem, err = fs.OpenTCPMem(); err != nil {
		return h, err
	}
	if h.sockstat, err = fs.OpenSockstat(); err != nil {
		return h, err
	}
	if h.orphans, err = fs.OpenMaxOrphans(); err != nil {
		return h, err
	}
	optional := func(code, what string, err error) {
		if err != nil {
			h.gaps = append(h.gaps, reading.Gap{Code: code, What: what, Why: err.Error()})
		}
	}
	h.protocols, err = fs.OpenProtocols()
	optional("pressure-flag-unreadable", "the kernel's own pressure flag", err)
	h.timeWait, err = fs.OpenMaxTimeWait()
	optional("time-wait-limit-unreadable", "the limit of TIME_WAIT sockets", err)
	h.files, err = fs.OpenFileHandles()
	optional("file-handles-unreadable", "file handles in use", err)
	err = h.openConntrack()
	if !os.IsNotExist(err) { // most hosts track no connections
		optional("conntrack-unreadable", "tracked connections", err)
	}
	cpus, err := procfs.PossibleCPUs(sys)
	if err != nil {
		optional("cpus-unreadable", "the number of possible CPUs", err)
		cpus = runtime.NumCPU()
	}
	if h.reserve, err = reserveMax(fs, cpus); err != nil {
		return h, err
	}
	return h, nil
}

// reserveMax is how far sockstat may differ from the sum over all sockets:
// each CPU keeps up to mem_pcpu_rsv pages, either way (sk_memory_allocated_add
// in include/net/sock.h).
func reserveMax(fs procfs.FS, cpus int) (reading.Pages, error) {
	perCPU, err := fs.MemPCPURsv(pageSize)
	return perCPU * reading.Pages(cpus), err
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// memQuantum is the unit in bytes of sockstat's mem. From Linux 4.11 to 5.19 it
// is SK_MEM_QUANTUM, 4096 whatever the page size, while tcp_mem stays in pages
// (sk_prot_mem_limits in include/net/sock.h, as it was); before and since 6.0
// ("net: remove SK_MEM_QUANTUM") both are pages.
func memQuantum(release string, pageSize int) int {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return pageSize
	}
	if major == 4 && minor >= 11 || major == 5 {
		return 4096
	}
	return pageSize
}

// pagesOf turns sockstat's mem into pages, rounded up: not zero where there is
// something.
func pagesOf(mem reading.Pages, quantum, pageSize int) reading.Pages {
	if quantum == pageSize {
		return mem
	}
	return reading.Pages((int64(mem)*int64(quantum) + int64(pageSize) - 1) / int64(pageSize))
}

// openConntrack opens the connection tracker's counters, unless they are open:
// its module may be loaded at any time.
func (h *hostFiles) openConntrack() error {
	if h.conntrack.Load() != nil {
		return nil
	}
	c, err := h.fs.OpenConntrack()
	if c != nil {
		h.conntrack.Store(c)
	}
	return err
}

func (h *hostFiles) close() {
	_ = h.mem.Close()
	_ = h.sockstat.Close()
	_ = h.protocols.Close()
	_ = h.orphans.Close()
	_ = h.timeWait.Close()
	_ = h.files.Close()
	if c := h.conntrack.Load(); c != nil {
		_ = c.Close()
	}
}

// EveryNamespace as the count of Sample reads all of them.
const EveryNamespace = 1 << 20

// Sample reads the counters of the host, and of so many namespaces besides its
// own, in turn. An error means that tcp_mem, tcp_max_orphans or the host's
// sockstat could not be read; what else is missing is in the sample's gaps.
func (s *Scanner) Sample(namespaces int) (reading.Sample, error) {
	problems := s.netns.Sample(namespaces)
	v, err := s.host.read()
	if err != nil {
		return v, err
	}
	for _, err := range problems {
		v.Gaps = append(v.Gaps, reading.Gap{Code: "netns-unreadable", What: "counters of a network namespace", Why: err.Error()})
	}
	return s.complete(v), nil
}

// complete adds to the host's counters what is summed over all namespaces, and
// the kernel log.
func (s *Scanner) complete(v reading.Sample) reading.Sample {
	v.Namespaces, v.Inuse, v.Kernel = s.netns.Totals()
	if sum := s.netns.MPTCPTotal(); sum != nil {
		v.MPTCP = sum
	}
	if s.cfg.KernelLog != nil {
		v.Log = s.cfg.KernelLog()
	}
	return v
}

// read takes the whole-host counters; MPTCP is of the own namespace only.
func (h *hostFiles) read() (v reading.Sample, err error) {
	v = reading.Sample{At: time.Now(), PageSize: pageSize, ReserveMax: h.reserve, Gaps: slices.Clip(h.gaps)}
	if v.Mem, err = h.mem.Read(); err != nil {
		return v, err
	}
	st, err := h.sockstat.Read()
	if err != nil {
		return v, err
	}
	v.Used = pagesOf(st.Mem, h.quantum, pageSize)
	v.Orphans, v.Alloc, v.TimeWait = st.Orphan, st.Alloc, st.TimeWait
	if v.MaxOrphans, err = h.orphans.Read(); err != nil {
		return v, err
	}
	gap := func(code, what string, err error) {
		v.Gaps = append(v.Gaps, reading.Gap{Code: code, What: what, Why: err.Error()})
	}
	if h.protocols != nil {
		if p, err := h.protocols.Read(); err == nil {
			v.UnderPressure, v.MPTCP = p.UnderPressure(), p.MPTCPSockets()
		} else {
			gap("pressure-flag-unreadable", "the kernel's own pressure flag", err)
		}
	}
	if h.timeWait != nil {
		if n, err := h.timeWait.Read(); err == nil {
			v.MaxTimeWait = &n
		} else {
			gap("time-wait-limit-unreadable", "the limit of TIME_WAIT sockets", err)
		}
	}
	if h.files != nil {
		if u, err := h.files.Read(); err == nil {
			v.Files = &u
		} else {
			gap("file-handles-unreadable", "file handles in use", err)
		}
	}
	if c := h.conntrack.Load(); c != nil {
		if u, err := c.Read(); err == nil {
			v.Conntrack = &u
		} else {
			gap("conntrack-unreadable", "tracked connections", err)
		}
	}
	return v, nil
}
