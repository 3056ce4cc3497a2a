package units

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// watch is a connection of its own, on which signals arrive: the shared one
// has none to take care of.
type watch struct {
	client  *client
	signals chan *dbus.Signal
	sender  string // of PID 1's signals on a bus, "" where nobody else can send
}

// watch connects and asks for the ends of jobs.
func (m *Manager) watch(ctx context.Context) (*watch, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := m.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	// godbus starts a goroutine for each signal that does not fit.
	w := &watch{client: c, signals: make(chan *dbus.Signal, 64)}
	if err := w.subscribe(ctx); err != nil {
		w.close()
		return nil, fmt.Errorf("%w: subscribe: %w", ErrNoBus, err)
	}
	return w, nil
}

func (w *watch) close() { w.client.conn.Close() }

func (w *watch) subscribe(ctx context.Context) error {
	c := w.client
	c.conn.Signal(w.signals)
	if c.bus {
		// A rule keeps nobody from sending to us alone: the sender is compared.
		bus := c.conn.BusObject()
		if err := bus.CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, busName).Store(&w.sender); err != nil {
			return err
		}
		if err := c.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(busName),
			dbus.WithMatchObjectPath(managerPath), dbus.WithMatchInterface(managerInterface),
			dbus.WithMatchMember("JobRemoved")); err != nil {
			return err
		}
	}
	return c.call(ctx, managerPath, managerInterface+".Subscribe").Err
}

// submit asks for a restart, and returns the job.
func (w *watch) submit(ctx context.Context, unit string) (object dbus.ObjectPath, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = w.client.call(ctx, managerPath, managerInterface+".TryRestartUnit", unit, "fail").Store(&object)
	return object, err
}

// result takes the end of the job out of a signal: JobRemoved(u id, o job,
// s unit, s result).
func (w *watch) result(s *dbus.Signal, object dbus.ObjectPath) (r JobResult, ours bool) {
	if s.Name != jobRemoved || s.Path != managerPath || len(s.Body) != 4 || w.sender != "" && s.Sender != w.sender {
		return "", false
	}
	job, isObject := s.Body[1].(dbus.ObjectPath)
	word, isString := s.Body[3].(string)
	return JobResult(word), isObject && isString && job == object
}
