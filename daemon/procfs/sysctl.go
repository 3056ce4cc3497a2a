package procfs

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

type (
	// TCPMemFile reads sys/net/ipv4/tcp_mem.
	TCPMemFile = Kept[reading.TCPMem]
	// CountFile reads a file that holds one number.
	CountFile = Kept[int64]
	// UsageFile reads a file that holds a count and its limit.
	UsageFile = Kept[reading.Usage]
)

// OpenTCPMem opens sys/net/ipv4/tcp_mem: min, pressure, max in pages, for the
// whole host (sysctl_tcp_mem, used by __sk_mem_raise_allocated). The error is
// ErrNotInitNetns where the namespace has no such file.
func (f FS) OpenTCPMem() (*TCPMemFile, error) {
	path := f.path("sys/net/ipv4/tcp_mem")
	k, err := keep(path, smallRead, parseTCPMem)
	if siblingsExist(path, err) {
		return nil, ErrNotInitNetns
	}
	return k, err
}

// TCPMem reads sys/net/ipv4/tcp_mem once; see OpenTCPMem.
func (f FS) TCPMem() (reading.TCPMem, error) { return once(f.OpenTCPMem) }

// OpenMaxOrphans opens sys/net/ipv4/tcp_max_orphans, a count of sockets for the
// whole host (tcp_too_many_orphans). Like tcp_mem it exists in the initial
// network namespace only.
func (f FS) OpenMaxOrphans() (*CountFile, error) {
	path := f.path("sys/net/ipv4/tcp_max_orphans")
	k, err := keep(path, smallRead, oneCount)
	if siblingsExist(path, err) {
		return nil, ErrNotInitNetns
	}
	return k, err
}

// OpenMaxTimeWait opens sys/net/ipv4/tcp_max_tw_buckets, a count of sockets in
// this namespace (inet_twsk_alloc).
func (f FS) OpenMaxTimeWait() (*CountFile, error) {
	return keep(f.path("sys/net/ipv4/tcp_max_tw_buckets"), smallRead, oneCount)
}

// OpenFileHandles opens sys/fs/file-nr: open files of the whole host and their
// limit (proc_nr_files in fs/file_table.c).
func (f FS) OpenFileHandles() (*UsageFile, error) {
	return keep(f.path("sys/fs/file-nr"), smallRead, parseFileNr)
}

// MemPCPURsv reads sys/net/core/mem_pcpu_rsv: by how many pages each CPU's
// share of the memory counter may lag behind (sk_memory_allocated_add). A
// kernel without the sysctl uses SK_MEMORY_PCPU_RESERVE, 1 MiB: 256 pages of 4 KiB.
// pageSize is the host's page size in bytes.
func (f FS) MemPCPURsv(pageSize int) (reading.Pages, error) {
	n, err := once(func() (*CountFile, error) {
		return keep(f.path("sys/net/core/mem_pcpu_rsv"), smallRead, oneCount)
	})
	if errors.Is(err, fs.ErrNotExist) {
		if pageSize <= 0 {
			return 0, fmt.Errorf("page size %d: not positive", pageSize)
		}
		return reading.Pages(max(1, 1<<20/pageSize)), nil
	}
	return reading.Pages(n), err
}

// ConntrackFile reads the size of the connection tracking table of one
// namespace beside its limit.
type ConntrackFile struct {
	count, limit *CountFile
}

// OpenConntrack opens sys/net/netfilter/nf_conntrack_count and nf_conntrack_max
// (nf_conntrack_standalone.c), both counts of connections. It returns nil
// without an error while connection tracking is not loaded.
func (f FS) OpenConntrack() (*ConntrackFile, error) {
	count, err := keep(f.path("sys/net/netfilter/nf_conntrack_count"), smallRead, oneCount)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	limit, err := keep(f.path("sys/net/netfilter/nf_conntrack_max"), smallRead, oneCount)
	if err != nil {
		return nil, errors.Join(err, count.Close())
	}
	return &ConntrackFile{count: count, limit: limit}, nil
}

// Read reads both numbers anew.
func (c *ConntrackFile) Read() (reading.Usage, error) {
	n, err := c.count.Read()
	if err != nil {
		return reading.Usage{}, err
	}
	limit, err := c.limit.Read()
	if err != nil {
		return reading.Usage{}, err
	}
	return reading.Usage{Count: n, Limit: limit}, nil
}

// Close closes both files; closing nil does nothing.
func (c *ConntrackFile) Close() error {
	if c == nil {
		return nil
	}
	return errors.Join(c.count.Close(), c.limit.Close())
}

func parseTCPMem(data []byte) (reading.TCPMem, error) {
	var n [3]int64
	if err := counts(data, n[:]); err != nil {
		return reading.TCPMem{}, err
	}
	return reading.TCPMem{
		Min:      reading.Pages(n[0]),
		Pressure: reading.Pages(n[1]),
		Max:      reading.Pages(n[2]),
	}, nil
}

// parseFileNr skips the second number, free handles: always 0 since Linux 2.6.
func parseFileNr(data []byte) (reading.Usage, error) {
	var n [3]int64
	if err := counts(data, n[:]); err != nil {
		return reading.Usage{}, err
	}
	return reading.Usage{Count: n[0], Limit: n[2]}, nil
}
