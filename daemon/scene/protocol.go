package scene

import (
	"context"
	"errors"
	"net/netip"
)

// op names what a process is asked to do with its sockets.
type op string

const (
	opHello   op = "hello"   // take a name, say the pid
	opListen  op = "listen"  // at Addr, or at an own address where it is not valid
	opOpen    op = "open"    // N sockets, bound where Bind
	opDial    op = "dial"    // N connections to Addr
	opAccept  op = "accept"  // N connections from listener IDs[0]
	opExpect  op = "expect"  // Addr waits for Remotes in the accept queue
	opWrite   op = "write"   // N bytes to each of IDs, acknowledged before the answer
	opFill    op = "fill"    // write to IDs until they take nothing more
	opAwait   op = "await"   // until each of IDs is in State, mini where Mini
	opFinish  op = "finish"  // shutdown(SHUT_WR) of IDs
	opClose   op = "close"   // IDs: FIN, or reset where Reset; Linger2 seconds in FIN_WAIT2
	opReport  op = "report"  // IDs; where Settle, once they have come to rest
	opForget  op = "forget"  // IDs: reset what is held
	opFork    op = "fork"    // a child named Name that inherits the descriptors of IDs
	opSend    op = "send"    // descriptors of IDs, to the mailbox that waits in the own one
	opReceive op = "receive" // N descriptors from the own mailbox
	opMove    op = "move"    // into the cgroup whose directory is Name
	opRename  op = "rename"  // comm becomes Name
	opFleet   op = "fleet"   // N idle pairs with Bytes each, kept only as descriptors
	opLeak    op = "leak"    // as Leak says, in the background
	opExit    op = "exit"    // forget everything, answer, exit
)

// request is one line to a child. Only the fields that the op names are set.
type request struct {
	Op      op               `json:"op"`
	IDs     []int            `json:"ids,omitempty"`
	N       int              `json:"n,omitempty"`
	Bytes   int              `json:"bytes,omitempty"`
	Addr    netip.AddrPort   `json:"addr,omitzero"`
	Remotes []netip.AddrPort `json:"remotes,omitempty"`
	Name    []byte           `json:"name,omitempty"` // bytes: need not be UTF-8

	Family   Family `json:"family,omitempty"`
	MPTCP    bool   `json:"mptcp,omitempty"`
	Wildcard bool   `json:"wildcard,omitempty"`
	Shared   bool   `json:"shared,omitempty"` // SO_REUSEPORT
	Send     int    `json:"send,omitempty"`   // SO_SNDBUF
	Receive  int    `json:"receive,omitempty"`
	Bind     bool   `json:"bind,omitempty"`

	State   int  `json:"state,omitempty"`
	Mini    bool `json:"mini,omitempty"`
	Reset   bool `json:"reset,omitempty"`
	Linger2 int  `json:"linger2,omitempty"`
	Settle  bool `json:"settle,omitempty"`

	Leak *LeakSpec `json:"leak,omitempty"`
}

// reply is one line back.
type reply struct {
	Error       string `json:"error,omitempty"`
	Unavailable bool   `json:"unavailable,omitempty"` // the error is ErrUnavailable

	PID     int            `json:"pid,omitempty"`
	IDs     []int          `json:"ids,omitempty"`
	Addr    netip.AddrPort `json:"addr,omitzero"`
	Sockets []Socket       `json:"sockets,omitempty"`
	Settled bool           `json:"settled,omitempty"`
}

// endpoint does what it is asked: a child over its standard input, or the
// calling process itself.
type endpoint interface {
	call(ctx context.Context, req request) (reply, error)
}

// remoteError is an error that a child sent.
type remoteError struct {
	text        string
	unavailable bool
}

func (e *remoteError) Error() string { return e.text }

// Is lets a caller ask for ErrUnavailable across the process boundary.
func (e *remoteError) Is(target error) bool { return e.unavailable && target == ErrUnavailable }

func toReply(rep reply, err error) reply {
	if err != nil {
		rep.Error, rep.Unavailable = err.Error(), errors.Is(err, ErrUnavailable)
	}
	return rep
}

func (r *reply) err() error {
	if r.Error == "" {
		return nil
	}
	return &remoteError{r.Error, r.Unavailable}
}
