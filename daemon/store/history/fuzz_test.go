package history

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Whatever a segment holds: no panic, no endless reading, and what was read is
// bounded by what a daemon writes.
func FuzzReadSegment(f *testing.F) {
	dir, h := f.TempDir(), newHost(2)
	r := openRing(f, dir, 32<<20)
	for s := range 6 {
		mustAppend(f, r, h.entry(s, 2))
	}
	whole, err := os.ReadFile(filepath.Join(dir, "fine-00000001.seg"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "fine-00000001.seg"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		n := 0
		for e := range Read(Dir(dir), time.Time{}, time.Time{}) {
			if e != nil && e.Reading != nil && len(e.Reading.Owners) > maxOwners+maxVerdicts {
				t.Fatalf("%d owners", len(e.Reading.Owners))
			}
			n++
		}
		if n > len(data) {
			t.Fatalf("%d entries in %d bytes", n, len(data))
		}
		ring, _ := Open(dir, 32<<20) // what is damaged was told
		if err := ring.Append(newHost(1).entry(9, 1)); err != nil {
			t.Fatal(err)
		}
	})
}

// A payload of its own: the checksum keeps a fuzzer from getting so far.
func FuzzDecodeEntry(f *testing.F) {
	s, h := newShapes(), newHost(2)
	enc := newEncoder(s)
	head, err := enc.header(fine, 1, stamp(0))
	if err != nil {
		f.Fatal(err)
	}
	for i := range 3 {
		b, err := enc.entry(1, h.entry(i, 1))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[8:])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		d, err := newDecoder(s, head[8:])
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, e, err := d.entry(payload); err == nil && e == nil {
				t.Fatal("neither an entry nor an error")
			}
		}
	})
}
