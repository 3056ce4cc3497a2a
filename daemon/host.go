package daemon

import (
	"context"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/direct"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
)

// host is what the daemon watches: this machine, or in tests one that does what
// they say. Sample may be called at any time, the others one after the other.
type host interface {
	Sample(namespaces int) (reading.Sample, error)
	Scan(context.Context, scan.Options) (*reading.Reading, error)
	Refresh() error
	Sockets(ctx context.Context, want func(*reading.Socket) bool, yield func(*reading.Socket) error) error
	Info(context.Context, *reading.Socket) (*api.TCPInfo, error)
	Doctor(context.Context) ([]api.DoctorCheck, error)
	Close() error
}

// scanned is this machine.
type scanned struct{ *scan.Scanner }

func (h scanned) Sockets(ctx context.Context, want func(*reading.Socket) bool, yield func(*reading.Socket) error) error {
	return direct.Sockets(ctx, h.Scanner, want, yield)
}

func (h scanned) Info(ctx context.Context, s *reading.Socket) (*api.TCPInfo, error) {
	return direct.Info(ctx, h.Scanner, s)
}

func (h scanned) Doctor(ctx context.Context) ([]api.DoctorCheck, error) {
	return direct.Doctor(ctx, h.Scanner)
}
