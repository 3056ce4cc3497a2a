//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/packaging/contrib/grafana"
	"github.com/tcpmemd/tcpmemd/packaging/contrib/prometheus/promtest"
)

// duringLeak are the alerts of a host that runs out of memory, afterwards the
// one of a daemon that was stopped. For these alone the test's copy of the rules
// has a `for` of a second in place of minutes, and looks back 20 s for what the
// kernel ended in place of 5 minutes; what else the rules say is as shipped.
var (
	duringLeak = []string{"TCPMemoryPressure", "TCPMemoryCritical", "TCPMemoryOutOfMemory"}
	hurried    = append(slices.Clone(duringLeak), "TCPMemoryFullSoon", "TCPMemoryLeak", "TcpmemdGone")
)

// prometheusPolicy restarts what leaks some seconds after the kernel has run
// out: the alerts have their time before.
const prometheusPolicy = `
[rule.leaks]
mode = "enforce"
about = "a service leaks TCP memory"
for_each = "unit"
when = 'tcp.fill > 0.7 && owner.share > 0.3 && owner.hidden_bytes > 1 * MiB && kernel.aborts_on_memory > 0'
for = "0s"
until = 'tcp.fill < 0.5'
[[rule.leaks.step]]
action = "restart-unit"
after = "6s"
`

// emptyQueries are panels that may have nothing to show in this story, by why.
var emptyQueries = map[string]string{
	"Verdict A":               "a verdict takes minutes of growth",
	"Owners now D":            "a verdict takes minutes of growth",
	"Owners over all hosts C": "a verdict takes minutes of growth",
	"Lease ends in A":         "nothing was lent",
	"Decisions B":             "no guard refused",
	"Blind and gaps B":        "a gap is absent where there is none",
	"Full in A":               "absent where the memory does not grow: when the burst is over it does not",
	"Fullest hosts C":         "absent where the memory does not grow: when the burst is over it does not",
	"Growth B":                "an owner's growth needs readings over a longer time",
	"Owners now C":            "an owner's growth needs readings over a longer time",
}

// TestPrometheus: a real Prometheus scrapes the installed daemon each second
// while a service leaks. The shipped alerts fire with the owner's name, end when
// tcpmemd has restarted it, and one fires when tcpmemd is stopped; each query of
// the shipped dashboard has its answer.
func TestPrometheus(t *testing.T) {
	m := boot(t, Bookworm)
	install(t, m)
	installLeaker(t, m)
	if err := m.WriteFile("/usr/local/bin/once", []byte(once), 0o755); err != nil {
		t.Fatal(err)
	}
	allowActing(t, m)
	target := loopback(9766)
	if err := m.WriteFile("/etc/systemd/system/tcpmemd-metrics.socket.d/port.conf", []byte("[Socket]\nListenStream=\nListenStream="+target+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	configure(t, m, enforcingConfig, prometheusPolicy)
	run(t, m, "systemctl", "enable", "tcpmemd-metrics.socket")
	run(t, m, "systemctl", "restart", "tcpmemd")
	t.Cleanup(func() { ask(t, m, "systemctl", "stop", "tcpmemd", "task-queue.service", "reader.service") })
	w := watchAlerts(t, target)
	w.eventually(20*time.Second, "it scrapes nothing", func() bool { return len(w.query(`tcpmemd_owner_bytes`)) > 0 })
	if firing := w.firing(); len(firing) > 0 {
		t.Errorf("before the leak: %v", firing)
	}

	lease := scene.LowerTCPMemT(t, reading.TCPMem{Min: 3000, Pressure: 5000, Max: 6000})
	startService(t, m, "reader.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -listen "+loopback(7971)+"\n")
	start := time.Now()
	startLeak(t, m, loopback(7971), "/run/leaked-prometheus")
	fired := make(map[string]time.Duration)
	full := make(map[string]bool) // queries that had data
	w.eventually(time.Minute, "the alerts do not fire", func() bool {
		for name, a := range w.firing() {
			if _, seen := fired[name]; !seen && slices.Contains(duringLeak, name) && strings.Contains(a.Annotations["description"], "task-queue.service holds most") {
				fired[name] = time.Since(start)
			}
		}
		return len(fired) == len(duringLeak)
	})
	w.dashboard(full)

	// tcpmemd restarts it, and then there is room again.
	var done time.Time
	w.eventually(time.Minute, "nothing is done", func() bool {
		done = time.Now()
		return len(w.query(`tcpmemd_actions_total{action="restart-unit",result="done"} > 0`)) > 0
	})
	ended := make(map[string]time.Duration)
	w.eventually(90*time.Second, "the alerts do not end", func() bool {
		firing := w.firing()
		for _, name := range duringLeak {
			if _, still := firing[name]; !still && ended[name] == 0 {
				ended[name] = time.Since(done)
			} else if still {
				delete(ended, name)
			}
		}
		return len(ended) == len(duringLeak)
	})
	if err := lease.Restore(); err != nil {
		t.Error(err)
	}
	for _, name := range duringLeak {
		t.Logf("%s: fires %.1f s after the leak's begin, ends %.1f s after the restart", name, fired[name].Seconds(), ended[name].Seconds())
	}
	w.eventually(20*time.Second, "the effect is not counted", func() bool {
		return len(w.query(`tcpmemd_action_effects_total{effect="helped"} > 0`)) > 0
	})
	w.dashboard(full)
	w.expectFull(full)
	t.Logf("%v series of the host, at most; a scrape takes %.1f ms, at most %.1f ms",
		w.number(`max_over_time(count({__name__=~"tcpmemd_.*|process_.*"})[5m:1s])`),
		1000*w.number(`quantile_over_time(0.5, scrape_duration_seconds[5m])`), 1000*w.number(`max_over_time(scrape_duration_seconds[5m])`))
	if n := w.number(`max_over_time(scrape_samples_scraped[5m])`); n > 190 {
		t.Errorf("a scrape had %v series", n)
	}

	stopped := time.Now()
	run(t, m, "systemctl", "stop", "tcpmemd")
	w.eventually(20*time.Second, "nobody misses the daemon", func() bool { _, ok := w.firing()["TcpmemdGone"]; return ok })
	t.Logf("TcpmemdGone fires %.1f s after the stop", time.Since(stopped).Seconds())
	run(t, m, "systemctl", "start", "tcpmemd")
	w.eventually(20*time.Second, "it is missed for ever", func() bool { _, still := w.firing()["TcpmemdGone"]; return !still })

	// No other alert has cried meanwhile.
	for _, s := range w.query(`count by (alertname) (last_over_time(ALERTS{alertstate="firing"}[10m]))`) {
		if name := s.Labels["alertname"]; !slices.Contains(hurried, name) {
			t.Errorf("%s fired, too", name)
		}
	}
}

// alertWatch is a Prometheus that watches the daemon of a test.
type alertWatch struct {
	*promtest.Server
	t    *testing.T
	host string
}

func watchAlerts(t *testing.T, target string) *alertWatch {
	t.Helper()
	text, err := os.ReadFile("../contrib/prometheus/tcpmemd.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := strings.Split(string(text), "      - alert: ")
	for i := range alerts {
		name, _, _ := strings.Cut(alerts[i], "\n")
		if slices.Contains(hurried, name) {
			alerts[i] = regexp.MustCompile(`(?m)^( +(?:for|keep_firing_for)): \d+m$`).ReplaceAllString(alerts[i], "$1: 1s")
			alerts[i] = strings.ReplaceAll(alerts[i], "[5m]", "[20s]")
		}
	}
	dir := t.TempDir()
	rules := filepath.Join(dir, "rules.yml")
	if err := os.WriteFile(rules, []byte(strings.Join(alerts, "      - alert: ")), 0o600); err != nil {
		t.Fatal(err)
	}
	return &alertWatch{t: t, host: target, Server: promtest.Start(t, filepath.Join(dir, "data"), fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: any, static_configs: [{targets: [%q]}]}]
`, rules, target))}
}

func (w *alertWatch) query(expr string) []promtest.Series {
	w.t.Helper()
	list, err := w.Query(w.t.Context(), expr)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// number is the value of a query that has one.
func (w *alertWatch) number(expr string) float64 {
	w.t.Helper()
	list := w.query(expr)
	if len(list) != 1 {
		w.t.Fatalf("%s: %v", expr, list)
	}
	return list[0].Value
}

// firing gives the alerts that fire, by name.
func (w *alertWatch) firing() map[string]promtest.Alert {
	w.t.Helper()
	list, err := w.Alerts(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	firing := make(map[string]promtest.Alert)
	for _, a := range list {
		if a.State == "firing" {
			firing[a.Labels["alertname"]] = a
		}
	}
	return firing
}

func (w *alertWatch) eventually(within time.Duration, problem string, check func() bool) {
	w.t.Helper()
	eventually(w.t, within, func() string {
		if check() {
			return ""
		}
		var b strings.Builder
		list, _ := w.Alerts(w.t.Context())
		for _, a := range list {
			fmt.Fprintf(&b, "\n%s %s: %s", a.Labels["alertname"], a.State, a.Annotations["description"])
		}
		return problem + b.String()
	})
}

// dashboard runs every query as Grafana does with this one host, and notes which
// have data.
func (w *alertWatch) dashboard(full map[string]bool) {
	w.t.Helper()
	d, err := grafana.Read()
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range d.Panels {
		for _, q := range d.Panels[i].Targets {
			var got []promtest.Series
			expr := grafana.Fill(q.Expr, w.host, "10s")
			if q.Instant {
				got, err = w.Query(w.t.Context(), expr)
			} else {
				got, err = w.QueryRange(w.t.Context(), expr, 2*time.Minute, 2*time.Second)
			}
			if err != nil {
				w.t.Error(err)
			}
			name := d.Panels[i].Title + " " + q.RefID
			full[name] = full[name] || len(got) > 0
		}
	}
}

// expectFull: each query had data while it leaked or afterwards.
func (w *alertWatch) expectFull(full map[string]bool) {
	w.t.Helper()
	n := 0
	for name, ok := range full {
		if ok {
			n++
		} else if why := emptyQueries[name]; why == "" {
			w.t.Errorf("%s has no data", name)
		} else {
			w.t.Logf("%s has no data: %s", name, why)
		}
	}
	w.t.Logf("%d of %d queries of the dashboard have data", n, len(full))
}
