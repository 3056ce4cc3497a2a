package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

func TestRecordComesThrough(t *testing.T) {
	host := apitest.Acted()
	host.Segments = []api.Segment{{Name: "coarse-00000001.seg.gz", Data: []byte("one\x00")}, {Name: "fine-00000001.seg", Data: []byte("two")}}
	c, ctx := dial(t, serve(t, host, 0)), t.Context()
	compare := func(want, got any, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	list, err := c.Incidents(ctx)
	want, _ := host.Incidents(ctx)
	compare(&api.Incidents{Version: 1, Incidents: want}, list, err)
	incident, err := c.Incident(ctx, apitest.EndedIncident)
	compare(asJSON(t, host.IncidentList[1]), asJSON(t, incident), err)
	rules, err := c.Rules(ctx)
	if err != nil || len(rules.Rules) != 3 || rules.Mode != "enforce" || rules.ModeWhy != host.Conduct.ModeWhy || rules.Rules[2].Keys == nil {
		t.Errorf("rules: %v, %+v", err, rules)
	}
	policy, err := c.Policy(ctx)
	if err != nil || policy.Text != host.PolicyDoc.Text || policy.Broken == nil || policy.Version != 1 {
		t.Errorf("policy: %v, %+v", err, policy)
	}
	plugins, err := c.Plugins(ctx)
	if err != nil || len(plugins.Plugins) != 2 || plugins.Plugins[1].Rights == nil {
		t.Errorf("plugins: %v, %+v", err, plugins)
	}
	segments, err := collect(c.History(ctx, time.Time{}))
	compare(host.Segments, segments, err)

	for _, tt := range []struct {
		q    api.RecordQuery
		want []string
	}{
		{api.RecordQuery{Limit: 2}, []string{"r-11", "r-10"}},
		{api.RecordQuery{Action: apitest.Restart}, []string{"r-7", "r-6", "r-5"}},
		{api.RecordQuery{Rule: "slow-peer"}, []string{"r-10"}},
		{api.RecordQuery{Kind: record.KindEffect}, []string{"r-7"}},
		{api.RecordQuery{ID: "r-3"}, []string{"r-3"}},
		{api.RecordQuery{Since: apitest.At.Add(-8 * time.Minute)}, []string{"r-11", "r-10"}},
		{api.RecordQuery{Incident: "no such"}, nil},
	} {
		var ids []string
		for r, err := range c.Records(ctx, tt.q) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, r.ID)
		}
		if diff := cmp.Diff(tt.want, ids); diff != "" {
			t.Errorf("%+v: (-want +got)\n%s", tt.q, diff)
		}
	}
	for range c.Records(ctx, api.RecordQuery{}) {
		break // one is enough: the connection is given up, and not waited for
	}
	if _, err := c.Incident(ctx, "../policy"); !notFound(err) {
		t.Errorf("an incident that is none: %v", err)
	}
	if _, err := c.Incident(ctx, ""); !notFound(err) {
		t.Errorf("an incident without an id: %v", err)
	}
}

func notFound(err error) bool {
	refusal, ok := errors.AsType[*api.RequestError](err)
	return ok && refusal.NotFound()
}

func collect[T any](from iter.Seq2[T, error]) (all []T, err error) {
	for v, err := range from {
		if err != nil {
			return all, err
		}
		all = append(all, v)
	}
	return all, nil
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCutRecords: what is broken in the middle is never a short answer.
func TestCutRecords(t *testing.T) {
	for cut, want := range map[int]int{3: 3, 1: 1} {
		host := apitest.Acted()
		host.Cut = cut
		got, err := collect(dial(t, serve(t, host, 0)).Records(t.Context(), api.RecordQuery{}))
		if len(got) != want || err == nil || !strings.Contains(err.Error(), "files are broken") {
			t.Errorf("cut after %d: %d records, %v", cut, len(got), err)
		}
	}
	host := apitest.Acted()
	host.Err = errors.New("there is no state directory")
	got, err := collect(dial(t, serve(t, host, 0)).Records(t.Context(), api.RecordQuery{}))
	if refusal, ok := errors.AsType[*api.RequestError](err); !ok || refusal.Status != 500 || len(got) != 0 {
		t.Errorf("no record at all: %v", err)
	}
}

func TestOrdersComeThrough(t *testing.T) {
	require.Root(t)
	host := apitest.Acted()
	c, ctx := dial(t, serve(t, host, 0)), t.Context()
	pause, err := c.Pause(ctx, 90*time.Minute, "  deploying ")
	if err != nil || pause.Why != "deploying" || pause.By == nil || pause.By.PID != os.Getpid() || pause.By.UID != 0 {
		t.Errorf("pause: %v, %+v", err, pause)
	}
	if _, err := c.Resume(ctx); err != nil {
		t.Error(err)
	}
	if _, err := c.Reset(ctx, "leaking-service"); err != nil {
		t.Error(err)
	}
	reloaded, err := c.Reload(ctx, true)
	if err != nil || reloaded.Rules != 9 || reloaded.Notes == nil {
		t.Errorf("reload: %v, %+v", err, reloaded)
	}
	if _, err := c.PluginsVerify(ctx); err != nil {
		t.Error(err)
	}
	acted, err := c.Act(ctx, api.ActRequest{Incident: apitest.EndedIncident, Step: 2, DryRun: true})
	if err != nil || acted.Action != apitest.Restart || acted.Decision.By == nil || acted.Decision.By.PID != os.Getpid() {
		t.Errorf("act: %v, %+v", err, acted)
	}
	want := []string{
		"pause 1h30m0s: deploying by 0", "resume by 0", "reset leaking-service by 0", "reload true by 0", "verify by 0",
		"act " + apitest.EndedIncident + ` step 2 key "" dry true preview false by 0`,
	}
	if diff := cmp.Diff(want, host.Orders()); diff != "" {
		t.Errorf("orders: (-want +got)\n%s", diff)
	}
	host.Refusal = &api.ConfigError{Message: "x.toml:1:1: no"}
	_, err = c.Reload(ctx, true)
	if wrong, ok := errors.AsType[*api.ConfigError](err); !ok || wrong.Message != "x.toml:1:1: no" {
		t.Errorf("a wrong file: %v", err)
	}
}

// TestBadOrders: nothing that is not an order in full reaches the source.
func TestBadOrders(t *testing.T) {
	require.Root(t)
	host := apitest.Acted()
	socket := serve(t, host, 0)
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/pause", ``, 400},
		{"POST", "/v1/pause", `{"seconds":60}`, 400},
		{"POST", "/v1/pause", `{"seconds":0,"why":"x"}`, 400},
		{"POST", "/v1/pause", `{"seconds":1e99,"why":"x"}`, 400},
		{"POST", "/v1/pause", `{"seconds":-60,"why":"x"}`, 400},
		{"POST", "/v1/pause", `{"seconds":60,"why":"` + strings.Repeat("x", api.MaxWhy+1) + `"}`, 400},
		{"POST", "/v1/pause", `{"seconds":60,"why":"x","until":"later"}`, 400},
		{"POST", "/v1/pause", `{"seconds":60,"why":"x"}{}`, 400},
		{"POST", "/v1/pause", `{"seconds":60,"why":"` + strings.Repeat("x", 1<<20) + `"}`, 400},
		{"POST", "/v1/act", `{"step":1}`, 400},
		{"POST", "/v1/act", `{"incident":"x","step":-1}`, 400},
		{"POST", "/v1/reset", `{}`, 400},
		{"POST", "/v1/resume", `null null`, 400},
		{"GET", "/v1/pause", ``, 404},
		{"GET", "/v1/reload", ``, 404},
		{"POST", "/v1/status", `{}`, 404},
		{"GET", "/v1/records?limit=-1", ``, 400},
		{"GET", "/v1/records?since=yesterday", ``, 400},
		{"GET", "/v1/history?since=1", ``, 400},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://tcpmemd"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s %s %.40s: %v", tt.method, tt.path, tt.body, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != tt.status {
			t.Errorf("%s %s %.40s: status %d, want %d", tt.method, tt.path, tt.body, resp.StatusCode, tt.status)
		}
	}
	if orders := host.Orders(); len(orders) > 0 {
		t.Errorf("reached the source: %q", orders)
	}
}

// asStranger is set for this test binary where it runs as another user: it
// tries everything on the socket, and prints the errors.
const asStranger = "TCPMEMD_TEST_STRANGER"

func stranger(socket string) {
	c, ctx := api.Dial(socket), context.Background()
	_, status := c.Status(ctx)
	_, incidents := c.Incidents(ctx)
	_, act := c.Act(ctx, api.ActRequest{Incident: apitest.EndedIncident})
	_, preview := c.Act(ctx, api.ActRequest{Incident: apitest.EndedIncident, Preview: true})
	_, pause := c.Pause(ctx, time.Hour, "mischief")
	_, resume := c.Resume(ctx)
	_, reset := c.Reset(ctx, "leaking-service")
	_, reload := c.Reload(ctx, false)
	_, verify := c.PluginsVerify(ctx)
	for _, err := range []error{status, incidents, act, preview, pause, resume, reset, reload, verify} {
		fmt.Printf("%T %v\n", err, err)
	}
}

// TestMembersOfTheGroupMayOnlyLook connects as another user, with the group of
// the socket.
func TestMembersOfTheGroupMayOnlyLook(t *testing.T) {
	require.Root(t)
	host := apitest.Acted()
	socket := serve(t, host, 0)
	for _, dir := range []string{filepath.Dir(socket), filepath.Dir(filepath.Dir(socket))} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), asStranger+"="+socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: uint32(os.Getgid())}}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	no := func(what string) string {
		return "*api.DeniedError ask daemon: only root may " + what +
			", and this is uid 65534: members of the daemon's group may look, and change nothing"
	}
	want := []string{
		"<nil> <nil>", "<nil> <nil>", no("act"), no("act"), no("pause"), no("resume"), no("reset a rule"), no("reload"),
		no("start plugins to verify them"),
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(out.String()), "\n")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if orders := host.Orders(); len(orders) > 0 {
		t.Errorf("reached the source: %q", orders)
	}
}
