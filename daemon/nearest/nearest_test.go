package nearest

import "testing"

func TestEdits(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"clam", "calm", 1}, {"same", "same", 0},
	} {
		if got := edits(tt.a, tt.b); got != tt.want {
			t.Errorf("edits(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestName(t *testing.T) {
	known := []string{"owner.share", "owner.bytes", "tcp.fill", "mode"}
	for wrong, want := range map[string]string{
		"owner.shre": "owner.share", "onwer.share": "owner.share", "tcp.bytes": "owner.bytes", "Mode": "mode",
		"zzz": "", "": "", "tcp.fil": "tcp.fill", string(make([]byte, 100)): "",
	} {
		if got := Name(wrong, known); got != want {
			t.Errorf("%q is near %q, want %q", wrong, got, want)
		}
	}
}
