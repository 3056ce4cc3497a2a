package history

import (
	"fmt"
	"testing"
	"time"
)

// copied is what somebody gets who asks for what was taken since then.
func copied(t *testing.T, from Segments, since time.Time) Copies {
	t.Helper()
	all := Copies{}
	for s, err := range Copy(from, since) {
		if err != nil {
			t.Fatal(err)
		}
		if err := all.Add(s.Name, s.Data); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestCopy: a copy tells what the folder tells, and is no larger than it need
// be.
func TestCopy(t *testing.T) {
	dir, h := t.TempDir(), newHost(3)
	r := openRing(t, dir, 32<<20)
	const hours = 10
	for s := range hours * 3600 / 10 {
		mustAppend(t, r, h.entry(10*s, 60))
	}
	for _, since := range []time.Time{{}, stamp(3600).At, stamp(hours*3600 - 600).At, stamp(hours*3600 - 5).At, stamp(hours * 7200).At} {
		copies := copied(t, Dir(dir), since)
		want, got := collect(t, dir, since, time.Time{}), collectFrom(t, copies, since, time.Time{})
		if n := len(want); len(got) != n || n > 0 && diff(want[:1], got[:1]) != "" || n > 0 && diff(want[n-1], got[n-1]) != "" {
			t.Errorf("since %v: %d entries in the folder, %d in the copy, or others", since, n, len(got))
		}
		if all := copied(t, Dir(dir), time.Time{}); since.After(stamp(3600).At) && len(copies) >= len(all) {
			t.Errorf("since %v: all %d segments are copied", since, len(all))
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// vanishing is a folder whose files go away after they were listed.
type vanishing struct{ Segments }

func (v vanishing) List() ([]string, error) {
	names, err := v.Segments.List()
	return append(names, "coarse-00000099.seg", "coarse-00000100.seg.gz", "fine-00000099.seg"), err
}

func TestCopyOfWhatGoesAway(t *testing.T) {
	dir, h := t.TempDir(), newHost(1)
	r := openRing(t, dir, 32<<20)
	mustAppend(t, r, h.entry(0, 1))
	if got := copied(t, vanishing{Dir(dir)}, time.Time{}); len(got) != 1 {
		t.Errorf("%d segments, want 1", len(got))
	}
	if got := copied(t, Dir(t.TempDir()+"/none"), time.Time{}); len(got) != 0 {
		t.Errorf("%d segments of a folder that does not exist", len(got))
	}
}

// TestCopiesAreBounded: they may come from anybody.
func TestCopiesAreBounded(t *testing.T) {
	for _, name := range []string{"", "fine-1.seg", "../fine-00000001.seg", "actions.jsonl", "fine-00000001.seg.gz.gz"} {
		if err := (Copies{}).Add(name, nil); err == nil {
			t.Errorf("%q is taken for a segment", name)
		}
	}
	name := func(i int) string { return fmt.Sprintf("fine-%08d.seg", i) }
	if err := (Copies{}).Add(name(1), make([]byte, maxCopiedFile+1)); err == nil {
		t.Error("a segment may be of any size")
	}
	all, big := Copies{}, make([]byte, maxCopiedFile)
	n := 0
	for ; all.Add(name(n), big) == nil; n++ {
		if n > maxCopied/maxCopiedFile {
			t.Fatal("segments may be of any size together")
		}
	}
	for all, n = (Copies{}), 0; all.Add(name(n), nil) == nil; n++ {
		if n > 2*maxSegments {
			t.Fatal("there may be any number of segments")
		}
	}
}
