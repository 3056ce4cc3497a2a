package trend

// hoard watches an amount that should go up and down and notes since when it
// only went up. It needs no window: a leak that pauses for an hour between
// two steps is still one hoard, and one that is drained starts anew.
type hoard struct {
	since float64 // seconds since the tracker's first observation
	from  float64 // the amount then
	peak  float64
	mark  float64 // the amount at the last counted rise
	first float64 // time of the first and the last counted rise
	last  float64
	// inflow is all that could have been added since, whether it stayed or not.
	inflow float64
	rises  int32
	scans  int32
	begun  bool
}

// riseShare is the share of the amount that a rise must add to count.
const riseShare = 0.03

// observe takes the next amount. slack is the share of the peak that it may
// fall without being drained; step is the least rise that counts.
func (h *hoard) observe(at, amount, slack, step float64) {
	if !h.begun || amount < h.peak*(1-slack) {
		*h = hoard{since: at, from: amount, peak: amount, mark: amount, begun: true}
		return
	}
	h.scans++
	h.peak = max(h.peak, amount)
	if amount >= h.mark+max(step, h.mark*riseShare) {
		h.rises++
		h.mark = amount
		h.last = at
		if h.rises == 1 {
			h.first = at
		}
	}
}

// age is for how long nothing was drained, in seconds.
func (h *hoard) age(at float64) float64 {
	if !h.begun {
		return 0
	}
	return at - h.since
}

// grown is what was added since.
func (h *hoard) grown() float64 { return h.peak - h.from }

// kept is the share of the inflow that stayed: near 1 for a leak, and
// (in-out)/in for a queue that is served, however slowly. Without any inflow
// nothing contradicts: 1.
func (h *hoard) kept() float64 {
	if h.inflow <= h.grown() {
		return 1
	}
	return h.grown() / h.inflow
}

// steady reports growth in leakRises steps over at least half of the time
// asked for: one jump, however high, is not steady.
func (h *hoard) steady(at, seconds float64) bool {
	return h.age(at) >= seconds && h.rises >= leakRises && h.last-h.first >= seconds/2
}
