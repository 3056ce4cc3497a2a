//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	metricsFolder = "/var/lib/prometheus/node-exporter"
	metricsFile   = metricsFolder + "/tcpmemd.prom"
	// One user, "prom" with the password "secret".
	metricsUsers = "basic_auth_users:\n  prom: $2a$05$4hpocOAL9.VwLSl8G7uIquEhKDk10g2WafEyMHg7YEnNu1ZW/nz4C\n"
)

// TestMetrics is about the ways out of metrics: off as shipped, a port that
// systemd opens, an address and a socket of the daemon's own, and the file. What
// the metrics say is looked at elsewhere.
func TestMetrics(t *testing.T) {
	t.Parallel() // beside TestLease: its addresses are its own
	m := boot(t, Bookworm)
	install(t, m)
	run(t, m, "mkdir", "-p", metricsFolder)
	run(t, m, "systemctl", "start", "tcpmemd")
	sandbox := metricsSandbox(t, m)
	off := settled(t, m)
	t.Run("Off", func(t *testing.T) { checkMetricsOff(t, m) })
	t.Run("Socket", func(t *testing.T) { checkMetricsSocket(t, m, off, sandbox) })
	t.Run("Lacking", func(t *testing.T) { checkMetricsLacking(t, m) })
}

// metricsSandbox is what keeps the daemon from TCP.
func metricsSandbox(t *testing.T, m *Machine) string {
	t.Helper()
	return run(t, m, "systemctl", "show", "--property=RestrictAddressFamilies,IPAddressAllow,IPAddressDeny,CapabilityBoundingSet", "tcpmemd")
}

// settled measures a daemon some seconds after its start, when it has read the
// host.
func settled(t *testing.T, m *Machine) vitals {
	t.Helper()
	if err := pause(t.Context(), 4*time.Second); err != nil {
		t.Fatal(err)
	}
	return measure(t, m)
}

// metricsDoctor is the status of doctor's check, and all that it says.
func metricsDoctor(t *testing.T, m *Machine) (status, text string) {
	t.Helper()
	var doc struct {
		Checks []struct {
			Name   string `json:"name"`
			Status string `json:"status"`
			What   string `json:"what"`
			Costs  string `json:"costs"`
		} `json:"checks"`
	}
	if err := json.Unmarshal([]byte(run(t, m, "tcpmemctl", "doctor", "--json")), &doc); err != nil {
		t.Fatal(err)
	}
	for _, c := range doc.Checks {
		if c.Name == "metrics" {
			return c.Status, c.What + " / " + c.Costs
		}
	}
	return "absent", ""
}

func expectDoctor(t *testing.T, m *Machine, status string, words ...string) {
	t.Helper()
	eventually(t, 30*time.Second, func() string {
		got, text := metricsDoctor(t, m)
		for _, w := range words {
			if got != status || !strings.Contains(text, w) {
				return fmt.Sprintf("metrics are %s: %s; want %s: %s", got, text, status, w)
			}
		}
		return ""
	})
}

// scrape gives the status and the text, and how long that took. The machine has
// the host's network; a Unix socket is reached in its file system.
func scrape(t *testing.T, m *Machine, url string) (code int, text string, took time.Duration) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	if path, ok := strings.CutPrefix(url, "unix:"); ok {
		url = "http://socket"
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(fmt.Sprintf("/proc/%d/root", m.leader), path))
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	resp, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return 0, err.Error(), 0
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error(), 0
	}
	return resp.StatusCode, string(body), time.Since(begin)
}

// expectScrape waits until there are metrics.
func expectScrape(t *testing.T, m *Machine, url string) string {
	t.Helper()
	var text string
	eventually(t, 30*time.Second, func() string {
		var code int
		if code, text, _ = scrape(t, m, url); code != 200 || !strings.Contains(text, "\ntcpmemd_tcp_memory_bytes ") {
			return fmt.Sprintf("%s: %d %.200s", url, code, text)
		}
		return ""
	})
	return text
}

// expectTold waits for the daemon's next turn, which tells, and for the journal.
func expectTold(t *testing.T, m *Machine, words string, matches ...string) {
	t.Helper()
	eventually(t, 15*time.Second, func() string {
		run(t, m, "journalctl", "--sync")
		if got := ask(t, m, "journalctl", append([]string{"--output=cat"}, matches...)...); !strings.Contains(got, words) {
			return fmt.Sprintf("not told %q: %s", words, got)
		}
		return ""
	})
}

func checkMetricsOff(t *testing.T, m *Machine) {
	if got := run(t, m, "ss", "--tcp", "--listening", "--numeric", "--processes"); strings.Contains(got, "tcpmem") {
		t.Errorf("it listens:\n%s", got)
	}
	if got := ask(t, m, "systemctl", "is-enabled", "tcpmemd-metrics.socket"); got != "disabled" {
		t.Errorf("tcpmemd-metrics.socket is %s", got)
	}
	expectDoctor(t, m, "ok", "off")
}

// checkMetricsSocket goes by tcpmemd(8), but for the port: others may use it.
func checkMetricsSocket(t *testing.T, m *Machine, off vitals, sandbox string) {
	if got := run(t, m, "systemctl", "cat", "tcpmemd-metrics.socket"); !strings.Contains(got, "\nListenStream=127.0.0.1:9764\n") {
		t.Errorf("the socket as shipped:\n%s", got)
	}
	at := loopback(9764)
	if err := m.WriteFile("/etc/systemd/system/tcpmemd-metrics.socket.d/port.conf", []byte("[Socket]\nListenStream=\nListenStream="+at+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, m, "systemctl", "enable", "tcpmemd-metrics.socket")
	run(t, m, "systemctl", "restart", "tcpmemd")
	text := expectScrape(t, m, "http://"+at)
	if got := metricsSandbox(t, m); got != sandbox {
		t.Errorf("the sandbox is another one:\n%s\nbefore:\n%s", got, sandbox)
	}
	expectDoctor(t, m, "ok", "served on "+at+" (the service manager's socket)")

	series, took := 0, make([]time.Duration, 20)
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			series++
		}
	}
	on := settled(t, m) // as old as the one without
	for i := range took {
		_, _, took[i] = scrape(t, m, "http://"+at)
	}
	slices.Sort(took)
	scraped := measure(t, m)
	t.Logf("a scrape: median of 20 %s, longest %s, %d series in %d bytes", took[10], took[19], series, len(text))
	t.Logf("RssAnon and VmRSS in MiB: off %.1f, %.1f; on %.1f, %.1f; after 20 scrapes %.1f, %.1f", mib(off.anon), mib(off.rss), mib(on.anon), mib(on.rss), mib(scraped.anon), mib(scraped.rss))

	// The port goes and comes with the service: a scrape starts nothing.
	run(t, m, "systemctl", "stop", "tcpmemd")
	if code, text, _ := scrape(t, m, "http://"+at); code != 0 || !strings.Contains(text, "refused") {
		t.Errorf("stopped: %d %s", code, text)
	}
	if got := ask(t, m, "systemctl", "is-active", "tcpmemd", "tcpmemd-metrics.socket"); got != "inactive\ninactive" {
		t.Errorf("after a scrape of a stopped one: %s", got)
	}
	run(t, m, "systemctl", "start", "tcpmemd")
	expectScrape(t, m, "http://"+at)
	run(t, m, "systemctl", "disable", "tcpmemd-metrics.socket")
	run(t, m, "systemctl", "stop", "tcpmemd", "tcpmemd-metrics.socket")
}

func mib(kib int64) float64 { return float64(kib) / 1024 }

// checkMetricsLacking gives the daemon an address, a socket and a file, first
// without the drop-ins, then with an address that somebody else has, then with
// all in order.
func checkMetricsLacking(t *testing.T, m *Machine) {
	at := loopback(9765)
	other, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	const socket = "unix:/run/tcpmemd/metrics.sock"
	config := fmt.Sprintf("metrics.listen = [%q, %q]\nmetrics.textfile = %q\nmetrics.interval = \"1s\"\n", at, socket, metricsFile)
	configure(t, m, config, "")
	run(t, m, "systemctl", "start", "tcpmemd")
	expectScrape(t, m, socket)
	expectDoctor(t, m, "degraded", "served on "+socket, "/usr/lib/tcpmemd/metrics.conf", metricsFile+": open: read-only file system", "/usr/lib/tcpmemd/metrics-textfile.conf")

	if err := m.WriteFile("/etc/tcpmemd/web.yml", []byte(metricsUsers), 0o600); err != nil {
		t.Fatal(err)
	}
	open := strings.Replace(config, at, "0.0.0.0:9764", 1)
	if err := m.WriteFile("/root/open.toml", []byte(open), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Run(t.Context(), "tcpmemd", "--check", "--config", "/root/open.toml"); err == nil || !strings.Contains(err.Error(), "/root/open.toml:1: metrics.listen has") {
		t.Errorf("open to others, without users: %v", err)
	}
	configure(t, m, config+"metrics.web_config = \"/etc/tcpmemd/web.yml\"\n", "")
	dropIns(t, m, "metrics.conf", "metrics-textfile.conf")
	run(t, m, "systemctl", "restart", "tcpmemd")
	expectDoctor(t, m, "degraded", at+": listen tcp "+at+": bind: address already in use", "served on "+socket, "written every 1s to "+metricsFile)
	told := "MESSAGE_ID=f3684a46470a71aef49f30babd4008ee"
	pid := "_PID=" + show(t, m, "tcpmemd", "MainPID")
	const trouble = "metrics do not get out"
	expectTold(t, m, trouble, pid, told)
	other.Close()
	if text := expectScrape(t, m, "http://prom:secret@"+at); text == "" {
		t.Error("no metrics")
	}
	for _, who := range []string{"", "prom:wrong@"} {
		if code, _, _ := scrape(t, m, "http://"+who+at); code != 401 {
			t.Errorf("as %q: %d", who, code)
		}
	}
	expectDoctor(t, m, "ok", "served on "+at)
	expectTold(t, m, "over: ", pid, told)
	if got := run(t, m, "journalctl", "--output=cat", pid, told); strings.Count(got, trouble) != 1 {
		t.Errorf("told of the port more than once:\n%s", got)
	}

	// The file stays as it is where the daemon dies, and goes where it stops.
	stat := func() string { return ask(t, m, "stat", "--format=%a %U:%G %Y", metricsFile) }
	if got := stat(); !strings.HasPrefix(got, "644 root:") {
		t.Errorf("the file is %s", got)
	}
	run(t, m, "systemctl", "kill", "--signal=KILL", "tcpmemd")
	eventually(t, 10*time.Second, func() string {
		if state := show(t, m, "tcpmemd", "ActiveState"); state != "activating" {
			return state
		}
		return ""
	})
	dead := stat()
	if err := pause(t.Context(), 2500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if now := stat(); now != dead || dead == "" {
		t.Errorf("while nobody runs: %s, then %s", dead, now)
	}
	eventually(t, 20*time.Second, func() string {
		if now := stat(); now == dead {
			return "the file is not written again"
		}
		return ""
	})
	run(t, m, "systemctl", "stop", "tcpmemd")
	if got := run(t, m, "find", metricsFolder, "-type", "f"); got != "" {
		t.Errorf("left after the stop: %s", got)
	}
	dropIns(t, m)
}
