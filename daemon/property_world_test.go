package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/store"
)

// world is a host of a seed's making, with all that outlives its daemons. What
// it says is what they are told; what a wrong action is, it judges by what it
// said last and never asks a guard (see oracle).
type world struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand // of the director alone

	doom  chan struct{}  // a daemon is to be killed at once
	hands sync.WaitGroup // who asked for something by hand

	mu sync.Mutex // guards what follows, and each life's part of it
	clocks
	host, disk, fate, archive *rand.Rand // of what they name

	base, live triple // net.ipv4.tcp_mem as somebody set it, and as it is
	raised     triple // the last lease
	owners     []*who
	made       int
	other      reading.Pages // used by nobody that a scan sees
	verdict    *reading.Verdict
	coverage   float64
	partial    bool
	indexAge   time.Duration
	empty      bool // a scan names nobody
	scanTakes  time.Duration
	scanFails  bool
	blind      bool // no sample can be taken
	orphans    int64
	listTakes  time.Duration
	paused     string
	stop       string
	calmed     bool
	release    chan struct{} // closed: what hangs answers

	rules map[string]*ruleSpec // by hash
	bad   runnerHabits
	lives []*life
	kept  kept
	lost  bool // what was spent, by the next daemon
	oracle
	seen  map[string]bool // what happened in this run
	trace []string
	wrong []string
}

// pages of the host of the tests.
const propertyPage = 4096

// who is an owner as it truly is. The tallies of the embedded one are made
// anew for each reading.
type who struct {
	reading.Owner
	work     string // what its restarts and successors share
	bytes    float64
	rate     float64 // bytes a second
	at       time.Duration
	born     time.Duration // this process, on the world's clock
	strong   float64       // share of its bytes with evidence fd
	lastSeen float64       // share with evidence last-seen
}

// clocks of a host that is booted, suspended, and set. Time itself is the
// bubble's and the sleep's.
type clocks struct {
	start, booted time.Time
	boot          int
	slept         time.Duration // in this boot
	sleptEver     time.Duration
	offset, saved time.Duration // of the wall clock
	unsynced      bool
}

// truth is the time since the beginning, that no clock can get wrong.
func (c *clocks) truth() time.Duration { return time.Since(c.start) + c.sleptEver }

func (c *clocks) bootSeconds() float64 { return (time.Since(c.booted) + c.slept).Seconds() }

func (c *clocks) stamp() record.Stamp {
	return record.Stamp{
		At: time.Now().Add(c.sleptEver + c.offset).UTC(), BootID: fmt.Sprintf("boot-%d", c.boot),
		BootSeconds: c.bootSeconds(), Synced: !c.unsynced,
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	part := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	w := &world{
		t: t, seed: seed, rng: part(1), host: part(2), disk: part(3), fate: part(4), archive: part(5),
		coverage: 0.95, seen: make(map[string]bool), rules: make(map[string]*ruleSpec), release: make(chan struct{}),
		doom: make(chan struct{}, 1),
	}
	w.births, w.intents = map[int]time.Duration{2: -time.Hour}, make(map[string]*intended)
	w.telling, w.boxed = make(map[string]*life), make(map[string]bool)
	w.kept = kept{outbox: make(map[string]store.Outbox), incidents: make(map[string]record.Incident)}
	w.start = time.Now()
	w.booted = w.start.Add(-time.Duration(100+w.rng.IntN(2000)) * time.Second)
	w.base = triple{500, 700, 1000}
	w.live = w.base
	w.scanTakes = time.Duration(1+w.rng.IntN(150)) * time.Millisecond
	w.orphans = int64(w.rng.IntN(40))
	for range 2 + w.rng.IntN(5) {
		w.add("")
	}
	w.owners = append(w.owners, &who{
		work: "bystander", bytes: 4096, strong: 1, born: -time.Hour,
		Owner: reading.Owner{
			Key: "system/bystander.service", Name: "bystander.service", Kind: reading.KindService, Unit: "bystander.service", Manager: "system",
			UnitVerified: true, InvocationID: "always", Holders: []reading.Holder{{PID: 2, StartTime: 1}},
		},
	})
	if chance(w.rng, 0.3) {
		w.bad = habits(w.rng)
	}
	if chance(w.rng, 0.15) {
		w.verdict = verdict(w.rng)
	}
	return w
}

func chance(rng *rand.Rand, p float64) bool { return rng.Float64() < p }

func pick[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

func verdict(rng *rand.Rand) *reading.Verdict {
	return &reading.Verdict{Kind: pick(rng, reading.Leak, reading.Load, reading.SlowPeer)}
}

// add makes an owner, of a work that exists or of a new one.
func (w *world) add(work string) *who {
	rng := w.rng
	w.made++
	n := w.made
	if work == "" {
		work = pick(rng, "unit", "unit", "unit", "template", "container", "pod", "process", "unsure") + fmt.Sprintf("-%c", 'a'+rune(n%26))
	}
	uid := uint32(1000)
	o := &who{work: work, strong: 1, at: w.truth()}
	kind, name, _ := strings.Cut(work, "-")
	switch kind {
	case "unit", "template":
		o.Kind, o.Manager, o.UnitVerified, o.Unit = reading.KindService, "system", true, name+".service"
		if kind == "template" {
			o.Unit = fmt.Sprintf("%s@%d.service", name, n)
		}
		o.Key = "system/" + o.Unit
	case "container", "pod":
		o.Kind, o.Container = reading.KindContainer, &reading.Container{ID: fmt.Sprintf("id%d", n), Runtime: "containerd", Name: "c" + name}
		if kind == "pod" {
			o.Pod = &reading.Pod{Namespace: "ns", Name: fmt.Sprintf("%s-7c9d8f6b5b-%s", name, string([]byte{'x', "bcdfghjklm"[n%10], "24567"[n%5], 'x', 'z'})), UID: fmt.Sprint(n)}
		}
		o.Key = "container/" + o.Container.ID
	default: // a process, or what only seems to be somebody
		o.Kind, o.UID, o.Command = reading.KindProcess, &uid, "cmd-"+name
		if kind == "unsure" {
			o.Kind = pick(rng, reading.KindKernel, reading.KindUnresolved)
		}
		o.Key = fmt.Sprintf("process/%d", n)
	}
	o.Name = o.Key
	w.spawn(o, time.Duration(rng.IntN(400))*time.Second)
	o.bytes, o.rate = float64(20+rng.IntN(900))*1024, float64(rng.IntN(40)-8)*1024
	if chance(rng, 0.3) {
		o.rate = 0
	}
	if chance(rng, 0.35) {
		w.spoil(o, rng)
	}
	if chance(rng, 0.6) {
		o.Verdict = verdict(rng)
	}
	w.appear(o)
	return o
}

// appear adds an owner; no two have one key.
func (w *world) appear(o *who) {
	if old := w.find(o.Key); old != nil {
		w.remove(old)
	}
	w.owners = append(w.owners, o)
}

// spawn gives an owner other processes, that have run for age.
func (w *world) spawn(o *who, age time.Duration) {
	w.made++
	o.born = w.truth() - min(age, time.Duration(w.bootSeconds()*float64(time.Second)))
	start := w.bootSeconds() - (w.truth() - o.born).Seconds()
	w.births[1000+w.made] = o.born
	o.Holders = []reading.Holder{{PID: 1000 + w.made, StartTime: uint64(start*100) + 1}}
	if o.Unit != "" {
		o.InvocationID = fmt.Sprintf("inv%d", w.made)
	}
}

// spoil makes an owner one that may not be touched, in one way or another.
func (w *world) spoil(o *who, rng *rand.Rand) string {
	ways := []string{"protected", "shared", "evidence", "slow-peer", "kind"}
	if o.Unit != "" {
		ways = append(ways, "label", "user")
	}
	way := pick(rng, ways...)
	switch way {
	case "protected":
		o.Protected = "it is important"
	case "shared":
		o.Shared = true
	case "evidence":
		o.strong = pick(rng, 0, 0.2, 0.45)
		o.lastSeen = pick(rng, 0, 0.2, 0.5)
	case "slow-peer":
		o.Verdict = &reading.Verdict{Kind: reading.SlowPeer}
	case "kind":
		o.Kind = pick(rng, reading.KindKernel, reading.KindUnresolved)
	case "label":
		o.UnitVerified = false
	case "user":
		o.Manager = "user@1000"
		if chance(rng, 0.5) {
			o.Kind = reading.KindUserService
		}
	}
	return way
}

// heal takes back what spoil did.
func (o *who) heal() {
	o.Protected, o.Shared, o.strong, o.lastSeen, o.Verdict = "", false, 1, 0, nil
	kind, _, _ := strings.Cut(o.work, "-")
	switch {
	case o.Unit != "":
		o.Kind, o.UnitVerified, o.Manager = reading.KindService, true, "system"
	case kind == "container" || kind == "pod":
		o.Kind = reading.KindContainer
	default:
		o.Kind = reading.KindProcess
	}
}

// set gives an owner so many bytes from now on.
func (w *world) set(o *who, bytes, rate float64) { o.bytes, o.rate, o.at = bytes, rate, w.truth() }

func (o *who) holds(now time.Duration) int64 {
	return int64(min(max(4096, o.bytes+o.rate*(now-o.at).Seconds()), 2<<20)) &^ 63
}

// find gives an owner by its key, nil if it is gone.
func (w *world) find(key string) *who {
	if i := slices.IndexFunc(w.owners, func(o *who) bool { return o.Key == key }); i >= 0 {
		return w.owners[i]
	}
	return nil
}

func (w *world) remove(o *who) {
	w.owners = slices.DeleteFunc(w.owners, func(p *who) bool { return p == o })
}

// sample says how the counters stand.
func (w *world) sample() reading.Sample {
	used, now := w.other, w.truth()
	for _, o := range w.owners {
		used += reading.Pages(o.holds(now) / propertyPage)
	}
	return reading.Sample{
		At: time.Now(), PageSize: propertyPage, Used: used, ReserveMax: 4, Mem: reading.TCPMem(w.live),
		Orphans: w.orphans, MaxOrphans: 100,
	}
}

// reading says who holds what.
func (w *world) reading(took time.Duration) *reading.Reading {
	r := &reading.Reading{Sample: w.sample(), Took: took, IndexAge: w.indexAge, Partial: w.partial}
	r.Ledger.Coverage, r.Trend.Verdict = w.coverage, w.verdict
	if w.empty {
		return r
	}
	now := w.truth()
	for _, o := range w.owners {
		out := o.Owner
		bytes := o.holds(now)
		out.Sum = reading.Tally{Sockets: 10, Bytes: bytes}
		out.Classes[reading.Owned] = out.Sum
		strong := int64(o.strong * float64(bytes))
		last := int64(o.lastSeen * float64(bytes))
		out.Evidence[reading.FD] = reading.Tally{Sockets: 4, Bytes: strong}
		out.Evidence[reading.LastSeen] = reading.Tally{Sockets: 3, Bytes: last}
		out.Evidence[reading.CgroupID] = reading.Tally{Sockets: 3, Bytes: bytes - strong - last}
		r.Owners = append(r.Owners, out)
		r.Ledger.Seen += bytes
	}
	slices.SortFunc(r.Owners, func(a, b reading.Owner) int {
		return cmp.Or(cmp.Compare(b.Sum.Bytes, a.Sum.Bytes), cmp.Compare(a.Key, b.Key))
	})
	if r.Owners[0].Key == "system/bystander.service" {
		r.Owners = nil // it never is the biggest
	}
	return r
}

// watched is the world as a life of the daemon sees it.
type watched struct{ *life }

var errNoSuchLuck = errors.New("no such luck")

func (h watched) Sample(int) (reading.Sample, error) {
	w := h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.blind && h.sample.PageSize != 0 {
		return reading.Sample{}, errNoSuchLuck
	}
	s := w.sample()
	h.sample, h.sampledAt = s, w.truth()
	return s, nil
}

// pause lets d pass, and a little: so that no two things happen at one moment,
// whose order nobody could tell. It reports false where the life ended first.
func (l *life) pause(ctx context.Context, d time.Duration, rng *rand.Rand) bool {
	l.w.mu.Lock()
	d += time.Duration(1 + rng.IntN(1_000_000))
	l.w.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-l.died:
	}
	return false
}

func (h watched) Scan(ctx context.Context, _ scan.Options) (*reading.Reading, error) {
	w := h.w
	w.mu.Lock()
	takes := w.scanTakes
	w.mu.Unlock()
	if !h.pause(ctx, takes, w.host) {
		return nil, context.Canceled
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.scanFails {
		return nil, errNoSuchLuck
	}
	r := w.reading(takes)
	h.given, h.givenAt = r, w.truth()
	return r, nil
}

func (h watched) Sockets(ctx context.Context, _ func(*reading.Socket) bool, _ func(*reading.Socket) error) error {
	w := h.w
	w.mu.Lock()
	takes := w.listTakes
	w.mu.Unlock()
	if !h.pause(ctx, takes, w.host) {
		return ctx.Err()
	}
	return nil
}

func (h watched) Refresh() error { return nil }
func (h watched) Close() error   { return nil }

func (h watched) Info(context.Context, *reading.Socket) (*api.TCPInfo, error) {
	return nil, errNoSuchLuck
}
func (h watched) Doctor(context.Context) ([]api.DoctorCheck, error) { return nil, errNoSuchLuck }

// told gives the trend that the world says, instead of one that takes minutes
// to see it.
type toldTrend struct{ last reading.Trend }

func (t *toldTrend) ObserveSample(*reading.Sample) time.Duration { return 0 }
func (t *toldTrend) Host(*reading.Sample) reading.Trend          { return t.last }
func (t *toldTrend) Observe(r *reading.Reading) time.Duration    { t.last = r.Trend; return 0 }
