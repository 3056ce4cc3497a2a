package metrics

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/plugins/builtin"
)

var update = flag.Bool("update", false, "write the table of metrics anew")

const (
	page   = "../../docs/prometheus.md"
	marker = "<!-- go generate ./daemon/metrics writes what follows -->\n"
)

// TestDocumented: the page lists each metric as it is in the catalogue, and no
// other. What follows the table is somebody else's.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, table, ok := strings.Cut(string(b), marker)
	if !ok {
		t.Fatalf("%s has no line %q", page, marker)
	}
	table, after, _ := strings.Cut(table, "\n\n")
	if after != "" {
		after = "\n" + after
		table += "\n"
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+marker+Table()+after), 0o644); err != nil { //nolint:gosec // as all pages
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(Table(), table); diff != "" {
		t.Errorf("metrics (-program +page), go generate ./daemon/metrics writes them:\n%s", diff)
	}
}

// TestCatalogue: no family twice, and together not more than a host may have.
func TestCatalogue(t *testing.T) {
	sum := 0
	var names []string
	for _, m := range Catalogue() {
		sum += m.Max
		if slices.Contains(names, m.Name) {
			t.Errorf("%s is there twice", m.Name)
		}
		names = append(names, m.Name)
		if !strings.HasSuffix(m.Help, ".") || strings.ContainsAny(m.Help, "|\n") {
			t.Errorf("%s: help %q is no sentence that fits the table", m.Name, m.Help)
		}
		if m.Counter != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%s: counter %v", m.Name, m.Counter)
		}
		if !strings.HasSuffix(strings.TrimSuffix(m.Name, "_total"), m.Unit) {
			t.Errorf("%s does not name its unit, %s", m.Name, m.Unit)
		}
		if m.Max < 1 || len(m.Labels) == 0 && m.Max != 1 {
			t.Errorf("%s: at most %d series by the labels %q", m.Name, m.Max, m.Labels)
		}
	}
	if sum > MaxSeries {
		t.Errorf("%d series at most, want no more than %d", sum, MaxSeries)
	}
	t.Logf("%d families, at most %d series", len(names), sum)
}

// TestWords: the words that labels choose from are all that there are.
func TestWords(t *testing.T) {
	var actions []string
	for _, a := range builtin.Actions("test") {
		actions = append(actions, a.Describe().Name)
	}
	if diff := cmp.Diff(actions, builtIn); diff != "" {
		t.Errorf("actions that come along (-plugins +here):\n%s", diff)
	}
	var blind []string
	for _, k := range event.Catalogue() {
		if kind, ok := strings.CutPrefix(k.ID, "blind-"); ok && k.Lasts || k.ID == event.LogUnwritable {
			blind = append(blind, kind)
		}
	}
	slices.Sort(blind)
	if diff := cmp.Diff(blind, slices.Sorted(slices.Values(blindness))); diff != "" {
		t.Errorf("kinds of blindness that last (-catalogue +here):\n%s", diff)
	}
	if len(classes) != int(reading.NumClasses) {
		t.Errorf("%d classes, want %d", len(classes), reading.NumClasses)
	}
}
