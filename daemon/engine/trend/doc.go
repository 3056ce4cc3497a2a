// Package trend judges how the host's TCP memory moves: how fast it grows,
// when it meets a limit, and whether what grows is a leak, load, or a peer
// that does not read.
//
// A [Tracker] is fed every sample and every full reading, and fills the parts
// of a reading that need a memory of earlier ones. It is pure: it has no
// clock of its own (time is what the samples say, by their monotonic part
// where they have one), starts no goroutine, and gives equal answers to equal
// input. Time that the host spent suspended does not pass on the monotonic
// clock and so does not count.
//
// # Growth
//
// Each owner and the host have a short window of one minute and a long one of
// twelve, both bounded and thinned out as they are filled. A slope is the
// median over all pairs of points (Theil-Sen), which bears 29 % of wild
// points, and it counts only where the Mann-Kendall test says that the points
// have a direction at all.
//
// # Verdicts
//
// The order of care is: never call load a leak; say nothing when in doubt;
// only then find every leak. What tells them apart is not growth, which both
// have, but that leaked memory never comes back: see [hoard]. A reading says of
// each owner how much lies in receive and in send queues that stand still. A
// queue that is always full and always moves has the same size at each scan;
// the scan asks the kernel of the largest ones when data last came or went, but
// not of all, so what a peer on this host keeps sending counts too. How the
// verdicts fare on recordings is in verdicts.md.
package trend
