package trend_test

import (
	"net"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/trend/trendtest"
)

// download floods every connection.
func download(p *player) { p.serve(p.address(mainPort), 0, floodFrom(64<<10)) }

// floodFrom floods from a send buffer of so many bytes: autotuning would give
// each connection on loopback 4 MiB.
func floodFrom(send int) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		_ = c.SetWriteBuffer(send) // fails where the peer is gone, as the flood then does
		flood(c)
	}
}

var liveLoad = []liveScene{
	{
		name: "kernel-load-churn", about: "thirty short connections a second", host: trendtest.None,
		parts: []part{
			{name: "web", play: func(p *player) {
				p.serve(p.address(mainPort), 0, func(c *net.TCPConn) {
					read(c, 500)
					write(c, 20<<10)
					c.Close()
				})
			}},
			{name: "clients", play: func(p *player) {
				p.every(1.0/30, func() {
					go func() {
						c := p.dial(p.address(mainPort), 0)
						write(c, 500)
						drain(c)
					}()
				})
			}},
		},
	},
	{
		name: "kernel-load-downloads", about: "more and more clients download slowly but all the time", host: trendtest.Load, from: 30,
		parts: []part{
			{name: "mirror", label: trendtest.Load, play: download},
			{name: "clients", label: trendtest.Load, play: func(p *player) {
				p.until(30)
				p.every(15, func() { go p.sip(p.dial(p.address(mainPort), 0), 96<<10, 0.8) })
			}},
		},
	},
	{
		name: "kernel-load-remote-downloads", about: "more and more remote hosts download through a small window", host: trendtest.Load, from: 20,
		parts: []part{
			{name: "mirror", label: trendtest.Load, play: func(p *player) {
				p.until(20)
				host := 100
				p.every(12, func() {
					go flood(p.dial(remote(host, readsSlow), 96<<10))
					host++
				})
			}},
		},
	},
	{
		name: "kernel-load-idle", about: "1,200 connections come up and stay idle, without a byte", host: trendtest.None,
		parts: []part{
			{name: "push", play: func(p *player) { p.serve(p.address(mainPort), 0, drain) }},
			{name: "clients", play: func(p *player) {
				for range 1200 {
					p.keep(p.dial(p.address(mainPort), 0))
					p.sleep(0.35)
				}
			}},
		},
	},
	{
		name: "kernel-load-burst", about: "for two minutes forty more clients download, then the burst is over", host: trendtest.Load, from: 200,
		parts: []part{
			{name: "ingress", label: trendtest.Load, play: download},
			{name: "clients", label: trendtest.Load, play: func(p *player) {
				for range 3 {
					go p.sip(p.dial(p.address(mainPort), 0), 64<<10, 1)
				}
				p.until(200)
				for range 40 {
					go func() {
						c := p.dial(p.address(mainPort), 0)
						for p.since() < 320 && read(c, 64<<10) {
							p.sleep(1)
						}
						reset(c)
					}()
					p.sleep(0.5)
				}
			}},
		},
	},
	{
		name: "kernel-load-full-queues", about: "fifty clients download 64 KiB a second each through queues that are always full: " +
			"they move, and have the same size at each scan", host: trendtest.None,
		parts: []part{
			{name: "mirror", play: download},
			{name: "clients", play: func(p *player) {
				for range 50 {
					go p.sip(p.dial(p.address(mainPort), 0), 64<<10, 1)
				}
			}},
		},
	},
	{
		name: "kernel-load-backpressure", about: "a consumer pauses for 12 s and reads for 8 s, in turn, while its producer writes", host: trendtest.None,
		parts: []part{
			{name: "producer", play: func(p *player) {
				for range 5 {
					go func() {
						c := p.dial(p.address(mainPort), 1<<20)
						for write(c, 64<<10) {
							p.sleep(0.3)
						}
					}()
				}
			}},
			{name: "consumer", play: func(p *player) {
				p.serve(p.address(mainPort), 256<<10, func(c *net.TCPConn) {
					for {
						p.sleep(12)
						for end := time.Now().Add(8 * time.Second); time.Now().Before(end); {
							if !read(c, 64<<10) {
								return
							}
						}
					}
				})
			}},
		},
	},
	{
		name: "kernel-load-batch", about: "a batch job lets results pile up unread and takes them all every 75 s", host: trendtest.None,
		parts: []part{
			{name: "batch", play: func(p *player) {
				p.serve(p.address(mainPort), 256<<10, func(c *net.TCPConn) {
					for time.Sleep(75 * time.Second); read(c, 150<<10); time.Sleep(75 * time.Second) {
					}
				})
			}},
			{name: "workers", play: func(p *player) {
				for range 80 {
					go func() {
						c := p.dial(p.address(mainPort), 0)
						for p.sleep(10); write(c, 150<<10); time.Sleep(75 * time.Second) {
						}
					}()
				}
			}},
		},
	},
	{
		name: "kernel-load-bursty-reads", about: "readers sleep around 8 s and then read what is there", host: trendtest.None,
		parts: []part{
			{name: "poller", play: func(p *player) {
				p.serve(p.address(mainPort), 256<<10, func(c *net.TCPConn) {
					b := make([]byte, 256<<10)
					for {
						if _, err := c.Read(b); err != nil {
							return
						}
						p.sleep(8)
					}
				})
			}},
			{name: "sources", play: func(p *player) {
				for range 60 {
					go func() {
						c := p.dial(p.address(mainPort), 0)
						for write(c, 20<<10) {
							p.sleep(1.5)
						}
					}()
				}
			}},
		},
	},
	{
		name: "kernel-load-prefork", about: "four processes share a listener and stream to clients that come and go", host: trendtest.None,
		parts: []part{
			{name: "server", workers: 4, play: func(p *player) { p.serve(p.address(mainPort), 0, floodFrom(512<<10)) }},
			{name: "clients", play: func(p *player) {
				p.every(2, func() {
					go func() {
						c := p.dial(p.address(mainPort), 0)
						for range 15 {
							if !read(c, 64<<10) {
								return
							}
							p.sleep(1)
						}
						reset(c)
					}()
				})
			}},
		},
	},
	{
		name: "kernel-load-restarts", about: "a busy service ends every 130 s and is started again", host: trendtest.None,
		parts: []part{
			{name: "api", play: func(p *player) {
				born := p.since()
				go p.serve(p.address(mainPort), 0, floodFrom(512<<10))
				p.until(130 * float64(1+int(born/130)))
				p.end()
			}},
			{name: "clients", play: func(p *player) {
				for range 6 {
					go func() {
						for {
							p.sip(p.dial(p.address(mainPort), 0), 64<<10, 1)
						}
					}()
				}
			}},
		},
	},
	{
		name: "kernel-load-reports", about: "clients end their half and wait for reports that take half a minute: close-wait, but all of it ends", host: trendtest.None,
		parts: []part{
			{name: "report", play: func(p *player) {
				p.serve(p.address(mainPort), 256<<10, func(c *net.TCPConn) {
					drainHalf(c)
					p.sleep(30)
					write(c, 100<<10)
					c.Close()
				})
			}},
			{name: "clients", play: func(p *player) {
				p.every(0.5, func() {
					go func() {
						c := p.dial(p.address(mainPort), 0)
						write(c, 2000)
						_ = c.CloseWrite() // fails where the peer was first
						drain(c)
					}()
				})
			}},
		},
	},
	{
		// Held out once. What was seen in it made the scanner ask whether a
		// queue that keeps its size moves, so it is no longer.
		name: "kernel-load-uploads", about: "more and more clients upload to a service that reads slowly but all the time",
		host: trendtest.Load, from: 30,
		parts: []part{
			{name: "upload", label: trendtest.Load, play: func(p *player) {
				p.serve(p.address(mainPort), 128<<10, func(c *net.TCPConn) { p.sip(c, 64<<10, 1) })
			}},
			{name: "clients", label: trendtest.Load, play: func(p *player) {
				p.until(30)
				p.every(12, func() { go flood(p.dial(p.address(mainPort), 128<<10)) })
			}},
		},
	},
	{
		name: "kernel-load-paused", about: "a consumer with 10 MiB unread is paused for 150 s, once, and then reads on", heldOut: true,
		host: trendtest.None,
		parts: []part{
			{name: "player", play: func(p *player) {
				p.serve(p.address(mainPort), 256<<10, func(c *net.TCPConn) {
					for read(c, 16<<10) {
						if s := p.since(); s > 180 && s < 330 {
							p.until(330)
						}
						p.sleep(0.5)
					}
				})
			}},
			{name: "source", play: func(p *player) {
				for range 60 {
					go func() {
						c := p.dial(p.address(mainPort), 16<<10)
						for write(c, 16<<10) {
							p.sleep(0.5)
						}
					}()
				}
			}},
		},
	},
	{
		name: "kernel-load-batch-growing", about: "a batch job takes all results every 110 s; from time to time there are more of them", heldOut: true,
		host: trendtest.Load, from: 30,
		parts: []part{
			{name: "batch", label: trendtest.Load, play: func(p *player) {
				p.serve(p.address(mainPort), 256<<10, func(c *net.TCPConn) {
					for {
						p.until(110 * float64(1+int(p.since()/110)))
						if !read(c, 120<<10) {
							return
						}
						p.sleep(0.2)
					}
				})
			}},
			{name: "workers", play: func(p *player) {
				p.until(30)
				p.every(6, func() {
					go func() {
						c := p.dial(p.address(mainPort), 0)
						for write(c, 120<<10) {
							p.until(110*float64(1+int(p.since()/110)) + 20 + 60*p.Float64())
						}
					}()
				})
			}},
		},
	},
}

func drainHalf(c *net.TCPConn) {
	var b [4096]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return
		}
	}
}

// liveScenes is every scene, and so the number of each.
var liveScenes = slices.Concat(
	[]liveScene{{name: "kernel-world", parts: []part{{name: "world", play: remoteWorld}}}},
	liveLeaks, liveSlow, liveLoad)
