package level

// wobble is how far a share goes past a step of ten before it counts.
const wobble = 0.02

// Tens gives a share in whole steps of ten percent, rounded down, for readers
// that take each change of a word for news. before is what it gave for the
// last share: a share that wavers at a limit does not change it.
func Tens(before int, share float64) int {
	if low := float64(before) / 100; share >= low-wobble && share < low+0.1+wobble-1e-9 {
		return before
	}
	// A share that is computed may fall short of its step by a hair.
	return 10 * int(10*min(max(share, 0), 10)+1e-9)
}
