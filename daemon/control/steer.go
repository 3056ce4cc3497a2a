package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Steering is what root may change. Where something cannot be done, its
// methods return an *api.RequestError, or an *api.ConfigError.
type Steering interface {
	// Act decides a step by hand and starts it. It does not wait for what
	// comes of it.
	Act(ctx context.Context, r api.ActRequest, by record.Caller) (*api.Acted, error)
	// Pause touches nothing for d; one that is running is replaced.
	Pause(ctx context.Context, d time.Duration, why string, by record.Caller) (*api.Pause, error)
	// Resume ends a pause; without one it does nothing.
	Resume(ctx context.Context, by record.Caller) error
	// Reset ends a rule's states, and forgets its cooldowns and what it spent.
	Reset(ctx context.Context, rule string, by record.Caller) error
	// Reload reads the configuration again. Without wait it returns at once,
	// and with nil.
	Reload(ctx context.Context, wait bool, by record.Caller) (*api.Reloaded, error)
	// PluginsVerify looks at each plugin's file, starts it and lets it describe
	// itself.
	PluginsVerify(ctx context.Context, by record.Caller) ([]api.Plugin, error)
}

// maxBody bounds what a request may bring.
const maxBody = 4 << 10

// order is a request that changes something, or runs something. What names it
// to who may not.
func order[R any](s *Server, what string, do func(context.Context, R, record.Caller) (any, error)) answer {
	return func(r *http.Request) (any, error) {
		by, err := s.caller(r.Context(), what)
		if err != nil {
			return nil, err
		}
		var request R
		if err := decode(r.Body, &request); err != nil {
			return nil, &problem{http.StatusBadRequest, err.Error()}
		}
		s.log.Info("asked to "+what, "peer_pid", by.PID, "peer_uid", by.UID)
		return do(r.Context(), request, by)
	}
}

// caller is who asks, if they may change something: root, or who the daemon
// itself runs as and could do anything to it anyway.
func (s *Server) caller(ctx context.Context, what string) (record.Caller, error) {
	peer, ok := PeerOf(ctx)
	switch {
	case !ok:
		return record.Caller{}, &problem{http.StatusForbidden, "the kernel did not say who asks"}
	case peer.UID != 0 && peer.UID != s.uid:
		return record.Caller{}, &problem{http.StatusForbidden, fmt.Sprintf(
			"only root may %s, and this is uid %d: members of the daemon's group may look, and change nothing", what, peer.UID)}
	}
	return record.Caller{UID: peer.UID, PID: int(peer.PID)}, nil
}

func decode(body io.Reader, request any) error {
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(request); err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return fmt.Errorf("read request: longer than %d bytes", tooLarge.Limit)
		}
		return fmt.Errorf("read request: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("read request: more than one JSON value")
	}
	return nil
}

func (s *Server) act(ctx context.Context, r api.ActRequest, by record.Caller) (any, error) {
	if r.Incident == "" || r.Step < 0 {
		return nil, &problem{http.StatusBadRequest, "act: name the incident, and a step from 1"}
	}
	done, err := s.source.Act(ctx, r, by)
	if err != nil {
		return nil, err
	}
	done.Version = api.Version
	return done, nil
}

func (s *Server) pause(ctx context.Context, r api.PauseRequest, by record.Caller) (any, error) {
	why := strings.TrimSpace(r.Why)
	switch {
	case !(r.Seconds >= 1 && r.Seconds <= api.MaxPause.Seconds()): // NaN, too
		return nil, &problem{http.StatusBadRequest, fmt.Sprintf("pause: want from 1 s to %.0f days", api.MaxPause.Hours()/24)}
	case why == "" || len(why) > api.MaxWhy || !utf8.ValidString(why):
		return nil, &problem{http.StatusBadRequest, fmt.Sprintf("pause: say why, in at most %d bytes", api.MaxWhy)}
	}
	return s.source.Pause(ctx, time.Duration(math.Round(r.Seconds*1e3))*time.Millisecond, why, by)
}

func (s *Server) resume(ctx context.Context, _ struct{}, by record.Caller) (any, error) {
	return done("resumed: rules that enforce may act again", s.source.Resume(ctx, by))
}

func (s *Server) reset(ctx context.Context, r api.ResetRequest, by record.Caller) (any, error) {
	if r.Rule == "" {
		return nil, &problem{http.StatusBadRequest, "reset: name the rule"}
	}
	return done(fmt.Sprintf("reset: the rule %.100q starts anew", r.Rule), s.source.Reset(ctx, r.Rule, by))
}

func (s *Server) reload(ctx context.Context, r api.ReloadRequest, by record.Caller) (any, error) {
	got, err := s.source.Reload(ctx, r.Wait, by)
	if err != nil {
		return nil, err
	}
	doc := api.Reloaded{}
	if got != nil {
		doc = *got
	}
	doc.Version = api.Version
	doc.Added, doc.Changed, doc.Removed, doc.Notes = listed(doc.Added), listed(doc.Changed), listed(doc.Removed), listed(doc.Notes)
	return &doc, nil
}

func (s *Server) verify(ctx context.Context, _ struct{}, by record.Caller) (any, error) {
	plugins, err := s.source.PluginsVerify(ctx, by)
	if err != nil {
		return nil, err
	}
	return pluginsOf(plugins), nil
}

func done(message string, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return &api.Done{Version: api.Version, Message: message}, nil
}
