package trend_test

import (
	"math"

	"github.com/tcpmemd/tcpmemd/daemon/engine/trend/trendtest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

var loadScenes = []simScene{
	{
		name: "load-diurnal-ramp", about: "traffic of two services rises fourfold over 20 minutes", seconds: 20 * 60,
		host: trendtest.Load, owners: labels{service("ingress"): trendtest.Load, service("api"): trendtest.Load},
		make: func(s *sim) {
			background(s)
			s.web(s.owner("ingress"), ramp(20, 160, 0, 1200), 4, 8*kib, 90*kib)
			s.web(s.owner("api"), ramp(10, 80, 0, 1200), 6, 20*kib, 60*kib)
		},
	},
	{
		name: "load-burst", about: "ten times the traffic for three minutes, then back",
		host: trendtest.Load, owners: labels{service("ingress"): trendtest.Load},
		make: func(s *sim) {
			background(s)
			s.web(s.owner("ingress"), between(300, 480, 250), 5, 10*kib, 120*kib)
		},
	},
	{
		name: "load-connection-storm", about: "thousands of clients reconnect within a minute and stay, mostly idle",
		host: trendtest.None, owners: labels{service("broker"): trendtest.Load},
		make: func(s *sim) {
			background(s)
			p := s.owner("broker")
			s.each(func() {
				for range s.events(between(240, 300, 120)(s.now)) {
					s.open(p, 0, socket{live: func(k *socket, s *sim) {
						k.recv, k.send = 0, 0
						if s.Float64() < 0.05 {
							k.send = s.amount(16 * kib)
						}
					}})
				}
			})
		},
	},
	{
		name: "load-big-downloads", about: "more and more downloads with full but moving send queues",
		host: trendtest.Load, owners: labels{service("mirror"): trendtest.Load},
		make: func(s *sim) {
			background(s)
			p := s.owner("mirror")
			s.each(func() {
				for range s.events(ramp(0.2, 1.2, 0, 900)(s.now)) {
					s.open(p, s.life(120), socket{live: brim(1.5 * mib), peerAddr: s.client()})
				}
			})
		},
	},
	{
		name: "load-idle-websockets", about: "10,000 idle websockets connect over 12 minutes; each keeps a page of reserve", seconds: 18 * 60,
		host: trendtest.Load, owners: labels{service("push"): trendtest.Load},
		make: func(s *sim) {
			background(s)
			p := s.owner("push")
			s.each(func() {
				for range s.events(between(60, 780, 14)(s.now)) {
					s.open(p, 0, socket{reserve: 1, peerAddr: s.client()})
				}
			})
		},
	},
	{
		name: "load-slow-start", about: "a deployed service starts cold and takes over its share of connections",
		host: trendtest.Load, owners: labels{service("shop"): trendtest.Load},
		make: func(s *sim) {
			background(s)
			p := s.owner("shop")
			s.each(func() {
				if s.now < 120 {
					return
				}
				for range s.events(1.5) {
					if s.now < 600 {
						s.open(p, 0, socket{live: busy(20*kib, 150*kib), peerAddr: s.client()})
					}
				}
			})
		},
	},
	{
		name: "load-batch-unread", about: "a batch job leaves large receive queues unread for up to 25 seconds",
		host: trendtest.None, owners: labels{service("batch"): trendtest.None},
		make: func(s *sim) {
			background(s)
			p := s.owner("batch")
			s.each(func() {
				if int(s.now)%90 < 40 {
					for range s.events(2) {
						s.open(p, 5+20*s.Float64(), socket{recv: int64(600*kib + s.IntN(1800*kib))})
					}
				}
			})
		},
	},
	{
		name: "load-batch-growing", about: "each batch is larger than the last; queues wait for up to 50 seconds",
		host: trendtest.Load, owners: labels{service("batch"): trendtest.Load},
		make: func(s *sim) {
			background(s)
			p := s.owner("batch")
			s.each(func() {
				if int(s.now)%120 < 60 {
					for range s.events(0.5 + s.now/400) {
						s.open(p, 10+40*s.Float64(), socket{recv: int64(300*kib + s.IntN(900*kib))})
					}
				}
			})
		},
	},
	{
		name: "load-backpressure", about: "a pipeline stalls and drains: queues stand for 20 to 60 seconds, then move",
		host: trendtest.None, owners: labels{service("producer"): trendtest.None, service("consumer"): trendtest.None},
		make: func(s *sim) {
			background(s)
			a, b := s.owner("producer"), s.owner("consumer")
			stalled, until := false, 0.0
			s.each(func() {
				if s.now >= until {
					stalled = !stalled
					until = s.now + 20 + 40*s.Float64()
				}
			})
			for range 30 {
				s.open(a, 0, socket{peerOwner: b.key, live: func(k *socket, s *sim) {
					if stalled {
						k.send = min(k.send+100*kib, 2*mib)
					} else {
						k.send = s.amount(60 * kib)
					}
				}})
				s.open(b, 0, socket{peerOwner: a.key, live: func(k *socket, s *sim) {
					if stalled {
						k.recv = min(k.recv+200*kib, 3*mib)
					} else {
						k.recv = s.amount(60 * kib)
					}
				}})
			}
		},
	},
	{
		name: "load-cache-warm-up", about: "a cache fills from its origin on a fixed pool of busy connections",
		host: trendtest.Load, owners: labels{service("cache"): trendtest.Load},
		make: func(s *sim) {
			background(s)
			p := s.owner("cache")
			for range 200 {
				s.open(p, 0, socket{peerAddr: s.client(), live: func(k *socket, s *sim) {
					k.recv = s.amount(ramp(10*kib, 400*kib, 60, 700)(s.now))
				}})
			}
		},
	},
	{
		name: "load-backup-upload", about: "a backup uploads on eight connections; send queues stay full, the remote is slow but reads",
		host: trendtest.None, owners: labels{service("backup"): trendtest.None},
		make: func(s *sim) {
			background(s)
			p := s.owner("backup")
			s.each(func() {
				if s.now == 120 {
					for range 8 {
						s.open(p, 0, socket{live: brim(4 * mib), peerAddr: "203.0.113.9"})
					}
				}
			})
		},
	},
	{
		name: "load-restarts", about: "a loaded service restarts every four minutes and warms up again",
		host: trendtest.None, owners: labels{service("api"): trendtest.Load},
		make: func(s *sim) {
			background(s)
			p := s.owner("api")
			s.each(func() {
				if int(s.now)%240 == 239 {
					s.restart(p)
				}
				for range s.events(2) {
					s.open(p, 0, socket{live: busy(15*kib, 60*kib), peerAddr: s.client()})
				}
			})
		},
	},
	{
		name: "load-prefork", about: "a preforking server whose workers come and go under even traffic",
		host: trendtest.None, owners: labels{service("httpd"): trendtest.None},
		make: func(s *sim) {
			background(s)
			p := s.owner("httpd")
			for range 5 {
				s.fork(p)
			}
			s.web(p, always(60), 8, 10*kib, 80*kib)
			s.each(func() {
				if int(s.now)%20 == 0 {
					p.holders = append(p.holders[:1], p.holders[2:]...)
					s.fork(p)
				}
			})
		},
	},
	{
		name: "load-noisy", about: "strong noise around a constant mean, on every owner",
		host: trendtest.None, owners: labels{},
		make: func(s *sim) {
			background(s)
			for _, name := range []string{"a", "b", "c", "d"} {
				p := s.owner(name)
				rate := 20.0
				s.each(func() {
					rate = max(1, min(80, rate*math.Exp(0.2*s.NormFloat64()+0.02*(3-math.Log(rate)))))
					for range s.events(rate) {
						s.open(p, s.life(10), socket{live: busy(15*kib, 60*kib), peerAddr: s.client()})
					}
				})
			}
		},
	},
	{
		name: "load-worker-prefetch", about: "workers take long tasks: each connection's prefetched tasks wait unread for one to three minutes",
		host: trendtest.None, owners: labels{service("workers"): trendtest.None},
		make: func(s *sim) {
			background(s)
			p := s.owner("workers")
			for range 120 {
				next := s.now + 180*s.Float64()
				s.open(p, 0, socket{recv: 200 * kib, peerAddr: "203.0.113.5", live: func(k *socket, s *sim) {
					if s.now >= next {
						next = s.now + 60 + 120*s.Float64()
						k.recv = int64(150*kib + s.IntN(150*kib))
					}
				}})
			}
		},
	},
	{
		name: "load-overload-queue", about: "requests come faster than they are served for six minutes: accepted ones wait ever longer, then drain",
		host: trendtest.Load, owners: labels{service("render"): trendtest.Load},
		make: func(s *sim) {
			background(s)
			p := s.owner("render")
			var queue []*socket
			s.each(func() {
				rate := 8.0
				if s.now > 200 && s.now < 560 {
					rate = 14
				}
				for range s.events(rate) {
					queue = append(queue, s.open(p, 0, socket{recv: int64(40*kib + s.IntN(80*kib)), peerAddr: s.client()}))
				}
				for range min(len(queue), s.events(10)) {
					queue[0].until = s.now
					queue = queue[1:]
				}
			})
		},
	},
	{
		name: "load-half-closed", about: "clients shut down their side and wait for the answer: close-wait for half a minute, rising with the traffic",
		host: trendtest.Load, owners: labels{service("report"): trendtest.Load},
		make: func(s *sim) {
			background(s)
			p := s.owner("report")
			s.each(func() {
				for range s.events(ramp(2, 20, 60, 800)(s.now)) {
					s.open(p, 10+20*s.Float64(), socket{recv: int64(8 * kib), state: reading.CloseWait, peerAddr: s.client()})
				}
			})
		},
	},
	{
		name: "load-workers-scale-out", about: "workers are added for ten minutes; each leaves its prefetched tasks unread for one to three minutes",
		host: trendtest.None, owners: labels{service("workers"): trendtest.None},
		make: func(s *sim) {
			background(s)
			p := s.owner("workers")
			s.each(func() {
				if int(s.now)%5 != 0 || s.now < 60 || s.now > 660 {
					return
				}
				next := s.now
				s.open(p, 0, socket{peerAddr: "203.0.113.5", live: func(k *socket, s *sim) {
					if s.now >= next {
						next = s.now + 60 + 120*s.Float64()
						k.recv = int64(100*kib + s.IntN(300*kib))
					}
				}})
			})
		},
	},
	{
		name: "load-paused-players", about: "viewers pause for minutes with full send queues, each a different one",
		host: trendtest.None, owners: labels{service("video"): trendtest.None},
		make: func(s *sim) {
			background(s)
			p := s.owner("video")
			for range 150 {
				until, paused := s.now+200*s.Float64(), false
				s.open(p, 0, socket{peerAddr: s.client(), live: func(k *socket, s *sim) {
					if s.now >= until {
						paused = !paused
						until = s.now + 60 + 240*s.Float64()
					}
					if paused {
						k.send = min(k.send+200*kib, 1*mib)
					} else {
						brim(300*kib)(k, s)
					}
				}})
			}
		},
	},
	{
		name: "load-frozen-consumer", about: "a consumer is frozen for three minutes by a checkpoint while its peers go on sending",
		host: trendtest.None, owners: labels{service("state"): trendtest.None},
		make: func(s *sim) {
			background(s)
			p := s.owner("state")
			for i := range 60 {
				s.open(p, 0, socket{peerAddr: "203.0.113.31", live: func(k *socket, s *sim) {
					switch {
					case s.now < 300 || s.now > 480:
						k.recv = s.amount(30 * kib)
					case int(s.now)%(1+i) == 0:
						k.recv = min(k.recv+60*kib, 2*mib)
					}
				}})
			}
		},
	},
	{
		name: "load-log-shipping", about: "shippers send a file, close, and wait their turn: close-wait with unread data, up to two minutes, in waves",
		host: trendtest.None, owners: labels{service("logs"): trendtest.None},
		make: func(s *sim) {
			background(s)
			p := s.owner("logs")
			var queue []*socket
			s.each(func() {
				if math.Mod(s.now, 300) < 100 {
					for range s.events(5) {
						queue = append(queue, s.open(p, 0, socket{recv: int64(50*kib + s.IntN(200*kib)), state: reading.CloseWait, peerAddr: s.client()}))
					}
				}
				for range min(len(queue), s.events(3)) {
					queue[0].until = s.now
					queue = queue[1:]
				}
			})
		},
	},
	{
		name: "load-vanishing-clients", heldOut: true, about: "mobile clients vanish in mid-download: their orphans stand still for up to two minutes, in step with the traffic",
		host: trendtest.Load, owners: labels{service("media"): trendtest.Load}, seconds: 20 * 60,
		make: func(s *sim) {
			background(s)
			p := s.owner("media")
			s.each(func() {
				for range s.events(ramp(4, 24, 60, 1100)(s.now)) {
					if s.Float64() < 0.1 {
						s.open(p, 60+60*s.Float64(), socket{
							send: int64(200 * kib), class: reading.Orphan,
							state: reading.FinWait1, peerAddr: s.client(),
						})
						continue
					}
					s.open(p, s.life(20), socket{live: brim(300 * kib), peerAddr: s.client()})
				}
			})
		},
	},
	{
		name: "load-uploads-ramp", heldOut: true, about: "uploads keep receive queues busy, more and more of them",
		host: trendtest.Load, owners: labels{service("upload"): trendtest.Load}, seconds: 20 * 60,
		make: func(s *sim) {
			background(s)
			s.web(s.owner("upload"), ramp(2, 20, 60, 1000), 25, 200*kib, 2*kib)
		},
	},
	{
		name: "load-sawtooth", heldOut: true, about: "traffic comes in waves of five minutes",
		host: trendtest.None, owners: labels{service("api"): trendtest.None}, seconds: 20 * 60,
		make: func(s *sim) {
			background(s)
			s.web(s.owner("api"), func(t float64) float64 { return 10 + 100*math.Mod(t, 300)/300 }, 6, 20*kib, 90*kib)
		},
	},
	{
		name: "load-pool-full", heldOut: true, about: "even, heavy traffic keeps the pool above its pressure limit",
		host: trendtest.Load, owners: labels{service("stream"): trendtest.Load},
		make: func(s *sim) {
			background(s)
			s.mem = [3]int64{20000, 26000, 39000}
			for range 300 {
				s.open(s.owner("stream"), 0, socket{live: brim(400 * kib), peerAddr: s.client()})
			}
		},
	},
	{
		name: "load-gc-pauses", heldOut: true, about: "a consumer stops for 90 seconds every four minutes and catches up",
		host: trendtest.None, owners: labels{service("indexer"): trendtest.None},
		make: func(s *sim) {
			background(s)
			p := s.owner("indexer")
			for range 40 {
				s.open(p, 0, socket{peerAddr: "203.0.113.30", live: func(k *socket, s *sim) {
					if math.Mod(s.now, 240) >= 150 {
						k.recv = min(k.recv+20*kib+s.amount(10*kib), 800*kib)
					} else {
						k.recv = s.amount(20 * kib)
					}
				}})
			}
		},
	},
}
