package grafana

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/metrics"
)

func read(t *testing.T) *Dashboard {
	t.Helper()
	d, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestPanels: each says what it shows, in which unit, and what it means when
// there is nothing to show; none is red for that.
func TestPanels(t *testing.T) {
	d := read(t)
	ids := make(map[int]string)
	for i := range d.Panels {
		p := &d.Panels[i]
		if p.Title == "" {
			t.Errorf("panel %d has no title", p.ID)
		}
		if other, twice := ids[p.ID]; twice || p.ID == 0 {
			t.Errorf("%s and %s have the id %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		if p.Type == "row" {
			continue
		}
		def := &p.FieldConfig.Defaults
		if p.Description == "" || def.Unit == "" || def.NoValue == "" {
			t.Errorf("%s: description %q, unit %q, without data %q", p.Title, p.Description, def.Unit, def.NoValue)
		}
		for _, s := range def.Thresholds.Steps {
			if s.Color == "red" && (s.Value == nil || *s.Value <= 0) {
				t.Errorf("%s is red where all is well", p.Title)
			}
		}
		refs := make(map[string]bool)
		for _, q := range p.Targets {
			if refs[q.RefID] || q.RefID == "" {
				t.Errorf("%s has two queries %q", p.Title, q.RefID)
			}
			refs[q.RefID] = true
			if q.Instant == q.Range {
				t.Errorf("%s, %s: instant %t, range %t", p.Title, q.RefID, q.Instant, q.Range)
			}
			if q.Datasource != p.Datasource || q.Datasource != (Datasource{"prometheus", "${datasource}"}) {
				t.Errorf("%s, %s asks %v", p.Title, q.RefID, q.Datasource)
			}
			if q.Range && (q.Legend == "" || q.Legend == "__auto") {
				t.Errorf("%s, %s has no legend", p.Title, q.RefID)
			}
			if p.Host != strings.Contains(q.Expr, `instance="$host"`) || p.Host == strings.Contains(q.Expr, `instance=~"$instance"`) {
				t.Errorf("%s, %s: about one host %t, asks %s", p.Title, q.RefID, p.Host, q.Expr)
			}
			if n := strings.Count(q.Expr, "tcpmemd_"); strings.Count(q.Expr, `job=~"$job"`) == 0 || n == 0 {
				t.Errorf("%s, %s asks for all jobs: %s", p.Title, q.RefID, q.Expr)
			}
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s asks nothing", p.Title)
		}
	}
}

func TestGrid(t *testing.T) {
	d := read(t)
	for i := range d.Panels {
		a := &d.Panels[i]
		if g := a.GridPos; g.X < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%s is at %+v, outside", a.Title, g)
		}
		for j := range i {
			b := &d.Panels[j]
			ga, gb := a.GridPos, b.GridPos
			if ga.X < gb.X+gb.W && gb.X < ga.X+ga.W && ga.Y < gb.Y+gb.H && gb.Y < ga.Y+ga.H {
				t.Errorf("%s and %s overlap", a.Title, b.Title)
			}
			if ga.Y < gb.Y {
				t.Errorf("%s stands after %s and above it", a.Title, b.Title)
			}
		}
	}
}

// TestVariables: the data source is a person's choice, so are jobs and hosts,
// many for what is about all of them, and one for what is about one.
func TestVariables(t *testing.T) {
	d := read(t)
	if d.UID != "tcpmemd" || d.SchemaVersion != 38 || len(d.Links) == 0 {
		t.Errorf("uid %q, schema %d, links %v", d.UID, d.SchemaVersion, d.Links)
	}
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
		many := v.Name == "job" || v.Name == "instance"
		if v.Multi != many || v.IncludeAll != many || many && v.AllValue != ".*" {
			t.Errorf("%s: multi %t, all %t as %q", v.Name, v.Multi, v.IncludeAll, v.AllValue)
		}
		if v.Type == "query" && v.Datasource != (Datasource{"prometheus", "${datasource}"}) {
			t.Errorf("%s asks %v", v.Name, v.Datasource)
		}
	}
	if want := []string{"datasource", "job", "instance", "host"}; !slices.Equal(names, want) {
		t.Errorf("variables %q, want %q", names, want)
	}
}

// TestNames: each metric is one of the daemon's, of Prometheus, or of the rules,
// and each of the daemon's is shown.
func TestNames(t *testing.T) {
	known := []string{"instance:tcpmemd_heard_timestamp_seconds:max"}
	shown := make(map[string]bool)
	for _, m := range metrics.Catalogue() {
		known = append(known, m.Name)
	}
	for _, m := range regexp.MustCompile(`(?:\w+:)?(?:tcpmemd|process)_[\w:]+`).FindAllString(string(text), -1) {
		if !slices.Contains(known, m) {
			t.Errorf("there is no %s", m)
		}
		shown[m] = true
	}
	for _, name := range known {
		if !shown[name] && !slices.Contains(unshown, name) {
			t.Errorf("nothing shows %s", name)
		}
	}
}

// unshown are metrics for alerts and for other dashboards.
var unshown = []string{
	"tcpmemd_scan_timestamp_seconds", "tcpmemd_tcp_memory_under_pressure", "tcpmemd_hidden_sockets_estimate", "tcpmemd_owners",
	"tcpmemd_kernel_memory_pressure_seconds_total", "tcpmemd_rules", "tcpmemd_rules_firing", "tcpmemd_incidents_total",
}
