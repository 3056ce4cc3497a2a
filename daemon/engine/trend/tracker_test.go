package trend_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/engine/trend"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// feed hands a tracker samples and readings of one host.
type feed struct {
	*trend.Tracker
	at   time.Time
	used reading.Pages
}

func newFeed() *feed {
	return &feed{Tracker: trend.New(trend.Config{}), at: time.Now(), used: 10000}
}

func (f *feed) sample() reading.Sample {
	return reading.Sample{
		At: f.at, PageSize: 4096, Used: f.used, ReserveMax: 512,
		Mem: reading.TCPMem{Min: 43257, Pressure: 57676, Max: 86514},
	}
}

// second passes a second and samples.
func (f *feed) second() time.Duration {
	f.at = f.at.Add(time.Second)
	s := f.sample()
	return f.ObserveSample(&s)
}

// scan observes a reading of owners.
func (f *feed) scan(level reading.Level, owners ...reading.Owner) (*reading.Reading, time.Duration) {
	r := &reading.Reading{Sample: f.sample(), Level: level, Owners: owners}
	gap := f.Observe(r)
	return r, gap
}

// stuck is an owner whose memory lies unread, and stands still but for young
// bytes.
func stuck(key string, bytes, young int64) reading.Owner {
	stalled := bytes - young
	return reading.Owner{
		Key: key, Name: key, Kind: reading.KindService, InvocationID: "1",
		Sum: reading.Tally{Sockets: bytes / 100000, Bytes: bytes}, Receive: bytes, Unread: bytes,
		Stalled: &stalled, Young: &young,
		StalledReceive: &reading.Tally{Sockets: stalled / 100000, Bytes: stalled}, StalledSend: &reading.Tally{},
	}
}

func TestHostGrowthAndETA(t *testing.T) {
	f := newFeed()
	var r *reading.Reading
	for i := range 300 {
		f.used += 10 // 600 pages a minute
		f.second()
		if i%30 == 0 {
			r, _ = f.scan(reading.Calm)
			if i < 20 && r.Trend.GrowthPerMinute != nil {
				t.Errorf("growth %d/min after %d s, want nil", *r.Trend.GrowthPerMinute, i)
			}
		}
	}
	if r.Trend.GrowthPerMinute == nil || r.Trend.EtaPressure == nil || r.Trend.EtaMax == nil {
		t.Fatalf("trend %+v, want growth and both times", r.Trend)
	}
	if got, want := *r.Trend.GrowthPerMinute, int64(600*4096); got < want*9/10 || got > want*11/10 {
		t.Errorf("growth %d/min, want about %d", got, want)
	}
	left := time.Duration(57676-r.Sample.Used) * time.Minute / 600
	if got := *r.Trend.EtaPressure; got < left*9/10 || got > left*11/10 {
		t.Errorf("time to pressure %s, want about %s", got, left)
	}
	if *r.Trend.EtaMax <= *r.Trend.EtaPressure {
		t.Errorf("time to max %s is not after pressure %s", *r.Trend.EtaMax, *r.Trend.EtaPressure)
	}
}

// TestHostBetweenReadings checks that growth and times follow the samples, and
// that the verdict stays until the next reading.
func TestHostBetweenReadings(t *testing.T) {
	f, bytes := newFeed(), int64(0)
	full := leaking(f, &bytes, 6*time.Minute)
	if full.Trend.Verdict == nil {
		t.Fatal("no verdict for the host")
	}
	for range 60 {
		f.used += 100
		f.second()
	}
	s := f.sample()
	got := f.Host(&s)
	if got.GrowthPerMinute == nil || *got.GrowthPerMinute < 5000*4096 {
		t.Errorf("growth %v, want about 6000 pages a minute", got.GrowthPerMinute)
	}
	if got.EtaMax == nil {
		t.Error("no time to the limit")
	}
	if diff := cmp.Diff(full.Trend.Verdict, got.Verdict); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
}

func TestETAAboveLimit(t *testing.T) {
	f := newFeed()
	f.used = 60000
	for range 200 {
		f.used += 10
		f.second()
	}
	r, _ := f.scan(reading.Pressure)
	if r.Trend.EtaPressure == nil || *r.Trend.EtaPressure != 0 {
		t.Errorf("time to pressure %v, want 0: it is above already", r.Trend.EtaPressure)
	}
	if r.Trend.EtaMax == nil || *r.Trend.EtaMax <= 0 {
		t.Errorf("time to max %v, want some", r.Trend.EtaMax)
	}
}

// TestETAOfOscillation checks that going up is no prediction where going up
// has always ended.
func TestETAOfOscillation(t *testing.T) {
	f := newFeed()
	for i := range 1200 {
		if i%240 < 120 {
			f.used += 100
		} else {
			f.used -= 100
		}
		f.second()
		if i < 300 || i%5 != 0 {
			continue
		}
		if r, _ := f.scan(reading.Calm); r.Trend.EtaPressure != nil {
			t.Fatalf("after %d s: time to pressure %s in an oscillation, want nil", i, *r.Trend.EtaPressure)
		}
	}
}

func TestFlatHostHasNoETA(t *testing.T) {
	f := newFeed()
	for i := range 600 {
		f.used = 10000 + reading.Pages(i*7919%100)
		f.second()
	}
	r, _ := f.scan(reading.Calm)
	if r.Trend.EtaPressure != nil || r.Trend.EtaMax != nil {
		t.Errorf("trend %+v of a flat host, want no times", r.Trend)
	}
	if r.Trend.GrowthPerMinute == nil || *r.Trend.GrowthPerMinute != 0 {
		t.Errorf("growth %v of a flat host, want 0", r.Trend.GrowthPerMinute)
	}
}

// leaking feeds a leak for a time and returns the last reading.
func leaking(f *feed, bytes *int64, d time.Duration) *reading.Reading {
	var r *reading.Reading
	for range int(d / (5 * time.Second)) {
		for range 5 {
			f.second()
		}
		*bytes += 1 << 20
		r, _ = f.scan(reading.Elevated, stuck("a", *bytes, min(6<<20, *bytes)))
	}
	return r
}

func wantVerdict(t *testing.T, r *reading.Reading, want reading.VerdictKind) {
	t.Helper()
	v := r.Owners[0].Verdict
	switch {
	case v == nil && want != "":
		t.Errorf("no verdict, want %s", want)
	case v != nil && v.Kind != want:
		t.Errorf("verdict %s %q, want %q", v.Kind, v.Reasons, want)
	}
}

func TestLeakNeedsPatience(t *testing.T) {
	f, bytes := newFeed(), int64(0)
	wantVerdict(t, leaking(f, &bytes, 4*time.Minute), "")
	wantVerdict(t, leaking(f, &bytes, 2*time.Minute), reading.Leak)
}

// TestServedIsNoLeak checks that receive queues which look the same at each
// scan are no leak while somebody of this host keeps sending into them.
func TestServedIsNoLeak(t *testing.T) {
	for name, tc := range map[string]struct {
		stuck int64 // of the sender's bytes
		want  reading.VerdictKind
	}{
		"sender moves": {0, ""},
		"sender waits": {30 << 20, reading.Leak},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed()
			var r *reading.Reading
			for i := range 100 {
				f.at = f.at.Add(5 * time.Second)
				bytes := int64(i+1) << 20
				sender := reading.Owner{
					Key: "b", Kind: reading.KindService, InvocationID: "1",
					Sum: reading.Tally{Sockets: 30, Bytes: 30 << 20}, Send: 30 << 20, Stalled: &tc.stuck, Young: new(int64(0)),
					StalledReceive: &reading.Tally{}, StalledSend: &reading.Tally{Sockets: 30, Bytes: tc.stuck},
					Peers: []reading.Peer{{Owner: "a", Tally: reading.Tally{Sockets: 30, Bytes: 30 << 20}}},
				}
				r, _ = f.scan(reading.Elevated, stuck("a", bytes, min(6<<20, bytes)), sender)
			}
			wantVerdict(t, r, tc.want)
		})
	}
}

func TestGapStartsAnew(t *testing.T) {
	f, bytes := newFeed(), int64(0)
	wantVerdict(t, leaking(f, &bytes, 6*time.Minute), reading.Leak)
	f.at = f.at.Add(2 * time.Minute)
	r, gap := f.scan(reading.Elevated, stuck("a", bytes, 0))
	if gap != 2*time.Minute {
		t.Errorf("gap %s, want 2m", gap)
	}
	wantVerdict(t, r, "")
	if r.Owners[0].GrowthPerMinute != nil || r.Trend.GrowthPerMinute != nil {
		t.Error("growth is known right after a gap")
	}
	wantVerdict(t, leaking(f, &bytes, 6*time.Minute), reading.Leak)
}

func TestSampleGap(t *testing.T) {
	f := newFeed()
	for range 100 {
		if gap := f.second(); gap != 0 {
			t.Fatalf("gap %s at an even pace", gap)
		}
	}
	f.at = f.at.Add(9 * time.Second)
	if gap := f.second(); gap != 10*time.Second {
		t.Errorf("gap %s, want 10s", gap)
	}
}

// TestSlowPaceIsNoGap checks that a host whose scans take long, but evenly,
// still gets its verdict.
func TestSlowPaceIsNoGap(t *testing.T) {
	f := newFeed()
	gaps := 0
	for range 20 {
		f.at = f.at.Add(25 * time.Second)
		if _, gap := f.scan(reading.Elevated, stuck("a", 1<<20, 0)); gap > 0 {
			gaps++
		}
	}
	if gaps > 1 {
		t.Errorf("%d gaps in scans 25 s apart, want at most the first", gaps)
	}
}

func TestRestartStartsAnew(t *testing.T) {
	for name, restart := range map[string]func(*reading.Owner){
		"invocation": func(o *reading.Owner) { o.InvocationID = "2" },
		"holder": func(o *reading.Owner) {
			o.InvocationID = ""
			o.Holders, o.HolderCount = []reading.Holder{{PID: 9, StartTime: 900}}, 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed()
			owner := func(bytes int64) reading.Owner {
				o := stuck("a", bytes, min(6<<20, bytes))
				if name == "holder" {
					o.InvocationID = ""
					o.Holders, o.HolderCount = []reading.Holder{{PID: 7, StartTime: 100}}, 1
				}
				return o
			}
			bytes := int64(0)
			var r *reading.Reading
			for range 80 {
				f.at = f.at.Add(5 * time.Second)
				bytes += 1 << 20
				r, _ = f.scan(reading.Elevated, owner(bytes))
			}
			wantVerdict(t, r, reading.Leak)
			f.at = f.at.Add(5 * time.Second)
			o := owner(bytes)
			restart(&o)
			r, _ = f.scan(reading.Elevated, o)
			wantVerdict(t, r, "")
		})
	}
}

// TestWorkersAreNoRestart checks that a server whose workers come and go, and
// whose first holder changes with them, keeps its windows.
func TestWorkersAreNoRestart(t *testing.T) {
	f := newFeed()
	bytes := int64(0)
	var r *reading.Reading
	for i := range 80 {
		f.at = f.at.Add(5 * time.Second)
		bytes += 1 << 20
		o := stuck("a", bytes, min(6<<20, bytes))
		o.InvocationID = ""
		o.Holders = []reading.Holder{{PID: 100 + i, StartTime: uint64(1000 + i)}, {PID: 1, StartTime: 1}}
		o.HolderCount = 2
		r, _ = f.scan(reading.Elevated, o)
	}
	wantVerdict(t, r, reading.Leak)
}

func TestPartialReadingAddsNothing(t *testing.T) {
	f, bytes := newFeed(), int64(0)
	leaking(f, &bytes, 6*time.Minute)
	f.at = f.at.Add(5 * time.Second)
	r := &reading.Reading{
		Sample: f.sample(), Level: reading.Elevated, Partial: true,
		Owners: []reading.Owner{stuck("a", 4096, 0)},
	}
	f.Observe(r)
	wantVerdict(t, r, reading.Leak)
	wantVerdict(t, leaking(f, &bytes, 5*time.Second), reading.Leak)
}

// TestTimeBackwards checks that an observation that is not after the last one
// is answered from what is known.
func TestTimeBackwards(t *testing.T) {
	f, bytes := newFeed(), int64(0)
	want := leaking(f, &bytes, 6*time.Minute)
	f.at = f.at.Add(-time.Minute)
	r, gap := f.scan(reading.Elevated, stuck("a", 0, 0))
	if gap != 0 {
		t.Errorf("gap %s", gap)
	}
	if diff := cmp.Diff(want.Owners[0].Verdict, r.Owners[0].Verdict); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
}

func TestUncomparedReadingHasNoVerdict(t *testing.T) {
	f := newFeed()
	for i := range 200 {
		f.at = f.at.Add(5 * time.Second)
		o := stuck("a", int64(i)<<20, 0)
		o.Stalled, o.Young, o.StalledReceive, o.StalledSend = nil, nil, nil, nil
		r, _ := f.scan(reading.Elevated, o)
		wantVerdict(t, r, "")
	}
}

func TestUnresolvedIsNeverAccused(t *testing.T) {
	f := newFeed()
	for i := range 200 {
		f.at = f.at.Add(5 * time.Second)
		o := stuck("unresolved", int64(i)<<20, 6<<20)
		o.Kind = reading.KindUnresolved
		r, _ := f.scan(reading.Elevated, o)
		wantVerdict(t, r, "")
	}
}

// TestHostileNames checks that what a process may choose cannot pose as
// something else in a reason.
func TestHostileNames(t *testing.T) {
	f := newFeed()
	var r *reading.Reading
	for i := range 80 {
		f.at = f.at.Add(5 * time.Second)
		o := stuck("system/a\x1b[2J\nleak: sshd.service", int64(i+1)<<20, min(6, int64(i+1))<<20)
		r, _ = f.scan(reading.Elevated, o)
	}
	if r.Trend.Verdict == nil {
		t.Fatal("no verdict for the host")
	}
	for _, reason := range r.Trend.Verdict.Reasons {
		if strings.ContainsAny(reason, "\x1b\n") {
			t.Errorf("reason %q", reason)
		}
	}
}

// TestBoundedOwners checks that the owners of most bytes are remembered,
// whenever they come.
func TestBoundedOwners(t *testing.T) {
	tracker := trend.New(trend.Config{MaxOwners: 10})
	at := time.Now()
	for round := range 60 {
		at = at.Add(5 * time.Second)
		r := &reading.Reading{Level: reading.Elevated}
		r.Sample = reading.Sample{At: at, PageSize: 4096, Mem: reading.TCPMem{Min: 43257, Pressure: 57676, Max: 86514}, Used: 50000}
		if round > 20 {
			r.Owners = append(r.Owners, stuck("late", 100<<20+int64(round)<<20, 0))
		}
		for i := range 50 {
			r.Owners = append(r.Owners, stuck(fmt.Sprintf("o%02d", i), int64(60-i)<<20, 0))
		}
		tracker.Observe(r)
		known := 0
		for i := range r.Owners {
			if r.Owners[i].GrowthPerMinute != nil {
				known++
			}
		}
		if known > 10 {
			t.Fatalf("round %d: %d owners are remembered, want at most 10", round, known)
		}
		if round == 59 && r.Owners[0].GrowthPerMinute == nil {
			t.Error("the largest owner came late and is not remembered")
		}
	}
}

// TestDeterministic checks that equal input gives equal answers.
func TestDeterministic(t *testing.T) {
	for _, name := range []string{"leak-two", "load-noisy", "slow-proxy-chain"} {
		for i := range scenes {
			if scenes[i].name != name {
				continue
			}
			r := scenes[i].record(0)
			allow := cmp.AllowUnexported(outcome{})
			if diff := cmp.Diff(replay(r), replay(r), allow); diff != "" {
				t.Errorf("%s (-first +second):\n%s", name, diff)
			}
		}
	}
}
