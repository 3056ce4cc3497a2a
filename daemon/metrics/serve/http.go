package serve

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"golang.org/x/time/rate"

	"github.com/tcpmemd/tcpmemd/daemon/metrics"
)

const (
	// maxScrapes are answered at a time, over all listeners.
	maxScrapes = 4
	// gatherTime is what getting the metrics may take. It is milliseconds.
	gatherTime = 5 * time.Second
)

// landing is for a person who looks with a browser.
const landing = `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>tcpmemd</title></head>
<body>
<h1>tcpmemd</h1>
<p>It watches this host's TCP memory. <a href="/metrics">Metrics</a> for Prometheus; tcpmemctl has the rest.</p>
</body>
</html>
`

// newHandler answers GET and HEAD of / and /metrics.
func newHandler(gather Gather) http.Handler {
	s := &scrapes{gather: gather, slots: make(chan struct{}, maxScrapes)}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		_, _ = w.Write([]byte(landing)) // a failure is the client's
	})
	return http.MaxBytesHandler(mux, 0)
}

type scrapes struct {
	gather Gather
	slots  chan struct{}
}

// ServeHTTP answers one scrape, whole or not at all.
func (s *scrapes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		http.Error(w, fmt.Sprintf("%d scrapes are being answered already, try again", maxScrapes), http.StatusServiceUnavailable)
		return
	}
	families, err := s.gather(r.Context())
	if err != nil {
		http.Error(w, "no metrics: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	text, err := encode(families, format)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(format))
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write(text) // a failure is the client's
}

func encode(families []*dto.MetricFamily, format expfmt.Format) ([]byte, error) {
	var b bytes.Buffer
	err := metrics.Write(&b, families, format)
	return b.Bytes(), err
}

// sparing passes on warnings, and few of them: clients and a broken web
// configuration bring one with each request.
type sparing struct {
	slog.Handler
	few *rate.Limiter
}

func newSparing(h slog.Handler) sparing {
	return sparing{h, rate.NewLimiter(rate.Every(time.Minute), 3)}
}

// Enabled implements slog.Handler.
func (s sparing) Enabled(ctx context.Context, at slog.Level) bool {
	return at >= slog.LevelWarn && s.Handler.Enabled(ctx, at)
}

// Handle implements slog.Handler.
func (s sparing) Handle(ctx context.Context, r slog.Record) error {
	if !s.few.Allow() {
		return nil
	}
	return s.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (s sparing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sparing{s.Handler.WithAttrs(attrs), s.few}
}

// WithGroup implements slog.Handler.
func (s sparing) WithGroup(name string) slog.Handler {
	return sparing{s.Handler.WithGroup(name), s.few}
}
