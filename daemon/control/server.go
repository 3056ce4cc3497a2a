// Package control answers on the daemon's Unix socket: HTTP/1.1 with the JSON
// documents of package api. GET reads; what it may cause is a scan. POST
// changes something, and only root may.
//
// Anyone in the daemon's group may ask, so everything is bounded: requests at
// a time, connections, the size of a request, and its time.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Bounds on what clients may take.
const (
	maxRequests    = 8  // answered at a time
	maxStreams     = 2  // of records or readings, beside those
	maxChecks      = 4  // of the health, beside those: a monitor must not wait for lists
	maxConnections = 64 // open at a time
	maxHeader      = 16 << 10
	maxInfo        = 256  // sockets with TCP_INFO in one answer
	maxCollected   = 4096 // sockets held to find the biggest
	shutdownGrace  = 2 * time.Second
	// streamTime bounds an answer with all that was recorded, to a slow reader.
	streamTime = 10 * time.Minute
)

const tooManyConnections = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" +
	`{"error":"too many connections are open, try again"}` + "\n"

// Source is what answers are made from. A reading it returns is shared and
// nobody changes it. Its methods are called from several goroutines and return
// when ctx ends.
type Source interface {
	// Meta says who answers; Now is the time of the call.
	Meta() api.Meta
	// State is what is known without a scan.
	State(ctx context.Context) (api.State, error)
	// Read returns the last full reading, or with fresh one that was begun
	// after the call where the CPU budget allows it.
	Read(ctx context.Context, fresh bool) (*reading.Reading, error)
	// Sockets gives each socket that want accepts to yield. Neither may keep
	// the pointer; yield may block on a slow client until ctx ends.
	Sockets(ctx context.Context, want func(*reading.Socket) bool, yield func(*reading.Socket) error) error
	// Info asks the kernel about one connection.
	Info(ctx context.Context, s *reading.Socket) (*api.TCPInfo, error)
	// Doctor looks at what the host and the daemon's rights allow.
	Doctor(ctx context.Context) ([]api.DoctorCheck, error)

	Record
	Steering
}

// Config is what a server needs. Timeout bounds each request (0: 30 s).
type Config struct {
	Listener *Listener
	Source   Source
	Log      *slog.Logger
	Timeout  time.Duration
}

// Server serves the daemon's socket.
type Server struct {
	listener *Listener
	source   Source
	log      *slog.Logger
	timeout  time.Duration
	uid      uint32 // whom the daemon runs as
	slots    chan struct{}
	streams  chan struct{}
	checks   chan struct{}
	ready    chan struct{}
}

// New prepares a server, which owns the listener from now on.
func New(c Config) *Server {
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	return &Server{
		listener: c.Listener,
		source:   c.Source,
		log:      c.Log,
		timeout:  c.Timeout,
		uid:      uint32(os.Geteuid()),
		slots:    make(chan struct{}, maxRequests),
		streams:  make(chan struct{}, maxStreams),
		checks:   make(chan struct{}, maxChecks),
		ready:    make(chan struct{}),
	}
}

func (s *Server) String() string { return "control socket " + s.listener.Path() }

// Ready is closed when clients are answered.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends, which is no error. Requests that are under way
// then are cancelled and waited for; the socket is gone when Run returns.
func (s *Server) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.listener.Close()) }()
	server := &http.Server{
		Handler:           http.MaxBytesHandler(s.handler(), maxBody),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withPeer,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      s.timeout + 5*time.Second, // the answer that it took too long
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(s.listener) }()
	close(s.ready)

	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", s.listener.Path(), errors.Join(err, server.Close()))
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	err = server.Shutdown(grace)
	if err != nil {
		err = fmt.Errorf("shut down %s: %w", s.listener.Path(), errors.Join(err, server.Close()))
	}
	<-done
	return err
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for path, answer := range map[string]answer{
		"/v1/status":  s.status,
		"/v1/owners":  s.owners,
		"/v1/groups":  s.groups,
		"/v1/orphans": s.orphans,
		"/v1/doctor":  s.doctor,

		"/v1/incidents":      s.incidents,
		"/v1/incidents/{id}": s.incident,
		"/v1/rules":          s.rules,
		"/v1/policy":         s.policy,
		"/v1/plugins":        s.plugins,
	} {
		mux.Handle("GET "+path, s.limited(document(answer)))
	}
	mux.Handle("GET /v1/health", s.within(s.checks, s.timeout, document(s.health)))
	mux.Handle("GET /v1/sockets", s.limited(s.sockets))
	mux.Handle("GET /v1/records", s.streamed(s.records))
	mux.Handle("GET /v1/history", s.streamed(s.history))
	for path, answer := range map[string]answer{
		"/v1/act":            order(s, "act", s.act),
		"/v1/pause":          order(s, "pause", s.pause),
		"/v1/resume":         order(s, "resume", s.resume),
		"/v1/reset":          order(s, "reset a rule", s.reset),
		"/v1/reload":         order(s, "reload", s.reload),
		"/v1/plugins/verify": order(s, "start plugins to verify them", s.verify),
	} {
		mux.Handle("POST "+path, s.limited(document(answer)))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, &problem{http.StatusNotFound, fmt.Sprintf("this daemon does not know %s %.100q", r.Method, r.URL.Path)})
	})
	return mux
}

type serve func(http.ResponseWriter, *http.Request) error

// limited gives a request one of the slots and a deadline, or refuses it.
func (s *Server) limited(serve serve) http.Handler { return s.within(s.slots, s.timeout, serve) }

// streamed is limited for long answers.
func (s *Server) streamed(serve serve) http.Handler {
	return s.within(s.streams, max(streamTime, s.timeout), serve)
}

func (s *Server) within(slots chan struct{}, timeout time.Duration, serve serve) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _ := PeerOf(r.Context())
		log := s.log.With("path", r.URL.Path, "peer_pid", peer.PID, "peer_uid", peer.UID)
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			log.Debug("request refused", "reason", "busy")
			refuse(w, &problem{
				http.StatusServiceUnavailable,
				fmt.Sprintf("%d requests are being answered already, try again", cap(slots)),
			})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		started := time.Now()
		err := serve(w, r.WithContext(ctx))
		if err == nil {
			log.Debug("request answered", "took", time.Since(started))
			return
		}
		log.Debug("request failed", "took", time.Since(started), "error", err)
		refuse(w, s.problemOf(r.Context(), err))
	})
}

// problem is an answer that is not a document.
type problem struct {
	status  int
	message string
}

func (p *problem) Error() string { return p.message }

// problemOf gives an error its status. The caller may read why: the socket is
// for administrators.
func (s *Server) problemOf(request context.Context, err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if e, ok := errors.AsType[*api.RequestError](err); ok {
		return &problem{e.Status, e.Message}
	}
	if e, ok := errors.AsType[*api.ConfigError](err); ok {
		return &problem{http.StatusUnprocessableEntity, e.Message}
	}
	switch {
	case request.Err() != nil:
		return &problem{http.StatusServiceUnavailable, "the daemon is stopping"}
	case errors.Is(err, context.DeadlineExceeded):
		return &problem{http.StatusGatewayTimeout, fmt.Sprintf("no answer within %s", s.timeout)}
	default:
		return &problem{http.StatusInternalServerError, err.Error()}
	}
}

// answer makes a document.
type answer func(*http.Request) (any, error)

func document(of answer) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		doc, err := of(r)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		// An error now is the client's: it has gone away.
		_ = json.NewEncoder(w).Encode(doc)
		return nil
	}
}

func refuse(w http.ResponseWriter, p *problem) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.status)
	_ = json.NewEncoder(w).Encode(api.Problem{Error: p.message})
}
