package netns

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Inuse reads how many hashed TCP sockets the namespace has, IPv4 and IPv6:
// what a dump of it should list (/proc/net/sockstat, sockstat6).
func (t *Table) Inuse(n *Namespace) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inuse(n)
}

func (t *Table) inuse(n *Namespace) (int64, error) {
	inuse, err := t.readInuse(n)
	n.problem = err
	if err != nil {
		n.files.close()
		return 0, err
	}
	n.inuse = inuse
	return inuse, nil
}

// MPTCP counts the MPTCP sockets of the namespace (/proc/net/protocols), nil
// where the kernel has no MPTCP. The file is not kept open: it is read only for
// namespaces with sockets, once a scan.
func (t *Table) MPTCP(n *Namespace) (count *int64, err error) {
	read := func(dir string) error {
		f, err := procfs.OpenProtocols(dir + "/net/protocols")
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		p, err := f.Read()
		count = p.MPTCPSockets()
		return err
	}
	err = t.Do(n, func() error { return read(t.fs.Root() + "/thread-self") })
	return count, err
}

func (t *Table) readInuse(n *Namespace) (int64, error) {
	if n.files.sockstat == nil {
		if err := t.openFiles(n); err != nil {
			return 0, err
		}
	}
	s, err := n.files.sockstat.Read()
	if err != nil {
		return 0, err
	}
	if n.files.sockstat6 == nil { // IPv6 is off
		return s.Inuse, nil
	}
	s6, err := n.files.sockstat6.Read()
	return s.Inuse + s6.Inuse, err
}

// openFiles opens the counters: through a process in the namespace where there
// is one, since that needs no setns.
func (t *Table) openFiles(n *Namespace) error {
	if n.Home {
		return n.files.open(t.fs.Root() + "/thread-self/net/")
	}
	if n.pid != 0 {
		dir := fmt.Sprintf("%s/%d/", t.fs.Root(), n.pid)
		err := n.files.open(dir + "net/")
		// The process may have moved or ended meanwhile, and its pid be another's.
		if link, lerr := os.Readlink(dir + "ns/net"); err == nil && lerr == nil && link == n.link() {
			return nil
		}
		n.files.close()
	}
	return t.Do(n, func() error { return n.files.open(t.fs.Root() + "/thread-self/net/") })
}

// learnCookie asks for the namespace's cookie once; without the right to enter
// it, it stays unknown. Only the goroutine that scans may call it, since that
// reads ID without the mutex.
func (t *Table) learnCookie(n *Namespace) {
	if n.asked {
		return
	}
	err := t.Do(n, func() error { n.ID.Cookie = readCookie(); return nil })
	n.asked = err == nil || errors.Is(err, unix.EPERM)
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

func (f *files) open(dir string) (err error) {
	if f.sockstat, err = procfs.OpenSockstat(dir + "sockstat"); err != nil {
		return err
	}
	if f.sockstat6, err = procfs.OpenSockstat6(dir + "sockstat6"); err != nil {
		return err
	}
	f.netstat, err = procfs.OpenNetstat(dir + "netstat")
	return err
}

// Sample reads the counters of up to count namespaces, in turn, and adds what
// they counted since their last reading to the totals. The home namespace is
// read each time and does not count. It returns what could not be read.
func (t *Table) Sample(count int) []error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	read := func(n *Namespace) {
		if err := t.sample(n); err != nil {
			errs = append(errs, fmt.Errorf("netns %d: %w", n.ID.Inode, err))
		}
	}
	for range min(count+1, len(t.order)) {
		t.next = (t.next + 1) % len(t.order)
		if n := t.order[t.next]; !n.Home {
			read(n)
		}
	}
	if n := t.list[t.home]; n != nil {
		read(n)
	}
	return errs
}

func (t *Table) sample(n *Namespace) error {
	if _, err := t.inuse(n); err != nil {
		return err
	}
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
	return nil
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
		if n.problem == nil {
			inuse += n.inuse
			namespaces++
		}
	}
	return namespaces, inuse, t.total.Counters()
}
