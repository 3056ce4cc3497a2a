package daemon

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/metrics/serve"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store"
	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
	"github.com/tcpmemd/tcpmemd/daemon/store/incident"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// runner runs actions, each in a process of its own. Every call returns soon
// after its context ends, whatever the process does.
type runner interface {
	Run(ctx context.Context, action string, r *remediate.Request) (*remediate.Response, error)
	Undo(ctx context.Context, action string, r *remediate.UndoRequest) (*remediate.Response, error)
	// Ready keeps the processes of these actions started, and ends all others.
	// It does not wait.
	Ready(actions ...string)
	Close(ctx context.Context) error
}

// recorder keeps what must outlive the daemon. No method waits for the disk:
// done is called once, never by the caller's own goroutine, when the value is
// durable or could not be made so.
type recorder interface {
	Append(rec record.Record, done func(error))
	SaveBudgets(v any, done func(error))
	SaveLeases(leases []store.Lease, done func(error))
	SaveIncident(i *record.Incident, done func(error))
	AppendHistory(e *history.Entry)
	PutOutbox(o store.Outbox, done func(error))
	RemoveOutbox(id string, done func(error))
	Health() store.Health
	Close(ctx context.Context) error
}

// exporter brings metrics to who reads them. What does not work it tries again
// by itself; none of it ends the daemon.
type exporter interface {
	// Run ends with its context.
	Run(ctx context.Context)
	// Doing says where metrics get out, Troubles where they do not. Neither
	// waits.
	Doing() []string
	Troubles() []serve.Trouble
}

// archive reads back what was recorded. Its methods read the disk, and are not
// for the loop.
type archive interface {
	Records(ctx context.Context, q actions.Query) iter.Seq2[record.Record, error]
	Incidents() []incident.Summary
	Incident(id string) (*record.Incident, error)
}

// errNoStore is why nothing is recorded.
var errNoStore = errors.New("there is no state directory")

// unrecorded is the recorder of a daemon without a state directory: it may
// only observe, since nothing that it intends can be made durable.
type unrecorded struct{}

func (unrecorded) Append(_ record.Record, done func(error))          { fail(done) }
func (unrecorded) SaveBudgets(_ any, done func(error))               { fail(done) }
func (unrecorded) SaveLeases(_ []store.Lease, done func(error))      { fail(done) }
func (unrecorded) SaveIncident(_ *record.Incident, done func(error)) { fail(done) }
func (unrecorded) AppendHistory(*history.Entry)                      {}
func (unrecorded) PutOutbox(_ store.Outbox, done func(error))        { fail(done) }
func (unrecorded) RemoveOutbox(_ string, done func(error))           { fail(done) }
func (unrecorded) Health() store.Health                              { return store.Health{} }
func (unrecorded) Close(context.Context) error                       { return nil }

func fail(done func(error)) {
	if done != nil {
		go done(errNoStore)
	}
}

// idle is the runner of a daemon without actions.
type idle struct{}

var errNoActions = errors.New("this daemon has no actions")

func (idle) Run(context.Context, string, *remediate.Request) (*remediate.Response, error) {
	return nil, errNoActions
}

func (idle) Undo(context.Context, string, *remediate.UndoRequest) (*remediate.Response, error) {
	return nil, errNoActions
}
func (idle) Ready(...string)             {}
func (idle) Close(context.Context) error { return nil }

// tracker fills what needs a memory of earlier readings, see package trend.
type tracker interface {
	ObserveSample(s *reading.Sample) (gap time.Duration)
	Host(s *reading.Sample) reading.Trend
	Observe(r *reading.Reading) (gap time.Duration)
}

// lister lists an owner's sockets without making the loop wait.
type lister func(ctx context.Context, owner string) (sockets []reading.Socket, leftOut int64, err error)
