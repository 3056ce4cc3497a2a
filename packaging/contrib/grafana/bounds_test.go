package grafana

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"

	"github.com/tcpmemd/tcpmemd/packaging/contrib/prometheus/promtest"
)

const (
	// mostSeries is what a panel draws and a person can still read; five
	// queries make all results of actions and a few more.
	mostSeries = 64
	// hostsEnv names how many hosts there are; CI has too little time for as
	// many as a fleet has.
	hostsEnv = "TCPMEMD_DASHBOARD_HOSTS"

	back, step = 5 * time.Minute, 15 * time.Second
	idle       = "global: {scrape_interval: 1h, evaluation_interval: 1h}\n"
)

// TestBounds: over many hosts every query has an answer, and a bounded one,
// however many they are.
func TestBounds(t *testing.T) {
	hosts := 2000
	if text := os.Getenv(hostsEnv); text != "" {
		var err error
		if hosts, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", hostsEnv, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "data")
	begin := time.Now()
	series := fill(t, dir, hosts)
	s := promtest.Start(t, dir, idle)
	t.Logf("%d hosts with %d series in all: stored and started after %.1f s", hosts, series, time.Since(begin).Seconds())
	d := read(t)
	for i := range d.Panels {
		p := &d.Panels[i]
		for _, q := range p.Targets {
			got, took := ask(t, s, &q, "host7")
			most := mostSeries
			if len(got) > most {
				t.Errorf("%s, %s: %d series", p.Title, q.RefID, len(got))
			}
			if !p.Host {
				t.Logf("%-30s %s: %2d series, %5.0f ms", p.Title, q.RefID, len(got), float64(took.Microseconds())/1000)
				if len(got) == 0 {
					t.Errorf("%s, %s has no data", p.Title, q.RefID)
				}
			}
		}
	}
}

// TestNoData: a Prometheus that has nothing of tcpmemd answers all of it, with
// nothing or with 0.
func TestNoData(t *testing.T) {
	s := promtest.Start(t, t.TempDir(), idle)
	d := read(t)
	for i := range d.Panels {
		for _, q := range d.Panels[i].Targets {
			got, _ := ask(t, s, &q, "")
			for _, g := range got {
				if g.Value != 0 {
					t.Errorf("%s, %s: %v", d.Panels[i].Title, q.RefID, g)
				}
			}
		}
	}
}

// ask runs a query as Grafana would.
func ask(t *testing.T, s *promtest.Server, q *Target, host string) ([]promtest.Series, time.Duration) {
	t.Helper()
	expr := Fill(q.Expr, host, "2m")
	begin := time.Now()
	var got []promtest.Series
	var err error
	if q.Instant {
		got, err = s.Query(t.Context(), expr)
	} else {
		got, err = s.QueryRange(t.Context(), expr, back, step)
	}
	if err != nil {
		t.Error(err)
	}
	return got, time.Since(begin)
}

// fill stores what the queries over all hosts ask for, six points of each, up
// to now, and says how many series that is.
func fill(t *testing.T, dir string, hosts int) (series int) {
	t.Helper()
	promtool := require.Tool(t, "promtool")
	path := filepath.Join(t.TempDir(), "metrics")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	now := time.Now().Unix()
	const points, apart = 6, 55
	// A family's series: labels beside the host's, and a value by host and point.
	type one struct {
		labels string
		value  func(host, point int) float64
	}
	fixed := func(v float64) func(int, int) float64 { return func(int, int) float64 { return v } }
	some := func(every int) func(int, int) float64 {
		return func(host, _ int) float64 {
			if host%every == 0 {
				return 1
			}
			return 0
		}
	}
	rising := func(host, point int) float64 { return float64(host%3) * float64(point) }
	family := func(name, kind string, all ...one) {
		typed := name
		if kind == "counter" {
			typed = name[:len(name)-len("_total")]
		}
		fmt.Fprintf(w, "# TYPE %s %s\n", typed, kind)
		for _, o := range all {
			for host := range hosts {
				series++
				for point := range points {
					fmt.Fprintf(w, "%s{job=\"tcpmemd\",instance=\"host%d\"%s} %g %d\n", name, host, o.labels, o.value(host, point), now-apart*int64(points-1-point))
				}
			}
		}
	}
	label := func(name string, words ...string) (list []one) {
		for i, word := range words {
			list = append(list, one{fmt.Sprintf(",%s=%q", name, word), some(i + 2)})
		}
		return list
	}
	family("up", "gauge", one{"", fixed(1)})
	family("tcpmemd_build_info", "gauge", one{`,version="0.1.0"`, fixed(1)})
	family("tcpmemd_level", "gauge", label("level", "calm", "elevated", "pressure", "critical", "unknown")...)
	family("tcpmemd_tcp_memory_fill_ratio", "gauge", one{"", func(host, point int) float64 { return float64((host*7919+point*13)%1000) / 1000 }})
	family("tcpmemd_tcp_memory_eta_seconds", "gauge", one{`,limit="max"`, func(host, _ int) float64 { return float64(host) }})
	family("tcpmemd_sample_timestamp_seconds", "gauge", one{"", fixed(float64(now))})
	family("tcpmemd_kernel_aborts_on_memory_total", "counter", one{"", rising})
	family("tcpmemd_owners_judged", "gauge", label("verdict", "leak")...)
	family("tcpmemd_incidents_open", "gauge", one{"", some(5)})
	family("tcpmemd_blind", "gauge", label("kind", "coverage", "netns", "bus", "sample", "log-unwritable")...)
	family("tcpmemd_rule_firing", "gauge", label("rule", "tcp-leak", "tcp-pressure")...)
	family("tcpmemd_rules_held", "gauge", one{"", some(11)})
	family("tcpmemd_rights_missing", "gauge", one{"", some(13)})
	results := label("result", "done", "failed", "refused", "timed-out")
	for i := range results {
		results[i].labels += `,action="restart-unit"`
		results[i].value = rising
	}
	family("tcpmemd_actions_total", "counter", results...)
	family("tcpmemd_action_effects_total", "counter", one{`,action="restart-unit",effect="helped"`, rising}, one{`,action="restart-unit",effect="worse"`, rising})
	family("instance:tcpmemd_heard_timestamp_seconds:max", "gauge", one{"", fixed(float64(now))})
	// Ten owners on each host; some have the same names everywhere, some never.
	fmt.Fprintln(w, "# TYPE tcpmemd_owner_bytes gauge")
	owners(w, "tcpmemd_owner_bytes", "", hosts, 11, points, apart, now)
	fmt.Fprintln(w, "# TYPE tcpmemd_owner_verdict gauge")
	owners(w, "tcpmemd_owner_verdict", `,verdict="leak"`, hosts, 2, points, apart, now)
	series += 13 * hosts
	fmt.Fprintln(w, "# EOF")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", path, dir).CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	return series
}

func owners(w *bufio.Writer, name, more string, hosts, each, points, apart int, now int64) {
	for i := range each {
		for host := range hosts {
			owner, kind := fmt.Sprintf("service-%d.service", i), "service"
			switch {
			case i == 10:
				owner, kind = "other", "other"
			case i > 5:
				owner, kind = fmt.Sprintf("pod-%d-%d", host, i), "container"
			}
			for point := range points {
				fmt.Fprintf(w, "%s{job=\"tcpmemd\",instance=\"host%d\",owner=%q,kind=%q%s} %d %d\n", name, host, owner, kind, more,
					1+(host*31+i*7)%1000*1000*(1-min(1, len(more))), now-int64(apart*(points-1-point)))
			}
		}
	}
}
