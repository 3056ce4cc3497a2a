package level

import "testing"

func TestTens(t *testing.T) {
	for _, tt := range []struct {
		name   string
		shares []float64
		want   []int
	}{
		{"up", []float64{0, 0.05, 0.11, 0.12, 0.35, 0.95, 1.3}, []int{0, 0, 0, 10, 30, 90, 130}},
		{"down", []float64{0.95, 0.89, 0.87, 0.3, 0.01}, []int{90, 90, 80, 30, 0}},
		{"at a limit", []float64{0.6, 0.59, 0.61, 0.58, 0.6}, []int{60, 60, 60, 60, 60}},
		{"cannot be", []float64{-1, 0.3, -0.01, 1e300}, []int{0, 30, 0, 1000}},
	} {
		before := 0
		for i, share := range tt.shares {
			if before = Tens(before, share); before != tt.want[i] {
				t.Errorf("%s: %v after %v gives %d, want %d", tt.name, share, tt.shares[:i], before, tt.want[i])
			}
		}
	}
}
