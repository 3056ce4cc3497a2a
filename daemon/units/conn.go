package units

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
)

// Where PID 1 listens. The environment (DBUS_SYSTEM_BUS_ADDRESS) is not asked:
// it could name a TCP address, or somebody who is not PID 1.
const (
	SystemBusSocket = "/run/dbus/system_bus_socket"
	PrivateSocket   = "/run/systemd/private"
)

const (
	busName          = "org.freedesktop.systemd1"
	managerPath      = "/org/freedesktop/systemd1"
	unitPrefix       = "/org/freedesktop/systemd1/unit/"
	managerInterface = busName + ".Manager"
	unitInterface    = busName + ".Unit"
	propertiesGet    = "org.freedesktop.DBus.Properties.Get"
)

// Dialer is one way to reach PID 1.
type Dialer struct {
	Name string // for messages
	Dial func(context.Context) (net.Conn, error)
	// Bus: a message bus is at the other end, which wants a greeting and
	// passes calls on; otherwise PID 1 itself.
	Bus bool
}

// SystemBus reaches PID 1 through the message bus at a socket. It works for any user.
func SystemBus(socket string) Dialer {
	return Dialer{Name: "system bus", Dial: unixDial(socket), Bus: true}
}

// Private reaches PID 1 at its own socket, for root only, and also when the
// bus is down or under memory pressure: no daemon is in between.
func Private(socket string) Dialer {
	return Dialer{Name: "private socket", Dial: unixDial(socket)}
}

func unixDial(socket string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
}

// client is a connection that PID 1 has answered on.
type client struct {
	conn    *dbus.Conn
	via     string
	bus     bool
	version string
	// answered: at least one question was, after the greeting.
	answered atomic.Bool
}

// connect dials, authenticates as our own uid, and asks PID 1 for its version:
// a bus without systemd on it is no way to PID 1. All of it ends by ctx.
func (d Dialer) connect(ctx context.Context) (*client, error) {
	raw, err := d.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", d.Name, err)
	}
	// godbus reads the handshake without a context; a deadline in the past
	// ends a blocked read.
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	c, err := d.greet(ctx, raw)
	if !stop() && err == nil {
		c.conn.Close()
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("connect to %s: %w", d.Name, err)
	}
	return c, nil
}

func (d Dialer) greet(ctx context.Context, raw net.Conn) (*client, error) {
	uid := os.Geteuid()
	t, err := authenticate(raw, uid)
	if err != nil {
		return nil, err
	}
	conn, err := dbus.NewConn(t)
	if err != nil {
		return nil, err
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(uid))}); err != nil {
		conn.Close()
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	if d.Bus {
		if err := conn.Hello(); err != nil {
			conn.Close()
			return nil, fmt.Errorf("greet: %w", err)
		}
	}
	c := &client{conn: conn, via: d.Name, bus: d.Bus}
	var version dbus.Variant
	if err := c.call(ctx, managerPath, propertiesGet, managerInterface, "Version").Store(&version); err != nil {
		conn.Close()
		return nil, fmt.Errorf("ask for the version of systemd: %w", err)
	}
	c.version, _ = version.Value().(string)
	return c, nil
}

// call waits for one answer, at most until ctx ends. NoAutoStart: a question
// must never start anything.
func (c *client) call(ctx context.Context, object dbus.ObjectPath, method string, args ...any) *dbus.Call {
	return c.conn.Object(busName, object).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
}

// get fetches properties of one unit, all questions under way at once.
func get[U any](ctx context.Context, c *client, object dbus.ObjectPath, list []property[U], u *U) error {
	calls := make([]*dbus.Call, len(list))
	for i, p := range list {
		calls[i] = c.conn.Object(busName, object).GoWithContext(ctx, propertiesGet, dbus.FlagNoAutoStart,
			make(chan *dbus.Call, 1), p.iface, p.name)
	}
	var errs error
	for i, p := range list {
		var value dbus.Variant
		err := (<-calls[i].Done).Store(&value)
		if p.late && unknownProperty(err) {
			continue
		}
		if err == nil {
			err = p.set(u, value.Value())
		}
		if err != nil && errs == nil {
			errs = fmt.Errorf("property %s: %w", p.name, err)
		}
	}
	return errs
}

func unknownProperty(err error) bool {
	answer, ok := errors.AsType[dbus.Error](err)
	return ok && answer.Name == "org.freedesktop.DBus.Error.UnknownProperty"
}

// lost reports whether the connection is of no more use after an error: as
// opposed to an answer, even one that says no or makes no sense.
func (c *client) lost(err error) bool {
	if answer, ok := errors.AsType[dbus.Error](err); ok {
		switch answer.Name {
		case "org.freedesktop.DBus.Error.ServiceUnknown", // PID 1 has left the bus
			"org.freedesktop.DBus.Error.NameHasNoOwner",
			"org.freedesktop.DBus.Error.NoReply",
			"org.freedesktop.DBus.Error.Disconnected":
			return true
		}
		return false
	}
	// A write that was cut short has left half a message in the stream. One on
	// an end that is closed fails a moment before the reader notices it too.
	var broken *net.OpError
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &broken) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, dbus.ErrClosed) || !c.conn.Connected()
}
