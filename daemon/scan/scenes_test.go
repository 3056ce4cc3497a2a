package scan_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	goleak.VerifyTestMain(m)
}

var _ = os.Exit

// open returns a scanner of this host.
func open(t *testing.T) *scan.Scanner {
	t.Helper()
	require.Root(t)
	s, err := scan.Open(t.Context(), scan.Config{})
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

func read(t *testing.T, s *scan.Scanner) *reading.Reading {
	t.Helper()
	r, err := s.Scan(t.Context(), scan.Options{Thorough: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ownerOf finds the owner that a process holds for.
func ownerOf(t *testing.T, r *reading.Reading, pid int) reading.Owner {
	t.Helper()
	for _, o := range r.Owners {
		if slices.ContainsFunc(o.Holders, func(h reading.Holder) bool { return h.PID == pid }) {
			return o
		}
	}
	for _, o := range r.Owners {
		t.Logf("owner %s: %d sockets, %d bytes, holders %v", o.Key, o.Sum.Sockets, o.Sum.Bytes, o.Holders)
	}
	t.Fatalf("no owner is held by pid %d; gaps %+v", pid, r.Gaps)
	return reading.Owner{}
}

func sums(b ...*scene.Built) (classes [reading.NumClasses]reading.Tally) {
	for _, b := range b {
		for c, t := range b.Tally() {
			classes[c].Add(t.Sockets, t.Bytes)
		}
	}
	return classes
}

// checkLedger holds for every reading of a quiet host.
func checkLedger(t *testing.T, r *reading.Reading) {
	t.Helper()
	var owners, classes int64
	for _, o := range r.Owners {
		owners += o.Sum.Bytes
	}
	for _, c := range r.Ledger.Classes {
		classes += c.Bytes
	}
	if owners != r.Ledger.Seen || classes != r.Ledger.Seen {
		t.Errorf("the ledger does not balance: owners %d, classes %d, seen %d", owners, classes, r.Ledger.Seen)
	}
	for _, c := range r.Ledger.Checks {
		if c.Status == reading.CheckMismatch {
			t.Errorf("check %+v", c)
		}
	}
}

// Each scene is one process with one kind of sockets: owner, class, evidence
// and bytes must be what was built.
func TestScenes(t *testing.T) {
	require.Root(t)
	for _, tc := range []struct {
		name     string
		spec     scene.Spec
		evidence []reading.Evidence
	}{
		{"idle", scene.Spec{Kind: scene.Idle, Pairs: 5}, []reading.Evidence{reading.FD}},
		{"unread v4", scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 9000}, []reading.Evidence{reading.FD}},
		{"unread v6", scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 9000, Family: scene.IPv6}, []reading.Evidence{reading.FD}},
		{"unread mapped", scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 9000, Family: scene.Mapped}, []reading.Evidence{reading.FD}},
		{"unsent", scene.Spec{Kind: scene.Unsent, Pairs: 5, SendBuffer: 1 << 17}, []reading.Evidence{reading.FD}},
		{"close-wait", scene.Spec{Kind: scene.CloseWait, Pairs: 20, Bytes: 5000}, []reading.Evidence{reading.FD}},
		{"fin-wait-2", scene.Spec{Kind: scene.FinWait2, Pairs: 20, Bytes: 5000}, []reading.Evidence{reading.FD}},
		{"unaccepted", scene.Spec{Kind: scene.Unaccepted, Pairs: 20, Bytes: 5000}, []reading.Evidence{reading.FD, reading.Listener}},
		{"unaccepted wildcard v6", scene.Spec{Kind: scene.Unaccepted, Pairs: 5, Bytes: 5000, Wildcard: true, Family: scene.IPv6}, []reading.Evidence{reading.FD, reading.Listener}},
		{"unaccepted mapped", scene.Spec{Kind: scene.Unaccepted, Pairs: 5, Bytes: 5000, Wildcard: true, Family: scene.Mapped}, []reading.Evidence{reading.FD, reading.Listener}},
		{"unaccepted finished", scene.Spec{Kind: scene.Unaccepted, Pairs: 5, Bytes: 5000, Finish: true}, []reading.Evidence{reading.FD, reading.Listener}},
		{"hidden", scene.Spec{Kind: scene.Hidden, Pairs: 200, Bytes: 20000}, []reading.Evidence{reading.FD}},
		{"hidden by fin", scene.Spec{Kind: scene.Hidden, Pairs: 200, Bytes: 20000, Finish: true}, []reading.Evidence{reading.FD}},
		{"mptcp", scene.Spec{Kind: scene.Unread, Pairs: 5, Bytes: 50000, MPTCP: true}, []reading.Evidence{reading.FD}},
		{"listening", scene.Spec{Kind: scene.Listening, Pairs: 3}, []reading.Evidence{reading.FD}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := open(t)
			c := scene.StartT(t, scene.ChildOptions{Comm: "task-queue"})
			b := scene.BuildT(t, c, tc.spec)
			r := read(t, s)
			checkLedger(t, r)
			o := ownerOf(t, r, c.PID())
			if diff := cmp.Diff(named(sums(b)), named(o.Classes)); diff != "" {
				t.Errorf("classes (-built +found):\n%s", diff)
			}
			var evidence []reading.Evidence
			for e, n := range o.Evidence {
				if n.Sockets > 0 {
					evidence = append(evidence, reading.Evidence(e))
				}
			}
			if diff := cmp.Diff(tc.evidence, evidence); diff != "" {
				t.Errorf("evidence (-want +got):\n%s", diff)
			}
			if o.Kind != reading.KindProcess || o.Command == "" {
				t.Errorf("owner is %s %q, command %q; want a process", o.Kind, o.Name, o.Command)
			}
		})
	}
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

var _ context.Context
