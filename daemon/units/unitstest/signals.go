package unitstest

import (
	"strings"

	"github.com/godbus/dbus/v5"
)

// daemon answers what a message bus itself is asked.
func (s *Systemd) daemon(p *peer, c Call) ([]any, *dbus.Error) {
	arg, _ := one(c.Args)
	switch c.Member {
	case "GetNameOwner":
		if arg == name {
			return []any{owner}, nil
		}
	case "AddMatch":
		if !strings.Contains(arg, "member='JobRemoved'") || !strings.Contains(arg, "sender='"+name+"'") {
			s.breach("asks for more than the ends of PID 1's jobs: %s", arg)
		}
		s.mu.Lock()
		p.matched = true
		s.mu.Unlock()
		return nil, nil
	}
	s.breach("%s%v of the bus", c.Member, c.Args)
	return nil, dbus.NewError(busDaemon+".Error.UnknownMethod", nil)
}

func (s *Systemd) subscribe(p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.subscribed = true
}

// subscribed reports whether somebody waits for signals.
func (s *Systemd) subscribed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.conns {
		if p.subscribed {
			return true
		}
	}
	return false
}

// Signal sends a signal of the manager to all who get it: on a bus those who
// asked for it, on a private socket everybody.
func (s *Systemd) Signal(member string, body ...any) { s.SignalAs(owner, member, body...) }

// SignalAs is Signal, or on a bus another peer's forgery of it.
func (s *Systemd) SignalAs(sender, member string, body ...any) {
	m := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:      dbus.MakeVariant(manager),
		dbus.FieldInterface: dbus.MakeVariant(name + ".Manager"),
		dbus.FieldMember:    dbus.MakeVariant(member),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
	}, Body: body}
	if s.Bus {
		m.Headers[dbus.FieldSender] = dbus.MakeVariant(sender)
	}
	s.mu.Lock()
	var to []*peer
	for _, p := range s.conns {
		if !s.Bus || p.subscribed && p.matched {
			to = append(to, p)
		}
	}
	s.mu.Unlock()
	for _, p := range to {
		_ = p.send(m) // it may have hung up
	}
}
