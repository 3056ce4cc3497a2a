// Package daemon is the loop: it takes a sample each second, has the host
// scanned when that pays, judges level and trend, and answers questions. One
// goroutine owns what changes; reading the host takes place in another, so
// that a long scan never delays a sample.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/control"
	"github.com/tcpmemd/tcpmemd/daemon/engine/level"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/engine/trend"
	"github.com/tcpmemd/tcpmemd/daemon/kmsg"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
)

// Snapshot is what the daemon knows at one moment; it does not change.
type Snapshot struct {
	Sample  reading.Sample
	Level   level.State
	Trend   reading.Trend    // of the host, by the sample
	Reading *reading.Reading // nil before the first scan
	Watch   api.Watch
}

// Daemon watches this host.
type Daemon struct {
	cfg     Config
	started time.Time
	process time.Time // when the process was started
	log     *slog.Logger
	reader  *reader
	listen  *control.Listener
	kmsg    *kmsg.Log
	trend   tracker

	// Owned by the loop.
	now       Snapshot
	nextScan  time.Time
	waiting   []chan<- *reading.Reading // for a scan that begins after they asked
	scanning  []chan<- *reading.Reading // for the scan that runs
	busy      bool
	began     time.Time // when the scan that runs began
	thorough  bool      // the next one reads every process
	scanBegan record.Stamp
	ready     bool
	turns     int

	snapshot atomic.Pointer[Snapshot]
	asked    chan chan<- *reading.Reading

	judge     *judge
	reloading chan struct{} // full while files are read and taken over
	// reported is the mode that answers name.
	reported atomic.Pointer[policy.Mode]
	inbox    chan func()   // what ran apart comes back here
	ended    chan struct{} // closed when nobody takes from inbox any more
	apart    sync.WaitGroup
	life     context.Context
	die      context.CancelFunc
}

// New opens everything that the daemon reads and its socket. It fails outside
// the initial network namespace, and where another daemon runs.
func New(ctx context.Context, cfg Config) (d *Daemon, err error) {
	d = newDaemon(cfg)
	if cfg.Socket != "" {
		if d.listen, err = control.Listen(cfg.Socket); err != nil {
			return nil, err
		}
		defer func(l *control.Listener) {
			if err != nil {
				err = errors.Join(err, l.Close())
			}
		}(d.listen)
	}
	kernelLog, err := kmsg.Open("/dev/kmsg", cfg.Log.With("part", "kmsg"))
	if err != nil {
		cfg.Log.Warn("kernel log is not read: counters decide without it", "err", err)
		kernelLog = nil
	}
	scanner, err := scan.Open(ctx, scan.Config{
		Protect: cfg.Protect, TableBytes: cfg.TableBytes, Workers: 1,
		Log: cfg.Log.With("part", "scan"), KernelLog: kernelLog.Counts,
	})
	if err != nil {
		return nil, err
	}
	d.kmsg = kernelLog
	d.reader = newReader(scanned{scanner})
	return d, nil
}

func newDaemon(cfg Config) *Daemon {
	cfg = cfg.withDefaults()
	d := &Daemon{
		cfg: cfg, started: time.Now(), process: processStart(), log: cfg.Log,
		trend: trend.New(trend.Config{SampleInterval: cfg.Sample, CalmInterval: cfg.Calm, ElevatedInterval: cfg.Pressed}),
		asked: make(chan chan<- *reading.Reading),
		inbox: make(chan func()), ended: make(chan struct{}), reloading: make(chan struct{}, 1),
	}
	d.life, d.die = context.WithCancel(context.Background())
	d.judge = newJudge(&d.cfg, &d.now, cfg.Clock())
	d.judge.post, d.judge.apart, d.judge.life = d.post, d.runApart, d.life
	d.judge.wantScan = func() { d.nextScan, d.thorough = time.Time{}, true }
	d.judge.sockets = d.ownersSockets
	d.judge.restate = func() { d.told("status", d.cfg.Notify.Status(d.status())) }
	return d
}

// post brings f into the loop. It waits for the loop, and must not be called by
// it.
func (d *Daemon) post(f func()) {
	select {
	case d.inbox <- f:
	case <-d.ended:
	}
}

// runApart runs f outside of the loop; Run waits for its end.
func (d *Daemon) runApart(f func()) { d.apart.Go(f) }

// Run watches until ctx ends, which is no error.
func (d *Daemon) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	var served <-chan struct{}
	if d.listen != nil {
		server := control.New(control.Config{Listener: d.listen, Source: &source{d}, Log: d.log.With("part", "control")})
		served = server.Ready()
		group.Go(func() error { return server.Run(ctx) })
	}
	if e := d.cfg.Exporter; e != nil {
		group.Go(func() error { e.Run(ctx); return nil })
	}
	go d.reader.run(ctx)
	if d.kmsg != nil {
		group.Go(func() error { return d.kmsg.Run(ctx) })
	}
	group.Go(func() error { return d.loop(ctx, served) })
	err := group.Wait()
	d.die()
	d.apart.Wait() // each call ends soon after its context
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), stuckAtEnd)
	defer cancel()
	err = errors.Join(err, d.cfg.Runner.Close(closing), d.cfg.Store.Close(closing))
	// The reader may hang in the kernel for good: that must not keep the others.
	select {
	case <-d.reader.ended:
		return errors.Join(err, d.reader.close())
	case <-time.After(stuckAtEnd):
		return errors.Join(err, errors.New("stop reading the host: a scan does not end"))
	}
}

// stuckAtEnd is how long a scan may take to end when the daemon does.
const stuckAtEnd = 5 * time.Second

// loop is the daemon's one owner of state.
func (d *Daemon) loop(ctx context.Context, served <-chan struct{}) error {
	defer close(d.ended)
	defer d.wind()
	defer func() { d.told("stopping", d.cfg.Notify.Stopping()) }()
	tick := time.NewTicker(d.cfg.Sample)
	defer tick.Stop()
	if err := d.turn(time.Now()); err != nil {
		return err // nothing can be read: say so at start, not later
	}
	d.judge.start()
	d.scanIfDue(time.Now())
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if err := d.turn(now); err != nil {
				d.log.Error("take sample", "err", err)
			}
			d.scanIfDue(time.Now())
			d.refreshIfDue()
		case <-d.kernelLog():
			d.nextScan = time.Time{}
		case reply := <-d.asked:
			d.waiting = append(d.waiting, reply)
		case f := <-d.inbox:
			f()
		case r := <-d.reader.results:
			first := !d.ready
			d.take(r)
			if first {
				d.ready = true
				if d.listen != nil {
					select {
					case <-served:
					case <-ctx.Done():
						return nil
					}
				}
				// Also where the scan failed: samples and level do without it.
				d.told("ready", d.cfg.Notify.Ready(d.status()))
				if d.now.Reading != nil {
					d.cfg.FirstReading(d.now.Reading)
				}
			}
		}
		d.scanIfDue(time.Now())
	}
}

// kernelLog is signalled when the kernel logs that TCP memory is short.
func (d *Daemon) kernelLog() <-chan struct{} {
	if d.kmsg == nil {
		return nil
	}
	return d.kmsg.Matched()
}

// Namespaces read beside the own one in each sample of a calm host; above calm
// it is all of them.
const calmNamespaces = 8

// turn takes a sample and judges it.
func (d *Daemon) turn(now time.Time) error {
	d.turns++
	namespaces := calmNamespaces
	if d.now.Level.Level > reading.Calm {
		namespaces = scan.EveryNamespace
	}
	s, err := d.reader.host.Sample(namespaces)
	from := d.now.Level.Level
	if err == nil {
		d.trend.ObserveSample(&s)
		watchSample(&d.now.Watch, &d.now.Sample, &s)
		d.now.Sample = s
		d.now.Trend = d.trend.Host(&s)
		d.now.Level = level.Next(d.now.Level, &s, now)
	} else {
		d.now.Level = level.Next(d.now.Level, sampleOrNil(&d.now.Sample), now)
	}
	switch {
	case !d.judge.running:
	case err != nil:
		d.judge.blind.set(d.judge, "blind-sample", "the counters cannot be read: "+err.Error())
	default:
		d.judge.blind.set(d.judge, "blind-sample", "")
		d.judge.sampled()
	}
	d.publish()
	if to := d.now.Level.Level; to != from {
		if to > from {
			d.nextScan = time.Time{}
		}
		d.judge.level(from)
		d.told("status", d.cfg.Notify.Status(d.status()))
	}
	if d.busy && now.Sub(d.began) > stuckScan {
		// Only a new process gets out of this: let the watchdog see to it.
		d.log.Error("scan does not end", "since", d.began)
		return err
	}
	d.told("watchdog", d.cfg.Notify.Watchdog())
	return err
}

// stuckScan is how long a scan may take. 500,000 sockets take some seconds.
const stuckScan = 2 * time.Minute

// refreshIfDue learns of new namespaces between two scans.
func (d *Daemon) refreshIfDue() {
	const refreshTurns = 5
	if d.busy {
		return // a scan does so, too
	}
	if d.turns%refreshTurns == 0 || d.now.Level.Level > reading.Calm {
		d.reader.refresh()
	}
}

func sampleOrNil(s *reading.Sample) *reading.Sample {
	if s.At.IsZero() {
		return nil
	}
	return s
}

// scanIfDue starts a scan when its time has come or somebody waits.
func (d *Daemon) scanIfDue(now time.Time) {
	if d.busy || now.Before(d.nextScan) && len(d.waiting) == 0 {
		return
	}
	interval := d.cfg.Calm
	if d.now.Level.Level > reading.Calm {
		interval = d.cfg.Pressed
	}
	o := scan.Options{
		Thorough: len(d.waiting) > 0 || d.thorough || d.now.Level.Level > reading.Calm || d.now.Reading == nil,
		Budget:   max(time.Duration(d.cfg.CPU*float64(interval)), minBudget),
	}
	d.reader.scan(o)
	d.busy, d.began, d.thorough = true, now, false
	d.scanBegan = d.cfg.Clock()
	d.scanning, d.waiting = d.waiting, nil
	d.nextScan = now.Add(interval)
}

// minBudget lets a scan that somebody waits for name most owners at once.
const minBudget = 500 * time.Millisecond

// take judges a finished scan.
func (d *Daemon) take(r result) {
	d.busy = false
	defer func() { d.scanning = nil }()
	if r.err != nil {
		d.log.Error("scan", "err", r.err)
		for _, reply := range d.scanning {
			close(reply)
		}
		return
	}
	r.reading.Level = d.now.Level.Level
	d.trend.Observe(r.reading)
	watchReading(&d.now.Watch, r.reading)
	d.now.Reading, d.now.Trend = r.reading, r.reading.Trend
	d.judge.read(r.reading, d.scanBegan)
	d.publish()
	for _, reply := range d.scanning {
		reply <- r.reading // buffered by who asked
	}
}

// publish makes what the loop knows visible to the goroutines that answer.
func (d *Daemon) publish() {
	s := d.now
	d.snapshot.Store(&s)
	mode := d.judge.policy.Mode
	if d.judge.why() != "" || mode == "" {
		mode = policy.Observe
	}
	d.reported.Store(&mode)
}

// told logs that the service manager could not be told.
func (d *Daemon) told(what string, err error) {
	if err != nil {
		d.log.Warn("notify service manager", "what", what, "err", err)
	}
}

// status is the one line that systemctl status shows.
func (d *Daemon) status() string {
	s := &d.now.Sample
	text := fmt.Sprintf("%s: %d of %d pages of TCP memory (%.0f %%)", d.now.Level.Level, s.Used, s.Mem.Max, 100*s.Fill())
	if r := d.now.Reading; r != nil && len(r.Owners) > 0 && r.Owners[0].Sum.Bytes > 0 {
		o := r.Owners[0]
		text += fmt.Sprintf(", most held by %s (%.0f %%)", o.Name, 100*float64(o.Sum.Bytes)/float64(max(1, r.Ledger.Seen)))
	}
	return text + ", " + d.judge.doing()
}
