package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
)

// The last lines cut short at every byte: what was whole stays, the rest is
// set aside, numbers go on.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	for i := range 2 {
		s.Append(event(fmt.Sprint(i)), nil)
	}
	closeStore(t, s)
	path := filepath.Join(dir, actions.Name)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		lines := bytes.Count(whole[:cut], []byte("\n"))
		torn := whole[bytes.LastIndexByte(whole[:cut], '\n')+1 : cut]
		s := open(t, dir, Options{})
		if got := len(s.Findings()); got != min(len(torn), 1) {
			t.Fatalf("cut at %d: %v", cut, s.Findings())
		}
		if len(torn) > 0 {
			if kept, err := os.ReadFile(filepath.Join(dir, "actions.torn")); err != nil || !bytes.Equal(kept, torn) {
				t.Fatalf("cut at %d: kept %q, %v", cut, kept, err)
			}
		}
		s.Append(event("next"), nil)
		list := records(t, s, actions.Query{})
		if len(list) != lines+1 || list[lines].Seq != uint64(lines)+1 {
			t.Fatalf("cut at %d: %v", cut, ids(list))
		}
		closeStore(t, s)
	}
}

func TestGarbageInLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	s.Append(intent("a"), nil)
	closeStore(t, s)
	path := filepath.Join(dir, actions.Name)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	garbage := []string{
		"garbage", "\x00\x00\x00", "{}", `{"version":1}`, `{"version":9,"seq":5,"kind":"intent"}`, `[1]`, "null",
		`{"version":1,"seq":18446744073709551615,"kind":"event"}`, `{"version":1,"seq":"x","kind":"result","action":"a"}`,
		`{"version":1,"seq":-3,"kind":"result","action":"a"}`, strings.Repeat("[", 100000), strings.Repeat("x", 3<<20), "",
	}
	if _, err := f.WriteString(strings.Join(garbage, "\n") + "\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s = open(t, dir, Options{})
	if diff := cmp.Diff([]string{"log-unreadable actions.jsonl"}, codes(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"i-a"}, ids(s.Unfinished())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.Append(result("a"), nil)
	for _, newest := range []bool{false, true} {
		var got []string
		var skipped *actions.SkippedError
		for rec, err := range s.Records(t.Context(), actions.Query{NewestFirst: newest}) {
			if err != nil {
				if !errors.As(err, &skipped) {
					t.Error(err)
				}
				continue
			}
			got = append(got, fmt.Sprint(rec.Seq, rec.ID))
		}
		// The line of 3 MB and the empty one are no lines at all.
		if skipped == nil || skipped.Lines != 11 || len(got) != 2 {
			t.Errorf("%v, %v", skipped, got)
		}
	}
}

// A log that somebody removed is begun anew, and no record is lost in it.
func TestLogRemovedByHand(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	if err := appendWait(t, s, event("a")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, actions.Name)); err != nil {
		t.Fatal(err)
	}
	if err := appendWait(t, s, event("b")); err != nil {
		t.Fatal(err)
	}
	if list := records(t, s, actions.Query{}); len(list) != 1 || list[0].Seq != 2 {
		t.Errorf("%v", list)
	}
}
