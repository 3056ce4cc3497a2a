package trend_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/engine/trend/trendtest"
)

// matrix counts outcomes by label and verdict.
type matrix map[[2]trendtest.Label]int

func (m matrix) markdown(w *strings.Builder) {
	w.WriteString("| labelled | leak | slow-peer | load | none |\n|---|---:|---:|---:|---:|\n")
	for _, want := range trendtest.Labels() {
		fmt.Fprintf(w, "| %s |", want)
		for _, got := range trendtest.Labels() {
			fmt.Fprintf(w, " %d |", m[[2]trendtest.Label{want, got}])
		}
		w.WriteByte('\n')
	}
}

// row is how many have a label.
func (m matrix) row(l trendtest.Label) (all int) {
	for _, got := range trendtest.Labels() {
		all += m[[2]trendtest.Label{l, got}]
	}
	return all
}

// alarms is how many of load and none were called leak or slow-peer.
func (m matrix) alarms() (n int) {
	for _, want := range []trendtest.Label{trendtest.Load, trendtest.None} {
		n += m[[2]trendtest.Label{want, trendtest.Leak}] + m[[2]trendtest.Label{want, trendtest.SlowPeer}]
	}
	return n
}

// recall is found / all of a label; 1 where there is none.
func (m matrix) recall(l trendtest.Label) float64 {
	all := m.row(l)
	if all == 0 {
		return 1
	}
	return float64(m[[2]trendtest.Label{l, l}]) / float64(all)
}

// missed says why a leak or a slow peer is not found, by scene and, where the
// two paces differ, by recording. One that is found must come off this list.
var missed = map[string]string{
	"kernel-leak-orphans": "The kernel gives each orphan up after some minutes, and from then on as many end as begin: " +
		"the memory stays where it is, and sockets come and go as they do under load.",
	"kernel-leak-close-wait-read-calm": "These sockets cost no TCP memory, so ten minutes without one of them being closed " +
		"are asked for. They begin when the scanner can compare, a minute after the start, and the recording ends just before they are over.",
	"kernel-leak-trickle-calm": "All queues grow a little between readings, so none stands still. That nothing is ever read " +
		"shows after ten minutes only, just after the recording's end; until then it looks like load, and is called that.",
	"kernel-leak-under-load-calm": "The leaking service is found. The host as a whole is not called leaking, as the leak is less " +
		"than half of what grows on it; the rest is load.",
}

// whyMissed is the reason for an outcome, empty where there is none.
func whyMissed(o *outcome) (scene, reason string) {
	if reason, ok := missed[o.recording]; ok {
		return o.recording, reason
	}
	scene = strings.TrimSuffix(o.recording, "-calm")
	return scene, missed[scene]
}

// isMissed reports whether a leak or slow peer got no such verdict.
func (o *outcome) isMissed() bool {
	return o.want != o.got && (o.want == trendtest.Leak || o.want == trendtest.SlowPeer)
}

// TestTable checks that the table for the documentation is what the
// recordings give, and that it knows the reason of all that is missed;
// -update writes it.
func TestTable(t *testing.T) {
	const path = "verdicts.md"
	all := recordings(t)
	used := make(map[string]bool)
	outcomes := make([][]outcome, len(all))
	for i, r := range all {
		outcomes[i] = replay(r)
		for _, o := range outcomes[i] {
			if !o.isMissed() {
				continue
			}
			scene, reason := whyMissed(&o)
			if reason == "" {
				t.Errorf("%s: %s is %s, verdict %s, for no reason that is known", o.recording, o.subject, o.want, o.got)
			}
			used[scene] = true
		}
	}
	for scene := range missed {
		if !used[scene] {
			t.Errorf("%s is found: it is missed no more", scene)
		}
	}
	table := verdictTable(all, outcomes)
	if *update {
		if err := os.WriteFile(path, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(table, string(kept)); diff != "" {
		t.Errorf("%s (-want +got), go test -run Table -update:\n%s", path, diff)
	}
}

const (
	aboutTable = `# Verdicts

How the verdicts of this package fare on its recordings. This file is written by
a test (go test -run Table -update) and checked by it. Each owner of each
recording, and the host, counts once, with the gravest verdict that any of its
readings got: one reading that calls load a leak is a false alarm.

## Recordings

Those of the kernel are of real sockets and programs, read by the scanner; each
scene was recorded twice at the same time, with a reading every 5 s and every
30 s (-calm): two views of one event, not two events. The synthetic ones are
made by a simulator. Held-out recordings were chosen by name before the bounds
were set, and nobody looked at their verdicts until they were; held-out
synthetic ones share the simulator of the others, so they say less than those of
the kernel.

`
	aboutUploads = `
kernel-load-uploads was held out and no longer is. Its first recordings, and
those of kernel-load-full-queues, were called leak and slow-peer: their queues
are always full and always move, so they have the same size at each scan, and
the scanner took them for standing still. Since then it asks the kernel when
data last came or went. Both scenes were recorded anew since, and with them
kernel-leak-restart, kernel-leak-under-load, kernel-leak-unread,
kernel-load-restarts, kernel-slow-local and kernel-slow-small-window; the
recordings of the other scenes are from before that.
`
	aboutAlarms = `
## False alarms

The tests fail on any load, and anything that is none, that was called leak or
slow-peer.

Load that is called none, and what is none that is called load, is no alarm:
both mean that nothing is to be done about the owner. Load is only called that
when it grows by a third in twelve minutes, or holds a tenth of a pool that is
above its pressure limit; slow or short growth gets no verdict. The other way
round a busy owner that happens to grow may be called load though a person says
none.

Not in the recordings: a host on which thousands of queues are always full and
always move. The scanner asks the kernel only of the largest ones whether they
move, and takes the others for standing still; there a false alarm is possible.
`
)

func verdictTable(all []*trendtest.Recording, outcomes [][]outcome) string {
	type group struct {
		origin  trendtest.Origin
		heldOut bool
	}
	name := map[bool]string{false: "to tune by", true: "held out"}
	groups := []group{
		{trendtest.RealSockets, false},
		{trendtest.RealSockets, true},
		{trendtest.Synthetic, false},
		{trendtest.Synthetic, true},
	}
	matrices := make(map[group]matrix)
	counts := make(map[group]int)
	var rows, lost []outcome
	for i, r := range all {
		g := group{r.Origin, r.HeldOut}
		if matrices[g] == nil {
			matrices[g] = make(matrix)
		}
		counts[g]++
		for _, o := range outcomes[i] {
			matrices[g][[2]trendtest.Label{o.want, o.got}]++
			if o.isMissed() {
				lost = append(lost, o)
			}
			if o.want != trendtest.None || o.got != trendtest.None {
				rows = append(rows, o)
			}
		}
	}

	var w strings.Builder
	w.WriteString(aboutTable)
	w.WriteString("| origin | to tune by | held out | all |\n|---|---:|---:|---:|\n")
	for _, origin := range []trendtest.Origin{trendtest.RealSockets, trendtest.Synthetic} {
		tune, held := counts[group{origin, false}], counts[group{origin, true}]
		fmt.Fprintf(&w, "| %s | %d | %d | %d |\n", origin, tune, held, tune+held)
	}
	w.WriteString(aboutUploads)
	w.WriteString("\n## In short\n\n" +
		"| recordings | load or none | of them called leak or slow-peer | leaks found | slow peers found |\n|---|---:|---:|---:|---:|\n")
	for _, g := range groups {
		m := matrices[g]
		fmt.Fprintf(&w, "| %s, %s | %d | %d | %d of %d | %d of %d |\n", g.origin, name[g.heldOut], m.row(trendtest.Load)+m.row(trendtest.None), m.alarms(),
			m[[2]trendtest.Label{trendtest.Leak, trendtest.Leak}], m.row(trendtest.Leak),
			m[[2]trendtest.Label{trendtest.SlowPeer, trendtest.SlowPeer}], m.row(trendtest.SlowPeer))
	}
	w.WriteString("\n## Confusion matrices\n\nRows are what a person says, columns what the trend said.\n")
	for _, g := range groups {
		fmt.Fprintf(&w, "\n%s, %s: %d recordings\n\n", g.origin, name[g.heldOut], counts[g])
		matrices[g].markdown(&w)
	}
	w.WriteString(aboutAlarms)
	w.WriteString("\n## What is missed\n\n")
	lostBy := make(map[string][]string)
	reasons := make(map[string]string)
	for _, o := range lost {
		scene, reason := whyMissed(&o)
		lostBy[scene] = append(lostBy[scene], fmt.Sprintf("%s in %s, called %s", o.subject, o.recording, o.got))
		reasons[scene] = reason
	}
	for _, scene := range slices.Sorted(maps.Keys(lostBy)) {
		fmt.Fprintf(&w, "- %s (%s). %s\n", scene, strings.Join(lostBy[scene], "; "), reasons[scene])
	}
	w.WriteString("\n## Every owner and host that is something, or was called something\n\n" +
		"The time is from its begin to the right verdict.\n\n")
	w.WriteString("| recording | owner | labelled | verdict | after |\n|---|---|---|---|---:|\n")
	for _, o := range rows {
		after := ""
		if o.want == o.got {
			after = o.after.Round(time.Second).String()
		}
		fmt.Fprintf(&w, "| %s | %s | %s | %s | %s |\n", o.recording, o.subject, o.want, o.got, after)
	}
	return w.String()
}
