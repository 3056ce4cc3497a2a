package layout

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

func TestShorten(t *testing.T) {
	for _, tt := range []struct {
		s           string
		w           int
		middle, end string
	}{
		{"task-queue.service", 18, "task-queue.service", "task-queue.service"},
		{"task-queue.service", 9, "task…vice", "task-que…"},
		{"ab", 1, "…", "…"},
		{"ab", 0, "", ""},
		{"漢字の名前", 6, "漢…前", "漢字…"},
		{"e\u0301e\u0301e\u0301e\u0301", 3, "e\u0301…e\u0301", "e\u0301e\u0301…"},
		{"owned 98%, orphan", 11, "owned…rphan", "owned 98%…"},
	} {
		if diff := cmp.Diff([]string{tt.middle, tt.end}, []string{ShortenMiddle(tt.s, tt.w), ShortenEnd(tt.s, tt.w)}); diff != "" {
			t.Errorf("%q to %d: (-want +got)\n%s", tt.s, tt.w, diff)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		s    string
		w    int
		want []string
	}{
		{"one two", 0, []string{"one two"}},
		{"one two", 7, []string{"one two"}},
		{"one two three", 7, []string{"one two", "  three"}},
		{"one   two three", 9, []string{"one   two", "  three"}},
		{"    one two", 7, []string{"    one", "  two"}},
		{"unbreakable words", 4, []string{"unbreakable", "  words"}},
		{"\x1b[1mone\x1b[0m two", 7, []string{"\x1b[1mone\x1b[0m two"}},
	} {
		if diff := cmp.Diff(tt.want, Wrap(tt.s, tt.w, "  ")); diff != "" {
			t.Errorf("%q in %d: (-want +got)\n%s", tt.s, tt.w, diff)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"", "a\x1b[31m\n", "\xff\u202e漢e\u0301", `\`} {
		f.Add(seed, 7)
	}
	f.Fuzz(func(t *testing.T, s string, w int) {
		safe := prose.Escape(s)
		if strings.ContainsFunc(safe, func(r rune) bool { return !prose.Visible(r) }) || !utf8.ValidString(safe) {
			t.Fatalf("escape(%q) = %q", s, safe)
		}
		w = max(0, w%200)
		for _, short := range []string{ShortenMiddle(safe, w), ShortenEnd(safe, w)} {
			if Width(short) > w || !utf8.ValidString(short) {
				t.Fatalf("%q shortened to %d columns is %q", safe, w, short)
			}
		}
		var words []string
		for _, line := range Wrap(safe, w, "  ") {
			words = append(words, strings.Fields(line)...)
		}
		if got, want := strings.Join(words, " "), strings.Join(strings.Fields(safe), " "); got != want {
			t.Fatalf("wrap(%q, %d) loses words: %q", safe, w, got)
		}
	})
}

func TestLongNamesTakeLinearTime(t *testing.T) {
	long := strings.Repeat("ab cd\x1b ", 100_000)
	started := time.Now()
	safe := prose.Escape(long)
	Wrap(safe, 80, "  ")
	ShortenMiddle(safe, 20)
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("%d bytes took %s", len(long), took)
	}
}
