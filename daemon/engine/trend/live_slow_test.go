package trend_test

import (
	"net"

	"github.com/tcpmemd/tcpmemd/daemon/engine/trend/trendtest"
)

// stopsReading reads until a time of the scene and then never again.
func stopsReading(p *player, receive int, at float64) {
	p.serve(p.address(mainPort), receive, func(c *net.TCPConn) {
		p.keep(c)
		for p.since() < at {
			if !read(c, 32<<10) {
				return
			}
			p.sleep(0.05)
		}
	})
}

var liveSlow = []liveScene{
	{
		name: "kernel-slow-local", about: "a consumer on this host stops reading; its producer's queues fill", host: trendtest.Leak, from: 60,
		parts: []part{
			{name: "producer", label: trendtest.SlowPeer, play: func(p *player) {
				for range 5 {
					go flood(p.dial(p.address(mainPort), 1<<20))
				}
			}},
			{name: "consumer", label: trendtest.Leak, play: func(p *player) { stopsReading(p, 1<<20, 60) }},
		},
		culprits: map[string]string{"producer": "consumer"},
	},
	{
		name: "kernel-slow-remote", about: "a remote host closes its window and keeps it closed", host: trendtest.SlowPeer, from: 60,
		parts: []part{
			{name: "feeder", label: trendtest.SlowPeer, play: func(p *player) {
				for range 6 {
					go press(p, p.dial(remote(6, readsLate), 1<<20))
				}
			}},
		},
		culprits: map[string]string{"feeder": "198.18.1.7"},
	},
	{
		name: "kernel-slow-netns", about: "a program in another network namespace stops reading; the bytes wait on both sides", host: trendtest.Leak, from: 60,
		parts: []part{
			{name: "pusher", label: trendtest.SlowPeer, play: func(p *player) {
				for range 5 {
					go flood(p.dial(p.beyond(mainPort), 1<<20))
				}
			}},
			{name: "pod", label: trendtest.Leak, inside: true, play: func(p *player) {
				p.serve("0.0.0.0:7000", 1<<20, func(c *net.TCPConn) {
					p.keep(c)
					for p.since() < 60 && read(c, 32<<10) {
						p.sleep(0.05)
					}
				})
			}},
		},
		culprits: map[string]string{"pusher": "pod"},
	},
	{
		name: "kernel-slow-small-window", about: "the same, but the consumer's buffers are small: only the sender's memory counts", host: trendtest.SlowPeer, from: 60,
		parts: []part{
			{name: "producer", label: trendtest.SlowPeer, play: func(p *player) {
				for range 6 {
					go flood(p.dial(p.address(mainPort), 1<<20))
				}
			}},
			{name: "consumer", play: func(p *player) { stopsReading(p, 16<<10, 60) }},
		},
		culprits: map[string]string{"producer": "consumer"},
	},
	{
		name: "kernel-slow-one-of-many", about: "one of thirty subscribers, a remote host, stops reading; it has eight connections", heldOut: true,
		host: trendtest.SlowPeer, from: 60,
		parts: []part{
			{name: "broker", label: trendtest.SlowPeer, play: func(p *player) {
				for range 8 {
					go press(p, p.dial(remote(39, readsLate), 1<<20))
				}
				for i := range 29 {
					go func() {
						c := p.dial(remote(50+i, readsAll), 64<<10)
						for write(c, 16<<10) {
							p.sleep(0.5)
						}
					}()
				}
			}},
		},
		culprits: map[string]string{"broker": "198.18.1.40"},
	},
	{
		name: "kernel-slow-proxy", about: "an upstream waits for a proxy, which waits for a remote host that does not read", heldOut: true,
		host: trendtest.SlowPeer, from: 60,
		parts: []part{
			{name: "upstream", label: trendtest.SlowPeer, play: func(p *player) {
				for range 4 {
					go press(p, p.dial(p.address(mainPort), 1<<20))
				}
			}},
			{name: "proxy", label: trendtest.SlowPeer, play: func(p *player) {
				p.serve(p.address(mainPort), 256<<10, func(c *net.TCPConn) {
					out := p.dial(remote(29, readsLate), 1<<20)
					b := make([]byte, 32<<10)
					for {
						n, err := c.Read(b)
						if err != nil {
							return
						}
						if !write(out, n) {
							return
						}
					}
				})
			}},
		},
		culprits: map[string]string{"upstream": "proxy", "proxy": "198.18.1.30"},
	},
}

// press writes steadily until the remote hosts stop reading, and then as much
// as the queue takes.
func press(p *player, c *net.TCPConn) {
	for write(c, 16<<10) {
		if p.since() < stopsAfter {
			p.sleep(0.2)
		}
	}
}
