package scan

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// hostFiles are the counters of the whole host, kept open: a sample is taken
// each second. The optional ones are nil where the kernel has none.
type hostFiles struct {
	fs        procfs.FS
	mem       *procfs.TCPMemFile
	sockstat  *procfs.SockstatFile
	protocols *procfs.ProtocolsFile
	orphans   *procfs.CountFile
	timeWait  *procfs.CountFile
	files     *procfs.UsageFile
	conntrack *procfs.ConntrackFile
	reserve   reading.Pages
	gaps      []reading.Gap
}

func openHost(fs procfs.FS) (h *hostFiles, err error) {
	h = &hostFiles{fs: fs}
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
	h.conntrack, err = fs.OpenConntrack()
	if !os.IsNotExist(err) { // most hosts track no connections
		optional("conntrack-unreadable", "tracked connections", err)
	}
	if h.reserve, err = reserveMax(fs); err != nil {
		return h, err
	}
	return h, nil
}

// reserveMax is how far sockstat may differ from the sum over all sockets:
// each CPU keeps up to mem_pcpu_rsv pages, either way (sk_memory_allocated_add
// in include/net/sock.h).
func reserveMax(fs procfs.FS) (reading.Pages, error) {
	perCPU, err := fs.MemPCPURsv(pageSize)
	if err != nil {
		return 0, err
	}
	cpus, err := procfs.PossibleCPUs("/sys")
	if err != nil {
		return 0, err
	}
	return perCPU * reading.Pages(cpus), nil
}

func (h *hostFiles) close() {
	_ = h.mem.Close()
	_ = h.sockstat.Close()
	_ = h.protocols.Close()
	_ = h.orphans.Close()
	_ = h.timeWait.Close()
	_ = h.files.Close()
	if h.conntrack != nil {
		_ = h.conntrack.Close()
	}
}

// EveryNamespace as the count of Sample reads all of them.
const EveryNamespace = 1 << 20

// Sample reads the counters of the host, and of so many namespaces besides its
// own, in turn. An error means that the pool itself could not be read; what
// else is missing is in the sample's gaps.
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
	if s.cfg.KernelLog != nil {
		v.Log = s.cfg.KernelLog()
	}
	return v
}

// read takes the whole-host counters.
func (h *hostFiles) read() (v reading.Sample, err error) {
	v = reading.Sample{At: time.Now(), PageSize: pageSize, ReserveMax: h.reserve, Gaps: slices.Clip(h.gaps)}
	if v.Mem, err = h.mem.Read(); err != nil {
		return v, err
	}
	st, err := h.sockstat.Read()
	if err != nil {
		return v, err
	}
	v.Used, v.Orphans, v.Alloc, v.TimeWait = st.Mem, st.Orphan, st.Alloc, st.TimeWait
	if v.MaxOrphans, err = h.orphans.Read(); err != nil {
		return v, err
	}
	if h.protocols != nil {
		p, err := h.protocols.Read()
		if err != nil {
			return v, err
		}
		v.UnderPressure, v.MPTCP = p.UnderPressure(), p.MPTCPSockets()
	}
	gap := func(code string, err error) {
		v.Gaps = append(v.Gaps, reading.Gap{Code: code, What: code, Why: fmt.Sprint(err)})
	}
	if h.timeWait != nil {
		if n, err := h.timeWait.Read(); err == nil {
			v.MaxTimeWait = &n
		} else {
			gap("time-wait-limit-unreadable", err)
		}
	}
	if h.files != nil {
		if u, err := h.files.Read(); err == nil {
			v.Files = &u
		} else {
			gap("file-handles-unreadable", err)
		}
	}
	if h.conntrack != nil {
		if u, err := h.conntrack.Read(); err == nil {
			v.Conntrack = &u
		} else {
			gap("conntrack-unreadable", err)
		}
	}
	return v, nil
}
