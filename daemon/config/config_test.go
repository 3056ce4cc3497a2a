package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/units"
)

// write makes a tree of files and gives its root.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func load(t *testing.T, o Options) Loaded {
	t.Helper()
	l, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDefaults(t *testing.T) {
	l := load(t, Options{Root: t.TempDir()})
	want := Config{
		Mode:    policy.Observe,
		Protect: units.DefaultProtected(), OptOut: []string{},
		Settle: Settle{Start: 2 * time.Minute, Owner: 5 * time.Minute}, MinCoverage: 0.8,
		Sample:  Sample{Interval: time.Second},
		Scan:    Scan{Calm: 30 * time.Second, Pressed: 5 * time.Second, CPU: 0.05},
		Budget:  Budget{Host: policy.DefaultHostBudget},
		State:   State{TableBytes: 64 << 20, MaxBytes: 128 << 20},
		Control: Control{Socket: "/run/tcpmemd/tcpmemd.sock"},
		Metrics: Metrics{Listen: []Endpoint{}, Interval: 15 * time.Second, Owners: 10},
	}
	if diff := cmp.Diff(want, l.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if l.Files != nil {
		t.Errorf("files = %v, want none", l.Files)
	}
	for _, key := range Keys() {
		o := l.Origins[key]
		if o.File != BuiltIn || o.Line == 0 {
			t.Errorf("origin of %s = %v, want a line of the %s", key, o, BuiltIn)
		}
		if !l.IsDefault(key) {
			t.Errorf("IsDefault(%s) = false", key)
		}
	}
}

func TestLayers(t *testing.T) {
	root := write(t, map[string]string{
		"usr/lib/tcpmemd/tcpmemd.toml": "scan.calm = '20s'\nscan.pressed = '4s'\nscan.cpu = 0.1\n",
		"run/tcpmemd/tcpmemd.toml":     "[scan]\npressed = '3s'\ncpu = '20%'\n",
		"etc/tcpmemd/tcpmemd.toml":     "# nothing but a share\n\nscan = {cpu = '2.5%'}\nprotect = []\n",
	})
	l := load(t, Options{Root: root})
	if diff := cmp.Diff(Scan{Calm: 20 * time.Second, Pressed: 3 * time.Second, CPU: 0.025}, l.Config.Scan); diff != "" {
		t.Errorf("scan (-want +got):\n%s", diff)
	}
	if p := l.Config.Protect; p == nil || len(p) != 0 {
		t.Errorf("protect = %#v, want a list of none: nil would mean the default", p)
	}
	usr, run, etc := filepath.Join(root, layers[0]), filepath.Join(root, layers[1]), filepath.Join(root, layers[2])
	if diff := cmp.Diff([]string{usr, run, etc}, l.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	builtIn := builtIn().Origins
	wantOrigins := map[string]Origin{
		"mode": builtIn["mode"], "sample.interval": builtIn["sample.interval"],
		"opt_out": builtIn["opt_out"], "settle.start": builtIn["settle.start"], "settle.owner": builtIn["settle.owner"],
		"min_coverage": builtIn["min_coverage"], "budget.host": builtIn["budget.host"],
		"state.table_size": builtIn["state.table_size"], "state.max_size": builtIn["state.max_size"], "control.socket": builtIn["control.socket"],
		"metrics.listen": builtIn["metrics.listen"], "metrics.web_config": builtIn["metrics.web_config"], "metrics.textfile": builtIn["metrics.textfile"],
		"metrics.interval": builtIn["metrics.interval"], "metrics.owners": builtIn["metrics.owners"],
		"scan.calm": {usr, 1}, "scan.pressed": {run, 2}, "scan.cpu": {etc, 3}, "protect": {etc, 4},
	}
	if diff := cmp.Diff(wantOrigins, l.Origins); diff != "" {
		t.Errorf("origins (-want +got):\n%s", diff)
	}
	if l.IsDefault("scan.cpu") || !l.IsDefault("sample.interval") {
		t.Error("IsDefault: scan.cpu is set, sample.interval is not")
	}
}

func TestOneFileAlone(t *testing.T) {
	root := write(t, map[string]string{
		"etc/tcpmemd/tcpmemd.toml": "scan.calm = '20s'\n",
		"mine.toml":                "sample.interval = '2s'\n",
	})
	l := load(t, Options{Root: root, File: filepath.Join(root, "mine.toml")})
	if l.Config.Sample.Interval != 2*time.Second || l.Config.Scan.Calm != 30*time.Second {
		t.Errorf("sample.interval = %v, scan.calm = %v; want 2s of the file and the default 30s",
			l.Config.Sample.Interval, l.Config.Scan.Calm)
	}
	l, err := Load(Options{File: filepath.Join(root, "absent.toml")})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a named file that does not exist: %v, want %v", err, fs.ErrNotExist)
	}
	if diff := cmp.Diff(builtIn(), l); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
}

func TestUnreadable(t *testing.T) {
	root := write(t, map[string]string{
		"run/tcpmemd/tcpmemd.toml/is-a-directory": "",
		"usr/lib/tcpmemd/tcpmemd.toml":            strings.Repeat("#", maxFile+1),
		"etc/tcpmemd/tcpmemd.toml":                "scan.calm = '20s'\n",
	})
	l, err := Load(Options{Root: root})
	want := filepath.Join(root, layers[0]) + ": larger than 64 KiB\n" +
		filepath.Join(root, layers[1]) + ": read: is a directory"
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	if l.Config.Scan.Calm != 20*time.Second {
		t.Errorf("scan.calm = %v, want 20s of the file that is right", l.Config.Scan.Calm)
	}
}

// TestBrokenFileIsLeftOut as a whole: half of what its author meant may be
// worse than nothing.
func TestBrokenFileIsLeftOut(t *testing.T) {
	root := write(t, map[string]string{
		"usr/lib/tcpmemd/tcpmemd.toml": "scan.calm = '20s'\n",
		"etc/tcpmemd/tcpmemd.toml":     "scan.calm = '40s'\nsample.interval = 5\n",
	})
	l, err := Load(Options{Root: root})
	if err == nil {
		t.Fatal("no error")
	}
	usr := filepath.Join(root, layers[0])
	if diff := cmp.Diff([]string{usr}, l.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if got := l.Origins["scan.calm"]; l.Config.Scan.Calm != 20*time.Second || got != (Origin{usr, 1}) {
		t.Errorf("scan.calm = %v of %v, want 20s of %s:1", l.Config.Scan.Calm, got, usr)
	}
}

// What is packed as /etc/tcpmemd/tcpmemd.toml never changes: to dpkg it is a
// conffile, and of one that both sides have changed an upgrade asks, which ends
// an unattended one.
func TestConffile(t *testing.T) {
	const path = "../../etc/tcpmemd/tcpmemd.toml"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l := builtIn()
	if err := l.apply(path, data); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(builtIn(), l); diff != "" {
		t.Errorf("as shipped it changes something (-want +got):\n%s", diff)
	}
	const released = "2c7ded6b4aeefe7b9b7cc4b7d0f85376367e52cc2cf6aa7387d596f20806ade5"
	if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != released {
		t.Errorf("%s has changed: its sum is %s, released was %s", path, got, released)
	}
}

const commentsFile = "../../packaging/root/usr/share/doc/tcpmemd/examples/tcpmemd.toml"

func TestCommentsFile(t *testing.T) {
	data, err := os.ReadFile(commentsFile)
	if err != nil {
		t.Fatal(err)
	}
	l := builtIn()
	if err := l.apply(commentsFile, data); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(builtIn(), l); diff != "" {
		t.Errorf("as shipped it changes something (-want +got):\n%s", diff)
	}

	// Text has a blank after the #, a setting has none.
	lines := strings.Split(string(data), "\n")
	for i, line := range lines {
		setting, commented := strings.CutPrefix(line, "#")
		if !commented || setting == "" || setting[0] == ' ' {
			continue
		}
		if key, _, ok := strings.Cut(setting, " = "); ok && (i < 1 || !strings.HasPrefix(lines[i-1], "# ")) {
			t.Errorf("%s has no line of explanation above it", key)
		}
		lines[i] = setting
	}
	if err := l.apply("uncommented", []byte(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(builtIn().Config, l.Config); diff != "" {
		t.Errorf("uncommented it is not the default (-want +got):\n%s", diff)
	}
	for _, key := range Keys() {
		if l.Origins[key].File != "uncommented" {
			t.Errorf("%s is missing in %s", key, commentsFile)
		}
	}
	// The order is part of what a reader learns.
	got := slices.SortedFunc(maps.Keys(l.Origins), func(a, b string) int { return l.Origins[a].Line - l.Origins[b].Line })
	if diff := cmp.Diff(Keys(), got); diff != "" {
		t.Errorf("order of the keys (-want +got):\n%s", diff)
	}
}
