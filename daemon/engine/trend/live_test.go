package trend_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/engine/trend/trendtest"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// The live scenes: programs that do to real sockets what the simulator only
// says. Each part of a scene is a process of its own, this same executable
// started again, in a cgroup named like a service. TestRecordKernel runs them.

// liveScene is a scene of the running kernel.
type liveScene struct {
	name     string
	about    string
	heldOut  bool
	host     trendtest.Label
	from     float64 // seconds
	parts    []part
	culprits map[string]string // by the short names of parts, or an address
}

// part is one program of a scene.
type part struct {
	name  string
	label trendtest.Label
	// inside runs it in the scene's network namespace, which a veth pair
	// joins to the host's: 10.213.N.1 outside, 10.213.N.2 inside.
	inside  bool
	workers int // processes, 0 means 1
	play    func(*player)
}

// unit is the name of a part's cgroup: the scanner takes it for a service.
func (c *liveScene) unit(p *part) string { return c.name + "-" + p.name + ".service" }

func (c *liveScene) key(p *part) string { return "system/" + c.unit(p) }

// owns reports whether an owner is a part of the scene.
func (c *liveScene) owns(key string) bool {
	return slices.ContainsFunc(c.parts, func(p part) bool { return c.key(&p) == key })
}

// header is what a person says of the scene.
func (c *liveScene) header() trendtest.Header {
	h := trendtest.Header{
		Name: c.name, Origin: trendtest.RealSockets, HeldOut: c.heldOut, About: c.about,
		Host: c.host, From: c.from, Owners: labels{},
	}
	keys := make(map[string]string)
	for i := range c.parts {
		p := &c.parts[i]
		keys[p.name] = c.key(p)
		if p.label != "" {
			h.Owners[c.key(p)] = p.label
		}
	}
	for name, culprit := range c.culprits {
		if h.Culprits == nil {
			h.Culprits = make(map[string]string)
		}
		h.Culprits[keys[name]] = cmp.Or(keys[culprit], culprit)
	}
	return h
}

// envPlayer tells a process which part it has to play.
const envPlayer = "TCPMEMD_TREND_PLAYER"

// role is the value of envPlayer.
type role struct {
	Scene, Part string
	StartMicros int64
	Seed        uint64
}

func TestMain(m *testing.M) {
	scene.RunIfChild()
	if text := os.Getenv(envPlayer); text != "" {
		if err := play(text); err != nil {
			fmt.Fprintf(os.Stderr, "play %s: %v\n", text, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play plays a part until standard input is closed.
func play(text string) error {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // whatever ends it
		os.Exit(0)
	}()
	for i := range liveScenes {
		c := &liveScenes[i]
		for j := range c.parts {
			if c.name != r.Scene || c.parts[j].name != r.Part {
				continue
			}
			p := &player{Rand: rand.New(rand.NewPCG(r.Seed, 0x51)), number: i + 1, start: time.UnixMicro(r.StartMicros)}
			p.until(0)
			c.parts[j].play(p)
			select {}
		}
	}
	return fmt.Errorf("no such part")
}

// player is what a part has to play with. Its methods end the process where
// the scene cannot go on.
type player struct {
	*rand.Rand
	number int // of the scene, from 1: its network
	start  time.Time

	mu   sync.Mutex
	kept []*net.TCPConn // or the collector would close them
}

const (
	mainPort  = 7000
	otherPort = 7001
)

// address is the scene's own loopback address.
func (p *player) address(port int) string { return fmt.Sprintf("127.78.%d.1:%d", p.number, port) }

// beyond is the address inside the scene's namespace, seen from outside.
func (p *player) beyond(port int) string { return fmt.Sprintf("10.213.%d.2:%d", p.number, port) }

func (p *player) fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// end ends the process; TestRecordKernel starts it again.
func (p *player) end() { os.Exit(0) }

// since is how long the scene has run, in seconds.
func (p *player) since() float64 { return time.Since(p.start).Seconds() }

// until waits for a time of the scene, in seconds.
func (p *player) until(seconds float64) {
	time.Sleep(time.Until(p.start.Add(time.Duration(seconds * float64(time.Second)))))
}

// sleep waits around a mean, in seconds.
func (p *player) sleep(mean float64) {
	p.mu.Lock()
	f := 0.5 + p.Float64()
	p.mu.Unlock()
	time.Sleep(time.Duration(mean * f * float64(time.Second)))
}

// every runs f at a period in seconds, for ever.
func (p *player) every(period float64, f func()) {
	tick := time.NewTicker(time.Duration(period * float64(time.Second)))
	for range tick.C {
		f()
	}
}

func (p *player) keep(c *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = append(p.kept, c)
}

// listen opens a listener whose connections have a receive buffer of so many
// bytes, autotuned where 0.
func (p *player) listen(address string, receive int) *net.TCPListener {
	control := func(_, _ string, raw syscall.RawConn) error {
		var err error
		failed := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			if err == nil && receive > 0 {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receive)
			}
		})
		return errors.Join(failed, err)
	}
	l, err := (&net.ListenConfig{Control: control, KeepAlive: -1}).Listen(context.Background(), "tcp4", address)
	if err != nil {
		p.fail(err)
	}
	return l.(*net.TCPListener)
}

// serve hands each connection to a goroutine of its own. It does not return.
func (p *player) serve(address string, receive int, f func(*net.TCPConn)) {
	l := p.listen(address, receive)
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			p.fail(err)
		}
		go f(c)
	}
}

// dial connects with a send buffer of so many bytes, autotuned where 0, and
// tries until it succeeds: the other part may not be up yet.
func (p *player) dial(address string, send int) *net.TCPConn {
	control := func(_, _ string, raw syscall.RawConn) error {
		var err error
		failed := raw.Control(func(fd uintptr) {
			if send > 0 {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, send)
			}
		})
		return errors.Join(failed, err)
	}
	d := net.Dialer{Control: control, KeepAlive: -1, Timeout: 10 * time.Second}
	switch {
	case strings.HasPrefix(address, "127."):
		// Each scene has all ephemeral ports for itself.
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 78, byte(p.number), 2)}
	case strings.HasPrefix(address, "198.18."):
		// It is there once the device is: nothing goes out by another way.
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(198, 18, 0, 1)}
	}
	for {
		c, err := d.DialContext(context.Background(), "tcp4", address)
		if err == nil {
			return c.(*net.TCPConn)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// write sends n bytes; an error ends the connection's part of the scene.
func write(c *net.TCPConn, n int) bool {
	for n > 0 {
		k, err := c.Write(zeros[:min(n, len(zeros))])
		if err != nil {
			c.Close()
			return false
		}
		n -= k
	}
	return true
}

// flood writes for ever.
func flood(c *net.TCPConn) {
	for write(c, len(zeros)) {
	}
}

// drain reads to the end and closes.
func drain(c *net.TCPConn) {
	_, _ = io.Copy(io.Discard, c) // a reset is an end too
	c.Close()
}

// read takes n bytes; false at the end.
func read(c *net.TCPConn, n int) bool {
	if _, err := io.CopyN(io.Discard, c, int64(n)); err != nil {
		c.Close()
		return false
	}
	return true
}

// sip reads n bytes around every period seconds until the end.
func (p *player) sip(c *net.TCPConn, n int, period float64) {
	for read(c, n) {
		p.sleep(period)
	}
}

// reset closes with RST.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails where the peer was first
	c.Close()
}

var zeros = make([]byte, 32<<10)
