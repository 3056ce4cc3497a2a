package trend

// Sizes of the windows. The two windows of an owner are 1 kB when full.
const (
	shortPoints  = 12
	shortSpacing = 5.0 // seconds: one minute

	longPoints  = 20
	longSpacing = 36.0 // seconds: twelve minutes

	hostLongPoints  = 48
	hostLongSpacing = 15.0 // seconds: twelve minutes

	// pairs of the largest window: the scratch space that slope needs
	maxPairs = hostLongPoints * (hostLongPoints - 1) / 2
)

// point is the mean of the observations in one slot of a window: 32 bytes.
type point struct {
	at      float64 // seconds since the tracker's first observation
	bytes   float64
	stuck   float32 // bytes on sockets whose queues stand still, at most
	sockets float32
	waiting float32 // sockets in CLOSE_WAIT
	weight  float32 // observations in the mean
}

func bytesOf(p *point) float64   { return p.bytes }
func stuckOf(p *point) float64   { return float64(p.stuck) }
func socketsOf(p *point) float64 { return float64(p.sockets) }
func waitingOf(p *point) float64 { return float64(p.waiting) }

// merge takes another observation into the mean.
func (p *point) merge(o point) {
	p.weight++
	w := 1 / p.weight
	p.at += (o.at - p.at) * float64(w)
	p.bytes += (o.bytes - p.bytes) * float64(w)
	p.stuck += (o.stuck - p.stuck) * w
	p.sockets += (o.sockets - p.sockets) * w
	p.waiting += (o.waiting - p.waiting) * w
}

// window is a bounded run of points, thinned out as it is filled.
type window struct {
	points []point
	start  float64 // of the last point's slot
}

// add merges o into the last point while its slot of spacing seconds lasts,
// else opens a slot. It keeps at most limit points, none older than limit
// slots, and reports whether it opened a slot.
func (w *window) add(o point, spacing float64, limit int) bool {
	n := len(w.points)
	if n > 0 && o.at-w.start < spacing {
		w.points[n-1].merge(o)
		return false
	}
	if n == 0 || o.at-w.start >= 2*spacing {
		w.start = o.at
	} else {
		w.start += spacing // so that slots do not drift with the scan's pace
	}
	gone := 0
	for gone < n && (n-gone >= limit || w.points[gone].at < o.at-spacing*float64(limit)) {
		gone++
	}
	if gone > 0 {
		copy(w.points, w.points[gone:])
		w.points = w.points[:n-gone]
	}
	if len(w.points) == cap(w.points) {
		// append would round up beyond limit.
		grown := make([]point, len(w.points), min(max(4, 2*len(w.points)), limit))
		copy(grown, w.points)
		w.points = grown
	}
	o.weight = 1
	w.points = append(w.points, o)
	return true
}

// clear forgets everything but keeps the room.
func (w *window) clear() { w.points = w.points[:0] }

// change is the difference between the last and the first point.
func (w *window) change(value func(*point) float64) float64 {
	n := len(w.points)
	if n < 2 {
		return 0
	}
	return value(&w.points[n-1]) - value(&w.points[0])
}
