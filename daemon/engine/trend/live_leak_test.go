package trend_test

import (
	"net"

	"github.com/tcpmemd/tcpmemd/daemon/engine/trend/trendtest"
)

// Leaks are about 2 MiB a minute: enough to be material on a host whose
// tcp_mem max is 2 GiB, and little enough to run all scenes at once.

// forgetful serves requests, and keeps the connections of another port without
// ever reading them.
func forgetful(p *player) {
	go p.serve(p.address(otherPort), 128<<10, p.keep)
	p.serve(p.address(mainPort), 0, drain)
}

// leave opens a connection to the forgetful port every period seconds from a
// time on, writes n bytes and then does what end says.
func leave(p *player, from, period float64, n int, end func(*net.TCPConn)) {
	p.until(from)
	p.every(period, func() {
		c := p.dial(p.address(otherPort), 0)
		if write(c, n) {
			end(c)
		}
	})
}

// visit makes short requests for ever.
func visit(p *player, period float64) {
	p.every(period, func() {
		c := p.dial(p.address(mainPort), 0)
		write(c, 3000)
		c.Close()
	})
}

// closeSoon closes in order, after the data has arrived.
func closeSoon(c *net.TCPConn) { c.Close() }

var liveLeaks = []liveScene{
	{
		name: "kernel-leak-unread", about: "a task queue accepts and never reads", host: trendtest.Leak, from: 30,
		parts: []part{
			{name: "queue", label: trendtest.Leak, play: forgetful},
			{name: "clients", play: func(p *player) {
				go visit(p, 0.2)
				leave(p, 30, 2, 60<<10, p.keep)
			}},
		},
	},
	{
		name: "kernel-leak-close-wait", about: "clients write and close; the service neither reads nor closes", host: trendtest.Leak, from: 30,
		parts: []part{
			{name: "gateway", label: trendtest.Leak, play: forgetful},
			{name: "clients", play: func(p *player) {
				go visit(p, 0.2)
				leave(p, 30, 2, 50<<10, closeSoon)
			}},
		},
	},
	{
		name: "kernel-leak-close-wait-read", about: "clients close, the service reads to the end and never closes: close-wait without a byte",
		host: trendtest.None, from: 10,
		parts: []part{
			{name: "gateway", label: trendtest.Leak, play: func(p *player) {
				p.serve(p.address(otherPort), 0, func(c *net.TCPConn) {
					p.keep(c)
					var b [512]byte
					for {
						if _, err := c.Read(b[:]); err != nil {
							return
						}
					}
				})
			}},
			{name: "clients", play: func(p *player) { leave(p, 10, 0.4, 1000, closeSoon) }},
		},
	},
	{
		name: "kernel-leak-hidden", about: "clients reset connections whose data was not read; the service keeps the descriptors",
		host: trendtest.Leak, from: 30,
		parts: []part{
			{name: "collector", label: trendtest.Leak, play: forgetful},
			{name: "clients", play: func(p *player) {
				go visit(p, 0.2)
				leave(p, 30, 2, 60<<10, func(c *net.TCPConn) {
					p.sleep(0.5)
					reset(c)
				})
			}},
		},
	},
	{
		name: "kernel-leak-steps", about: "every 50 s a job forgets all of its connections", host: trendtest.Leak, from: 40,
		parts: []part{
			{name: "sync", label: trendtest.Leak, play: forgetful},
			{name: "clients", play: func(p *player) {
				p.until(40)
				for {
					for range 35 {
						c := p.dial(p.address(otherPort), 0)
						write(c, 60<<10)
						p.keep(c)
					}
					p.until(40 + 50*float64(1+int((p.since()-40)/50)))
				}
			}},
		},
	},
	{
		name: "kernel-leak-restart", about: "a leaking service ends after 90 s, is started again and leaks on; its clients come back",
		host: trendtest.Leak, from: 5,
		parts: []part{
			{name: "worker", label: trendtest.Leak, play: func(p *player) {
				born := p.since()
				go forgetful(p)
				if born < 90 {
					p.until(90)
					p.end()
				}
				select {}
			}},
			{name: "clients", play: func(p *player) {
				leave(p, 5, 1.5, 60<<10, func(c *net.TCPConn) {
					go drain(c)
				})
			}},
		},
	},
	{
		name: "kernel-leak-orphans", about: "a notifier closes connections to hosts that do not read; the kernel gives each orphan up after some minutes",
		host: trendtest.Leak, from: 20,
		parts: []part{
			{name: "notify", label: trendtest.Leak, play: func(p *player) {
				p.until(20)
				host := 0
				p.every(1, func() {
					c := p.dial(remote(host, readsOnce), 256<<10)
					host++
					if write(c, 120<<10) {
						c.Close()
					}
				})
			}},
		},
	},
	{
		name: "kernel-leak-two", about: "two services leak at different rates", host: trendtest.Leak, from: 30,
		parts: []part{
			{name: "one", label: trendtest.Leak, play: forgetful},
			{name: "two", label: trendtest.Leak, play: func(p *player) {
				p.serve(p.address(otherPort+1), 128<<10, p.keep)
			}},
			{name: "clients", play: func(p *player) {
				go leave(p, 30, 2, 60<<10, p.keep)
				p.until(30)
				p.every(3, func() {
					c := p.dial(p.address(otherPort+1), 0)
					write(c, 60<<10)
					p.keep(c)
				})
			}},
		},
	},
	{
		name: "kernel-leak-unaccepted", about: "a service stopped accepting; clients write and wait", host: trendtest.Leak, from: 30,
		parts: []part{
			{name: "frozen", label: trendtest.Leak, play: func(p *player) {
				defer p.listen(p.address(otherPort), 128<<10).Close()
				select {}
			}},
			{name: "clients", play: func(p *player) { leave(p, 30, 2, 60<<10, p.keep) }},
		},
	},
	{
		name: "kernel-leak-under-load", about: "a service leaks while the load on it and on another grows", host: trendtest.Leak, from: 60,
		parts: []part{
			{name: "mailer", label: trendtest.Leak, play: forgetful},
			{name: "ingress", label: trendtest.Load, play: func(p *player) { p.serve(p.address(otherPort+1), 0, floodFrom(64<<10)) }},
			{name: "clients", label: trendtest.Load, play: func(p *player) {
				go visit(p, 0.1)
				go leave(p, 60, 2, 60<<10, p.keep)
				p.until(60)
				p.every(10, func() {
					go p.sip(p.dial(p.address(otherPort+1), 0), 96<<10, 1)
				})
			}},
		},
	},
	{
		name: "kernel-leak-over-busy", about: "a busy service whose send queues move leaks beside its work", heldOut: true,
		host: trendtest.Leak, from: 60,
		parts: []part{
			{name: "api", label: trendtest.Leak, play: func(p *player) {
				go p.serve(p.address(otherPort), 128<<10, p.keep)
				p.serve(p.address(mainPort), 0, floodFrom(512<<10))
			}},
			{name: "clients", play: func(p *player) {
				for range 8 {
					go p.sip(p.dial(p.address(mainPort), 0), 96<<10, 1)
				}
				leave(p, 60, 2, 60<<10, p.keep)
			}},
		},
	},
	{
		name: "kernel-leak-netns", about: "a leak in another network namespace, both ends inside", heldOut: true,
		host: trendtest.Leak, from: 30,
		parts: []part{
			{name: "pod", label: trendtest.Leak, inside: true, play: forgetful},
			{name: "sidecar", inside: true, play: func(p *player) {
				go visit(p, 0.5)
				leave(p, 30, 2, 60<<10, p.keep)
			}},
		},
	},
	{
		name: "kernel-leak-trickle", about: "long connections that are never read get a little all the time", heldOut: true,
		host: trendtest.Leak, from: 5,
		parts: []part{
			{name: "listener", label: trendtest.Leak, play: func(p *player) {
				p.serve(p.address(otherPort), 512<<10, p.keep)
			}},
			{name: "clients", play: func(p *player) {
				var conns []*net.TCPConn
				for range 60 {
					conns = append(conns, p.dial(p.address(otherPort), 0))
				}
				p.every(2, func() {
					for _, c := range conns {
						write(c, 700)
					}
				})
			}},
		},
	},
}
