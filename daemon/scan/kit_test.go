package scan_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	runIfHelper()
	goleak.VerifyTestMain(m)
}

// The machine may have other work: what these tests say of an owner rests on
// processes, cgroups and namespaces of their own. Checks of the whole host may
// always come out unsure; "never a mismatch" holds for each single scan, and
// "all ok" for one of several.

// open returns a scanner of this host.
func open(t *testing.T) *scan.Scanner {
	t.Helper()
	return openWith(t, scan.Config{})
}

func openWith(t *testing.T, cfg scan.Config) *scan.Scanner {
	t.Helper()
	require.Root(t)
	cfg.Log = slog.New(slog.DiscardHandler)
	s, err := scan.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// read scans as for a person who waits, and holds the ledger to what is true
// of every reading: it balances, and no check says mismatch.
func read(t *testing.T, s *scan.Scanner) *reading.Reading {
	t.Helper()
	return readWith(t, s, scan.Options{Thorough: true})
}

// readHidden reads until hidden sockets of an owner were looked for. Flows of
// other work blur the sums that ask for it, so the first scan need not.
func readHidden(t *testing.T, s *scan.Scanner, key string) *reading.Reading {
	t.Helper()
	for range 20 {
		r := read(t, s)
		if o, _ := lookOwner(r, key); o.Classes[reading.Hidden].Sockets > 0 {
			return r
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the hidden sockets of %s are not looked for", key)
	return nil
}

func readWith(t *testing.T, s *scan.Scanner, o scan.Options) *reading.Reading {
	t.Helper()
	r, err := s.Scan(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, r)
	for _, c := range r.Ledger.Checks {
		if c.Status == reading.CheckMismatch && !foreign(t, s, c) {
			t.Errorf("check %+v", c)
		}
	}
	return r
}

// steady reads while the truth stands still: full queues go on moving now and
// then, by a probe of the closed window. It returns the reading and the truth.
func steady[T comparable](t *testing.T, s *scan.Scanner, truth func() T) (*reading.Reading, T) {
	t.Helper()
	before := truth()
	for range 20 {
		r := read(t, s)
		after := truth()
		if before == after {
			return r, after
		}
		before = after
	}
	t.Fatal("what was built does not come to rest")
	return nil, before
}

// steadyBuilt is steady for sockets that children hold.
func steadyBuilt(t *testing.T, s *scan.Scanner, all ...made) *reading.Reading {
	t.Helper()
	r, _ := steady(t, s, func() [reading.NumClasses]reading.Tally {
		var built []*scene.Built
		for _, m := range all {
			refresh(t, m.c, m.b)
			built = append(built, m.b)
		}
		return sums(built...)
	})
	return r
}

// made is what a child has of a scene.
type made struct {
	c *scene.Child
	b *scene.Built
}

// foreign: other work on this machine has sockets in a namespace that nobody can
// reach, as TestNamespaceKeptBy has. That is a true mismatch, and not this
// test's, whose own sockets are checked one by one: the next scans miss about
// as much. Only the count of a namespace that was dumped is never excused.
func foreign(t *testing.T, s *scan.Scanner, c reading.Check) bool {
	t.Helper()
	missing := c.After - c.Seen
	if c.Name == "inuse" || missing <= c.Tolerance {
		return false
	}
	for range 2 {
		r, err := s.Scan(t.Context(), scan.Options{Thorough: true})
		do(t, "scan", err)
		if again := check(t, r, c.Name); max(again.Before, again.After)-again.Seen < missing*9/10 {
			return false
		}
	}
	t.Logf("other work is out of sight: %+v", c)
	return true
}

// checkSums: owners, classes and evidence sum up to what was seen.
func checkSums(t *testing.T, r *reading.Reading) {
	t.Helper()
	var owners, classes, evidence int64
	for _, o := range r.Owners {
		owners += o.Sum.Bytes
		for _, e := range o.Evidence {
			evidence += e.Bytes
		}
	}
	for _, c := range r.Ledger.Classes {
		classes += c.Bytes
	}
	if owners != r.Ledger.Seen || classes != r.Ledger.Seen || evidence != r.Ledger.Seen {
		t.Errorf("the ledger does not balance: owners %d, classes %d, evidence %d, seen %d",
			owners, classes, evidence, r.Ledger.Seen)
	}
	if r.Ledger.Named > r.Ledger.Seen || r.Ledger.Coverage < 0 || r.Ledger.Coverage > 1 {
		t.Errorf("named %d of %d seen, coverage %v", r.Ledger.Named, r.Ledger.Seen, r.Ledger.Coverage)
	}
}

// owner finds an owner by its key.
func owner(t *testing.T, r *reading.Reading, key string) reading.Owner {
	t.Helper()
	if o, ok := lookOwner(r, key); ok {
		return o
	}
	for _, o := range r.Owners[:min(len(r.Owners), 10)] {
		t.Logf("owner %s: %v, holders %v", o.Key, named(o.Classes), o.Holders)
	}
	t.Fatalf("there is no owner %s; gaps %+v", key, r.Gaps)
	return reading.Owner{}
}

func lookOwner(r *reading.Reading, key string) (reading.Owner, bool) {
	i := slices.IndexFunc(r.Owners, func(o reading.Owner) bool { return o.Key == key })
	if i < 0 {
		return reading.Owner{}, false
	}
	return r.Owners[i], true
}

// processKey is the key of a process that no unit or container names.
func processKey(t *testing.T, pid int) string {
	t.Helper()
	return fmt.Sprintf("process/%d/%d", pid, startTime(t, pid))
}

// startTime is field 22 of /proc/PID/stat. The command in field 2 may be
// anything: the fields are counted from its last bracket.
func startTime(t *testing.T, pid int) uint64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	n, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// evidence says which classes are known by what.
type evidence map[reading.Evidence][]reading.Class

var heldByFD = evidence{reading.FD: {reading.Owned, reading.Hidden}}

// want is who must own what was built, and how that must be known.
type want struct {
	kind     reading.Kind
	unit     string
	classes  [reading.NumClasses]reading.Tally
	evidence evidence
}

// wantProcess is the usual case: a process holds all of it.
func wantProcess(built ...*scene.Built) want {
	return want{kind: reading.KindProcess, classes: sums(built...), evidence: heldByFD}
}

// checkOwner compares an owner of a reading with what was built, to the byte.
func checkOwner(t *testing.T, r *reading.Reading, key string, w want) reading.Owner {
	t.Helper()
	o := owner(t, r, key)
	if o.Kind != w.kind || o.Unit != w.unit {
		t.Errorf("%s is a %s of unit %q, want a %s of unit %q", key, o.Kind, o.Unit, w.kind, w.unit)
	}
	if diff := cmp.Diff(named(w.classes), named(o.Classes)); diff != "" {
		t.Errorf("classes of %s (-built +found):\n%s", key, diff)
	}
	var by [reading.NumEvidence]reading.Tally
	for e, classes := range w.evidence {
		for _, c := range classes {
			by[e].Add(w.classes[c].Sockets, w.classes[c].Bytes)
		}
	}
	if diff := cmp.Diff(namedEvidence(by), namedEvidence(o.Evidence)); diff != "" {
		t.Errorf("evidence for %s (-want +got):\n%s", key, diff)
	}
	var sum reading.Tally
	for _, c := range w.classes {
		sum.Add(c.Sockets, c.Bytes)
	}
	if o.Sum != sum || o.Receive+o.Send+o.Reserved != sum.Bytes {
		t.Errorf("%s holds %+v (%d + %d + %d bytes), built %+v", key, o.Sum, o.Receive, o.Send, o.Reserved, sum)
	}
	return o
}

// sums adds up what several processes have.
func sums(built ...*scene.Built) (classes [reading.NumClasses]reading.Tally) {
	for _, b := range built {
		for c, t := range b.Tally() {
			classes[c].Add(t.Sockets, t.Bytes)
		}
	}
	return classes
}

// only leaves out the other classes.
func only(classes [reading.NumClasses]reading.Tally, keep ...reading.Class) (out [reading.NumClasses]reading.Tally) {
	for _, c := range keep {
		out[c] = classes[c]
	}
	return out
}

// named makes differences readable.
func named(classes [reading.NumClasses]reading.Tally) map[string]string {
	m := map[string]string{}
	for c, t := range classes {
		if t.Sockets != 0 {
			m[reading.Class(c).String()] = fmt.Sprintf("%d sockets, %d bytes", t.Sockets, t.Bytes)
		}
	}
	return m
}

func namedEvidence(by [reading.NumEvidence]reading.Tally) map[string]string {
	m := map[string]string{}
	for e, t := range by {
		if t.Sockets != 0 {
			m[reading.Evidence(e).String()] = fmt.Sprintf("%d sockets, %d bytes", t.Sockets, t.Bytes)
		}
	}
	return m
}

// holderPIDs are the processes that a reading names as holders of an owner.
func holderPIDs(o reading.Owner) []int {
	var pids []int
	for _, h := range o.Holders {
		pids = append(pids, h.PID)
	}
	slices.Sort(pids)
	return pids
}

func hasGap(r *reading.Reading, code string) (reading.Gap, bool) {
	i := slices.IndexFunc(r.Gaps, func(g reading.Gap) bool { return g.Code == code })
	if i < 0 {
		return reading.Gap{}, false
	}
	return r.Gaps[i], true
}

// check finds a check of the whole host.
func check(t *testing.T, r *reading.Reading, name string) reading.Check {
	t.Helper()
	for _, c := range r.Ledger.Checks {
		if c.Name == name && c.Scope == "host" {
			return c
		}
	}
	t.Fatalf("there is no check %s", name)
	return reading.Check{}
}

// rows collects what Sockets lists of the sockets that keep takes.
func rows(t *testing.T, s *scan.Scanner, keep func(*reading.Socket) bool) []reading.Socket {
	t.Helper()
	var list []reading.Socket
	err := s.Sockets(t.Context(), func(sock *reading.Socket) error {
		if keep(sock) {
			list = append(list, *sock)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// start starts a child in the cgroup of the tests, which names no unit.
func start(t *testing.T) *scene.Child {
	t.Helper()
	require.Root(t)
	return scene.StartT(t, scene.ChildOptions{})
}

// across builds between two processes.
func across(t *testing.T, dialer, acceptor *scene.Child, spec scene.Spec) (dialed, accepted *scene.Built) {
	t.Helper()
	dialed, accepted, err := scene.Across(t.Context(), dialer, acceptor, spec)
	if err != nil {
		t.Fatal(err)
	}
	return dialed, accepted
}

// refresh reads the truth once more.
func refresh(t *testing.T, c *scene.Child, b *scene.Built) {
	t.Helper()
	if err := c.Refresh(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func do(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
