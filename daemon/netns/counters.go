package netns

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// files are kept open: opening them anew would cost five times as much. An open
// file of /proc/net pins its namespace, so Refresh closes them as soon as
// neither process nor mount nor descriptor holds it.
type files struct {
	sockstat  *procfs.SockstatFile
	sockstat6 *procfs.Sockstat6File
	netstat   *procfs.NetstatFile
	protocols *procfs.ProtocolsFile // nil where the kernel has no such file
}

func (f *files) close() {
	_ = f.sockstat.Close()
	_ = f.sockstat6.Close()
	_ = f.netstat.Close()
	_ = f.protocols.Close()
	*f = files{}
}

// netstatBudget bounds what a sample spends on netstat, 20 us for each
// namespace: the rest has its turn in the next sample.
const netstatBudget = 5 * time.Millisecond

// Inuse reads how many hashed TCP sockets the namespace has, IPv4 and IPv6:
// what a dump of it should list (/proc/net/sockstat, sockstat6).
func (t *Table) Inuse(n *Namespace) (int64, error) {
	if err := t.needFiles(n); err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	err := n.readInuse()
	return n.inuse, err
}

// MPTCP counts the MPTCP sockets of the namespace (/proc/net/protocols), nil
// where the kernel has no MPTCP.
func (t *Table) MPTCP(n *Namespace) (*int64, error) {
	if err := t.needFiles(n); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	err := n.readMPTCP()
	return n.mptcp, err
}

// needFiles opens the counters where Refresh could not.
func (t *Table) needFiles(n *Namespace) error {
	if n.files.sockstat != nil {
		return nil
	}
	f, err := t.openFiles(n)
	t.replace(n, f, err)
	return err
}

// readInuse takes sockstat. It keeps the last number where that fails.
func (n *Namespace) readInuse() (err error) {
	defer func() { n.problem = err }()
	s, err := n.files.sockstat.Read()
	if err != nil {
		return err
	}
	if n.files.sockstat6 != nil { // else IPv6 is off
		s6, err := n.files.sockstat6.Read()
		if err != nil {
			return err
		}
		s.Inuse += s6.Inuse
	}
	n.inuse = s.Inuse
	return nil
}

func (n *Namespace) readMPTCP() error {
	if n.files.protocols == nil {
		return nil
	}
	p, err := n.files.protocols.Read()
	n.mptcp = p.MPTCPSockets()
	return err
}

// openFiles opens the counters: through a process in the namespace where there
// is one, since that needs no setns.
func (t *Table) openFiles(n *Namespace) (f files, err error) {
	self := t.fs.Root() + "/thread-self/net/"
	if n.Home {
		return f, f.open(self)
	}
	if n.pid != 0 {
		dir := fmt.Sprintf("%s/%d/", t.fs.Root(), n.pid)
		err := f.open(dir + "net/")
		// The process may have moved or ended meanwhile, and its pid be another's.
		if link, lerr := os.Readlink(dir + "ns/net"); err == nil && lerr == nil && link == n.link() {
			return f, nil
		}
		f.close()
	}
	err = t.Do(n, func() error { return f.open(self) })
	return f, err
}

// learnCookie asks for the namespace's cookie and reports whether it will never
// be known better; without the right to enter the namespace it stays unknown.
func (t *Table) learnCookie(n *Namespace) bool {
	err := t.Do(n, func() error { n.ID.Cookie = readCookie(); return nil })
	return err == nil || errors.Is(err, unix.EPERM)
}

// readCookie asks for the calling thread's namespace (SO_NETNS_COOKIE, Linux
// 5.14), 0 where the kernel does not tell.
func readCookie() uint64 {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}

// open opens the files in a directory, all or none.
func (f *files) open(dir string) (err error) {
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.sockstat, err = procfs.OpenSockstat(dir + "sockstat"); err != nil {
		return err
	}
	if f.sockstat6, err = procfs.OpenSockstat6(dir + "sockstat6"); err != nil {
		return err
	}
	if f.netstat, err = procfs.OpenNetstat(dir + "netstat"); err != nil {
		return err
	}
	if f.protocols, err = procfs.OpenProtocols(dir + "protocols"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Sample reads how many sockets up to count namespaces have, in turn, and of as
// many as there is time for what they counted since their last reading, which
// goes into the totals. The home namespace is read each time and does not
// count. It returns what could not be read. It opens nothing: what Refresh or
// Inuse could not open is a failure.
func (t *Table) Sample(count int) []error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	failed := func(n *Namespace, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("netns %d: %w", n.ID.Inode, err))
		}
	}
	for range min(count+1, len(t.order)) {
		t.next = (t.next + 1) % len(t.order)
		n := t.order[t.next]
		switch {
		case n.Home:
		case n.files.sockstat == nil:
			failed(n, cmp.Or(n.problem, errNotOpen))
		default:
			failed(n, n.readInuse())
		}
	}
	start := time.Now()
	for range min(count+1, len(t.order)) {
		if time.Since(start) > t.budget {
			break
		}
		t.nextStat = (t.nextStat + 1) % len(t.order)
		if n := t.order[t.nextStat]; !n.Home && n.files.sockstat != nil {
			failed(n, t.count(n))
		}
	}
	for _, n := range t.order {
		if n.Home && n.files.sockstat != nil {
			failed(n, n.readInuse())
			failed(n, t.count(n))
		} else if n.Home {
			failed(n, cmp.Or(n.problem, errNotOpen))
		}
	}
	return errs
}

var errNotOpen = errors.New("its counters are not open yet")

// count takes netstat and the number of MPTCP sockets.
func (t *Table) count(n *Namespace) error {
	now, err := n.files.netstat.Read()
	if err != nil {
		return err
	}
	if n.hasLast {
		addRise(&t.total, &n.last, &now)
	} else if n.Home {
		addRise(&t.total, &now, &now) // known, and zero so far
	}
	n.last, n.hasLast = now, true
	return n.readMPTCP()
}

// addRise adds to total what each counter rose by. A counter never falls while
// its namespace lives.
func addRise(total, last, now *procfs.TCPExt) {
	for c := range procfs.NumCounters {
		before, ok1 := last.Get(c)
		after, ok2 := now.Get(c)
		if ok1 && ok2 {
			sum, _ := total.Get(c)
			total.Set(c, sum+max(0, after-before))
		}
	}
}

// Totals sums over all namespaces the last known inuse, and what each counter
// rose by since the table was opened: namespaces that came later start from
// their first reading, and what those that went had counted stays in.
func (t *Table) Totals() (namespaces int, inuse int64, rise reading.Counters) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.order {
		if n.problem == nil && n.files.sockstat != nil {
			inuse += n.inuse
			namespaces++
		}
	}
	return namespaces, inuse, t.total.Counters()
}

// MPTCPTotal sums the last known numbers of MPTCP sockets of all namespaces, nil
// where the kernel has no MPTCP.
func (t *Table) MPTCPTotal() (sum *int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.order {
		if n.mptcp == nil {
			continue
		}
		if sum == nil {
			sum = new(int64)
		}
		*sum += *n.mptcp
	}
	return sum
}
