package fds

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
)

// ErrStuck says that a fetched descriptor took too long, and that no more are
// fetched until the threads that hang are back.
var ErrStuck = errors.New("fetching descriptors hangs")

// fetchDeadline is how long one descriptor may take. To fetch one can make us
// its last holder, and its close then waits for the owner's SO_LINGER: 8.00 s
// were measured.
const fetchDeadline = 500 * time.Millisecond

// maxStuck is how many threads may hang at once.
const maxStuck = 4

// Fetcher looks at sockets that no dump shows: it fetches one descriptor at a
// time from its process (pidfd_getfd(2)), asks it, and closes it at once, on a
// thread that is given up if it hangs. It is not safe for concurrent use.
type Fetcher struct {
	jobs  chan fetchJob
	stuck chan struct{} // holds a token for each thread that hangs
	one   func(pidfd, fd int) (reading.Socket, error)
}

type fetchJob struct {
	pidfd int
	fd    int32
	out   chan<- fetched // buffered: nobody may be waiting any more
}

type fetched struct {
	socket reading.Socket
	err    error
}

// NewFetcher returns a Fetcher; it starts a thread when first used.
func NewFetcher() *Fetcher { return &Fetcher{stuck: make(chan struct{}, maxStuck), one: fetchOne} }

// Close ends the thread, unless it hangs: it then ends when it can.
func (f *Fetcher) Close() {
	if f.jobs != nil {
		close(f.jobs)
		f.jobs = nil
	}
}

// OpenProcess opens a pidfd, which stands for this very process whatever its
// pid is given to later.
func OpenProcess(pid int32) (int, error) {
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		return -1, fmt.Errorf("open pidfd of %d: %w", pid, err)
	}
	return fd, nil
}

// OpenTask opens a pidfd by which the descriptor of a process can be fetched:
// the process's, or that of the thread that has a table of its own, which needs
// Linux 6.9 (PIDFD_THREAD; EINVAL before).
func OpenTask(pid int32, d Descriptor) (int, error) {
	if d.TID == 0 {
		return OpenProcess(pid)
	}
	fd, err := unix.PidfdOpen(int(d.TID), unix.PIDFD_THREAD)
	if err != nil {
		return -1, fmt.Errorf("open pidfd of thread %d of %d: %w", d.TID, pid, err)
	}
	return fd, nil
}

// Fetch describes the TCP socket behind a descriptor of the process: cookie,
// namespace cookie, state, addresses not filled, memory. The error is
// ErrStuck where it hangs; the descriptor may be closed or another by now, so
// compare the inode.
func (f *Fetcher) Fetch(pidfd int, fd int32) (reading.Socket, error) {
	if len(f.stuck) == maxStuck {
		return reading.Socket{}, ErrStuck
	}
	if f.jobs == nil {
		f.jobs = make(chan fetchJob)
		go serve(f.jobs, f.one)
	}
	// The job has a pidfd of its own: if it hangs, ours is closed long before.
	own, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return reading.Socket{}, fmt.Errorf("fetch descriptor: %w", err)
	}
	out := make(chan fetched, 1)
	f.jobs <- fetchJob{own, fd, out}
	late := time.NewTimer(fetchDeadline)
	defer late.Stop()
	select {
	case r := <-out:
		return r.socket, r.err
	case <-late.C:
		f.stuck <- struct{}{}
		close(f.jobs)
		f.jobs = nil
		go func() { <-out; <-f.stuck }()
		return reading.Socket{}, ErrStuck
	}
}

// serve works off jobs on a thread of its own. It never unlocks the thread: it
// ends with the goroutine.
func serve(jobs <-chan fetchJob, one func(pidfd, fd int) (reading.Socket, error)) {
	runtime.LockOSThread()
	for j := range jobs {
		s, err := one(j.pidfd, int(j.fd))
		unix.Close(j.pidfd)
		j.out <- fetched{s, err}
	}
}

func fetchOne(pidfd, fd int) (s reading.Socket, err error) {
	got, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return s, fmt.Errorf("fetch descriptor: %w", err)
	}
	defer unix.Close(got)
	var st unix.Stat_t
	if err := unix.Fstat(got, &st); err != nil {
		return s, fmt.Errorf("stat fetched descriptor: %w", err)
	}
	s.Inode = uint32(st.Ino)
	proto, err := unix.GetsockoptInt(got, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return s, fmt.Errorf("ask protocol: %w", err)
	}
	const ipprotoMPTCP = 262
	if proto != unix.IPPROTO_TCP && proto != ipprotoMPTCP {
		return s, fmt.Errorf("ask protocol: %d is not TCP", proto)
	}
	s.MPTCP = proto == ipprotoMPTCP
	cookie, err := unix.GetsockoptUint64(got, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return s, fmt.Errorf("ask cookie: %w", err)
	}
	s.Cookie = reading.Cookie(cookie)
	if s.Netns.Cookie, err = unix.GetsockoptUint64(got, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
		s.Netns.Cookie = 0 // Linux 5.14 and later
	}
	if s.Mem, err = sockdiag.SkMemOf(got); err != nil {
		return s, err
	}
	var info [8]byte // tcpi_state is the first byte of struct tcp_info
	switch n, err := getsockopt(got, unix.IPPROTO_TCP, unix.TCP_INFO, info[:]); {
	case err == nil && n > 0:
		s.State = reading.State(info[0])
	case s.MPTCP:
		s.State = reading.Close // TCP_INFO is its first subflow's, and it has none left
	default:
		return s, fmt.Errorf("ask state: %w", err)
	}
	return s, nil
}

func getsockopt(fd, level, name int, into []byte) (int, error) {
	size := uint32(len(into))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&into[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(size), nil
}
