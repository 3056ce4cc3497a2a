// Package scan reads the host: the cheap sample of each second, and the full
// scan that names the owner of every socket. It drives the leaves and joins
// what they give; the daemon's loop and the commands' --direct both use it.
package scan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/cgroup"
	"github.com/tcpmemd/tcpmemd/daemon/fds"
	"github.com/tcpmemd/tcpmemd/daemon/netns"
	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
	"github.com/tcpmemd/tcpmemd/daemon/units"
)

// Config says how a Scanner reads. The zero value of a field is its default.
type Config struct {
	Proc    string   // root of the proc file system, "/proc"
	Sys     string   // root of sysfs, "/sys"
	Logs    string   // below it the kubelet keeps the logs of pods, "/var/log"
	Protect []string // globs of protected units, units.DefaultProtected
	// TableBytes bounds the socket table: 64 MiB hold over 1,000,000 sockets.
	TableBytes int
	// Workers read processes at the same time: 1 for a daemon that must stay
	// in the background, GOMAXPROCS for a person who waits.
	Workers int
	// Log receives what goes wrong and is not part of a reading.
	Log *slog.Logger
	// KernelLog gives the counts of kernel log records, nil where none is read.
	KernelLog func() reading.LogCounts
}

func (c *Config) fill() {
	if c.Proc == "" {
		c.Proc = "/proc"
	}
	if c.Sys == "" {
		c.Sys = "/sys"
	}
	if c.Logs == "" {
		c.Logs = "/var/log"
	}
	if c.Protect == nil {
		c.Protect = units.DefaultProtected()
	}
	if c.TableBytes == 0 {
		c.TableBytes = 64 << 20
	}
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Scanner reads this host. Sample and SocketsRead may be called while another
// goroutine scans; everything else belongs to that one.
type Scanner struct {
	cfg     Config
	started time.Time
	read    atomic.Int64 // rows of dumps

	host     *hostFiles
	index    *fds.Index
	netns    *netns.Table
	tree     *cgroup.Tree
	pods     *cgroup.Pods
	units    *units.Manager
	busProbe error // why PID 1 cannot be asked, nil where it can
	kernel   *kernelUsers
	hostPIDs bool // every process of the host is in our proc file system
	// foreign: paths of control groups are not as PID 1 sees them.
	foreign bool

	table   *owner.Table
	book    *owner.Book
	sources *sources
	fetcher *fds.Fetcher
	finders finders
	hidden  []hiddenRef
	asking  askTurn // whose turn it is among them
	buf     *sockdiag.Buffer
	noMPTCP bool // this kernel cannot dump MPTCP
	mptcp   int  // scans since that was found

	lastFull   time.Time     // when every process was last read
	fullTook   time.Duration // how long that took
	searched   time.Time     // when holders were last searched
	round      round         // the reading of every process that is under way
	inVain     int64         // hidden sockets that the last search could not find
	hiddenAt   time.Time     // when that was
	hiddenTook time.Duration
	credit     time.Duration // unspent time for reading processes again
	last       *owner.Result
	spaces     []*netns.Namespace // by the index used in the table
	used       []bool             // of those, with sockets at the last sweep
}

// SocketsRead is how many sockets were read by all scans and lists so far, some
// of them again and again: for who waits for one.
func (s *Scanner) SocketsRead() int64 { return s.read.Load() }

// Open prepares to read the host. It fails with procfs.ErrNotInitNetns outside
// the initial network namespace; anything else that cannot be read becomes a
// gap of the readings.
func Open(ctx context.Context, cfg Config) (s *Scanner, err error) {
	cfg.fill()
	fs := procfs.New(cfg.Proc)
	s = &Scanner{
		cfg: cfg, started: time.Now(), searched: time.Now(),
		table: owner.NewTable(cfg.TableBytes), book: owner.NewBook(),
		fetcher: fds.NewFetcher(), buf: sockdiag.NewBuffer(),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.host, err = openHost(fs, cfg.Sys); err != nil {
		return s, err
	}
	if s.index, err = fds.Open(fs); err != nil {
		return s, err
	}
	if s.netns, err = netns.Open(fs); err != nil {
		return s, err
	}
	if s.tree, err = cgroup.Open(cfg.Proc + "/self/mountinfo"); err != nil {
		return s, fmt.Errorf("open cgroups: %w", err)
	}
	s.pods = cgroup.NewPods(cfg.Logs)
	s.units, s.busProbe = units.Open(ctx)
	s.hostPIDs = inHostPIDs(cfg.Proc)
	s.foreign = cgroup.Foreign(cfg.Proc)
	s.kernel = newKernelUsers(cfg.Proc, cfg.Sys)
	s.sources = newSources(s, fs)
	return s, nil
}

// Close releases everything.
func (s *Scanner) Close() error {
	var errs []error
	s.fetcher.Close()
	if s.units != nil {
		errs = append(errs, s.units.Close())
	}
	if s.tree != nil {
		errs = append(errs, s.tree.Close())
	}
	if s.netns != nil {
		errs = append(errs, s.netns.Close())
	}
	if s.index != nil {
		errs = append(errs, s.index.Close())
	}
	if s.host != nil {
		s.host.close()
	}
	return errors.Join(errs...)
}

// pageSize of this host in bytes: never assume 4096.
var pageSize = os.Getpagesize()

// Refresh learns which processes and namespaces there are, and lets go of
// namespaces that nobody holds any more. Scan does it, too.
func (s *Scanner) Refresh() error {
	_ = s.host.openConntrack() // what cannot be read was a gap from the start
	if err := s.index.Refresh(); err != nil {
		return err
	}
	return s.netns.Refresh(func(yield func(netns.Member) bool) {
		for _, p := range s.index.All {
			if !yield(netns.Member{PID: p.Task(), Netns: p.Netns}) {
				return
			}
		}
	})
}

// inHostPIDs reports whether this is the initial PID namespace, which has a
// fixed inode number (PROC_PID_INIT_INO in include/linux/proc_ns.h). Where that
// cannot be told, it is assumed.
func inHostPIDs(proc string) bool {
	const initial = 0xEFFFFFFC
	var st unix.Stat_t
	return unix.Stat(proc+"/self/ns/pid", &st) != nil || st.Ino == initial
}
