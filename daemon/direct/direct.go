// Package direct answers questions about this host from the kernel itself: the
// commands' --direct uses it without a daemon, and the daemon's own answers
// rest on it.
package direct

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/engine/level"
	"github.com/tcpmemd/tcpmemd/daemon/engine/trend"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
)

// Host reads this host. It is not safe for concurrent use.
type Host struct {
	version string
	scanner *scan.Scanner
	trend   *trend.Tracker
	level   level.State
}

// Open prepares to read the host.
func Open(ctx context.Context, version string) (*Host, error) {
	s, err := scan.Open(ctx, scan.Config{})
	if err != nil {
		return nil, err
	}
	return &Host{version: version, scanner: s, trend: trend.New(trend.Config{})}, nil
}

// Close releases everything.
func (h *Host) Close() error { return h.scanner.Close() }

// Meta says what is known of the host.
func (h *Host) Meta() api.Meta { return Meta(h.version, api.SourceDirect) }

// Meta describes this host and who answers for it.
func Meta(version, source string) api.Meta {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return api.Meta{
		DaemonVersion: version, Hostname: name, BootID: strings.TrimSpace(string(boot)),
		Mode: "observe", Source: source, Tier: "netlink",
		Now: time.Now(), StaleAfter: level.StaleAfter,
	}
}

// Read scans the host once, thoroughly: a person is waiting. Called again, it
// sees growth.
func (h *Host) Read(ctx context.Context) (*reading.Reading, error) {
	r, err := h.scanner.Scan(ctx, scan.Options{Thorough: true})
	if err != nil {
		return nil, err
	}
	h.level = level.Next(h.level, &r.Sample, r.Sample.At)
	r.Level = h.level.Level
	h.trend.ObserveSample(&r.Sample)
	h.trend.Observe(r)
	return r, nil
}

// SocketsRead is how many sockets were read so far; it may be called while
// anything else is.
func (h *Host) SocketsRead() int64 { return h.scanner.SocketsRead() }

// Sockets gives each socket that want accepts to yield, with the owners of the
// last Read.
func (h *Host) Sockets(ctx context.Context, want func(*reading.Socket) bool, yield func(*reading.Socket) error) error {
	return Sockets(ctx, h.scanner, want, yield)
}

// Sockets lists a scanner's sockets.
func Sockets(ctx context.Context, s *scan.Scanner, want func(*reading.Socket) bool, yield func(*reading.Socket) error) error {
	return s.Sockets(ctx, func(sock *reading.Socket) error {
		if !want(sock) {
			return nil
		}
		return yield(sock)
	})
}

// Info asks the kernel about one connection.
func (h *Host) Info(ctx context.Context, s *reading.Socket) (*api.TCPInfo, error) {
	return Info(ctx, h.scanner, s)
}

// Info asks through a scanner how a connection moves.
func Info(ctx context.Context, s *scan.Scanner, sock *reading.Socket) (*api.TCPInfo, error) {
	i, err := s.Info(ctx, sock)
	if err != nil {
		return nil, fmt.Errorf("read TCP_INFO: %w", err)
	}
	return &api.TCPInfo{
		RTTMicros: i.RTT, RTTVarMicros: i.RTTVar, RTOMicros: i.RTO,
		Cwnd: i.SndCwnd, Unacked: i.Unacked, Retrans: i.Retrans, TotalRetrans: i.TotalRetrans,
		LastDataSent: i.LastDataSent, LastDataReceived: i.LastDataRecv,
		BytesAcked: i.BytesAcked, BytesReceived: i.BytesReceived, DeliveryRate: i.DeliveryRate,
	}, nil
}

// Doctor looks at what the host and the caller's rights allow.
func (h *Host) Doctor(ctx context.Context) ([]api.DoctorCheck, error) { return Doctor(ctx, h.scanner) }

// Doctor examines a host through a scanner.
func Doctor(ctx context.Context, s *scan.Scanner) ([]api.DoctorCheck, error) {
	findings, err := s.Examine(ctx)
	if err != nil {
		return nil, err
	}
	checks := make([]api.DoctorCheck, len(findings))
	for i, f := range findings {
		status := api.DoctorOK
		switch f.State {
		case scan.Degraded:
			status = api.DoctorDegraded
		case scan.Missing:
			status = api.DoctorMissing
		}
		checks[i] = api.NewDoctorCheck(f.Name, status, f.What, f.Costs)
	}
	return checks, nil
}
