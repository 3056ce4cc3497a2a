package trend_test

import (
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/engine/trend/trendtest"
)

// simScene is a simulated recording: what it is called, what it is, and how it
// comes about. Held-out scenes were chosen by name before any verdict was
// tuned; nobody looks at what they show while tuning.
type simScene struct {
	name     string
	about    string
	heldOut  bool
	host     trendtest.Label
	owners   map[string]trendtest.Label
	culprits map[string]string
	from     float64
	seconds  float64
	make     func(*sim)
}

type labels = map[string]trendtest.Label

const (
	kib = 1 << 10
	mib = 1 << 20
)

// service is the key of a simulated service.
func service(name string) string { return "system/" + name + ".service" }

// record runs a scene. The seed is its name and a variant: 0 for the recording
// that is kept.
func (c *simScene) record(variant uint64) *trendtest.Recording {
	seed := 14695981039346656037 + variant // FNV-1a
	for _, b := range []byte(c.name) {
		seed = (seed ^ uint64(b)) * 1099511628211
	}
	s := newSim(seed)
	c.make(s)
	seconds := c.seconds
	if seconds == 0 {
		seconds = 15 * 60
	}
	return &trendtest.Recording{
		Header: trendtest.Header{
			Version: trendtest.Version, Name: c.name, Origin: trendtest.Synthetic, HeldOut: c.heldOut,
			About: c.about, Host: c.host, Owners: c.owners, Culprits: c.culprits, From: c.from,
			PageSize: page, Mem: s.mem, ReserveMax: 1024,
		},
		Observations: s.run(seconds),
	}
}

// background is what else runs on a host: some moving, some idle owners.
func background(s *sim) {
	s.pool(s.owner("kubelet"), 12, 4*kib, 8*kib)
	s.pool(s.owner("database"), 80, 24*kib, 48*kib)
	for range 60 {
		s.open(s.owner("database"), 0, socket{})
	}
	s.web(s.owner("ingress"), always(20), 4, 6*kib, 40*kib)
	s.web(s.owner("metrics"), always(1), 0.8, 2*kib, 30*kib)
}

// unread opens sockets that fill up and are never read.
func unread(s *sim, p *party, perMinute func(float64) float64, bytes float64) {
	s.each(func() {
		for range s.events(perMinute(s.now) / 60) {
			s.open(p, 0, socket{recv: int64(bytes*(0.5+s.Float64())) / 768 * 768})
		}
	})
}

func between(from, to, rate float64) func(float64) float64 {
	return func(t float64) float64 {
		if t >= from && t < to {
			return rate
		}
		return 0
	}
}

var scenes = slices.Concat(loadScenes, leakScenes, slowScenes)
