package scene

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ChildOptions say where and as what a child runs. The zero value is a child
// beside the caller.
type ChildOptions struct {
	Comm   string  // /proc/PID/comm, 15 bytes at most, any bytes but NUL; "" means "scene-child"
	Argv0  string  // first argument; "" means "scene-child"
	Cgroup *Cgroup // starts inside it (clone3 with CLONE_INTO_CGROUP, >= 5.7)
	Netns  *Netns  // starts inside it

	// NewNetns gives the child a namespace that only it keeps, lo up.
	NewNetns bool
	// UID of the child, 0 for that of the caller. It needs root.
	UID uint32
}

// Child is a process that makes sockets. Its methods may be called from
// several goroutines; calls take turns.
type Child struct {
	proc      *process
	mailbox   *os.File // the parent's end: what is sent here, the child receives
	stopWatch func()

	mu     sync.Mutex // guards the conversation
	conn   net.Conn
	enc    *json.Encoder
	dec    *json.Decoder
	broken error // the conversation cannot go on
}

// Start starts a child. It ends with Stop or Kill, when ctx is done, or when
// this process dies.
func Start(ctx context.Context, o ChildOptions) (*Child, error) {
	c, err := startChild(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start child: %w", err)
	}
	return c, nil
}

func startChild(ctx context.Context, o ChildOptions) (*Child, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	cmd := selfCommand(jobSockets)
	cmd.Args = []string{"scene-child"}
	if o.Argv0 != "" {
		cmd.Args[0] = o.Argv0
	}
	if o.Comm == "" {
		o.Comm = "scene-child"
	}
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	if o.UID != 0 {
		cmd.SysProcAttr.Credential = &unixCredential{Uid: o.UID, Gid: o.UID}
	}
	var enter func() error
	if o.Netns != nil {
		enter = o.Netns.enter
	}
	if o.NewNetns {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
		cmd.Env = append(cmd.Env, envLoopback+"=1")
	}
	if o.Cgroup != nil {
		dir, err := os.Open(o.Cgroup.Path)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}

	ours, theirs, err := socketPair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	mailbox, theirMailbox, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer theirMailbox.Close()
	cmd.Stdin, cmd.Stdout, cmd.ExtraFiles = theirs, theirs, []*os.File{theirMailbox}

	c := &Child{conn: conn, mailbox: mailbox, enc: json.NewEncoder(conn), dec: json.NewDecoder(conn)}
	if c.proc, err = spawn(cmd, enter); err != nil {
		conn.Close()
		mailbox.Close()
		return nil, err
	}
	c.stopWatch = afterCancel(ctx, func() { c.proc.cmd.Process.Kill() })
	theirs.Close() // or the child's end would never show
	if _, err := c.call(ctx, request{Op: opHello, Name: []byte(o.Comm)}); err != nil {
		c.Kill()
		return nil, err
	}
	return c, nil
}

// PID is the child's process id; it is not reused before Stop or Kill.
func (c *Child) PID() int { return c.proc.pid() }

// Build makes a scene with both ends in this child. A socket of another class
// than was ordered is an error, but for what the kernel reset meanwhile, as it
// does out of memory: that is reported as Gone, its held end as hidden.
func (c *Child) Build(ctx context.Context, spec Spec) (*Built, error) {
	b, _, err := build(ctx, c, c, spec)
	return b, err
}

// Across makes a scene between two children in one network namespace: one
// dials and acts, the other accepts and never reads.
func Across(ctx context.Context, dialer, acceptor *Child, spec Spec) (dialed, accepted *Built, err error) {
	return build(ctx, dialer, acceptor, spec)
}

// Group makes unaccepted connections to one address on which several children
// listen with SO_REUSEPORT. The kernel spreads them by a hash of the addresses;
// Rqueue of each listener says how many it got. dialed has the dialers and the
// unaccepted ends, which nothing assigns to one listener.
func Group(ctx context.Context, dialer *Child, spec Spec, listeners ...*Child) (dialed *Built, listening []*Built, err error) {
	spec.Kind = Unaccepted
	ends := make([]endpoint, len(listeners))
	for i := range listeners {
		ends[i] = listeners[i]
	}
	return group(ctx, dialer, ends, spec)
}

// Accept accepts n of the connections that wait at a listener of this child.
func (c *Child) Accept(ctx context.Context, listener Socket, n int) (*Built, error) {
	rep, err := c.call(ctx, request{Op: opAccept, IDs: []int{listener.ID}, N: n})
	if err != nil {
		return nil, err
	}
	return report(ctx, c, rep.IDs)
}

// Refresh reads the truth about the sockets of b once more.
func (c *Child) Refresh(ctx context.Context, b *Built) error {
	fresh, err := report(ctx, c, b.ids())
	if err != nil {
		return fmt.Errorf("refresh: %w", err)
	}
	*b = *fresh
	return nil
}

// Close closes descriptors as a program does: with a FIN, what is unsent goes
// on as an orphan.
func (c *Child) Close(ctx context.Context, sockets ...Socket) error {
	_, err := c.call(ctx, request{Op: opClose, IDs: idsOf(sockets)})
	return err
}

// Release closes all that b holds with a reset: nothing remains, no TIME_WAIT
// either.
func (c *Child) Release(ctx context.Context, b *Built) error {
	_, err := c.call(ctx, request{Op: opForget, IDs: b.ids()})
	return err
}

// Fork starts a child of the child that inherits the descriptors and keeps
// them until the child ends: one file description in two processes. It gives
// the pid of the new process; comm "" means "scene-holder".
func (c *Child) Fork(ctx context.Context, comm string, sockets ...Socket) (pid int, err error) {
	rep, err := c.call(ctx, request{Op: opFork, Name: []byte(comm), IDs: idsOf(sockets)})
	return rep.PID, err
}

// Send passes descriptors to another child by SCM_RIGHTS. They are in flight,
// open in no process but the sender's, until that child receives them.
func (c *Child) Send(ctx context.Context, to *Child, sockets ...Socket) error {
	c.mu.Lock()
	err := sendFiles(c.mailbox, int(to.mailbox.Fd()))
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	_, err = c.call(ctx, request{Op: opSend, IDs: idsOf(sockets)})
	return err
}

// Receive takes n descriptors that another child sent.
func (c *Child) Receive(ctx context.Context, n int) (*Built, error) {
	rep, err := c.call(ctx, request{Op: opReceive, N: n})
	if err != nil {
		return nil, err
	}
	return report(ctx, c, rep.IDs)
}

// MoveTo lets the child move itself into another cgroup. Its sockets keep the
// one in which they were made.
func (c *Child) MoveTo(ctx context.Context, g *Cgroup) error {
	_, err := c.call(ctx, request{Op: opMove, Name: []byte(g.Path)})
	return err
}

// Rename sets the child's comm; longer than 15 bytes is cut by the kernel.
func (c *Child) Rename(ctx context.Context, comm string) error {
	_, err := c.call(ctx, request{Op: opRename, Name: []byte(comm)})
	return err
}

// Leak lets the child leak as Leaker does, until it ends.
func (c *Child) Leak(ctx context.Context, spec LeakSpec) error {
	_, err := c.call(ctx, request{Op: opLeak, Leak: &spec})
	return err
}

// Stop ends the child and frees all it holds by resets. What it closed before
// and what it sent to others remains.
func (c *Child) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := c.call(ctx, request{Op: opExit})
	if err == nil {
		c.proc.end(patience)
	}
	c.Kill()
	return err
}

// Kill ends the child by SIGKILL, as a crash would: its unsent data becomes
// orphans. It returns once the process is gone; more than once is no error.
func (c *Child) Kill() {
	c.stopWatch()
	c.proc.kill()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil || !errors.Is(c.broken, net.ErrClosed) {
		c.conn.Close()
		c.mailbox.Close()
		c.proc.close()
		c.broken = net.ErrClosed
	}
}

// call implements endpoint. A call that is given up ends the conversation: the
// answer to it would be taken for the next one's.
func (c *Child) call(ctx context.Context, req request) (rep reply, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return rep, fmt.Errorf("%s: child %d: %w", req.Op, c.PID(), c.broken)
	}
	stop := afterCancel(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
	err = c.enc.Encode(req)
	if err == nil {
		err = c.dec.Decode(&rep)
	}
	stop()
	switch {
	case err == nil:
		return rep, rep.err()
	case ctx.Err() != nil:
		c.broken = context.Cause(ctx)
		c.proc.cmd.Process.Kill()
	default:
		c.broken = c.proc.fate()
	}
	return rep, fmt.Errorf("%s: child %d: %w", req.Op, c.PID(), c.broken)
}

func (b *Built) ids() []int {
	if b == nil {
		return nil
	}
	return idsOf(b.Sockets)
}

// idsOf leaves out subflows: they go with their MPTCP socket.
func idsOf(sockets []Socket) []int {
	var ids []int
	for i := range sockets {
		if sockets[i].Role != Subflow {
			ids = append(ids, sockets[i].ID)
		}
	}
	return ids
}
