// Package unitstest is a systemd to test against: it speaks the part of
// org.freedesktop.systemd1(5) that package units asks, from recorded answers
// of real ones, over a pipe. It is stricter than PID 1: whatever a client does
// that the interface does not foresee is an error of the test.
package unitstest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

const (
	name       = "org.freedesktop.systemd1"
	manager    = dbus.ObjectPath("/org/freedesktop/systemd1")
	unitPrefix = "/org/freedesktop/systemd1/unit/"
	busDaemon  = "org.freedesktop.DBus"
	owner      = ":1.0" // who has the name on the bus
)

// Call is a method call as it arrived.
type Call struct {
	Path      dbus.ObjectPath
	Interface string
	Member    string
	Args      []any
}

// Systemd is the peer. Set the fields before the first Dial.
type Systemd struct {
	Recording
	// Bus: play a message bus with systemd on it, which wants to be greeted;
	// otherwise the private socket, which does not.
	Bus bool
	// Answer, where it is set, sees each call first: it may hang until it
	// likes, answer, or refuse; handled false leaves the call to the recording.
	Answer func(Call) (reply []any, err *dbus.Error, handled bool)
	// Errorf is told of each breach, as (*testing.T).Errorf.
	Errorf func(format string, args ...any)

	mu     sync.Mutex
	calls  []Call
	conns  []*peer
	dialed int
	down   bool
}

// peer is one client. PID 1's signals come between the answers to it.
type peer struct {
	net.Conn
	subscribed, matched bool // guarded by Systemd.mu

	writing sync.Mutex
}

func (p *peer) send(m *dbus.Message) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return m.EncodeTo(p, binary.LittleEndian)
}

// Dial connects a client.
func (s *Systemd) Dial(context.Context) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialed++
	if s.down {
		return nil, errDown
	}
	client, server := net.Pipe()
	p := &peer{Conn: server}
	s.conns = append(s.conns, p)
	go s.serve(p)
	return client, nil
}

var errDown = errors.New("nobody listens")

// Down lets each Dial fail until it is called with false.
func (s *Systemd) Down(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Calls are the calls so far, without the greeting and the question for the version.
func (s *Systemd) Calls(member string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c.Member == member {
			n++
		}
	}
	return n
}

// Dialed counts connections.
func (s *Systemd) Dialed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialed
}

// HangUp closes all connections, as a restart of the bus does.
func (s *Systemd) HangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

func (s *Systemd) serve(conn *peer) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	if !s.authenticate(conn, in) {
		return
	}
	greeted := !s.Bus
	for {
		msg, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		call, ok := s.check(msg)
		if !ok {
			return
		}
		reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(msg.Serial()),
		}}
		var refused *dbus.Error
		switch {
		case call.Member == "Hello":
			if greeted {
				s.breach("Hello twice, or to the private socket")
				return
			}
			greeted = true
			reply.Body = []any{":1.7"}
		case !greeted:
			s.breach("%s before Hello", call.Member)
			return
		case call.Interface == busDaemon:
			reply.Body, refused = s.daemon(conn, call)
		case call.Member == "Subscribe":
			s.subscribe(conn)
		default:
			reply.Body, refused = s.reply(call)
		}
		if refused != nil {
			reply.Type = dbus.TypeError
			reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant(refused.Name)
			reply.Body = refused.Body
		}
		if len(reply.Body) > 0 {
			reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(reply.Body...))
		}
		if err := conn.send(reply); err != nil {
			return
		}
	}
}

// authenticate wants the whole dialogue before it answers: a client that
// waits for OK before it says BEGIN may lose its first message to the real
// PID 1.
func (s *Systemd) authenticate(conn net.Conn, in *bufio.Reader) bool {
	first, err := in.ReadString('\n')
	if err != nil {
		return false
	}
	if !strings.HasPrefix(first, "\x00AUTH EXTERNAL ") {
		s.breach("authentication begins with %q", first)
		return false
	}
	if in.Buffered() == 0 {
		s.breach("client waits for OK before it says BEGIN")
		return false
	}
	if line, err := in.ReadString('\n'); err != nil || line != "BEGIN\r\n" {
		s.breach("authentication goes on with %q", line)
		return false
	}
	_, err = conn.Write([]byte("OK 0123456789abcdef0123456789abcdef\r\n"))
	return err == nil
}

// check takes a call apart, and insists on what PID 1 leaves open.
func (s *Systemd) check(msg *dbus.Message) (Call, bool) {
	var c Call
	var destination string
	c.Path, _ = msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	c.Interface, _ = msg.Headers[dbus.FieldInterface].Value().(string)
	c.Member, _ = msg.Headers[dbus.FieldMember].Value().(string)
	destination, _ = msg.Headers[dbus.FieldDestination].Value().(string)
	c.Args = msg.Body
	switch {
	case msg.Type != dbus.TypeMethodCall:
		s.breach("message of type %s", msg.Type)
		return c, false
	case c.Interface == busDaemon:
		return c, destination == busDaemon && s.Bus
	case destination != name:
		s.breach("%s to %q", c.Member, destination)
		return c, false
	case msg.Flags&dbus.FlagNoAutoStart == 0:
		s.breach("%s may start a service", c.Member)
		return c, false
	}
	return c, true
}

func (s *Systemd) reply(c Call) ([]any, *dbus.Error) {
	question := c.Interface + "." + c.Member
	if question == "org.freedesktop.DBus.Properties.Get" && c.Path == manager {
		return []any{dbus.MakeVariant(s.Version)}, nil
	}
	s.mu.Lock()
	s.calls = append(s.calls, c)
	s.mu.Unlock()
	if s.Answer != nil {
		if reply, err, handled := s.Answer(c); handled {
			return reply, err
		}
	}
	switch question {
	case name + ".Manager.GetUnitByControlGroup", name + ".Manager.GetUnit":
		arg, ok := one(c.Args)
		if !ok || c.Path != manager {
			s.breach("%s%v at %s", c.Member, c.Args, c.Path)
			return nil, dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", nil)
		}
		if c.Member == "GetUnit" {
			return s.unit(arg)
		}
		return s.byCgroup(arg)
	case "org.freedesktop.DBus.Properties.Get":
		return s.property(c)
	}
	s.breach("%s at %s", question, c.Path)
	return nil, dbus.NewError("org.freedesktop.DBus.Error.UnknownMethod", []any{question})
}

func (s *Systemd) breach(format string, args ...any) {
	if s.Errorf == nil {
		panic("unitstest: " + fmt.Sprintf(format, args...))
	}
	s.Errorf("unitstest: "+format, args...)
}

func one(args []any) (string, bool) {
	if len(args) != 1 {
		return "", false
	}
	s, ok := args[0].(string)
	return s, ok
}
