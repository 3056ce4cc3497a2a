package cli

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestEscape(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"nginx", "nginx"},
		{"a b", "a b"},
		{"\x1b[31m", `\x1b[31m`},
		{"a\nb\tc\rd\x00\x7f", `a\nb\tc\x0dd\x00\x7f`},
		{"\u009b1m", `\u009b1m`},
		{"\u202e\u2066\u2028\ufeff\u00a0", `\u202e\u2066\u2028\ufeff\u00a0`},
		{"\xff\xef", `\xff\xef`},
		{"\ufffd", "\ufffd"},
		{`\x1b`, `\\x1b`},
		{"\U000e0041", `\U000e0041`},
		{"漢字 e\u0301 🐙", "漢字 e\u0301 🐙"},
	} {
		if got := escape(tt.name); got != tt.want {
			t.Errorf("escape(%q) = %s, want %s", tt.name, got, tt.want)
		}
	}
}

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
		if diff := cmp.Diff([]string{tt.middle, tt.end}, []string{shortenMiddle(tt.s, tt.w), shortenEnd(tt.s, tt.w)}); diff != "" {
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
		if diff := cmp.Diff(tt.want, wrap(tt.s, tt.w, "  ")); diff != "" {
			t.Errorf("%q in %d: (-want +got)\n%s", tt.s, tt.w, diff)
		}
	}
}

func TestUnits(t *testing.T) {
	var got []string
	for _, n := range []int64{0, 1023, 1024, 1536, 1<<20 - 1, 1 << 20, -4096, 5 << 40, 1<<63 - 1, -1 << 63} {
		got = append(got, formatBytes(n))
	}
	want := []string{"0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "-4.0 KiB", "5.0 TiB", "8.0 EiB", "-8.0 EiB"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("bytes: (-want +got)\n%s", diff)
	}
	got = nil
	for _, f := range []float64{1, 0.9999, 0.998, 0, 1.2} {
		got = append(got, formatCoverage(f))
	}
	if diff := cmp.Diff([]string{"100 %", "99.9 %", "99.8 %", "0.0 %", "100 %"}, got); diff != "" {
		t.Errorf("coverage: (-want +got)\n%s", diff)
	}
	got = nil
	for _, d := range []time.Duration{0, 90 * time.Second, 3 * time.Minute, 80 * time.Minute, 3*time.Hour + 5*time.Minute, 4 * time.Hour, 100 * time.Hour} {
		got = append(got, formatDuration(d))
	}
	if diff := cmp.Diff([]string{"0 ms", "90 s", "3 min", "80 min", "3 h 5 min", "4 h", "4 days"}, got); diff != "" {
		t.Errorf("durations: (-want +got)\n%s", diff)
	}
	if got := formatSeconds(1e300); got != "36500 days" {
		t.Errorf("formatSeconds(1e300) = %s", got)
	}
}

func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"", "a\x1b[31m\n", "\xff\u202e漢e\u0301", `\`} {
		f.Add(seed, 7)
	}
	f.Fuzz(func(t *testing.T, s string, w int) {
		safe := escape(s)
		if strings.ContainsFunc(safe, func(r rune) bool { return !visible(r) }) || !utf8.ValidString(safe) {
			t.Fatalf("escape(%q) = %q", s, safe)
		}
		w = max(0, w%200)
		for _, short := range []string{shortenMiddle(safe, w), shortenEnd(safe, w)} {
			if textWidth(short) > w || !utf8.ValidString(short) {
				t.Fatalf("%q shortened to %d columns is %q", safe, w, short)
			}
		}
		var words []string
		for _, line := range wrap(safe, w, "  ") {
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
	safe := escape(long)
	wrap(safe, 80, "  ")
	shortenMiddle(safe, 20)
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("%d bytes took %s", len(long), took)
	}
}
