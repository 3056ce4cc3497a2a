package trend

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSlope(t *testing.T) {
	line := func(n int, f func(i int) float64) []point {
		points := make([]point, n)
		for i := range points {
			points[i] = point{at: float64(i * 5), bytes: f(i)}
		}
		return points
	}
	rng := rand.New(rand.NewPCG(1, 2))
	tests := map[string]struct {
		points          []point
		want            float64
		rising, falling bool
	}{
		"none":      {line(0, nil), 0, false, false},
		"one":       {line(1, func(int) float64 { return 7 }), 0, false, false},
		"too few":   {line(4, func(i int) float64 { return float64(i) * 50 }), 10, false, false},
		"flat":      {line(12, func(int) float64 { return 7 }), 0, false, false},
		"rising":    {line(12, func(i int) float64 { return float64(i) * 50 }), 10, true, false},
		"falling":   {line(12, func(i int) float64 { return -float64(i) * 50 }), -10, false, true},
		"outliers":  {line(20, func(i int) float64 { return float64(i)*50 + float64(i%5/4)*1e9 }), 10, true, false},
		"one step":  {line(12, func(i int) float64 { return float64(i/11) * 1e6 }), 0, false, false},
		"alternate": {line(12, func(i int) float64 { return float64(i%2) * 1e6 }), 0, false, false},
		"noisy":     {line(20, func(i int) float64 { return float64(i)*50 + 20*rng.NormFloat64() }), 10, true, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := slope(test.points, bytesOf, make([]float64, 0, maxPairs))
			if math.Abs(d.perSecond-test.want) > 1 {
				t.Errorf("slope %g, want %g", d.perSecond, test.want)
			}
			if d.rising() != test.rising || d.falling() != test.falling {
				t.Errorf("rising %t falling %t (z %.2f), want %t and %t", d.rising(), d.falling(), d.z, test.rising, test.falling)
			}
		})
	}
}

func TestMedian(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for n := 1; n < 300; n++ {
		values := make([]float64, n)
		for i := range values {
			values[i] = float64(rng.IntN(n)) // with ties
		}
		sorted := slices.Sorted(slices.Values(values))
		want := (sorted[(n-1)/2] + sorted[n/2]) / 2
		if got := median(values); got != want {
			t.Fatalf("median of %d values is %g, want %g", n, got, want)
		}
	}
}

func TestWindowIsBounded(t *testing.T) {
	var w window
	for i := range 5000 {
		w.add(point{at: float64(i) * 0.7, bytes: float64(i)}, longSpacing, longPoints)
		if len(w.points) > longPoints || cap(w.points) > longPoints {
			t.Fatalf("%d points in room for %d, want at most %d", len(w.points), cap(w.points), longPoints)
		}
		if first := w.points[0].at; first < float64(i)*0.7-longSpacing*(longPoints+1) {
			t.Fatalf("the first point is of %g at %g", first, float64(i)*0.7)
		}
	}
	if span := w.points[len(w.points)-1].at - w.points[0].at; span < longSpacing*(longPoints-2) {
		t.Errorf("a full window spans %g s", span)
	}
}

func TestHoard(t *testing.T) {
	var h hoard
	for i := range 100 {
		h.observe(float64(i*5), float64(i)*1e6, 0.1, 1e5)
	}
	if !h.steady(495, 240) || h.grown() != 99e6 || h.kept() != 1 {
		t.Errorf("hoard %+v, want steady growth by 99 MB, all kept", h)
	}
	h.observe(500, 95e6, 0.1, 1e5)
	if h.age(500) != 500 {
		t.Errorf("age %g after a loss within the slack, want 500", h.age(500))
	}
	h.observe(505, 50e6, 0.1, 1e5)
	if h.age(505) != 0 || h.grown() != 0 {
		t.Errorf("hoard %+v after being drained, want a new one", h)
	}
}

func TestHoardJump(t *testing.T) {
	var h hoard
	for i := range 200 {
		h.observe(float64(i*5), float64(min(i/50, 1))*1e8, 0.1, 1e5)
	}
	if h.steady(995, 240) {
		t.Error("one jump counts as steady growth")
	}
}

func TestWords(t *testing.T) {
	for got, want := range map[string]string{
		size(0):             "0 B",
		size(1536):          "1.5 KiB",
		size(38 << 20):      "38 MiB",
		size(5 << 40):       "5.0 TiB",
		period(45):          "45 s",
		period(245):         "4 min",
		period(3 * 3600):    "3 h",
		percent(91, 100):    "91 %",
		percent(1, 0):       "0 %",
		sockets(1):          "1 socket",
		sockets(412):        "412 sockets",
		printable("a.b"):    "a.b",
		printable(""):       `""`,
		printable("a\x1b["): `"a\x1b["`,
		printable(`a"b`):    `"a\"b"`,
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
