package trend_test

import (
	"github.com/tcpmemd/tcpmemd/daemon/engine/trend/trendtest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

var leakScenes = []simScene{
	{
		name: "leak-slow-unread", about: "a task queue forgets connections with unread data: 2 MiB a minute", seconds: 20 * 60,
		host: trendtest.Leak, owners: labels{service("task-queue"): trendtest.Leak}, from: 60,
		make: func(s *sim) {
			background(s)
			unread(s, s.owner("task-queue"), between(60, 1e9, 20), 100*kib)
		},
	},
	{
		name: "leak-fast-unread", about: "the same at 60 MiB a minute, until the pool is full",
		host: trendtest.Leak, owners: labels{service("task-queue"): trendtest.Leak}, from: 120, seconds: 8 * 60,
		make: func(s *sim) {
			background(s)
			unread(s, s.owner("task-queue"), between(120, 420, 240), 256*kib)
		},
	},
	{
		name: "leak-close-wait", about: "peers close, the service never does: each socket keeps the unread end of its stream",
		host: trendtest.Leak, owners: labels{service("gateway"): trendtest.Leak}, from: 60,
		make: func(s *sim) {
			background(s)
			p := s.owner("gateway")
			s.web(p, always(5), 3, 4*kib, 10*kib)
			s.each(func() {
				if s.now < 60 {
					return
				}
				for range s.events(10) {
					s.open(p, 0, socket{recv: 768, state: reading.CloseWait})
				}
			})
		},
	},
	{
		name: "leak-close-wait-read", about: "the same, but the end was read: thousands of sockets without a byte", seconds: 25 * 60,
		host: trendtest.None, owners: labels{service("gateway"): trendtest.Leak}, from: 60,
		make: func(s *sim) {
			background(s)
			p := s.owner("gateway")
			s.each(func() {
				if s.now < 60 {
					return
				}
				for range s.events(3) {
					s.open(p, 0, socket{state: reading.CloseWait})
				}
			})
		},
	},
	{
		name: "leak-hidden", about: "peers reset connections whose data was not read; the service keeps the descriptors",
		host: trendtest.Leak, owners: labels{service("collector"): trendtest.Leak}, from: 60,
		make: func(s *sim) {
			background(s)
			p := s.owner("collector")
			s.web(p, always(10), 4, 10*kib, 10*kib)
			s.each(func() {
				if s.now < 60 {
					return
				}
				for range s.events(1) {
					s.open(p, 0, socket{recv: 63 * kib, class: reading.Hidden, state: reading.Close})
				}
			})
		},
	},
	{
		name: "leak-over-noisy-load", about: "a busy service leaks 6 MiB a minute under noisy traffic", seconds: 20 * 60,
		host: trendtest.Leak, owners: labels{service("api"): trendtest.Leak}, from: 120,
		make: func(s *sim) {
			background(s)
			p := s.owner("api")
			s.web(p, func(t float64) float64 { return 20 + 15*s.NormFloat64() }, 5, 20*kib, 60*kib)
			unread(s, p, between(120, 1e9, 40), 150*kib)
		},
	},
	{
		name: "leak-steps", about: "every two minutes a job forgets all of its connections", seconds: 20 * 60,
		host: trendtest.Leak, owners: labels{service("sync"): trendtest.Leak}, from: 60,
		make: func(s *sim) {
			background(s)
			p := s.owner("sync")
			s.each(func() {
				if int(s.now)%120 == 60 {
					for range 40 {
						s.open(p, 0, socket{recv: int64(200 * kib)})
					}
				}
			})
		},
	},
	{
		name: "leak-with-restarts", about: "a leaking service restarts every seven minutes and leaks on", seconds: 22 * 60,
		host: trendtest.Leak, owners: labels{service("worker"): trendtest.Leak}, from: 30,
		make: func(s *sim) {
			background(s)
			p := s.owner("worker")
			unread(s, p, always(60), 150*kib)
			s.each(func() {
				if int(s.now)%420 == 419 {
					s.restart(p)
				}
			})
		},
	},
	{
		name: "leak-orphans", about: "a service closes connections to many clients that never read: orphans pile up",
		host: trendtest.Leak, owners: labels{service("notify"): trendtest.Leak}, from: 60,
		make: func(s *sim) {
			background(s)
			p := s.owner("notify")
			s.each(func() {
				if s.now < 60 {
					return
				}
				for range s.events(1) {
					s.open(p, 0, socket{send: int64(120 * kib), class: reading.Orphan, state: reading.FinWait1, peerAddr: s.client()})
				}
			})
		},
	},
	{
		name: "leak-two", about: "two services leak at different rates", seconds: 18 * 60,
		host: trendtest.Leak, owners: labels{service("one"): trendtest.Leak, service("two"): trendtest.Leak}, from: 60,
		make: func(s *sim) {
			background(s)
			unread(s, s.owner("one"), between(60, 1e9, 60), 100*kib)
			unread(s, s.owner("two"), between(60, 1e9, 30), 100*kib)
		},
	},
	{
		name: "leak-in-container", about: "a container without a unit of its own leaks",
		host: trendtest.Leak, owners: labels{"container/4f1c": trendtest.Leak}, from: 60,
		make: func(s *sim) {
			background(s)
			unread(s, s.party("container/4f1c", reading.KindContainer), between(60, 1e9, 60), 200*kib)
		},
	},
	{
		name: "leak-full-at-start", about: "the daemon starts when the pool is full and nothing can grow",
		host: trendtest.Leak, owners: labels{service("task-queue"): trendtest.Leak},
		make: func(s *sim) {
			background(s)
			for range 600 {
				s.open(s.owner("task-queue"), 0, socket{recv: 500 * kib})
			}
		},
	},
	{
		name: "leak-trickle", about: "peers trickle data into connections that nobody reads: no queue ever stands still", seconds: 30 * 60,
		host: trendtest.Leak, owners: labels{service("listener"): trendtest.Leak}, from: 60,
		make: func(s *sim) {
			background(s)
			p := s.owner("listener")
			for range 300 {
				s.open(p, 0, socket{live: func(k *socket, s *sim) {
					if s.Float64() < 0.1 {
						k.recv += 768
					}
				}})
			}
		},
	},
	{
		name: "leak-unaccepted", about: "a service stopped accepting: its accept queue fills with connections and data", seconds: 15 * 60,
		host: trendtest.Leak, owners: labels{service("frozen"): trendtest.Leak}, from: 60,
		make: func(s *sim) {
			background(s)
			p := s.owner("frozen")
			s.each(func() {
				if s.now < 60 {
					return
				}
				for range s.events(1.5) {
					s.open(p, 0, socket{recv: int64(60 * kib), class: reading.Unaccepted})
				}
			})
		},
	},
	{
		name: "leak-under-ramp", heldOut: true, about: "traffic rises everywhere while one quiet service leaks",
		host: trendtest.Leak, owners: labels{service("ingress"): trendtest.Load, service("mailer"): trendtest.Leak}, from: 60, seconds: 20 * 60,
		make: func(s *sim) {
			background(s)
			s.web(s.owner("ingress"), ramp(20, 60, 0, 1200), 4, 8*kib, 60*kib)
			unread(s, s.owner("mailer"), between(60, 1e9, 60), 150*kib)
		},
	},
	{
		name: "leak-with-gap", heldOut: true, about: "the daemon is stopped for five minutes while a service leaks", seconds: 22 * 60,
		host: trendtest.Leak, owners: labels{service("task-queue"): trendtest.Leak}, from: 60,
		make: func(s *sim) {
			background(s)
			s.skip = func(now float64) bool { return now > 300 && now < 600 }
			unread(s, s.owner("task-queue"), between(60, 1e9, 60), 150*kib)
		},
	},
	{
		name: "leak-mixed-classes", heldOut: true, about: "a service leaks unread, half-closed and hidden sockets at once",
		host: trendtest.Leak, owners: labels{service("proxy"): trendtest.Leak}, from: 60,
		make: func(s *sim) {
			background(s)
			p := s.owner("proxy")
			s.web(p, always(10), 3, 8*kib, 20*kib)
			s.each(func() {
				if s.now < 60 {
					return
				}
				for range s.events(1.2) {
					k := socket{recv: int64(20*kib + s.IntN(80*kib))}
					switch s.IntN(3) {
					case 0:
						k.state = reading.CloseWait
					case 1:
						k.class, k.state = reading.Hidden, reading.Close
					}
					s.open(p, 0, k)
				}
			})
		},
	},
	{
		name: "leak-pool-exhaustion", heldOut: true, about: "a pool of workers gets stuck one after the other, each on a full receive queue", seconds: 20 * 60,
		host: trendtest.Leak, owners: labels{service("etl"): trendtest.Leak}, from: 100,
		make: func(s *sim) {
			background(s)
			p := s.owner("etl")
			for i := range 60 {
				stuckAt := 100 + 15*float64(i)
				s.open(p, 0, socket{live: func(k *socket, s *sim) {
					if s.now < stuckAt {
						k.recv = s.amount(100 * kib)
					} else {
						k.recv = min(k.recv+300*kib, 3*mib)
					}
				}})
			}
		},
	},
}

var slowScenes = []simScene{
	{
		name: "slow-remote", about: "a remote peer stops reading: the send queues to it fill",
		host: trendtest.SlowPeer, owners: labels{service("feeder"): trendtest.SlowPeer},
		culprits: map[string]string{service("feeder"): "203.0.113.77"}, from: 120,
		make: func(s *sim) {
			background(s)
			fill(s, s.owner("feeder"), 30, 120, 2*mib, "", "203.0.113.77")
		},
	},
	{
		name: "slow-local", about: "a local service stops reading: its peer's send queues and its own receive queues fill",
		host: trendtest.Leak, owners: labels{service("producer"): trendtest.SlowPeer, service("consumer"): trendtest.Leak},
		culprits: map[string]string{service("producer"): service("consumer")}, from: 120,
		make: func(s *sim) {
			background(s)
			a, b := s.owner("producer"), s.owner("consumer")
			fill(s, a, 20, 120, 2*mib, b.key, "127.0.0.1")
			for range 20 {
				s.open(b, 0, socket{peerOwner: a.key, live: func(k *socket, s *sim) {
					if s.now < 120 {
						k.recv = s.amount(40 * kib)
					} else {
						k.recv = min(k.recv+200*kib, 3*mib)
					}
				}})
			}
		},
	},
	{
		name: "slow-one-of-many", about: "one of forty subscribers stops reading, the others read on",
		host: trendtest.SlowPeer, owners: labels{service("broker"): trendtest.SlowPeer},
		culprits: map[string]string{service("broker"): "203.0.113.12"}, from: 120,
		make: func(s *sim) {
			background(s)
			p := s.owner("broker")
			s.pool(p, 200, 2*kib, 30*kib)
			fill(s, p, 16, 120, 3*mib, "", "203.0.113.12")
		},
	},
	{
		name: "slow-orphans-one-peer", about: "a service closes connections to one peer that does not read; the orphans stay",
		host: trendtest.SlowPeer, owners: labels{service("export"): trendtest.SlowPeer},
		culprits: map[string]string{service("export"): "203.0.113.40"}, from: 60,
		make: func(s *sim) {
			background(s)
			p := s.owner("export")
			s.each(func() {
				if s.now < 60 || s.now > 600 {
					return
				}
				for range s.events(0.3) {
					s.open(p, 0, socket{send: int64(400 * kib), class: reading.Orphan, state: reading.FinWait1, peerAddr: "203.0.113.40"})
				}
			})
		},
	},
	{
		name: "slow-proxy-chain", about: "a remote client does not read, so the proxy stops reading its upstream",
		host: trendtest.SlowPeer, owners: labels{service("proxy"): trendtest.SlowPeer, service("upstream"): trendtest.SlowPeer},
		culprits: map[string]string{"host": "203.0.113.90", service("upstream"): service("proxy"), service("proxy"): "203.0.113.90"}, from: 120,
		make: func(s *sim) {
			background(s)
			proxied(s, 2*mib)
		},
	},
	{
		name: "slow-proxy-small-send", about: "the same with small send queues: nearly all that stands still is unread in the proxy",
		host: trendtest.SlowPeer, owners: labels{service("proxy"): trendtest.SlowPeer, service("upstream"): trendtest.SlowPeer},
		culprits: map[string]string{"host": "203.0.113.90", service("upstream"): service("proxy"), service("proxy"): "203.0.113.90"}, from: 120,
		make: func(s *sim) {
			background(s)
			proxied(s, 87*kib)
		},
	},
	{
		name: "slow-remote-growing", heldOut: true, about: "a remote peer opens connection after connection and reads none",
		host: trendtest.SlowPeer, owners: labels{service("web"): trendtest.SlowPeer},
		culprits: map[string]string{service("web"): "203.0.113.66"}, from: 60,
		make: func(s *sim) {
			background(s)
			p := s.owner("web")
			s.web(p, always(5), 3, 4*kib, 20*kib)
			s.each(func() {
				if s.now < 60 {
					return
				}
				for range s.events(0.5) {
					s.open(p, 0, socket{send: int64(500 * kib), peerAddr: "203.0.113.66"})
				}
			})
		},
	},
	{
		name: "slow-local-many-victims", heldOut: true, about: "three services feed a fourth that stops reading",
		host: trendtest.Leak, owners: labels{
			service("sink"): trendtest.Leak, service("p1"): trendtest.SlowPeer,
			service("p2"): trendtest.SlowPeer, service("p3"): trendtest.SlowPeer,
		},
		culprits: map[string]string{service("p1"): service("sink"), service("p2"): service("sink"), service("p3"): service("sink")},
		from:     120,
		make: func(s *sim) {
			background(s)
			sink := s.owner("sink")
			for _, name := range []string{"p1", "p2", "p3"} {
				p := s.owner(name)
				fill(s, p, 10, 120, 1*mib, sink.key, "127.0.0.1")
				for range 10 {
					s.open(sink, 0, socket{peerOwner: p.key, live: func(k *socket, s *sim) {
						if s.now < 120 {
							k.recv = s.amount(40 * kib)
						} else {
							k.recv = min(k.recv+150*kib, 2*mib)
						}
					}})
				}
			}
		},
	},
}

// proxied is an upstream, a proxy and a client that does not read, with a
// limit on the proxy's send queues.
func proxied(s *sim, limit int64) {
	up, proxy := s.owner("upstream"), s.owner("proxy")
	fill(s, up, 20, 120, 2*mib, proxy.key, "127.0.0.1")
	fill(s, proxy, 20, 120, limit, "", "203.0.113.90")
	for range 20 {
		s.open(proxy, 0, socket{peerOwner: up.key, live: func(k *socket, s *sim) {
			if s.now < 120 {
				k.recv = s.amount(40 * kib)
			} else {
				k.recv = min(k.recv+200*kib, 3*mib)
			}
		}})
	}
}

// fill opens connections whose send queues fill from a time on.
func fill(s *sim, p *party, n int, from float64, full int64, peerOwner, peerAddr string) {
	for range n {
		s.open(p, 0, socket{peerOwner: peerOwner, peerAddr: peerAddr, live: func(k *socket, s *sim) {
			if s.now < from {
				k.send = s.amount(40 * kib)
			} else {
				k.send = min(k.send+100*kib, full)
			}
		}})
	}
}
