package trend

import "math"

// direction is the robust slope through a few points.
type direction struct {
	perSecond float64 // Theil-Sen: the median slope over all pairs
	z         float64 // Mann-Kendall: how many deviations from "no direction"
	points    int
	span      float64 // seconds between the first and the last point
}

const (
	// With fewer points even a perfect line does not reach clearZ by much.
	minPoints = 6
	// 99 % two-sided. Ties are not corrected for, which errs to "unclear".
	clearZ = 2.58
)

func (d direction) known() bool   { return d.points >= minPoints }
func (d direction) rising() bool  { return d.known() && d.z >= clearZ && d.perSecond > 0 }
func (d direction) falling() bool { return d.known() && d.z <= -clearZ && d.perSecond < 0 }
func (d direction) clear() bool   { return d.rising() || d.falling() }

// slope computes the direction of value through points; scratch is room for
// maxPairs values.
func slope(points []point, value func(*point) float64, scratch []float64) direction {
	n := len(points)
	d := direction{points: n}
	if n < 2 {
		return d
	}
	d.span = points[n-1].at - points[0].at
	scratch = scratch[:0]
	score := 0
	for i := range points {
		ti, vi := points[i].at, value(&points[i])
		for j := i + 1; j < n; j++ {
			dt, dv := points[j].at-ti, value(&points[j])-vi
			if dt <= 0 {
				continue
			}
			scratch = append(scratch, dv/dt)
			switch {
			case dv > 0:
				score++
			case dv < 0:
				score--
			}
		}
	}
	if len(scratch) == 0 {
		return d
	}
	d.perSecond = median(scratch)
	// The continuity correction of the Mann-Kendall test.
	deviation := math.Sqrt(float64(n*(n-1)*(2*n+5)) / 18)
	switch {
	case score > 0:
		d.z = float64(score-1) / deviation
	case score < 0:
		d.z = float64(score+1) / deviation
	}
	return d
}

// median finds the middle value and reorders values on the way (quickselect,
// pivot in the middle, so sorted input is its best case).
func median(values []float64) float64 {
	n := len(values)
	upper := selectNth(values, n/2)
	if n%2 == 1 {
		return upper
	}
	lower := values[0]
	for _, v := range values[:n/2] {
		lower = max(lower, v)
	}
	return (lower + upper) / 2
}

// selectNth puts the value of rank k at index k, smaller ones before it.
func selectNth(values []float64, k int) float64 {
	low, high := 0, len(values)-1
	for low < high {
		pivot := values[low+(high-low)/2]
		i, j := low, high
		for i <= j {
			for values[i] < pivot {
				i++
			}
			for values[j] > pivot {
				j--
			}
			if i <= j {
				values[i], values[j] = values[j], values[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			high = j
		case k >= i:
			low = i
		default:
			return values[k]
		}
	}
	return values[k]
}
