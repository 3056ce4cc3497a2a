package runner

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/tcpmemd/tcpmemd/remediate/internal/wire"
)

// Limits of what a plugin can say. Beyond the lines it is counted, beyond the
// bytes it has to wait: reading without end costs the daemon's time.
const (
	maxLine        = 1 << 10
	linesPerSecond = 10
	linesAtOnce    = 50
	bytesPerSecond = 1 << 20
	bytesAtOnce    = 1 << 20
)

// words are what a plugin says on its standard output and error. They are
// logged as the plugin's, never taken as anything else.
type words struct {
	log   *slog.Logger
	bytes *rate.Limiter
	lines *rate.Limiter

	mu      sync.Mutex
	final   string
	leftOut int
}

func newWords(log *slog.Logger) *words {
	return &words{
		log:   log,
		bytes: rate.NewLimiter(bytesPerSecond, bytesAtOnce),
		lines: rate.NewLimiter(linesPerSecond, linesAtOnce),
	}
}

// listen logs r line by line until it ends.
func (w *words) listen(ctx context.Context, r io.Reader) {
	in := bufio.NewReaderSize(throttled{ctx, r, w.bytes}, maxLine)
	for rest := false; ; {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 && !rest {
			w.say(strings.TrimRight(string(line), "\r\n"), errors.Is(err, bufio.ErrBufferFull))
		}
		rest = errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !rest {
			return
		}
	}
}

func (w *words) say(line string, cut bool) {
	text := wire.Printable(line, maxLine)
	if cut {
		text += " ..."
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if text != "" {
		w.final = text
	}
	if !w.lines.Allow() {
		w.leftOut++
		return
	}
	if w.leftOut > 0 {
		w.log.Warn("plugin says too much", "lines_left_out", w.leftOut)
		w.leftOut = 0
	}
	w.log.Info("plugin says", "line", text)
}

// end tells what was left out last.
func (w *words) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leftOut > 0 {
		w.log.Warn("plugin says too much", "lines_left_out", w.leftOut)
		w.leftOut = 0
	}
}

// last is the last line so far, in quotes.
func (w *words) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.final == "" {
		return ""
	}
	return `"` + wire.Printable(w.final, 200) + `"`
}

// throttled makes its writer wait.
type throttled struct {
	ctx   context.Context
	r     io.Reader
	limit *rate.Limiter
}

func (t throttled) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	if n > 0 && t.ctx.Err() == nil {
		_ = t.limit.WaitN(t.ctx, n) // at its end, what is left is read at once
	}
	return n, err
}

// briefly is how long the last output of an ended process may take to arrive.
const briefly = 100 * time.Millisecond
