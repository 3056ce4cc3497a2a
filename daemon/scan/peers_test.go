package scan_test

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// checkPeer: all of an owner's full send queues lead to one other.
func checkPeer(t *testing.T, o reading.Owner, key string, sockets int64) {
	t.Helper()
	if len(o.Peers) != 1 || o.Peers[0].Owner != key || o.Peers[0].Sockets != sockets {
		t.Errorf("peers of %s are %+v, want %d sockets towards %s", o.Key, o.Peers, sockets, key)
		return
	}
	if o.Peers[0].Bytes != o.Send {
		t.Errorf("%d bytes are queued towards the peer, %d in all", o.Peers[0].Bytes, o.Send)
	}
}

// Who does not read has a name: send side and receive side of connections
// between two processes of one namespace.
func TestSlowPeer(t *testing.T) {
	for _, family := range []scene.Family{scene.IPv4, scene.IPv6, scene.Mapped} {
		t.Run(string(family), func(t *testing.T) {
			s, dialer, acceptor := open(t), start(t), start(t)
			d, a := across(t, dialer, acceptor, scene.Spec{Kind: scene.Unsent, Pairs: 10, SendBuffer: small, Family: family})
			r := steadyBuilt(t, s, made{dialer, d}, made{acceptor, a})
			o := checkOwner(t, r, processKey(t, dialer.PID()), wantProcess(d))
			checkPeer(t, o, processKey(t, acceptor.PID()), 10)
			o = checkOwner(t, r, processKey(t, acceptor.PID()), wantProcess(a))
			if len(o.Peers) != 0 {
				t.Errorf("who does not read waits for %+v", o.Peers)
			}
			if o.Unread == 0 || o.Send != 0 {
				t.Errorf("%d bytes unread, %d to send", o.Unread, o.Send)
			}
		})
	}
}

// Received and not read: the bytes are the acceptor's, the writer owes nothing.
func TestUnreadAcross(t *testing.T) {
	s, dialer, acceptor := open(t), start(t), start(t)
	d, a := across(t, dialer, acceptor, scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 9000})
	r := read(t, s)
	o := checkOwner(t, r, processKey(t, acceptor.PID()), wantProcess(a))
	if o.Unread < 20*9000 {
		t.Errorf("%d bytes unread, sent %d", o.Unread, 20*9000)
	}
	o = checkOwner(t, r, processKey(t, dialer.PID()), wantProcess(d))
	if o.Unread != 0 || o.Send != 0 || len(o.Peers) != 0 {
		t.Errorf("the writer has %d bytes unread, %d to send, peers %+v", o.Unread, o.Send, o.Peers)
	}
}
