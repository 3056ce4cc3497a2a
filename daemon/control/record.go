package control

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Record is what was decided and done. Where what is asked for does not exist,
// or cannot be told, its methods return an *api.RequestError.
type Record interface {
	// Records gives the selected records of the action log, the newest first.
	// An error is the last thing that comes.
	Records(ctx context.Context, q api.RecordQuery) iter.Seq2[record.Record, error]
	// Incidents lists incidents, the newest first.
	Incidents(ctx context.Context) ([]api.IncidentSummary, error)
	// Incident gives one, nil where there is none.
	Incident(ctx context.Context, id string) (*record.Incident, error)
	// Rules says where each rule stands.
	Rules(ctx context.Context) ([]api.RuleState, error)
	// Policy is the effective policy.
	Policy(ctx context.Context) (*api.Policy, error)
	// Plugins lists the actions.
	Plugins(ctx context.Context) ([]api.Plugin, error)
	// History gives the segments with what was recorded since then. An error is
	// the last thing that comes.
	History(ctx context.Context, since time.Time) iter.Seq2[api.Segment, error]
}

func (s *Server) incidents(r *http.Request) (any, error) {
	incidents, err := s.source.Incidents(r.Context())
	if err != nil {
		return nil, err
	}
	return &api.Incidents{Version: api.Version, Incidents: listed(incidents)}, nil
}

func (s *Server) incident(r *http.Request) (any, error) {
	id := r.PathValue("id")
	incident, err := s.source.Incident(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if incident == nil {
		return nil, &problem{http.StatusNotFound, fmt.Sprintf("no incident is called %.100q", id)}
	}
	return incident, nil
}

func (s *Server) rules(r *http.Request) (any, error) {
	state, err := s.source.State(r.Context())
	if err != nil {
		return nil, err
	}
	rules, err := s.source.Rules(r.Context())
	if err != nil {
		return nil, err
	}
	doc := &api.Rules{Version: api.Version, Mode: s.source.Meta().Mode, Rules: listed(rules)}
	if state.Conduct != nil {
		doc.ModeWhy = state.Conduct.ModeWhy
	}
	for i := range doc.Rules {
		doc.Rules[i].Keys, doc.Rules[i].Budgets = listed(doc.Rules[i].Keys), listed(doc.Rules[i].Budgets)
	}
	return doc, nil
}

func (s *Server) policy(r *http.Request) (any, error) {
	p, err := s.source.Policy(r.Context())
	if err != nil {
		return nil, err
	}
	doc := *p
	doc.Version, doc.Files, doc.Broken = api.Version, listed(p.Files), listed(p.Broken)
	return &doc, nil
}

func (s *Server) plugins(r *http.Request) (any, error) {
	plugins, err := s.source.Plugins(r.Context())
	if err != nil {
		return nil, err
	}
	return pluginsOf(plugins), nil
}

func pluginsOf(plugins []api.Plugin) *api.Plugins {
	doc := &api.Plugins{Version: api.Version, Plugins: listed(plugins)}
	for i := range doc.Plugins {
		p := &doc.Plugins[i]
		p.Rights, p.Missing, p.Rules = listed(p.Rights), listed(p.Missing), listed(p.Rules)
	}
	return doc
}

// records answers with one api.RecordFrame on each line.
func (s *Server) records(w http.ResponseWriter, r *http.Request) error {
	q, err := api.ParseRecordQuery(r.URL.Query())
	if err != nil {
		return &problem{http.StatusBadRequest, err.Error()}
	}
	return stream(s, w, r, s.source.Records(r.Context(), q),
		func(rec record.Record) any { return api.RecordFrame{Record: &rec} },
		func(failed string) any { return api.RecordFrame{Error: failed, End: failed == ""} })
}

// history answers with one api.HistoryFrame on each line.
func (s *Server) history(w http.ResponseWriter, r *http.Request) error {
	since, err := api.ParseSince(r.URL.Query())
	if err != nil {
		return &problem{http.StatusBadRequest, err.Error()}
	}
	return stream(s, w, r, s.source.History(r.Context(), since),
		func(segment api.Segment) any { return api.HistoryFrame{Segment: &segment} },
		func(failed string) any { return api.HistoryFrame{Error: failed, End: failed == ""} })
}

// stream writes what comes, and at the end that it is the end, or what went
// wrong: by then the head of the answer has gone out.
func stream[T any](s *Server, w http.ResponseWriter, r *http.Request, from iter.Seq2[T, error],
	frame func(T) any, last func(failed string) any,
) error {
	out := newFrames(w)
	control := http.NewResponseController(w)
	sent, failed := false, ""
	for value, err := range from {
		// A client that goes on reading may take its time.
		if err := control.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
			return err
		}
		if err == nil {
			err = r.Context().Err()
		}
		if err != nil {
			if !sent {
				return err // nothing has gone out: it can still have its status
			}
			failed = s.problemOf(context.WithoutCancel(r.Context()), err).message
			break
		}
		if err := out.write(frame(value)); err != nil {
			return nil // the client has gone away
		}
		sent = true
	}
	_ = out.write(last(failed))
	out.flush()
	return nil
}

// listed is s, or an empty list: JSON lists are never null.
func listed[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
