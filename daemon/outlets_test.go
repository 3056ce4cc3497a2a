package daemon

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/metrics/serve"
)

type fakeExporter struct {
	doing    []string
	troubles []serve.Trouble
}

func (e *fakeExporter) Run(ctx context.Context)   { <-ctx.Done() }
func (e *fakeExporter) Doing() []string           { return e.doing }
func (e *fakeExporter) Troubles() []serve.Trouble { return e.troubles }

// What keeps metrics in is told once for each change, with its end, and doctor
// says what would help.
func TestMetricsDoNotGetOut(t *testing.T) {
	j, _ := alone()
	kept := &unhealthy{}
	e := &fakeExporter{doing: []string{"served on 127.0.0.1:9764", "served on [::1]:9764"}}
	j.cfg.Store, j.cfg.Exporter = kept, e
	look := func(told int) {
		t.Helper()
		j.outlets.look(j)
		j.outlets.look(j)
		if want := slices.Repeat([]string{"metrics-unavailable"}, told); !slices.Equal(kept.events, want) {
			t.Errorf("told %q, want %d times", kept.events, told)
		}
	}
	check := func(status api.DoctorStatus, what, costs string) {
		t.Helper()
		c := metricsCheck(e)
		if c.Name != "metrics" || c.Status != status || c.What != what || (c.Costs == nil) != (costs == "") || c.Costs != nil && *c.Costs != costs {
			t.Errorf("doctor: %+v, want %s, %q, %q", c, status, what, costs)
		}
	}
	look(0)
	check(api.DoctorOK, "served on 127.0.0.1:9764, served on [::1]:9764", "")
	e.doing, e.troubles = e.doing[:1], []serve.Trouble{{What: "[::1]:9764", Why: "bind: address already in use", Mend: "ss -ltnp"}}
	look(1)
	check(api.DoctorDegraded, "served on 127.0.0.1:9764; [::1]:9764: bind: address already in use",
		"Prometheus gets nothing there; what would help: [::1]:9764: ss -ltnp")
	e.doing, e.troubles = nil, append(e.troubles, serve.Trouble{What: "/x.prom", Why: "disk full"})
	look(2)
	e.troubles = nil
	look(3)

	if c := metricsCheck(nil); c.Status != api.DoctorOK || !strings.HasPrefix(c.What, "off: ") {
		t.Errorf("without an exporter: %+v", c)
	}
	j.cfg.Exporter = nil
	look(3)
}
