// Package promtest runs a real Prometheus for a test, Debian's, as a process of
// that test, and asks it.
package promtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

const (
	startTime = 20 * time.Second
	stopTime  = 10 * time.Second
	queryTime = 30 * time.Second
)

// Server is a Prometheus that runs until the test ends.
type Server struct {
	URL    string
	client *http.Client
}

// Start runs one with this configuration on what is stored in dir.
func Start(t testing.TB, dir, config string) *Server {
	t.Helper()
	path := require.Tool(t, "prometheus")
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	// Not of the test's context, which ends before its Cleanup: it is ended there.
	cmd := exec.CommandContext(context.Background(), path, "--config.file="+file, "--storage.tsdb.path="+dir,
		"--web.listen-address=127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	address := make(chan string, 1)
	read := make(chan string, 1)
	go func() {
		// Pdeathsig comes when the thread ends that started the process: this one
		// stays until it has ended (its standard error then does, too).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		var last []string
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if m := regexp.MustCompile(`msg="Listening on" address=(\S+)`).FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
			if last = append(last, lines.Text()); len(last) > 30 {
				last = last[1:]
			}
		}
		read <- strings.Join(last, "\n")
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(stopTime, func() { _ = cmd.Process.Kill() })
		log := <-read
		late.Stop()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus said last:\n%s", log)
		}
	})
	s := &Server{client: &http.Client{Timeout: queryTime}}
	select {
	case at := <-address:
		s.URL = "http://" + at
	case <-time.After(startTime):
		t.Fatal("prometheus does not listen")
	}
	for deadline := time.Now().Add(startTime); ; time.Sleep(50 * time.Millisecond) {
		if err := s.get(t.Context(), "/-/ready", nil, nil); err == nil {
			return s
		} else if time.Now().After(deadline) {
			t.Fatalf("prometheus is not ready: %v", err)
		}
	}
}

// Series is one of a result: its labels, and its last value.
type Series struct {
	Labels map[string]string
	Value  float64
	Points int
}

// Query asks for now.
func (s *Server) Query(ctx context.Context, expr string) ([]Series, error) {
	return s.query(ctx, "/api/v1/query", url.Values{"query": {expr}})
}

// QueryRange asks for the time until now.
func (s *Server) QueryRange(ctx context.Context, expr string, back, step time.Duration) ([]Series, error) {
	seconds := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	now := time.Now()
	return s.query(ctx, "/api/v1/query_range", url.Values{
		"query": {expr}, "start": {seconds(now.Add(-back))}, "end": {seconds(now)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	})
}

func (s *Server) query(ctx context.Context, path string, form url.Values) (list []Series, err error) {
	var data struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	}
	if err := s.get(ctx, path, form, &data); err != nil {
		return nil, err
	}
	var raw []struct {
		Metric map[string]string `json:"metric"`
		Value  *[2]any           `json:"value"`
		Values [][2]any          `json:"values"`
	}
	if data.Type != "vector" && data.Type != "matrix" {
		return nil, fmt.Errorf("query %s: a %s", form.Get("query"), data.Type)
	}
	if err := json.Unmarshal(data.Result, &raw); err != nil {
		return nil, fmt.Errorf("query %s: %w", form.Get("query"), err)
	}
	for _, r := range raw {
		if r.Value != nil {
			r.Values = append(r.Values, *r.Value)
		}
		v := Series{Labels: r.Metric, Points: len(r.Values)}
		if n := len(r.Values); n > 0 {
			word, _ := r.Values[n-1][1].(string)
			if v.Value, err = strconv.ParseFloat(word, 64); err != nil {
				return nil, fmt.Errorf("query %s: %w", form.Get("query"), err)
			}
		}
		list = append(list, v)
	}
	return list, nil
}

// Alert is one that is pending or firing.
type Alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	State       string            `json:"state"`
	ActiveAt    time.Time         `json:"activeAt"`
}

// Alerts lists them as they are now.
func (s *Server) Alerts(ctx context.Context) ([]Alert, error) {
	var data struct {
		Alerts []Alert `json:"alerts"`
	}
	err := s.get(ctx, "/api/v1/alerts", nil, &data)
	return data.Alerts, err
}

// get reads an answer of the API into data, where that is not nil.
func (s *Server) get(ctx context.Context, path string, form url.Values, data any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path+"?"+form.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if data == nil {
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("ask %s: %s", path, resp.Status)
		}
		return nil
	}
	answer := struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   any    `json:"data"`
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("ask %s: %s: %s", path, form.Get("query"), answer.Error)
	}
	return nil
}
