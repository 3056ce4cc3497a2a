package runner

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	for text, want := range map[string]stat{
		"412 (task-queue) S 1 412 410 0 -1 4194560 1":   {1, 410},
		"7 (a) R 99 (b) S 2 3 4 5":                      {2, 4},
		"7 (\n) Z 12 13 14 0 -1":                        {12, 14},
		"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0": {0, 0},
	} {
		if got, ok := parseStat([]byte(text)); !ok || got != want {
			t.Errorf("%q: %+v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "7 (a", "7 (a) S", "7 (a) S x y z"} {
		if got, ok := parseStat([]byte(text)); ok {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("412 (task-queue) S 1 412 410 0 -1 4194560 1"))
	f.Fuzz(func(_ *testing.T, text []byte) { parseStat(text) })
}

// FuzzHandshake: no line reaches a socket outside the plugin's folder.
func FuzzHandshake(f *testing.F) {
	for _, line := range []string{"1|1|unix|/s|grpc", "1|1|unix|../s|grpc|", "1|1|tcp|[::1]:1|grpc", "1|1|unix||grpc", "|||||||"} {
		f.Add(line)
	}
	dir := f.TempDir()
	p := &process{dir: dir}
	f.Fuzz(func(t *testing.T, line string) {
		path, err := p.address(line)
		if err == nil {
			t.Errorf("%q: reaches %s, where nothing listens", line, path)
		} else if strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%q: says %q", line, err)
		}
	})
}

// TestField takes bytes out of a message known by its wire format alone.
func TestField(t *testing.T) {
	if got := field([]byte{0x08, 0x02, 0x12, 0x02, 'h', 'i'}, 2); string(got) != "hi" {
		t.Errorf("%q", got)
	}
	for _, b := range [][]byte{nil, {0x12}, {0x12, 0x05, 'h'}, {0xff}, {0x08}} {
		if got := field(b, 2); len(got) > 0 {
			t.Errorf("%v: %q", b, got)
		}
	}
}

func TestFolderSize(t *testing.T) {
	dir := t.TempDir()
	if size, files := folderSize(filepath.Join(dir, "gone")); size != 0 || files != 0 {
		t.Errorf("%d bytes, %d files", size, files)
	}
}
