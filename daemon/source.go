package daemon

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/direct"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// source answers the control socket from what the loop published.
type source struct{ d *Daemon }

var errNoReading = errors.New("the daemon has only just started and has no reading yet: ask again in a second")

// Meta says who answers.
func (s *source) Meta() api.Meta {
	m := direct.Meta(s.d.cfg.Version, api.SourceDaemon)
	m.ReadingStaleAfter = 2 * s.d.cfg.Calm
	m.Mode = string(s.d.mode())
	return m
}

// State is what is known without a scan.
func (s *source) State(ctx context.Context) (api.State, error) {
	now := s.d.snapshot.Load()
	if now == nil || now.Sample.At.IsZero() {
		return api.State{}, errNoReading
	}
	state := api.State{
		Sample: now.Sample, Level: now.Level.Level, Since: now.Level.Since,
		Started: s.d.started, Reading: now.Reading, Cost: ownCost(), Trend: now.Trend,
		Watch: &now.Watch,
	}
	err := s.d.inLoop(ctx, func() { state.Conduct = s.d.judge.conduct() })
	return state, err
}

// Read returns the last full reading, or with fresh one that begins after the
// call; several who ask at once share it.
func (s *source) Read(ctx context.Context, fresh bool) (*reading.Reading, error) {
	if now := s.d.snapshot.Load(); !fresh && now != nil && now.Reading != nil {
		return now.Reading, nil
	}
	reply := make(chan *reading.Reading, 1)
	select {
	case s.d.asked <- reply:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case r, ok := <-reply:
		if !ok {
			return nil, errors.New("the scan failed: see the daemon's log")
		}
		return r, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// listTime bounds how long one list may keep the reader from scanning,
// however slow its client reads.
const listTime = 10 * time.Second

// Sockets lists sockets. Rows go to the client in batches over a channel: a
// client that does not read holds up itself and not the daemon.
func (s *source) Sockets(ctx context.Context, want func(*reading.Socket) bool, yield func(*reading.Socket) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, listTime, errors.New("listing took too long: narrow the filter"))
	defer cancel()
	const batchSize = 256
	batches := make(chan []reading.Socket, 4)
	failed := make(chan error, 1)
	go func() {
		defer close(batches)
		var batch []reading.Socket
		send := func() error {
			select {
			case batches <- batch:
				batch = nil
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		var listed error
		err := s.d.reader.do(ctx, func() {
			listed = s.d.reader.host.Sockets(ctx, want, func(sock *reading.Socket) error {
				if batch = append(batch, *sock); len(batch) < batchSize {
					return nil
				}
				return send()
			})
			if listed == nil && len(batch) > 0 {
				listed = send()
			}
		})
		failed <- errors.Join(err, listed)
	}()
	var stop error
	for batch := range batches {
		for i := range batch {
			if stop == nil {
				if stop = yield(&batch[i]); stop != nil {
					cancel()
				}
			}
		}
	}
	if err := <-failed; stop == nil {
		return err
	}
	return stop
}

// Info asks the kernel about one connection.
func (s *source) Info(ctx context.Context, sock *reading.Socket) (info *api.TCPInfo, err error) {
	if derr := s.d.reader.do(ctx, func() { info, err = s.d.reader.host.Info(ctx, sock) }); derr != nil {
		return nil, derr
	}
	return info, err
}

// Doctor looks at what the host and the daemon's rights allow, and at the rights
// of the actions that its policy may need.
func (s *source) Doctor(ctx context.Context) (checks []api.DoctorCheck, err error) {
	if derr := s.d.reader.do(ctx, func() { checks, err = s.d.reader.host.Doctor(ctx) }); derr != nil {
		return nil, derr
	}
	lerr := s.d.inLoop(ctx, func() {
		for _, r := range s.d.judge.lacking() {
			what := r.Missing
			if r.Fix != "" {
				what += "; " + r.Fix
			}
			checks = append(checks, api.NewDoctorCheck("action "+r.Action, api.DoctorMissing, what, "these rules only observe: "+strings.Join(r.Rules, ", ")))
		}
	})
	return append(checks, metricsCheck(s.d.cfg.Exporter)), errors.Join(err, lerr)
}

// ownCost is what this process has used (getrusage(2), /proc/self/statm).
func ownCost() *api.Cost {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return nil
	}
	cpu := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	rss, err := ownRSS()
	if err != nil {
		return nil
	}
	return &api.Cost{CPUSeconds: cpu.Seconds(), RSSBytes: rss}
}

// mode is the daemon's own. It was set before the first answer, and changes by
// a reload only.
func (d *Daemon) mode() policy.Mode {
	if m := d.reported.Load(); m != nil {
		return *m
	}
	return policy.Observe
}
