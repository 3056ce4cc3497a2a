package netns

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMounts(t *testing.T) {
	const ext4 = "22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
	tests := []struct {
		name, text string
		want       map[uint32]string
		failure    bool
	}{
		{name: "none", text: ext4},
		{name: "empty"},
		{
			name: "ip netns", text: ext4 + "310 29 0:4 net:[4026532288] /run/netns/blue rw shared:160 - nsfs nsfs rw\n",
			want: map[uint32]string{4026532288: "/run/netns/blue"},
		},
		{
			name: "without optional fields", text: "310 29 0:4 net:[5] /run/docker/netns/1 rw - nsfs nsfs rw\n",
			want: map[uint32]string{5: "/run/docker/netns/1"},
		},
		{name: "other namespaces", text: "310 29 0:4 mnt:[6] /run/x rw - nsfs nsfs rw\n311 29 0:4 user:[7] /run/y rw - nsfs nsfs rw\n"},
		{
			name: "the last of each", text: "1 2 0:4 net:[5] /a rw - nsfs nsfs rw\n1 2 0:4 net:[5] /b rw - nsfs nsfs rw\n",
			want: map[uint32]string{5: "/b"},
		},
		{
			name: "octal escapes", text: `1 2 0:4 net:[5] /run/a\040b\011c\012d\134e rw - nsfs nsfs rw` + "\n",
			want: map[uint32]string{5: "/run/a b\tc\nd\\e"},
		},
		{
			name: "no escape after all", text: `1 2 0:4 net:[5] /run/a\9\77\777\04 rw - nsfs nsfs rw` + "\n",
			want: map[uint32]string{5: `/run/a\9\77\777\04`},
		},
		{
			name: "escape at the end", text: `1 2 0:4 net:[5] /run/a\ rw - nsfs nsfs rw` + "\n",
			want: map[uint32]string{5: `/run/a\`},
		},
		{
			name: "white space that the kernel leaves alone", text: "1 2 0:4 net:[5] /run/a\u00a0b\rc\vd\u2028 rw - nsfs nsfs rw\n",
			want: map[uint32]string{5: "/run/a\u00a0b\rc\vd\u2028"},
		},
		{name: "a path that looks like one", text: "1 2 0:4 /net:[5] /net:[6] rw - ext4 net:[7] rw\n"},
		{name: "not UTF-8", text: "1 2 0:4 net:[5] /run/\xff\xfe rw - nsfs nsfs rw\n", want: map[uint32]string{5: "/run/\xff\xfe"}},
		{name: "escape codes", text: "1 2 0:4 net:[5] /run/\x1b[2J rw - nsfs nsfs rw\n", want: map[uint32]string{5: "/run/\x1b[2J"}},
		{name: "short lines", text: "\n1\n1 2 0:4 net:[5]\n"},
		{name: "no number", text: "1 2 0:4 net:[x] /a rw - nsfs nsfs rw\n", failure: true},
		{name: "too large a number", text: "1 2 0:4 net:[4294967296] /a rw - nsfs nsfs rw\n", failure: true},
		{name: "a line without end", text: strings.Repeat("x", 2<<20), failure: true},
	}
	for _, tt := range tests {
		got, err := parseMounts(strings.NewReader(tt.text))
		if (err != nil) != tt.failure {
			t.Errorf("%s: error %v", tt.name, err)
			continue
		}
		if tt.want == nil {
			tt.want = map[uint32]string{}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" && !tt.failure {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// FuzzMounts: a path comes back whole, whatever a process called it.
func FuzzMounts(f *testing.F) {
	f.Add("/run/netns/blue", uint32(5))
	f.Add("/a b\tc\nd\\040\u00a0", uint32(4026531833))
	f.Fuzz(func(t *testing.T, path string, inode uint32) {
		// mangle in fs/proc_namespace.c
		escaped := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(path)
		if path == "" || len(path) > 4096 {
			return
		}
		n := Namespace{}
		n.ID.Inode = inode
		got, err := parseMounts(strings.NewReader("1 2 0:4 " + n.link() + " " + escaped + " rw shared:1 - nsfs nsfs rw\n"))
		if err != nil || got[inode] != path || len(got) != 1 {
			t.Errorf("%q became %v, error %v", path, got, err)
		}
		if _, err := parseMounts(strings.NewReader(path)); err != nil && !strings.Contains(path, "net:[") {
			t.Error(err)
		}
	})
}
