package serve

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("TCPMEMD_TEST_HANDED") != "" {
		os.Exit(handedMain())
	}
	goleak.VerifyTestMain(m)
}

// one is a metric of each type that there is.
func one(context.Context) ([]*dto.MetricFamily, error) {
	return []*dto.MetricFamily{
		{Name: new("tcpmemd_a"), Help: new("A."), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: new(1.5)}}}},
		{Name: new("tcpmemd_b_total"), Help: new("B."), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{{Counter: &dto.Counter{Value: new(2.0)}}}},
	}, nil
}

const oneText = "# HELP tcpmemd_a A.\n# TYPE tcpmemd_a gauge\ntcpmemd_a 1.5\n# HELP tcpmemd_b_total B.\n# TYPE tcpmemd_b_total counter\ntcpmemd_b_total 2\n"

// start runs an exporter until the test ends, or stop is called, which waits.
func start(t *testing.T, c Config) (e *Exporter, stop func()) {
	t.Helper()
	if c.Gather == nil {
		c.Gather = one
	}
	c.Log = slog.New(slog.DiscardHandler)
	e = New(c)
	e.retry = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { e.Run(ctx); close(ended) }()
	stop = func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("the exporter does not end")
		}
	}
	t.Cleanup(stop)
	return e, stop
}

// loopback is a listener as the service manager hands it over.
func loopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// eventually waits until f gives "", and fails with what it gave last.
func eventually(t *testing.T, f func() string) {
	t.Helper()
	last := ""
	for range 250 {
		if last = f(); last == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal(last)
}

// troubleWith waits for a trouble that has all of these words.
func troubleWith(t *testing.T, e *Exporter, words ...string) {
	t.Helper()
	eventually(t, func() string {
		list := e.Troubles()
		if len(list) != 1 {
			return "no trouble, or more than one"
		}
		for _, w := range words {
			if !strings.Contains(list[0].String(), w) {
				return list[0].String() + "; want " + w
			}
		}
		return ""
	})
}

func untroubled(t *testing.T, e *Exporter) {
	t.Helper()
	eventually(t, func() string {
		if list := e.Troubles(); len(list) > 0 {
			return list[0].String()
		}
		if len(e.Doing()) == 0 {
			return "nothing is done"
		}
		return ""
	})
}

// client has no connection left after the test.
func client(t *testing.T) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// answer is what a test looks at.
type answer struct {
	code   int
	header http.Header
	body   string
}

func get(t *testing.T, c *http.Client, method, url string, header http.Header) answer {
	t.Helper()
	req, err := http.NewRequest(method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func TestRequests(t *testing.T) {
	l := loopback(t)
	start(t, Config{Handed: []net.Listener{l}})
	base := "http://" + l.Addr().String()
	accept := func(v string) http.Header { return http.Header{"Accept": {v}} }
	tests := []struct {
		name, method, path string
		header             http.Header
		status             int
		kind, body         string
	}{
		{"text", "GET", "/metrics", nil, 200, "text/plain; version=0.0.4", oneText},
		{
			"OpenMetrics", "GET", "/metrics", accept("application/openmetrics-text;version=1.0.0"), 200, "application/openmetrics-text; version=1.0.0",
			"# HELP tcpmemd_a A.\n# TYPE tcpmemd_a gauge\ntcpmemd_a 1.5\n# HELP tcpmemd_b B.\n# TYPE tcpmemd_b counter\ntcpmemd_b_total 2.0\n# EOF\n",
		},
		{"protobuf", "GET", "/metrics", accept("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"), 200, "application/vnd.google.protobuf", ""},
		{"nonsense to accept", "GET", "/metrics", accept("image/png"), 200, "text/plain; version=0.0.4", oneText},
		{"head", "HEAD", "/metrics", nil, 200, "text/plain; version=0.0.4", ""},
		{"landing page", "GET", "/", nil, 200, "text/html", landing},
		{"another page", "GET", "/debug/pprof/", nil, 404, "text/plain", ""},
		{"below", "GET", "/metrics/x", nil, 404, "text/plain", ""},
		{"post", "POST", "/metrics", nil, 405, "text/plain", ""},
		{"delete", "DELETE", "/", nil, 405, "text/plain", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := get(t, client(t), tt.method, base+tt.path, tt.header)
			if got.code != tt.status || !strings.HasPrefix(got.header.Get("Content-Type"), tt.kind) {
				t.Errorf("%d, %s; want %d, %s", got.code, got.header.Get("Content-Type"), tt.status, tt.kind)
			}
			if tt.body != "" && got.body != tt.body {
				t.Errorf("got %q\nwant %q", got.body, tt.body)
			}
		})
	}
}

func TestLargeHeader(t *testing.T) {
	l := loopback(t)
	start(t, Config{Handed: []net.Listener{l}})
	req, err := http.NewRequest(http.MethodGet, "http://"+l.Addr().String()+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X", strings.Repeat("x", 2*maxHeader))
	resp, err := client(t).Do(req)
	if err != nil {
		return // closed while it was being sent
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %s", resp.Status)
	}
}

func TestNothingToDo(t *testing.T) {
	e := New(Config{Gather: one, Log: slog.New(slog.DiscardHandler)})
	e.Run(t.Context()) // returns
	if e.Doing() != nil || e.Troubles() != nil {
		t.Errorf("does %v, troubles %v", e.Doing(), e.Troubles())
	}
}

func TestNoMetrics(t *testing.T) {
	for what, gather := range map[string]Gather{
		"the daemon is ending":   func(context.Context) ([]*dto.MetricFamily, error) { return nil, errors.New("the daemon is ending") },
		"gather metrics: broken": func(context.Context) ([]*dto.MetricFamily, error) { panic("broken") },
	} {
		l, file := loopback(t), filepath.Join(t.TempDir(), "m.prom")
		e, _ := start(t, Config{Gather: gather, Handed: []net.Listener{l}, Textfile: file, Interval: time.Hour})
		got := get(t, client(t), "GET", "http://"+l.Addr().String()+"/metrics", nil)
		if got.code != http.StatusServiceUnavailable || got.body != "no metrics: "+what+"\n" {
			t.Errorf("%d, %q; want 503 and %s", got.code, got.body, what)
		}
		troubleWith(t, e, file+": "+what)
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a file was written: %v", err)
		}
	}
}

func TestManyScrapes(t *testing.T) {
	l := loopback(t)
	under, release := make(chan struct{}), make(chan struct{})
	start(t, Config{Handed: []net.Listener{l}, Gather: func(ctx context.Context) ([]*dto.MetricFamily, error) {
		under <- struct{}{}
		<-release
		return one(ctx)
	}})
	c, url := client(t), "http://"+l.Addr().String()+"/metrics"
	got := make(chan int, maxScrapes)
	for range maxScrapes {
		go func() {
			resp, err := c.Get(url)
			if err != nil {
				got <- 0
				return
			}
			resp.Body.Close()
			got <- resp.StatusCode
		}()
		<-under
	}
	if got := get(t, c, "GET", url, nil); got.code != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("one too many: %d", got.code)
	}
	close(release)
	for range maxScrapes {
		if code := <-got; code != 200 {
			t.Errorf("one of %d: %d", maxScrapes, code)
		}
	}
}

func TestManyConnections(t *testing.T) {
	l := loopback(t)
	start(t, Config{Handed: []net.Listener{l}})
	var idle []net.Conn
	for range maxConnections {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
	}
	c, url := client(t), "http://"+l.Addr().String()+"/metrics"
	eventually(t, func() string {
		resp, err := c.Get(url)
		if err == nil {
			resp.Body.Close()
			return "one more is answered"
		}
		return ""
	})
	idle[0].Close()
	eventually(t, func() string {
		resp, err := c.Get(url)
		if err != nil {
			return err.Error()
		}
		resp.Body.Close()
		return ""
	})
}

// TestPortTaken: the listener is tried again until it works.
func TestPortTaken(t *testing.T) {
	other := loopback(t)
	at := other.Addr().String()
	e, _ := start(t, Config{Listen: []Endpoint{{"tcp", at}}})
	troubleWith(t, e, at+": listen tcp "+at+": bind: address already in use; another program listens there")
	if does := e.Doing(); does != nil {
		t.Errorf("does %v", does)
	}
	other.Close()
	untroubled(t, e)
	if got := get(t, client(t), "GET", "http://"+at+"/metrics", nil); got.code != http.StatusOK || got.body != oneText {
		t.Errorf("%d, %s", got.code, got.body)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	e, stop := start(t, Config{Listen: []Endpoint{{"unix", path}}})
	untroubled(t, e)
	if does := e.Doing(); len(does) != 1 || does[0] != "served on unix:"+path {
		t.Errorf("does %v", does)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	if got := get(t, &http.Client{Transport: tr}, "GET", "http://x/metrics", nil); got.body != oneText {
		t.Errorf("got %s", got.body)
	}
	tr.CloseIdleConnections()
	stop()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}

	e, _ = start(t, Config{Listen: []Endpoint{{"unix", "/nonexistent/m.sock"}}})
	troubleWith(t, e, "unix:/nonexistent/m.sock: ", "no such file or directory", "make the folder")
}

// TestStopWhileScraped: who scrapes then has an answer soon, and the daemon an
// end.
func TestStopWhileScraped(t *testing.T) {
	l := loopback(t)
	var asked atomic.Bool
	_, stop := start(t, Config{Handed: []net.Listener{l}, Gather: func(ctx context.Context) ([]*dto.MetricFamily, error) {
		asked.Store(true)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	done := make(chan struct{})
	c := client(t)
	go func() {
		defer close(done)
		if resp, err := c.Get("http://" + l.Addr().String() + "/metrics"); err == nil {
			resp.Body.Close()
		}
	}()
	eventually(t, func() string {
		if !asked.Load() {
			return "nothing was asked"
		}
		return ""
	})
	began := time.Now()
	stop()
	if took := time.Since(began); took > 2*shutdownGrace {
		t.Errorf("the end took %s", took)
	}
	<-done
}
