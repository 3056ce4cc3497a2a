package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

var errNotYet = errors.New("this daemon does not decide yet")

func (s *source) Records(context.Context, api.RecordQuery) iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) { yield(record.Record{}, errNotYet) }
}

func (s *source) History(context.Context, time.Time) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) { yield(nil, errNotYet) }
}

func (s *source) Incidents(context.Context) ([]api.IncidentSummary, error)   { return nil, errNotYet }
func (s *source) Incident(context.Context, string) (*record.Incident, error) { return nil, errNotYet }
func (s *source) Rules(context.Context) ([]api.RuleState, error)             { return nil, errNotYet }
func (s *source) Policy(context.Context) (*api.Policy, error)                { return nil, errNotYet }
func (s *source) Plugins(context.Context) ([]api.Plugin, error)              { return nil, errNotYet }
func (s *source) PluginsVerify(context.Context, record.Caller) ([]api.Plugin, error) {
	return nil, errNotYet
}
func (s *source) Resume(context.Context, record.Caller) error        { return errNotYet }
func (s *source) Reset(context.Context, string, record.Caller) error { return errNotYet }

func (s *source) Act(context.Context, api.ActRequest, record.Caller) (*api.Acted, error) {
	return nil, errNotYet
}

func (s *source) Pause(context.Context, time.Duration, string, record.Caller) (*api.Pause, error) {
	return nil, errNotYet
}

func (s *source) Reload(context.Context, bool, record.Caller) (*api.Reloaded, error) {
	return nil, errNotYet
}
