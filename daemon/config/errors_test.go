package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
)

func TestErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"mode", `mode = "watch"`, `f:1: mode = "watch": must be "observe" or "enforce"`},
		{"bare duration", "\nsample.interval = 5", `f:2: sample.interval = 5: a duration needs a unit, e.g. "5s"`},
		{"bare float duration", "[scan]\ncalm = 5.0", `f:2: scan.calm = 5.0: a duration needs a unit, e.g. "5s"`},
		{"bare duration in quotes", `sample.interval = "5"`, `f:1: sample.interval = "5": a duration needs a unit, e.g. "5s"`},
		{"duration of nothing", `sample.interval = ""`, `f:1: sample.interval = "": not a duration, e.g. "500ms", "5s", "2m"`},
		{"too often", `sample.interval = "10ms"`, `f:1: sample.interval = "10ms": must be from "1s" to "5s"`},
		{"negative", `scan.calm = "-30s"`, `f:1: scan.calm = "-30s": must be from "5s" to "10m"`},
		{"too rarely", `scan.pressed = "2h"`, `f:1: scan.pressed = "2h": must be from "1s" to "1m"`},
		{"share of what", `scan.cpu = 1`, `f:1: scan.cpu = 1: a share of one CPU is written as "5%" or 0.05`},
		{"percent as a number", `scan.cpu = 5.0`, `f:1: scan.cpu = 5.0: must be from "1%" to "100%" of one CPU, or 0.01 to 1.0`},
		{"not a number", `scan.cpu = nan`, `f:1: scan.cpu = NaN: must be from "1%" to "100%" of one CPU, or 0.01 to 1.0`},
		{"signed percent", `scan.cpu = "+5%"`, `f:1: scan.cpu = "+5%": not a share of one CPU, e.g. "5%" or 0.05`},
		{"no percent", `scan.cpu = "5"`, `f:1: scan.cpu = "5": not a share of one CPU, e.g. "5%" or 0.05`},
		{"bare size", `state.table_size = 67108864`, `f:1: state.table_size = 67108864: a size needs a unit, e.g. "64MiB"`},
		{"unit of 1000", `state.table_size = "64MB"`, `f:1: state.table_size = "64MB": not a size in B, KiB, MiB or GiB, e.g. "64MiB"`},
		{"no size", `state.table_size = "MiB"`, `f:1: state.table_size = "MiB": not a size in B, KiB, MiB or GiB, e.g. "64MiB"`},
		{"overflow", `state.table_size = "17179869185GiB"`, `f:1: state.table_size = "17179869185GiB": must be from "1MiB" to "1GiB"`},
		{"overflow of 64 bits", `state.table_size = "99999999999999999999B"`, `f:1: state.table_size = "99999999999999999999B": must be from "1MiB" to "1GiB"`},
		{"relative socket", `control.socket = "run/x.sock"`, `f:1: control.socket = "run/x.sock": must be the absolute path of a socket, e.g. "/run/tcpmemd/tcpmemd.sock"`},
		{"one glob", `protect = "ssh*"`, `f:1: protect = "ssh*": must be a list of globs, e.g. ["ssh*", "my-database"]`},
		{"globs", `protect = ["a[", "ok", "", "b\\"]`, `f:1: protect = [...]: item 1 is a malformed glob, "a["; item 3 is empty; item 4 is a malformed glob, "b\\"`},
		{"glob of another type", `protect = ["a", 5]`, `f:1: protect = [...]: item 2 is 5: must be a list of globs, e.g. ["ssh*", "my-database"]`},
		{"misspelt", `scan.clam = "5s"`, `f:1: unknown key "scan.clam"; did you mean scan.calm?`},
		{"misspelt table", "[smaple]\ninterval = '1s'", `f:2: unknown key "smaple.interval"; did you mean sample.interval?`},
		{"misspelt empty table", `[smaple]`, `f:1: unknown table "smaple"; did you mean sample?`},
		{"other case", `Mode = "observe"`, `f:1: unknown key "Mode"; did you mean mode?`},
		{"missing table", `cpu = "5%"`, `f:1: unknown key "cpu"; did you mean scan.cpu?`},
		{"key with a dot", `"scan.cpu" = "5%"`, `f:1: unknown key "\"scan.cpu\""; did you mean scan.cpu?`},
		{"far from all", `webhook = "x"`, `f:1: unknown key "webhook"`},
		{"hostile key", `"a\u001b[2J" = 1`, `f:1: unknown key "\"a\\u001b[2J\""`},
		{"hostile value", `mode = "\u001b[2J"`, `f:1: mode = "\x1b[2J": must be "observe" or "enforce"`},
		{"value for a table", `sample = "1s"`, `f:1: sample is a table: set its keys, e.g. sample.interval`},
		{"bare budget", `budget.host = 6`, `f:1: budget.host = 6: a budget is written as "2 per 1h"`},
		{"coverage of what", `min_coverage = 80`, `f:1: min_coverage = 80: a share is written as "5%" or 0.05`},
		{"too much coverage", `min_coverage = "101%"`, `f:1: min_coverage = "101%": must be from "0%" to "100%", or 0 to 1.0`},
		{"too little state", `state.max_size = "1MiB"`, `f:1: state.max_size = "1MiB": must be from "64MiB" to "4GiB"`},
		{"bare settle", `settle.start = 0`, `f:1: settle.start = 0: a duration needs a unit, e.g. "5s"`},
		{"plugin without path", "[plugin.x]\ntimeout = '5s'", `f:2: plugin.x has no path, and is none of the built-in actions`},
		{"relative plugin", "[plugin.x]\npath = 'bin/x'", `f:2: plugin.x.path = "bin/x": must be the absolute path of a program, e.g. "/usr/libexec/my-action"`},
		{"plugin with dots", "[plugin.x]\npath = '/a/../x'", `f:2: plugin.x.path = "/a/../x": must be the absolute path of a program, e.g. "/usr/libexec/my-action"`},
		{"plugin's name", "[plugin.X]\npath = '/x'", `f:2: plugin.X.path = "/x": a plugin's name has letters a-z, digits and dashes, 48 at most`},
		{"plugin's quoted name", "[plugin.'../x']\npath = '/x'", `f:2: plugin."../x".path = "/x": a plugin's name has letters a-z, digits and dashes, 48 at most`},
		{"plugin's checksum", "[plugin.x]\npath = '/x'\nsha256 = 'abc'", `f:3: plugin.x.sha256 = "abc": must be 64 hexadecimal digits, as of sha256sum`},
		{"plugin's timeout", "[plugin.x]\npath = '/x'\ntimeout = 5", `f:3: plugin.x.timeout = 5: a duration needs a unit, e.g. "5s"`},
		{"plugin's credential", "[plugin.x]\npath = '/x'\ncredential = 'a/b'", `f:3: plugin.x.credential = "a/b": must be the name of a systemd credential: letters, digits, dots, dashes and underscores`},
		{"plugin's settings", "[plugin.x]\npath = '/x'\nsettings = {a = {b = 1}}", `f:3: plugin.x.settings = {...}: a: must be a string, a number, a boolean or a list of those`},
		{"plugin's misspelt key", "[plugin.x]\npath = '/x'\nsha265 = 'x'", `f:3: unknown key "plugin.x.sha265"; did you mean plugin.x.sha256?`},
		{"built-in action", "[plugin.notify]\npath = '/x'", `f:2: plugin.notify.path: notify is built in; give the plugin another name`},
		{"value for a plugin", "[plugin]\nx = 1", `f:2: plugin.x is a table: set its keys, e.g. plugin.x.path`},
		{"array of tables", "[[scan]]\ncalm = '5s'", `f:1: scan is a table: set its keys, e.g. scan.calm`},
		{"table for a value", "[mode]\nx = 1", `f:1: mode = {...}: must be "observe" or "enforce"`},
		{"order", "scan.calm = '5s'\nscan.pressed = '10s'", `f:2: scan.pressed = "10s" is longer than scan.calm = "5s" (f:1)`},
		{"one address", `metrics.listen = "127.0.0.1:9764"`, `f:1: metrics.listen = "127.0.0.1:9764": must be a list of addresses and sockets, e.g. ["127.0.0.1:9764", "unix:/run/tcpmemd/metrics.sock"]`},
		{"port alone", `metrics.listen = [9764]`, `f:1: metrics.listen = [...]: item 1 is 9764: must be a list of addresses and sockets, e.g. ["127.0.0.1:9764", "unix:/run/tcpmemd/metrics.sock"]`},
		{"no address", `metrics.listen = [":9764"]`, `f:1: metrics.listen = [...]: item 1, ":9764": which address? "127.0.0.1:9764" for this host alone, "[::]:9764" for all`},
		{"name", `metrics.listen = ["[::1]:9764", "localhost:9764"]`, `f:1: metrics.listen = [...]: item 2, "localhost:9764": not an address with a port, e.g. "127.0.0.1:9764", "[::1]:9764", or "unix:" and a path`},
		{"no port", `metrics.listen = ["127.0.0.1"]`, `f:1: metrics.listen = [...]: item 1, "127.0.0.1": not an address with a port, e.g. "127.0.0.1:9764", "[::1]:9764", or "unix:" and a path`},
		{"any port", `metrics.listen = ["127.0.0.1:0"]`, `f:1: metrics.listen = [...]: item 1, "127.0.0.1:0": port 0 is another one at each start`},
		{"twice the same", `metrics.listen = ["127.0.0.1:9764", "127.0.0.1:9764"]`, `f:1: metrics.listen = [...]: item 2, "127.0.0.1:9764", is there twice`},
		{"relative metrics socket", `metrics.listen = ["unix:m.sock"]`, `f:1: metrics.listen = [...]: item 1, "unix:m.sock": must be the absolute path of a socket, e.g. "/run/tcpmemd/tcpmemd.sock"`},
		{"too many", `metrics.listen = ["1", "2", "3", "4", "5", "6", "7", "8", "9"]`, `f:1: metrics.listen = [...]: has 9 items, 8 at most`},
		{"open to others", "\nmetrics.listen = ['127.0.0.1:9764', '0.0.0.0:9764']", `f:2: metrics.listen has "0.0.0.0:9764", which other hosts reach: it needs a metrics.web_config with TLS or users`},
		{"tcpmemctl's socket", "metrics.listen = ['unix:/run/m']\ncontrol.socket = '/run/m'", `f:1: metrics.listen has "unix:/run/m", which is control.socket (f:2)`},
		{"relative web configuration", `metrics.web_config = "web.yml"`, `f:1: metrics.web_config = "web.yml": must be the absolute path of a file, e.g. "/etc/tcpmemd/web.yml", or "" for none`},
		{"folder for a textfile", `metrics.textfile = "/var/lib/x.prom/"`, `f:1: metrics.textfile = "/var/lib/x.prom/": must be the absolute path of a file, e.g. "/var/lib/prometheus/node-exporter/tcpmemd.prom", or "" for none`},
		{"textfile of another name", `metrics.textfile = "/var/lib/x.txt"`, `f:1: metrics.textfile = "/var/lib/x.txt": must end in .prom: node_exporter reads no other file`},
		{"textfile without a name", `metrics.textfile = "/var/lib/.prom"`, `f:1: metrics.textfile = "/var/lib/.prom": must end in .prom: node_exporter reads no other file`},
		{"bare interval", `metrics.interval = 15`, `f:1: metrics.interval = 15: a duration needs a unit, e.g. "5s"`},
		{"interval too long", `metrics.interval = "1h"`, `f:1: metrics.interval = "1h": must be from "1s" to "10m"`},
		{"too many owners", `metrics.owners = 11`, `f:1: metrics.owners = 11: must be a whole number from 0 to 10`},
		{"half an owner", `metrics.owners = 1.5`, `f:1: metrics.owners = 1.5: must be a whole number from 0 to 10`},
		{
			"all at once", "mode = 'act'\nx = 1\n[scan]\ncalm = 30\ncpu = 5\n",
			`f:1: mode = "act": must be "observe" or "enforce"` + "\n" +
				`f:2: unknown key "x"` + "\n" +
				`f:4: scan.calm = 30: a duration needs a unit, e.g. "5s"` + "\n" +
				`f:5: scan.cpu = 5: a share of one CPU is written as "5%" or 0.05`,
		},
		{
			"syntax", "mode = \"observe\"\nscan.calm = 30s\n",
			"f:2:15: expected a top-level item to end with a newline, comment, or EOF, but got 's' instead\n" +
				"      1 | mode = \"observe\"\n" +
				"      2 | scan.calm = 30s\n" +
				"                        ^",
		},
		{
			"twice", "mode = \"observe\"\nmode = \"observe\"\n",
			"f:2:1: Key 'mode' has already been defined.\n" +
				"      1 | mode = \"observe\"\n" +
				"      2 | mode = \"observe\"\n" +
				"          ^^^^",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := builtIn()
			err := l.apply("f", []byte(tt.text))
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(builtIn(), l); diff != "" {
				t.Errorf("a refused file changed something (-want +got):\n%s", diff)
			}
			if e, ok := errors.AsType[*Error](err); !ok || e.File != "f" || e.Line == 0 {
				t.Errorf("error %v has no *Error with file and line", err)
			}
		})
	}
}

func TestGoodValues(t *testing.T) {
	tests := []struct {
		text string
		want any
		got  func(Config) any
	}{
		{`scan.cpu = "2.5%"`, 0.025, func(c Config) any { return c.Scan.CPU }},
		{`scan.cpu = 1.0`, 1.0, func(c Config) any { return c.Scan.CPU }},
		{`state.table_size = "1048576B"`, 1 << 20, func(c Config) any { return c.State.TableBytes }},
		{`state.table_size = "1GiB"`, 1 << 30, func(c Config) any { return c.State.TableBytes }},
		{`control.socket = "/run//x.sock"`, "/run/x.sock", func(c Config) any { return c.Control.Socket }},
		{`scan.calm = "1m30s"`, "1m30s", func(c Config) any { return c.Scan.Calm.String() }},
		{`mode = "enforce"`, policy.Enforce, func(c Config) any { return c.Mode }},
		{`settle.start = "0s"`, time.Duration(0), func(c Config) any { return c.Settle.Start }},
		{`min_coverage = 0.75`, 0.75, func(c Config) any { return c.MinCoverage }},
		{`budget.host = "2 per 30m"`, policy.Budget{Count: 2, Per: 30 * time.Minute}, func(c Config) any { return c.Budget.Host }},
		{`opt_out = ["db-*"]`, []string{"db-*"}, func(c Config) any { return c.OptOut }},
		{
			"[plugin.x]\npath = '/x'\nsha256 = '" + strings.Repeat("A0", 32) + "'\ntimeout = '1m'\nsettings = {b = 1, a = ['x']}\ncredential = 'tok.en'\n[plugin.notify]\nsettings = {}",
			map[string]Plugin{
				"x":      {Path: "/x", SHA256: strings.Repeat("a0", 32), Timeout: time.Minute, Settings: []byte(`{"a":["x"],"b":1}`), Credential: "tok.en"},
				"notify": {Settings: []byte(`{}`)},
			},
			func(c Config) any { return c.Plugins },
		},
		{
			`metrics = {listen = ["127.0.0.1:9764", "[::1]:9764", "[::ffff:127.0.0.1]:9765", "unix:/run//m.sock"]}`,
			[]Endpoint{{"tcp", "127.0.0.1:9764"}, {"tcp", "[::1]:9764"}, {"tcp", "[::ffff:127.0.0.1]:9765"}, {"unix", "/run/m.sock"}},
			func(c Config) any { return c.Metrics.Listen },
		},
		{
			"metrics.listen = ['[::]:9764']\nmetrics.web_config = '/etc/web.yml'\n", Metrics{
				Listen: []Endpoint{{"tcp", "[::]:9764"}}, WebConfig: "/etc/web.yml", Interval: 15 * time.Second, Owners: 10,
			}, func(c Config) any { return c.Metrics },
		},
		{`metrics.textfile = "/var//lib/x.prom"`, "/var/lib/x.prom", func(c Config) any { return c.Metrics.Textfile }},
		{`metrics.owners = 0`, 0, func(c Config) any { return c.Metrics.Owners }},
		{`scan = {}`, "30s", func(c Config) any { return c.Scan.Calm.String() }},
		{"\ufeff# a byte order mark\r\nscan.calm = '5s'\r\n", "5s", func(c Config) any { return c.Scan.Calm.String() }},
	}
	for _, tt := range tests {
		l := builtIn()
		if err := l.apply("f", []byte(tt.text)); err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if diff := cmp.Diff(tt.want, tt.got(l.Config)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.text, diff)
		}
	}
}

func TestOrderAcrossFiles(t *testing.T) {
	l := builtIn()
	if err := l.apply("a", []byte("scan.pressed = '20s'")); err != nil {
		t.Fatal(err)
	}
	err := l.apply("b", []byte("\nscan.calm = '10s'"))
	want := `b:2: scan.pressed = "20s" is longer than scan.calm = "10s" (a:1)`
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
}

// TestHugeFiles are no configuration, but must not keep a daemon from starting.
func TestHugeFiles(t *testing.T) {
	var manyKeys strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&manyKeys, "k%d = 1\n", i)
	}
	tests := map[string]string{
		"many keys":     manyKeys.String(),
		"dotted key":    strings.Repeat("a.", 2000) + "b = 1",
		"deep tables":   strings.Repeat("x={", 1000) + strings.Repeat("}", 1000),
		"deep array":    "x=" + strings.Repeat("[", maxFile-2),
		"one long key":  strings.Repeat("a", maxFile-4) + "=1",
		"one long line": "mode = \"observe\" #" + strings.Repeat("x", maxFile-30) + "\x01",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			l := builtIn()
			start := time.Now()
			err := l.apply("f", []byte(text))
			if err == nil || len(err.Error()) > 8000 {
				t.Errorf("error of %d bytes: %.200v", len(fmt.Sprint(err)), err)
			}
			t.Logf("%d bytes in %v", len(text), time.Since(start))
		})
	}
}

func FuzzApply(f *testing.F) {
	for _, text := range []string{
		string(defaults), "mode = 'enforce'", "[scan]\ncalm = 5\n[[scan]]", "a = {b = {c = 1}}", "scan = {cpu = inf}",
		"\xff\xfe", "x = \"\x00\"", "protect = [['a'], {}]", "[a.b.c]\n[a]\nb.d = 1979-05-27", "'' = 1\n\"\\n\".x = 2",
		"state.table_size = '9223372036854775807GiB'", "\t\tx = \x1b", "[mode]\n[mode.x]",
	} {
		f.Add([]byte(text))
	}
	base := builtIn()
	f.Fuzz(func(t *testing.T, text []byte) {
		l := builtIn()
		err := l.apply("f", text)
		if err != nil {
			if diff := cmp.Diff(base, l); diff != "" {
				t.Errorf("a refused file changed something (-want +got):\n%s", diff)
			}
			if again := l.apply("f", text); again == nil || again.Error() != err.Error() {
				t.Errorf("error is\n%v\nand the second time\n%v", err, again)
			}
			if i := strings.IndexFunc(err.Error(), func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }); i >= 0 {
				t.Errorf("control character at byte %d of %q", i, err)
			}
			return
		}
		// What was accepted lies in every range, so that setting it anew works.
		c := l.Config
		if _, err := shareOf("", leastShare)(c.Scan.CPU); err != nil {
			t.Errorf("scan.cpu = %v: %v", c.Scan.CPU, err)
		}
		if c.Mode != policy.Observe && c.Mode != policy.Enforce || c.Scan.Pressed > c.Scan.Calm || c.Scan.Pressed <= 0 || c.Sample.Interval <= 0 ||
			c.State.TableBytes < 1<<20 || c.State.TableBytes > 1<<30 || len(c.Control.Socket) > maxSocketPath || c.Protect == nil {
			t.Errorf("accepted %+v", c)
		}
		for key, o := range l.Origins {
			if _, ok := settingAt(strings.Split(key, ".")); !ok || o.Line == 0 {
				t.Errorf("origin of %s = %v", key, o)
			}
		}
	})
}
