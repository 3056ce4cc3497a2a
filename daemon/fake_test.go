package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	goleak.VerifyTestMain(m)
}

// fakeHost does what a test says. tcp_mem is 100, 200, 300 pages.
type fakeHost struct {
	t    *testing.T
	busy atomic.Int32 // jobs under way: never two

	mu      sync.Mutex // guards what follows
	used    reading.Pages
	blocked chan struct{} // Sample waits for it, if not nil
	failing error         // of Sample
	broken  error         // of Scan
	takes   time.Duration // how long a scan does
	rows    int
	samples []time.Time
	scans   []fakeScan
	closed  int
}

type fakeScan struct {
	at time.Time
	scan.Options
}

// tell changes the host.
func (h *fakeHost) tell(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *fakeHost) Sample(int) (reading.Sample, error) {
	h.mu.Lock()
	blocked := h.blocked
	h.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.samples = append(h.samples, time.Now())
	return reading.Sample{
		At: time.Now(), PageSize: 4096, Used: h.used,
		Mem: reading.TCPMem{Min: 100, Pressure: 200, Max: 300},
	}, h.failing
}

// job marks that one is under way.
func (h *fakeHost) job() func() {
	if h.busy.Add(1) != 1 {
		h.t.Error("two jobs at the same time")
	}
	return func() { h.busy.Add(-1) }
}

func (h *fakeHost) Scan(ctx context.Context, o scan.Options) (*reading.Reading, error) {
	defer h.job()()
	h.mu.Lock()
	h.scans = append(h.scans, fakeScan{time.Now(), o})
	takes, broken := h.takes, h.broken
	h.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if broken != nil {
		return nil, broken
	}
	return &reading.Reading{Sample: reading.Sample{At: time.Now(), PageSize: 4096}, Took: takes}, nil
}

func (h *fakeHost) Refresh() error {
	defer h.job()()
	time.Sleep(5 * time.Millisecond)
	return nil
}

func (h *fakeHost) Sockets(_ context.Context, want func(*reading.Socket) bool, yield func(*reading.Socket) error) error {
	defer h.job()()
	var row reading.Socket
	for i := range h.rows {
		row = reading.Socket{Cookie: reading.Cookie(i + 1)}
		if !want(&row) {
			continue
		}
		if err := yield(&row); err != nil {
			return err
		}
	}
	return nil
}

func (h *fakeHost) Info(context.Context, *reading.Socket) (*api.TCPInfo, error) {
	defer h.job()()
	return &api.TCPInfo{RTTMicros: 7}, nil
}

func (h *fakeHost) Doctor(context.Context) ([]api.DoctorCheck, error) {
	defer h.job()()
	return nil, errors.New("no doctor")
}

func (h *fakeHost) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed++
	return nil
}

// scanned lists when scans began, after the start of the test.
func (h *fakeHost) began(start time.Time) (at []time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.scans {
		at = append(at, s.at.Sub(start))
	}
	return at
}

// fakeNotifier keeps what it was told and when.
type fakeNotifier struct {
	mu     sync.Mutex
	events []noted
}

type noted struct {
	what string
	at   time.Time
}

func (n *fakeNotifier) note(what string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, noted{what, time.Now()})
	return nil
}

func (n *fakeNotifier) Ready(string) error  { return n.note("ready") }
func (n *fakeNotifier) Status(string) error { return n.note("status") }
func (n *fakeNotifier) Reloading() error    { return n.note("reloading") }
func (n *fakeNotifier) Stopping() error     { return n.note("stopping") }
func (n *fakeNotifier) Watchdog() error     { return n.note("watchdog") }

// when lists the times of an event, after the start of the test.
func (n *fakeNotifier) when(what string, start time.Time) (at []time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if e.what == what {
			at = append(at, e.at.Sub(start))
		}
	}
	return at
}

// running is a daemon that runs on a fake host, inside a bubble of fake time.
type running struct {
	*fakeHost
	*fakeNotifier
	d     *Daemon
	start time.Time
	stop  func() error // once
}

const (
	calm    = time.Minute
	pressed = 5 * time.Second
)

// run starts a daemon in a bubble and stops it at the end.
func run(t *testing.T, test func(t *testing.T, r *running), prepare ...func(*fakeHost)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &running{fakeHost: &fakeHost{t: t}, fakeNotifier: &fakeNotifier{}, start: time.Now()}
		for _, p := range prepare {
			p(r.fakeHost)
		}
		r.d = newDaemon(Config{
			Sample: time.Second, Calm: calm, Pressed: pressed, CPU: 0.01,
			Log: slog.New(slog.DiscardHandler), Notify: r.fakeNotifier,
			FirstReading: func(*reading.Reading) {},
		})
		r.d.reader = newReader(r.fakeHost)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.d.Run(ctx) }()
		r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
		test(t, r)
		if err := r.stop(); err != nil {
			t.Errorf("run: %v", err)
		}
		if r.closed != 1 {
			t.Errorf("the host was closed %d times", r.closed)
		}
		if n := len(r.when("stopping", r.start)); n != 1 {
			t.Errorf("told %d times that it stops", n)
		}
	})
}

// after lets time pass and everything settle.
func (r *running) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func seconds(n ...int) (d []time.Duration) {
	for _, n := range n {
		d = append(d, time.Duration(n)*time.Second)
	}
	return d
}

func every(from, to int) (d []time.Duration) {
	for s := from; s <= to; s++ {
		d = append(d, time.Duration(s)*time.Second)
	}
	return d
}

func checkTimes(t *testing.T, what string, got, want []time.Duration) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s at %v, want %v", what, got, want)
	}
}
