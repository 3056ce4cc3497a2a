package actions

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

func line(seq int) []byte {
	data, err := json.Marshal(record.Record{Version: 1, Seq: uint64(seq), ID: fmt.Sprint(seq), Kind: record.KindEvent, Event: &record.Event{Text: strings.Repeat("x", 200)}})
	if err != nil {
		panic(err)
	}
	return append(data, '\n')
}

func seqs(t *testing.T, l *Log, q Query) (list []int) {
	t.Helper()
	for rec, err := range l.Records(t.Context(), q, nil) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, int(rec.Seq))
	}
	return list
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, strings.TrimPrefix(e.Name(), Name))
	}
	return list
}

func rising(list []int) bool {
	for i := range list {
		if i > 0 && list[i] != list[i-1]+1 {
			return false
		}
	}
	return true
}

func TestRotate(t *testing.T) {
	dir := t.TempDir()
	l := New(dir, Options{MaxBytes: 50_000})
	const n = 400
	for i := range n {
		if err := l.Write(line(i + 1)); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 { // not every time: some stay plain for a while
			if err := l.Tidy(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Tidy(); err != nil {
		t.Fatal(err)
	}
	want := []string{""}
	for i := range keep {
		want = append(want, fmt.Sprintf(".%d.gz", i+1))
	}
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	list := seqs(t, l, Query{})
	if !rising(list) || list[len(list)-1] != n || len(list) < 100 {
		t.Errorf("%d records, %d to %d", len(list), list[0], list[len(list)-1])
	}
	back := seqs(t, l, Query{NewestFirst: true})
	slices.Reverse(back)
	if diff := cmp.Diff(list, back); diff != "" {
		t.Errorf("newest first (-want +got):\n%s", diff)
	}
	if tail, err := New(dir, Options{}).Tail(); err != nil || tail.Seq != n || !tail.Exists {
		t.Errorf("%+v, %v", tail, err)
	}
}

// What a crash between two steps of a rotation leaves is read once, and the
// next rotation goes on from it.
func TestRotateInterrupted(t *testing.T) {
	tests := map[string]func(t *testing.T, path string){
		"plain beside packed": func(t *testing.T, path string) {
			data, err := os.ReadFile(path + ".1.gz")
			if err != nil {
				t.Fatal(err)
			}
			plain := ""
			for l := range Lines(strings.NewReader(string(data)), false) {
				plain += string(l) + "\n"
			}
			if err := os.WriteFile(path+".1", []byte(plain), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a number unused": func(t *testing.T, path string) {
			for i := 3; i >= 1; i-- {
				if err := os.Rename(fmt.Sprintf("%s.%d.gz", path, i), fmt.Sprintf("%s.%d.gz", path, i+1)); err != nil {
					t.Fatal(err)
				}
			}
		},
		"no file to write to": func(t *testing.T, path string) {
			for i := 3; i >= 1; i-- {
				if err := os.Rename(fmt.Sprintf("%s.%d.gz", path, i), fmt.Sprintf("%s.%d.gz", path, i+1)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Rename(path, path+".1"); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, breakIt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := New(dir, Options{MaxBytes: 50_000})
			next := 1
			for ; len(names(t, dir)) < 4; next++ {
				if err := errors.Join(l.Write(line(next)), l.Tidy()); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			breakIt(t, filepath.Join(dir, Name))
			l = New(dir, Options{MaxBytes: 50_000})
			if list := seqs(t, l, Query{}); !rising(list) || len(list) != next-1 {
				t.Errorf("%d of %d records: %v", len(list), next-1, list)
			}
			for range 60 {
				if err := errors.Join(l.Write(line(next)), l.Tidy()); err != nil {
					t.Fatal(err)
				}
				next++
			}
			if list := seqs(t, l, Query{}); !rising(list) || len(list) != next-1 {
				t.Errorf("then %d of %d records", len(list), next-1)
			}
		})
	}
}

// A packed file that is damaged costs itself.
func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	l := New(dir, Options{MaxBytes: 50_000})
	n := 0
	for ; len(names(t, dir)) < 4; n++ {
		if err := errors.Join(l.Write(line(n+1)), l.Tidy()); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, Name+".2.gz")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, newest := range []bool{false, true} {
		count := 0
		var skipped *SkippedError
		for _, err := range l.Records(t.Context(), Query{NewestFirst: newest}, nil) {
			if err != nil {
				if !errors.As(err, &skipped) {
					t.Error(err)
				}
				continue
			}
			count++
		}
		if skipped == nil || skipped.Files != 1 || count <= n/2 || count >= n {
			t.Errorf("%v, %d of %d records", skipped, count, n)
		}
	}
	if tail, err := New(dir, Options{}).Tail(); err != nil || tail.Seq != uint64(n) || tail.Skipped.Files != 1 {
		t.Errorf("%+v, %v", tail, err)
	}
}

// Whatever the file holds: no panic, and the same records from both ends.
func FuzzRecords(f *testing.F) {
	f.Add(line(1))
	f.Add(append(line(1), `{"version":1,"seq":2,"id":"x","kind":"intent","action":"a","intent":{}}`+"\nhalf"...))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Add([]byte("\n\n{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, Name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		l := New(dir, Options{MaxBytes: 1 << 20})
		if _, err := l.Tail(); err != nil {
			t.Fatal(err)
		}
		var list [2][]string
		broken := false
		for i, newest := range []bool{false, true} {
			for rec, err := range l.Records(t.Context(), Query{NewestFirst: newest}, nil) {
				if skipped, ok := errors.AsType[*SkippedError](err); ok {
					broken = broken || skipped.Files > 0
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				list[i] = append(list[i], fmt.Sprint(rec.Seq, rec.ID))
			}
		}
		slices.Reverse(list[1])
		if diff := cmp.Diff(list[0], list[1]); diff != "" && !broken {
			t.Fatalf("(-oldest +newest first):\n%s", diff)
		}
	})
}

// halfFile takes half of what is written, once full.
type halfFile struct {
	osFile
	full *bool
}

func (f halfFile) Write(b []byte) (int, error) {
	if !*f.full {
		return f.File.Write(b)
	}
	n, err := f.File.Write(b[:len(b)/2])
	return n, errors.Join(err, unix.ENOSPC)
}

// What a failed write left is gone before anybody reads it, or a next start
// takes it for the trace of a crash.
func TestFailedWriteLeavesNothing(t *testing.T) {
	dir, full := t.TempDir(), false
	l := New(dir, Options{MaxBytes: 1 << 20, OpenFile: func(path string) (File, error) {
		f, err := openFile(path)
		if err != nil {
			return nil, err
		}
		return halfFile{f.(osFile), &full}, nil
	}})
	if err := l.Write(line(1)); err != nil {
		t.Fatal(err)
	}
	full = true
	if err := l.Write(slices.Concat(line(2), line(3), line(4))); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, Name)); err != nil || string(data) != string(line(1)) {
		t.Errorf("%q, %v", data, err)
	}
}

// A full set with a number unused: the oldest file need not go yet.
func TestRotateFillsGap(t *testing.T) {
	dir := t.TempDir()
	l := New(dir, Options{MaxBytes: 50_000})
	next := 1
	write := func() {
		if err := errors.Join(l.Write(line(next)), l.Tidy()); err != nil {
			t.Fatal(err)
		}
		next++
	}
	for len(names(t, dir)) < keep+1 {
		write()
	}
	if err := os.Remove(filepath.Join(dir, Name+".3.gz")); err != nil {
		t.Fatal(err)
	}
	for len(names(t, dir)) < keep+1 {
		write()
		if next > 1000 {
			t.Fatalf("the number stays unused: %v", names(t, dir))
		}
	}
	if list := seqs(t, l, Query{Limit: 1}); list[0] != 1 {
		t.Errorf("the oldest is %d", list[0])
	}
}

// A log that was allowed more is brought within its bound.
func TestLoweredBound(t *testing.T) {
	dir := t.TempDir()
	l := New(dir, Options{MaxBytes: 1 << 20})
	for i := range 3000 {
		rec := fmt.Sprintf(`{"version":1,"seq":%d,"id":"%x","kind":"event"}`, i+1, rand.Text()+rand.Text()+rand.Text())
		if err := errors.Join(l.Write([]byte(rec+"\n")), l.Tidy()); err != nil {
			t.Fatal(err)
		}
	}
	l = New(dir, Options{MaxBytes: 100 << 10})
	if err := errors.Join(l.Write(line(3001)), l.Tidy(), l.Write(line(3002)), l.Tidy()); err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, name := range names(t, dir) {
		info, err := os.Stat(filepath.Join(dir, Name+name))
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	if list := seqs(t, l, Query{NewestFirst: true}); sum > 100<<10 || list[0] != 3002 || list[1] != 3001 {
		t.Errorf("%d bytes, from %d", sum, list[0])
	}
}
