package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Metrics is about what Prometheus reads. Nothing listens and nothing is
// written where Listen is empty and Textfile is "".
type Metrics struct {
	Listen    []Endpoint    // 8 at most, each once
	WebConfig string        // absolute path of a web configuration file, "" for none
	Textfile  string        // absolute path that ends in .prom, "" for none
	Interval  time.Duration // between two writes of Textfile, 1s to 10m
	Owners    int           // that get time series of their own, 0 to 10
}

// Endpoint is where to listen, in the words of net.Listen.
type Endpoint struct {
	Network string // "tcp" or "unix"
	Address string // a numeric address and port, or an absolute path
}

// String gives the endpoint as the file has it.
func (e Endpoint) String() string {
	if e.Network == "unix" {
		return unixPrefix + e.Address
	}
	return e.Address
}

// Local reports whether only this host reaches the endpoint.
func (e Endpoint) Local() bool {
	at, err := netip.ParseAddrPort(e.Address)
	return e.Network == "unix" || err == nil && at.Addr().Unmap().IsLoopback()
}

const unixPrefix = "unix:"

// maxEndpoints is far above any use: the two loopback addresses and a socket.
const maxEndpoints = 8

func parseEndpoints(v any) ([]Endpoint, error) {
	const want = `must be a list of addresses and sockets, e.g. ["127.0.0.1:9764", "unix:/run/tcpmemd/metrics.sock"]`
	list, ok := v.([]any)
	if !ok {
		return nil, errors.New(want)
	}
	if len(list) > maxEndpoints {
		return nil, fmt.Errorf("has %d items, %d at most", len(list), maxEndpoints)
	}
	endpoints := make([]Endpoint, 0, len(list))
	for i, item := range list {
		text, ok := item.(string)
		if !ok {
			return nil, fmt.Errorf("item %d is %s: %s", i+1, show(item), want)
		}
		e, err := parseEndpoint(text)
		if err != nil {
			return nil, fmt.Errorf("item %d, %s: %w", i+1, quote(text), err)
		}
		if slices.Contains(endpoints, e) {
			return nil, fmt.Errorf("item %d, %s, is there twice", i+1, quote(text))
		}
		endpoints = append(endpoints, e)
	}
	return endpoints, nil
}

// parseEndpoint takes numeric addresses only: to look a name up is TCP and UDP
// of which the daemon has none, and may give another address each time.
func parseEndpoint(text string) (Endpoint, error) {
	if path, ok := strings.CutPrefix(text, unixPrefix); ok {
		socket, err := parseSocket(path)
		return Endpoint{"unix", socket}, err
	}
	at, err := netip.ParseAddrPort(text)
	switch {
	case strings.HasPrefix(text, ":"):
		return Endpoint{}, fmt.Errorf(`which address? "127.0.0.1%s" for this host alone, "[::]%s" for all`, clip(text), clip(text))
	case err != nil:
		return Endpoint{}, errors.New(`not an address with a port, e.g. "127.0.0.1:9764", "[::1]:9764", or "unix:" and a path`)
	case at.Port() == 0:
		return Endpoint{}, errors.New("port 0 is another one at each start")
	}
	return Endpoint{"tcp", at.String()}, nil
}

// parseOptionalFile parses an absolute path, or "" for none.
func parseOptionalFile(suffix, example string) func(any) (string, error) {
	return func(v any) (string, error) {
		path, ok := v.(string)
		switch {
		case ok && path == "":
			return "", nil
		case !ok || !filepath.IsAbs(path) || strings.ContainsRune(path, 0) || strings.HasSuffix(path, "/"):
			return "", fmt.Errorf(`must be the absolute path of a file, e.g. %q, or "" for none`, example)
		case !strings.HasSuffix(path, suffix) || filepath.Base(path) == suffix:
			return "", fmt.Errorf("must end in %s: node_exporter reads no other file", suffix)
		}
		return filepath.Clean(path), nil
	}
}

func intBetween(least, most int64) func(any) (int, error) {
	return func(v any) (int, error) {
		n, ok := v.(int64)
		if !ok || n < least || n > most {
			return 0, fmt.Errorf("must be a whole number from %d to %d", least, most)
		}
		return int(n), nil
	}
}

// checkMetrics holds the keys against each other, and against the socket that
// tcpmemctl asks.
func (l *Loaded) checkMetrics(file string) error {
	m := l.Config.Metrics
	for _, e := range m.Listen {
		if !e.Local() && m.WebConfig == "" {
			return l.failBetween(file, "metrics.listen", "metrics.web_config", fmt.Sprintf(
				"metrics.listen has %q, which other hosts reach: it needs a metrics.web_config with TLS or users", e))
		}
		if e.Network == "unix" && e.Address == l.Config.Control.Socket {
			return l.failBetween(file, "metrics.listen", "control.socket", fmt.Sprintf("metrics.listen has %q, which is control.socket", e))
		}
	}
	return nil
}

// failBetween puts a mistake of two keys at the one that the file at hand sets:
// before it they were in order.
func (l *Loaded) failBetween(file, first, second, what string) error {
	at, other := l.Origins[first], l.Origins[second]
	if at.File != file {
		at, other = other, at
	}
	if other.File != BuiltIn {
		what += " (" + other.String() + ")"
	}
	return &Error{File: file, Line: at.Line, Err: errors.New(what)}
}
