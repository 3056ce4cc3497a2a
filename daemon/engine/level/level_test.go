package level

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const (
	calm     = reading.Calm
	elevated = reading.Elevated
	pressure = reading.Pressure
	critical = reading.Critical
	none     = reading.Unknown
)

var start = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// sample has the limits 1000 (pressure) and 1500 (max) pages, so that the
// levels are entered above 800, 1000 and 1350 and left at 640, 800 and 1080.
func sample(at time.Time, used int64) *reading.Sample {
	return &reading.Sample{
		At:       at,
		PageSize: 4096,
		Mem:      reading.TCPMem{Min: 750, Pressure: 1000, Max: 1500},
		Used:     reading.Pages(used),
	}
}

// step is a sample some seconds after the one before.
type step struct {
	after  int // seconds
	used   int64
	flag   bool
	aborts int64
	want   reading.Level
}

func TestNext(t *testing.T) {
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"enter each", []step{
			{1, 100, false, 0, calm},
			{1, 800, false, 0, calm},
			{1, 801, false, 0, elevated},
			{1, 1000, false, 0, elevated},
			{1, 1001, false, 0, pressure},
			{1, 1350, false, 0, pressure},
			{1, 1351, false, 0, critical},
		}},
		{"from calm to critical at once", []step{{1, 0, false, 0, calm}, {1, 1400, false, 0, critical}}},
		{"hold", []step{
			{1, 900, false, 0, elevated},
			{1, 641, false, 0, elevated},
			{4, 640, false, 0, elevated},
			{5, 640, false, 0, elevated},
			{5, 640, false, 0, elevated},
			{5, 0, false, 0, elevated},
			{5, 0, false, 0, elevated},
			{5, 0, false, 0, elevated},
			{4, 0, false, 0, elevated},
			{1, 640, false, 0, calm},
		}},
		{"interrupted hold", []step{
			{1, 900, false, 0, elevated},
			{1, 600, false, 0, elevated},
			{5, 600, false, 0, elevated},
			{5, 600, false, 0, elevated},
			{5, 600, false, 0, elevated},
			{5, 600, false, 0, elevated},
			{5, 600, false, 0, elevated},
			{4, 641, false, 0, elevated},
			{1, 600, false, 0, elevated},
			{5, 600, false, 0, elevated},
		}},
		{"critical to calm when all is low", []step{
			{1, 1400, false, 0, critical},
			{1, 100, false, 0, critical},
			{5, 100, false, 0, critical},
			{5, 100, false, 0, critical},
			{5, 100, false, 0, critical},
			{5, 100, false, 0, critical},
			{5, 100, false, 0, critical},
			{5, 100, false, 0, calm},
		}},
		{"critical to pressure", []step{
			{1, 1400, false, 0, critical},
			{1, 1050, false, 0, critical},
			{5, 1050, false, 0, critical},
			{5, 1050, false, 0, critical},
			{5, 1050, false, 0, critical},
			{5, 1050, false, 0, critical},
			{5, 1050, false, 0, critical},
			{5, 1050, false, 0, pressure},
		}},
		{"pressure to elevated in its own hysteresis", []step{
			{1, 1100, false, 0, pressure},
			{1, 700, false, 0, pressure},
			{5, 700, false, 0, pressure},
			{5, 700, false, 0, pressure},
			{5, 700, false, 0, pressure},
			{5, 700, false, 0, pressure},
			{5, 700, false, 0, pressure},
			{5, 700, false, 0, elevated},
			{5, 600, false, 0, elevated},
		}},
		{"the kernel's flag", []step{
			{1, 700, true, 0, pressure},
			{1, 100, true, 0, pressure},
			{5, 100, true, 0, pressure},
			{5, 100, true, 0, pressure},
			{5, 100, true, 0, pressure},
			{5, 100, true, 0, pressure},
			{5, 100, true, 0, pressure},
			{5, 100, true, 0, pressure},
			{5, 100, false, 0, pressure},
		}},
		{"the flag keeps pressure when critical is left", []step{
			{1, 1400, true, 0, critical},
			{1, 500, true, 0, critical},
			{5, 500, true, 0, critical},
			{5, 500, true, 0, critical},
			{5, 500, true, 0, critical},
			{5, 500, true, 0, critical},
			{5, 500, true, 0, critical},
			{5, 500, true, 0, pressure},
		}},
		{"aborts", []step{
			{1, 100, false, 7, calm},
			{1, 100, false, 8, critical},
			{5, 100, false, 8, critical},
			{5, 100, false, 8, critical},
			{5, 100, false, 8, critical},
			{5, 100, false, 8, critical},
			{5, 100, false, 8, critical},
			{5, 100, false, 9, critical},
			{5, 100, false, 9, critical},
		}},
		{"aborts before the first sample", []step{{1, 100, false, 5000, calm}, {1, 100, false, 5000, calm}}},
		{"a gap starts anew", []step{{1, 1400, false, 3, critical}, {6, 100, false, 9, calm}}},
		{"five seconds are no gap", []step{{1, 1400, false, 3, critical}, {5, 100, false, 3, critical}}},
		{"time going back starts anew", []step{{1, 1400, false, 0, critical}, {-60, 100, false, 0, calm}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var state State
			now := start
			for i, st := range tt.steps {
				now = now.Add(time.Duration(st.after) * time.Second)
				s := sample(now, st.used)
				s.UnderPressure = &st.flag
				s.Kernel.AbortOnMemory = &st.aborts
				before := state
				state = Next(state, s, now)
				if state.Level != st.want {
					t.Fatalf("step %d (used %d): %s, want %s (%s)", i, st.used, state.Level, st.want, state.Why)
				}
				if changed := before.Level != state.Level; changed != state.Since.Equal(now) {
					t.Errorf("step %d: since %s at %s", i, state.Since, now)
				}
			}
		})
	}
}

func TestUnknown(t *testing.T) {
	s0 := Next(State{}, nil, start)
	if s0.Level != none || s0.Why != "no sample yet" || !s0.Since.Equal(start) {
		t.Errorf("without a sample: %+v", s0)
	}
	s := sample(start, 1400)
	now := Next(s0, s, start.Add(5*time.Second))
	if now.Level != critical {
		t.Errorf("a sample of 5 s: %+v", now)
	}
	old := Next(now, s, start.Add(5*time.Second+time.Nanosecond))
	if old.Level != none || old.Why != "the last sample is 5s old" {
		t.Errorf("an older sample: %+v", old)
	}
	older := Next(old, s, start.Add(time.Minute))
	if older.Level != none || !older.Since.Equal(old.Since) {
		t.Errorf("unknown began anew: %+v", older)
	}
	back := Next(older, sample(start.Add(time.Minute), 100), start.Add(time.Minute))
	if back.Level != calm {
		t.Errorf("after unknown: %+v", back)
	}
}

func TestSameSampleChangesNothing(t *testing.T) {
	one, two := int64(1), int64(2)
	a, b := sample(start, 100), sample(start.Add(time.Second), 100)
	a.Kernel.AbortOnMemory, b.Kernel.AbortOnMemory = &one, &two
	s1 := Next(Next(State{}, a, a.At), b, b.At)
	s2 := Next(s1, b, b.At.Add(time.Second))
	if s1.Level != critical || s2.Level != critical || s2.Why != s1.Why || !s2.Since.Equal(s1.Since) {
		t.Errorf("first %+v, then %+v", s1, s2)
	}
}

// TestAbsentIsNeverZero: a counter that appears is no rise, and no flag is not a flag that is off.
func TestAbsentIsNeverZero(t *testing.T) {
	n := int64(40)
	a, b := sample(start, 100), sample(start.Add(time.Second), 100)
	b.Kernel.AbortOnMemory = &n
	if got := Next(Next(State{}, a, a.At), b, b.At); got.Level != calm {
		t.Errorf("counter appeared: %+v", got)
	}
	if got := Next(Next(State{}, b, start), a, a.At); got.Level != calm {
		t.Errorf("counter went: %+v", got)
	}
}

func TestWhy(t *testing.T) {
	const gib = 1 << 30 / 4096
	mem := reading.TCPMem{Min: gib, Pressure: 11 * gib / 10, Max: 2 * gib}
	yes, one, four := true, int64(1), int64(4)
	var got []string
	add := func(s State) State {
		got = append(got, s.Level.String()+": "+s.Why)
		return s
	}
	at := func(sec int, used int64) *reading.Sample {
		s := sample(start.Add(time.Duration(sec)*time.Second), used)
		s.Mem, s.Kernel.AbortOnMemory = mem, &one
		return s
	}
	var state State
	for i, used := range []int64{gib / 100, gib * 95 / 100, 12 * gib / 10, gib, gib / 2, gib / 4} {
		state = add(Next(state, at(i, used), start.Add(time.Duration(i)*time.Second)))
	}
	flagged := at(6, gib/2)
	flagged.UnderPressure = &yes
	state = add(Next(state, flagged, flagged.At))
	full := at(7, 19*gib/10)
	state = add(Next(state, full, full.At))
	aborts := at(8, gib/2)
	aborts.Kernel.AbortOnMemory = &four
	add(Next(state, aborts, aborts.At))

	want := []string{
		"calm: used 10 MiB <= 0.8 x pressure 1.1 GiB",
		"elevated: used 973 MiB > 0.8 x pressure 1.1 GiB",
		"pressure: used 1.2 GiB > pressure 1.1 GiB",
		"pressure: used 1.0 GiB, pressure is left at 901 MiB",
		"pressure: used 512 MiB, low enough to leave for 0s of 30s",
		"pressure: used 256 MiB, low enough to leave for 1s of 30s",
		"pressure: the kernel's pressure flag is set, used 512 MiB, it clears at min 1.0 GiB",
		"critical: used 1.9 GiB > 0.9 x max 2.0 GiB",
		"critical: the kernel aborted 3 connections for lack of memory, used 512 MiB",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("explanations (-want +got):\n%s", diff)
	}
}

func TestSize(t *testing.T) {
	for _, tt := range []struct {
		pages    reading.Pages
		pageSize int
		want     string
	}{
		{0, 4096, "0 B"},
		{1, 512, "512 B"},
		{1, 4096, "4.0 KiB"},
		{25, 4096, "100 KiB"},
		{1, 65536, "64 KiB"},
		{262144, 4096, "1.0 GiB"},
		{262143, 4096, "1.0 GiB"},
		{1<<63 - 1, 4096, "33554432 PiB"},
		{-1, 4096, "-4096 B"},
	} {
		if got := size(&reading.Sample{PageSize: tt.pageSize}, tt.pages); got != tt.want {
			t.Errorf("%d pages of %d: %q, want %q", tt.pages, tt.pageSize, got, tt.want)
		}
	}
}

// TestNeverFallsTwiceWithinHold walks at random and checks what always holds.
func TestNeverFallsTwiceWithinHold(t *testing.T) {
	walk := func(seed uint64) bool {
		r := rand.New(rand.NewPCG(seed, 1))
		var state State
		var fell time.Time
		now, used, aborts := start, int64(500), int64(0)
		for range 2000 {
			now = now.Add(time.Duration(1+r.IntN(4000)) * time.Millisecond)
			used = min(max(used+r.Int64N(401)-200, 0), 1700)
			if r.IntN(200) == 0 {
				aborts++
			}
			flag, n := used > 1000 || r.IntN(100) == 0, aborts
			s := sample(now, used)
			s.UnderPressure, s.Kernel.AbortOnMemory = &flag, &n
			next := Next(state, s, now)

			if least := entered(s, state.aborts).level; next.Level < least {
				t.Logf("seed %d: %s where the sample alone is %s", seed, next.Level, least)
				return false
			}
			if next.Why == "" || strings.ContainsRune(next.Why, '\n') {
				t.Logf("seed %d: why is %q", seed, next.Why)
				return false
			}
			if next.Level < state.Level {
				if !fell.IsZero() && now.Sub(fell) < Hold {
					t.Logf("seed %d: fell again after %s", seed, now.Sub(fell))
					return false
				}
				if now.Sub(state.Since) < Hold {
					t.Logf("seed %d: left %s after %s", seed, state.Level, now.Sub(state.Since))
					return false
				}
				fell = now
			}
			state = next
		}
		return true
	}
	if err := quick.Check(walk, &quick.Config{MaxCount: 200}); err != nil {
		t.Error(err)
	}
}

func BenchmarkNext(b *testing.B) {
	state, now := State{}, start
	for b.Loop() {
		now = now.Add(time.Second)
		state = Next(state, sample(now, 100), now)
	}
}
