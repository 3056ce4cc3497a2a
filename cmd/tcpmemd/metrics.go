package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"

	dto "github.com/prometheus/client_model/go"

	"github.com/tcpmemd/tcpmemd/daemon"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/metrics"
	"github.com/tcpmemd/tcpmemd/daemon/metrics/serve"
)

// export has the daemon's metrics brought out, where somebody wants them. which
// gives the daemon, once it is there.
func export(cfg *daemon.Config, c config.Metrics, handed []net.Listener, log *slog.Logger, which func() *daemon.Daemon) {
	cfg.Owners = c.Owners
	if len(handed)+len(c.Listen) == 0 && c.Textfile == "" {
		return
	}
	s := serve.Config{
		Handed: handed, WebConfig: c.WebConfig, Textfile: c.Textfile, Interval: c.Interval, Log: log.With("part", "metrics"),
		Gather: func(ctx context.Context) ([]*dto.MetricFamily, error) {
			facts, err := which().Metrics(ctx)
			if err != nil {
				return nil, err
			}
			return metrics.Families(facts), nil
		},
	}
	for _, e := range c.Listen {
		s.Listen = append(s.Listen, serve.Endpoint(e))
	}
	cfg.Exporter = serve.New(s)
}

// checkMetrics looks at the web configuration, which another file holds.
func checkMetrics(l config.Loaded) error {
	m := l.Config.Metrics
	if m.WebConfig == "" {
		return nil
	}
	open := slices.ContainsFunc(m.Listen, func(e config.Endpoint) bool { return !e.Local() })
	if err := serve.CheckWebConfig(m.WebConfig, open); err != nil {
		return fmt.Errorf("%s: metrics.web_config: %w", l.Origins["metrics.web_config"], err)
	}
	return nil
}
