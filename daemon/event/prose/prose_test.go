package prose

import (
	"testing"
	"time"

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
		if got := Escape(tt.name); got != tt.want {
			t.Errorf("escape(%q) = %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestUnits(t *testing.T) {
	var got []string
	for _, n := range []int64{0, 1023, 1024, 1536, 1<<20 - 1, 1 << 20, -4096, 5 << 40, 1<<63 - 1, -1 << 63} {
		got = append(got, Bytes(n))
	}
	want := []string{"0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "-4.0 KiB", "5.0 TiB", "8.0 EiB", "-8.0 EiB"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("bytes: (-want +got)\n%s", diff)
	}
	got = nil
	for _, f := range []float64{1, 0.9999, 0.998, 0, 1.2} {
		got = append(got, Coverage(f))
	}
	if diff := cmp.Diff([]string{"100 %", "99.9 %", "99.8 %", "0.0 %", "100 %"}, got); diff != "" {
		t.Errorf("coverage: (-want +got)\n%s", diff)
	}
	got = nil
	for _, d := range []time.Duration{0, 90 * time.Second, 3 * time.Minute, 80 * time.Minute, 3*time.Hour + 5*time.Minute, 4 * time.Hour, 100 * time.Hour} {
		got = append(got, Duration(d))
	}
	if diff := cmp.Diff([]string{"0 ms", "90 s", "3 min", "80 min", "3 h 5 min", "4 h", "4 days"}, got); diff != "" {
		t.Errorf("durations: (-want +got)\n%s", diff)
	}
	for _, tt := range []struct{ thing, one, two string }{{"socket", "1 socket", "2 sockets"}, {"entry", "1 entry", "2 entries"}, {"key", "1 key", "2 keys"}} {
		if Plural(1, tt.thing) != tt.one || Plural(2, tt.thing) != tt.two {
			t.Errorf("%s, %s", Plural(1, tt.thing), Plural(2, tt.thing))
		}
	}
	if got := Seconds(1e300); got != "36500 days" {
		t.Errorf("formatSeconds(1e300) = %s", got)
	}
}
