package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"

	"github.com/tcpmemd/tcpmemd/daemon/unixsocket"
)

// Bounds of a listener. Prometheus keeps one connection between its scrapes.
const (
	maxConnections = 16
	maxHeader      = 8 << 10
	headerTime     = 5 * time.Second
	answerTime     = gatherTime + 5*time.Second
	idleTime       = 90 * time.Second
	shutdownGrace  = time.Second
)

// HandedName is what a descriptor is called that the service manager hands over
// for metrics (FileDescriptorName= of the socket unit).
const HandedName = "metrics"

// Handed takes the listeners that the service manager handed over under that
// name, and closes what else it did: see sd_listen_fds(3). The environment does
// not tell of them any more and an exec closes them, so that no child has them.
func Handed() (listeners []net.Listener, err error) {
	for _, f := range activation.Files(true) {
		if f.Name() == HandedName {
			l, lerr := net.FileListener(f)
			if lerr == nil {
				listeners = append(listeners, l)
			} else {
				err = errors.Join(err, fmt.Errorf("take socket of the service manager: %w", lerr))
			}
		}
		f.Close() // a listener has a copy
	}
	return listeners, err
}

func handedName(l net.Listener) string {
	at := l.Addr()
	return Endpoint{at.Network(), at.String()}.String() + " (the service manager's socket)"
}

// open makes a listener. A Unix socket is for root and the daemon's group.
func open(ctx context.Context, at Endpoint) (net.Listener, error) {
	if at.Network == "unix" {
		return unixsocket.Listen(at.Address)
	}
	var config net.ListenConfig
	return config.Listen(ctx, at.Network, at.Address)
}

// listen serves on what opens, again and again until ctx ends. With own the
// listener is closed after each try.
func (e *Exporter) listen(ctx context.Context, o *outlet, own bool, opens func() (net.Listener, error)) {
	for {
		l, err := opens()
		if err == nil {
			err = e.serve(ctx, o, l)
			if own {
				l.Close()
			}
		}
		if ctx.Err() != nil {
			return
		}
		o.fails(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(e.retry):
		}
	}
}

// serve answers on l until ctx ends, which is no error.
func (e *Exporter) serve(ctx context.Context, o *outlet, l net.Listener) error {
	if err := checkWeb(e.cfg.WebConfig, l.Addr()); err != nil {
		return err
	}
	// One server for each listener: web.Serve changes its handler and its TLS.
	server := &http.Server{
		Handler:           e.handler,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       headerTime,
		WriteTimeout:      answerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelDebug), // of clients
	}
	file := e.cfg.WebConfig
	done := make(chan error, 1)
	o.works()
	go func() { done <- web.Serve(&bounded{Listener: l}, server, &web.FlagConfig{WebConfigFile: &file}, e.log) }()
	select {
	case err := <-done:
		return errors.Join(err, server.Close())
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close() // what is open then is closed
	}
	<-done
	return nil
}

// checkWeb looks at the web configuration as a whole, which web.Serve would
// refuse later, and wants it to protect what other hosts reach.
func checkWeb(file string, at net.Addr) error {
	tcp, ok := at.(*net.TCPAddr)
	open := ok && !tcp.IP.IsLoopback()
	if file == "" {
		if open {
			return errors.New("other hosts reach it: set metrics.web_config to a file with TLS or users")
		}
		return nil
	}
	return CheckWebConfig(file, open)
}

// CheckWebConfig says what is wrong with a web configuration file. One for an
// open address must have TLS or users.
func CheckWebConfig(file string, open bool) error {
	if err := web.Validate(file); err != nil {
		return fmt.Errorf("web configuration %s: %w", file, cause(err))
	}
	if !open {
		return nil
	}
	text, err := os.ReadFile(file)
	var c web.Config
	if err == nil {
		err = yaml.Unmarshal(text, &c)
	}
	if err != nil {
		return fmt.Errorf("web configuration %s: %w", file, cause(err))
	}
	if !c.TLSConfig.IsEnabled() && len(c.Users) == 0 {
		return fmt.Errorf("web configuration %s: it has neither tls_server_config nor basic_auth_users, and other hosts reach the address", file)
	}
	return nil
}

// cause takes names out of err that its reader knows, or that change.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}

// mend says what would help, where that is known.
func mend(err error, name string) string {
	unix, file := strings.HasPrefix(name, "unix:"), strings.HasPrefix(name, "/")
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there: ss -ltnp"
	case errors.Is(err, syscall.EAFNOSUPPORT) && !unix:
		return "the service's sandbox does not let it: link /usr/lib/tcpmemd/metrics.conf to /etc/systemd/system/tcpmemd.service.d and restart tcpmemd, or enable tcpmemd-metrics.socket instead"
	case errors.Is(err, syscall.EROFS) && file:
		return "in the service's sandbox: link /usr/lib/tcpmemd/metrics-textfile.conf to /etc/systemd/system/tcpmemd.service.d and restart tcpmemd"
	case errors.Is(err, syscall.EROFS) && unix:
		return "in the service's sandbox a socket can be in /run/tcpmemd alone"
	case errors.Is(err, syscall.ENOENT) && (file || unix):
		return "make the folder, or install what brings it"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room there"
	}
	return ""
}

// bounded is a listener with at most maxConnections: who is beyond it is turned
// away at once, and not left waiting.
type bounded struct {
	net.Listener
	open atomic.Int64
}

// Accept waits for a connection.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.open.Add(1) <= maxConnections {
			return &counted{Conn: conn, open: &b.open}, nil
		}
		b.open.Add(-1)
		conn.Close()
	}
}

// counted leaves the count once, however often it is closed.
type counted struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}
