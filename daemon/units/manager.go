package units

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/godbus/dbus/v5"
)

// Bounds on one question, and on how often a way to PID 1 is looked for. A
// write cannot be called off together with its question, so that it has a
// limit of its own, on top of the question's.
const (
	callTimeout  = 1500 * time.Millisecond
	writeTimeout = 500 * time.Millisecond
	minBackoff   = time.Second
	maxBackoff   = time.Minute
)

// maxPath is what PID 1 accepts of a path (PATH_MAX), with room to spare.
// Whoever owns a delegated subtree can nest directories deeper than that.
const maxPath = 4000

// Manager asks PID 1. A lost connection is made again by the next call, not
// more often than the backoff allows; until then calls fail at once with
// [ErrNoBus]. It may be used by several goroutines.
//
// No call takes longer than 2 s, connecting included, whatever PID 1 and
// the bus do.
type Manager struct {
	dialers []Dialer

	turn chan struct{} // holds one token: guards the fields below, and a waiter can give up
	link link

	mu    sync.Mutex
	cache cache
}

// link is the connection, or why there is none.
type link struct {
	client *client
	cause  error
	retry  time.Time // not before
	wait   time.Duration
}

// New returns a Manager that tries the dialers in order. It does not connect yet.
func New(dialers ...Dialer) *Manager {
	m := &Manager{dialers: dialers, turn: make(chan struct{}, 1), cache: newCache()}
	m.turn <- struct{}{}
	return m
}

// Open returns a Manager for the PID 1 of this host, over the system bus or,
// for root, PID 1's private socket. The Manager is of use also with an error,
// which is [ErrNoBus]: it connects once there is a bus.
func Open(ctx context.Context) (*Manager, error) {
	dialers := []Dialer{SystemBus(SystemBusSocket)}
	if os.Geteuid() == 0 {
		dialers = append(dialers, Private(PrivateSocket))
	}
	m := New(dialers...)
	_, _, err := m.Connected(ctx)
	return m, err
}

// Connected connects if need be, and says by which way PID 1 is reached and
// what version of systemd it is.
func (m *Manager) Connected(ctx context.Context) (via, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := m.dial(ctx)
	if err != nil {
		return "", "", err
	}
	return c.via, c.version, nil
}

// Close ends the connection. A later call would connect again.
func (m *Manager) Close() error {
	<-m.turn
	defer func() { m.turn <- struct{}{} }()
	if c := m.link.client; c != nil {
		m.link.client = nil
		return c.conn.Close()
	}
	return nil
}

// ByCgroup returns the unit that the control group belongs to: PID 1's unit
// around it, also where the path goes on below that. A cached answer is at
// most 30 s old. The error is ErrNoBus, ErrNoUnit, ErrMismatch or of this one
// call; systemd 247 has no unit to name for /init.scope.
func (m *Manager) ByCgroup(ctx context.Context, path string) (Unit, error) {
	m.mu.Lock()
	a, ok := m.cache.get(path, time.Now())
	m.mu.Unlock()
	if ok {
		return a.unit, a.err
	}
	return m.ByCgroupNow(ctx, path)
}

// ByCgroupNow is ByCgroup without the cache: for a check right before acting.
func (m *Manager) ByCgroupNow(ctx context.Context, path string) (Unit, error) {
	asked := askable(path)
	u, err := ask(ctx, m, func(ctx context.Context, c *client) (Unit, error) {
		var object dbus.ObjectPath
		err := c.call(ctx, managerPath, managerInterface+".GetUnitByControlGroup", asked).Store(&object)
		if err != nil {
			return Unit{}, noUnit(err)
		}
		u, err := c.unit(ctx, object)
		switch {
		case err != nil:
			return Unit{}, err
		case !u.Holds(path):
			return Unit{}, fmt.Errorf("%w: %s has %q", ErrMismatch, u.Name, u.ControlGroup)
		case u.IsSlice() && asked != u.ControlGroup:
			// PID 1 goes up from the path to the next unit it has. A slice that
			// is not the path itself means that it has none there.
			return Unit{}, fmt.Errorf("%w: only %s", ErrNoUnit, u.Name)
		}
		return u, nil
	})
	if err != nil {
		err = fmt.Errorf("read unit of cgroup %s: %w", path, err)
	}
	m.mu.Lock()
	m.cache.put(path, u, err, time.Now())
	m.mu.Unlock()
	return u, err
}

// ByName returns a unit that PID 1 has loaded, by its name or an alias. It is
// never cached.
func (m *Manager) ByName(ctx context.Context, name string) (Unit, error) {
	u, err := ask(ctx, m, func(ctx context.Context, c *client) (Unit, error) {
		var object dbus.ObjectPath
		if err := c.call(ctx, managerPath, managerInterface+".GetUnit", name).Store(&object); err != nil {
			return Unit{}, noUnit(err)
		}
		return c.unit(ctx, object)
	})
	if err != nil {
		return Unit{}, fmt.Errorf("read unit %s: %w", name, err)
	}
	return u, nil
}

// ServiceOf returns the service that a socket unit starts: the connections
// that the socket unit's control group accounts for are the service's. Where
// the socket starts one instance per connection (Accept=yes) there is no
// one service, even while only one instance runs, and the answer is ErrNoUnit.
func (m *Manager) ServiceOf(ctx context.Context, socket Unit) (Unit, error) {
	if socket.Accept {
		return Unit{}, fmt.Errorf("read service of %s: %w: it starts one instance per connection", socket.Name, ErrNoUnit)
	}
	var services []string
	for _, name := range socket.Triggers {
		if strings.HasSuffix(name, ".service") {
			services = append(services, name)
		}
	}
	if len(services) != 1 {
		return Unit{}, fmt.Errorf("read service of %s: %w: it triggers %d services", socket.Name, ErrNoUnit, len(services))
	}
	return m.ByName(ctx, services[0])
}

// ask has one question answered in time. A connection that failed under it,
// or did not answer, is given up: one slow answer must not cost every caller
// the same wait.
func ask[T any](ctx context.Context, m *Manager, question func(context.Context, *client) (T, error)) (T, error) {
	var none T
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := m.dial(limited)
	if err != nil {
		return none, err
	}
	answer, err := question(limited, c)
	switch {
	case err == nil:
		c.answered.Store(true)
		return answer, nil
	case ctx.Err() == nil && c.lost(err):
		m.drop(c, err)
		return none, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	return none, err
}

// dial returns the connection, and makes one where there is none.
func (m *Manager) dial(ctx context.Context) (*client, error) {
	select {
	case <-m.turn:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNoBus, ctx.Err())
	}
	defer func() { m.turn <- struct{}{} }()
	if c := m.link.client; c != nil {
		if c.conn.Connected() {
			return c, nil
		}
		// The bus was restarted, most likely, and may be back already.
		m.link.client = nil
	}
	if time.Now().Before(m.link.retry) {
		return nil, fmt.Errorf("%w: %w", ErrNoBus, m.link.cause)
	}
	c, err := m.connect(ctx)
	if err != nil {
		m.link.lose(err)
		return nil, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	m.link = link{client: c, wait: m.link.wait}
	return c, nil
}

// connect makes a connection by the first way that works.
func (m *Manager) connect(ctx context.Context) (*client, error) {
	var causes []error
	for i, d := range m.dialers {
		// A bus that hangs leaves time for the way that does not need it.
		share, cancel := context.WithTimeout(ctx, timeLeft(ctx)/time.Duration(len(m.dialers)-i))
		c, err := d.connect(share)
		cancel()
		if err == nil {
			return c, nil
		}
		causes = append(causes, err)
	}
	return nil, errors.Join(causes...)
}

// drop gives up a connection, unless another caller has done so already.
func (m *Manager) drop(c *client, cause error) {
	<-m.turn
	defer func() { m.turn <- struct{}{} }()
	c.conn.Close()
	if m.link.client == c {
		m.link.lose(cause)
	}
}

// lose notes a failure and doubles the time to the next attempt, starting
// over only after a connection on which a question was answered: one that
// greets and then hangs must not be tried each second.
func (l *link) lose(cause error) {
	if l.client != nil && l.client.answered.Load() {
		l.wait = 0
	}
	wait := min(max(2*l.wait, minBackoff), maxBackoff)
	*l = link{cause: cause, wait: wait, retry: time.Now().Add(wait)}
}

// unit reads what PID 1 has to say of a unit.
func (c *client) unit(ctx context.Context, object dbus.ObjectPath) (Unit, error) {
	name, err := unitName(object)
	if err != nil {
		return Unit{}, err
	}
	u := Unit{Verified: true}
	if err := get(ctx, c, object, propertiesOf(name), &u); err != nil {
		return Unit{}, noUnit(err)
	}
	if u.LoadState == "not-found" {
		// Asking for properties of a unit that was just unloaded makes PID 1
		// load it anew, as an empty one.
		return Unit{}, fmt.Errorf("%w: %s is not loaded", ErrNoUnit, name)
	}
	return u, nil
}

// noUnit recognises the answers by which PID 1 says that there is no unit.
func noUnit(err error) error {
	var answer dbus.Error
	if !errors.As(err, &answer) {
		return err
	}
	switch answer.Name {
	case busName + ".NoSuchUnit", busName + ".NoUnitForPID",
		"org.freedesktop.DBus.Error.InvalidArgs", // a path outside of what it manages
		"org.freedesktop.DBus.Error.UnknownObject":
		return fmt.Errorf("%w: %w", ErrNoUnit, err)
	}
	return err
}

func timeLeft(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return callTimeout
	}
	return time.Until(deadline)
}

// askable cuts a path off before the first directory that D-Bus or PID 1
// would refuse: bytes that are no UTF-8, or too much of it. Units lie above
// all that, and nobody can escape PID 1's view by such a name.
func askable(path string) string {
	if len(path) <= maxPath && utf8.ValidString(path) {
		return path
	}
	end := 0
	for end < len(path) {
		next := len(path)
		if i := strings.IndexByte(path[end+1:], '/'); i >= 0 {
			next = end + 1 + i
		}
		if next > maxPath || !utf8.ValidString(path[end:next]) {
			break
		}
		end = next
	}
	return path[:end]
}
