package disk

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func shelf(t *testing.T, dir string, maxFiles int, maxBytes int64) *Shelf {
	t.Helper()
	s, _, err := OpenShelf(dir, maxFiles, maxBytes, func(_ string, r io.Reader) (Rank, error) {
		data, err := io.ReadAll(r)
		if strings.HasPrefix(string(data), "bad") {
			return Rank{}, errors.New("bad")
		}
		at, parseErr := time.Parse(time.DateOnly, string(data[:min(10, len(data))]))
		return Rank{Time: at}, errors.Join(err, parseErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Shelf, id, day string, keep bool) (gone []string) {
	t.Helper()
	at, err := time.Parse(time.DateOnly, day)
	if err != nil {
		t.Fatal(err)
	}
	if gone, err = s.Write(id, []byte(day), Rank{Keep: keep, Time: at}); err != nil {
		t.Fatal(err)
	}
	return gone
}

func TestShelfOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shelf")
	s := shelf(t, dir, 3, 1<<20)
	put(t, s, "open", "2026-01-01", true)
	put(t, s, "b", "2026-01-03", false)
	put(t, s, "a", "2026-01-02", false)
	if gone := put(t, s, "b", "2026-01-04", false); gone != nil {
		t.Errorf("to write one anew, %v had to go", gone)
	}
	if diff := cmp.Diff([]string{"a"}, put(t, s, "c", "2026-01-05", false)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"b"}, put(t, s, "d", "2025-01-05", false)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	put(t, s, "e", "2026-01-05", true)
	if diff := cmp.Diff([]string{"c"}, put(t, s, "f", "2026-01-06", true)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Where all are to be kept, the oldest goes all the same.
	if diff := cmp.Diff([]string{"open"}, put(t, s, "g", "2026-01-06", true)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestShelfBroken(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.json": "2026-01-01", "b.json": "bad", "X.json": "bad", ".a.json123": "half", "note": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, broken, err := OpenShelf(dir, 3, 1<<20, func(_ string, r io.Reader) (Rank, error) {
		data, err := io.ReadAll(r)
		if string(data) == "bad" {
			err = errors.New("bad")
		}
		return Rank{Time: time.Unix(1, 0)}, err
	})
	if err != nil || !slices.Equal(broken, []string{"b.json"}) || !slices.Contains(s.IDs(), "a") {
		t.Errorf("%v, %v, %v", broken, err, s.IDs())
	}
	if _, err := os.Stat(filepath.Join(dir, "b.json.broken")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".a.json123")); err == nil {
		t.Error("a leftover stays")
	}
	// What is foreign or broken goes before what is good.
	put(t, s, "c", "2026-01-01", false)
	put(t, s, "d", "2026-01-01", false)
	if ids := s.IDs(); !slices.Contains(ids, "a") || !slices.Contains(ids, "d") {
		t.Error(ids)
	}
}

func TestShelfBytes(t *testing.T) {
	s := shelf(t, t.TempDir(), 100, 10*4096)
	for i := range 30 {
		put(t, s, string(rune('a'+i%26)), "2026-01-01", false)
	}
	if n := len(s.IDs()); n > 10 {
		t.Errorf("%d blocks", n)
	}
	if _, err := s.Write("long", make([]byte, 5000), Rank{}); err == nil {
		t.Error("too long: no error")
	}
}

func TestReplaceKeepsTheOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "file")
	if err := Replace(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := ReplaceWith(path, func(w io.Writer) error {
		_, err := w.Write([]byte("half"))
		return errors.Join(err, io.ErrUnexpectedEOF)
	}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	if data, err := ReadFile(path, 3); err != nil || string(data) != "old" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := ReadFile(path, 2); err == nil {
		t.Error("beyond the limit: no error")
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
