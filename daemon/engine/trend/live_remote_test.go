package trend_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Remote hosts: behind a TUN device a few lines of TCP answer for every
// address of 198.18.0.0/16 (RFC 2544), so that no socket of this host is at
// the other end. What they read is said by the port.
const (
	readsAll  = 9  // reads everything
	readsOnce = 10 // reads 16 KiB and closes its window
	readsLate = 11 // reads everything for stopsAfter seconds
	readsSlow = 12 // reads 24 KiB a second
	tunName   = "tcpmemd-tun"
	tunNet    = "198.18.0.1/16"
	mss       = 1460
	takenOnce = 16 << 10

	stopsAfter = 60.0
	slowRate   = 24 << 10 // bytes a second
)

// remoteWorld answers until the process ends.
func remoteWorld(p *player) {
	tun, err := openTun()
	if err != nil {
		p.fail(err)
	}
	w := world{p: p, tun: tun, conns: make(map[[12]byte]*remoteConn)}
	packet := make([]byte, 64<<10)
	for {
		n, err := tun.Read(packet)
		if err != nil {
			p.fail(err)
		}
		w.answer(packet[:n])
	}
}

func openTun() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	req, err := unix.NewIfreq(tunName)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, os.NewSyscallError("ioctl TUNSETIFF", err)
	}
	link, err := netlink.LinkByName(tunName)
	if err != nil {
		return nil, err
	}
	addr, err := netlink.ParseAddr(tunNet)
	if err != nil {
		return nil, err
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return nil, fmt.Errorf("add address: %w", err)
	}
	return os.NewFile(uintptr(fd), "tun"), netlink.LinkSetUp(link)
}

// world is the other side of the device.
type world struct {
	p     *player
	tun   *os.File
	conns map[[12]byte]*remoteConn
}

// remoteConn is the little a TCP needs to know that only receives.
type remoteConn struct {
	next  uint32 // sequence number expected
	taken int
	began float64 // seconds
}

// window is what the remote end offers, at most 64 KiB: no scaling.
func (w *world) window(c *remoteConn, port uint16) uint16 {
	switch {
	case port == readsOnce && c.taken >= takenOnce,
		port == readsLate && w.p.since() > stopsAfter:
		return 0
	case port == readsOnce:
		return takenOnce
	}
	if port == readsSlow {
		left := int((w.p.since()-c.began)*slowRate) + takenOnce - c.taken
		if left < mss {
			return 0
		}
		return uint16(min(left, 65535))
	}
	return 65535
}

// answer takes an IPv4 packet and sends what TCP says to it (RFC 9293).
func (w *world) answer(in []byte) {
	if len(in) < 40 || in[0]>>4 != 4 || in[9] != unix.IPPROTO_TCP {
		return
	}
	ip := int(in[0]&15) * 4
	if len(in) < ip+20 {
		return
	}
	tcp := in[ip:binary.BigEndian.Uint16(in[2:])]
	var id [12]byte
	copy(id[:8], in[12:20])
	copy(id[8:], tcp[:4])
	port, seq, flags := binary.BigEndian.Uint16(tcp[2:]), binary.BigEndian.Uint32(tcp[4:]), tcp[13]
	payload := tcp[int(tcp[12]>>4)*4:]
	const fin, syn, rst, ack = 1, 2, 4, 16
	const own = 0x10000 // initial sequence number

	c := w.conns[id]
	switch {
	case flags&rst != 0:
		delete(w.conns, id)
		return
	case flags&syn != 0:
		c = &remoteConn{next: seq + 1, began: w.p.since()}
		w.conns[id] = c
		w.send(in[12:20], tcp[:4], own, c.next, syn|ack, w.window(c, port))
		return
	case c == nil:
		w.send(in[12:20], tcp[:4], binary.BigEndian.Uint32(tcp[8:]), 0, rst, 0)
		return
	}
	window := w.window(c, port)
	if seq == c.next && window > 0 {
		c.next += uint32(len(payload))
		c.taken += len(payload)
		if flags&fin != 0 {
			c.next++
			w.send(in[12:20], tcp[:4], own+1, c.next, fin|ack, window)
			delete(w.conns, id)
			return
		}
		window = w.window(c, port)
	} else if len(payload) == 0 && seq == c.next {
		return // an acknowledgement of ours
	}
	w.send(in[12:20], tcp[:4], own+1, c.next, ack, window)
}

// send answers the sender of addresses and ports.
func (w *world) send(addresses, ports []byte, seq, acked uint32, flags byte, window uint16) {
	size := 40
	if flags&2 != 0 {
		size += 4
	}
	b := make([]byte, size)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[2:], uint16(size))
	copy(b[12:16], addresses[4:8])
	copy(b[16:20], addresses[0:4])
	binary.BigEndian.PutUint16(b[10:], checksum(b[:20], 0))
	tcp := b[20:]
	copy(tcp[0:2], ports[2:4])
	copy(tcp[2:4], ports[0:2])
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], acked)
	tcp[12], tcp[13] = byte(len(tcp)/4)<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], window)
	if flags&2 != 0 {
		tcp[20], tcp[21] = 2, 4 // maximum segment size
		binary.BigEndian.PutUint16(tcp[22:], mss)
	}
	pseudo := uint32(unix.IPPROTO_TCP) + uint32(len(tcp))
	for i := 12; i < 20; i += 2 {
		pseudo += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(tcp[16:], checksum(tcp, pseudo))
	if _, err := w.tun.Write(b); err != nil {
		w.p.fail(err)
	}
}

// checksum is the internet checksum (RFC 1071) of an even number of bytes.
func checksum(b []byte, sum uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// remote is an address of the remote hosts.
func remote(host, port int) string {
	return fmt.Sprintf("198.18.%d.%d:%d", 1+host/250, 1+host%250, port)
}

// forgetRemote ends what is left of connections to the remote hosts, which
// answer no more: orphans would hold their memory for minutes (sock_diag(7),
// SOCK_DESTROY).
func forgetRemote() error {
	socks, err := netlink.SocketDiagTCP(unix.AF_INET)
	if err != nil {
		return fmt.Errorf("list sockets: %w", err)
	}
	_, network, err := net.ParseCIDR(tunNet)
	if err != nil {
		return err
	}
	for _, s := range socks {
		if !network.Contains(s.ID.Destination) {
			continue
		}
		local := &net.TCPAddr{IP: s.ID.Source, Port: int(s.ID.SourcePort)}
		to := &net.TCPAddr{IP: s.ID.Destination, Port: int(s.ID.DestinationPort)}
		// One that ended meanwhile is as good.
		if err := netlink.SocketDestroy(local, to); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("destroy socket to %s: %w", to, err)
		}
	}
	return nil
}
