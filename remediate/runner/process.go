package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

const (
	// killTime is how long a killed process may take to be gone.
	killTime = time.Second
	// tempInterval is how often the size of a folder is looked at.
	tempInterval = 200 * time.Millisecond
	maxTempFiles = 1000
)

// process is one run of a plugin's program.
//
// Its end is the business of one goroutine, watch: it learns of the leader's
// death, kills the group while the leader is still unburied (so that the
// group's number cannot be another's), then buries it and all that it has left
// behind. Everybody else only asks it to stop, or kills it.
type process struct {
	name    string
	dir     string
	cmd     *exec.Cmd
	file    identity
	family  *family
	words   *words
	stdin   *os.File
	conn    *grpc.ClientConn
	client  proto.ActionClient
	maxTemp int64
	began   time.Time

	socket    string        // valid after connected
	connected chan struct{} // closed by connect
	first     chan net.Conn // what connect has made, once

	alive   context.Context // its cause says what became of it
	lose    context.CancelCauseFunc
	outputs sync.WaitGroup
	exited  chan struct{} // closed at the leader's death
	over    chan struct{} // closed when nothing is left
	left    int           // strays that could not be killed; valid after over

	mu     sync.Mutex
	buried bool // the leader's number may be another's now
	killed bool // by us
}

// pipes are the three standard files, [0] to read and [1] to write.
type pipes struct{ stdin, stdout, stderr [2]*os.File }

func newPipes() (p *pipes, err error) {
	p = &pipes{}
	for _, pair := range []*[2]*os.File{&p.stdin, &p.stdout, &p.stderr} {
		if pair[0], pair[1], err = os.Pipe(); err != nil {
			p.closeTheirs()
			p.closeOurs()
			return nil, err
		}
	}
	return p, nil
}

// A nil *os.File can be closed.
func (p *pipes) closeTheirs() { p.stdin[0].Close(); p.stdout[1].Close(); p.stderr[1].Close() }
func (p *pipes) closeOurs()   { p.stdin[1].Close(); p.stdout[0].Close(); p.stderr[0].Close() }

func (r *Runner) newProcess(s *slot, cmd *exec.Cmd, dir string, io *pipes, file identity) (*process, <-chan string, error) {
	p := &process{
		name: s.plugin.Name, dir: dir, cmd: cmd, file: file, family: r.family,
		words: newWords(r.cfg.Log.With("plugin", s.plugin.Name, "pid", cmd.Process.Pid)),
		stdin: io.stdin[1], maxTemp: r.cfg.MaxTemp, began: time.Now(),
		connected: make(chan struct{}), first: make(chan net.Conn, 1),
		exited: make(chan struct{}), over: make(chan struct{}),
	}
	conn, err := p.newConn()
	p.conn, p.client = conn, proto.NewActionClient(conn)
	p.alive, p.lose = context.WithCancelCause(context.Background())
	lines := make(chan string, 1)
	p.outputs.Go(func() {
		out := bufio.NewReaderSize(io.stdout[0], maxHandshake)
		firstLine(out, lines)
		p.words.listen(p.alive, out)
	})
	p.outputs.Go(func() { p.words.listen(p.alive, io.stderr[0]) })
	if err == nil {
		p.outputs.Go(p.followStdio)
	}
	r.processes.Go(func() { p.watch(io) })
	r.processes.Go(p.watchTemp)
	if err != nil {
		p.kill()
		return nil, nil, fmt.Errorf("prepare the connection: %w", err)
	}
	return p, lines, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// watch waits for the end and clears up.
func (p *process) watch(io *pipes) {
	for {
		err := unix.Waitid(unix.P_PID, p.pid(), nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	unix.Kill(-p.pid(), unix.SIGKILL)
	p.mu.Lock()
	p.buried = true
	p.mu.Unlock()
	_ = p.cmd.Wait() // its state is kept
	close(p.exited)
	p.lose(fail(KindDied, "plugin died"))
	met, left := p.family.bury(p.pid(), killTime)
	if p.left = left; met > 0 {
		p.words.log.Warn("plugin left processes behind", "ended", met-left, "left", left)
	}

	p.stdin.Close()
	if p.left > 0 {
		io.closeOurs() // who is stuck keeps them open
	}
	if p.conn != nil {
		_ = p.conn.Close()
	}
	select {
	case conn := <-p.first: // nobody called
		conn.Close()
	default:
	}
	p.outputs.Wait()
	io.closeOurs()
	p.words.end()
	_ = os.RemoveAll(p.dir)
	close(p.over)
}

// kill ends the process and everything of it, now. It returns when that is
// done, or after a little more than killTime.
func (p *process) kill() {
	p.mu.Lock()
	if !p.buried {
		p.killed = true
		unix.Kill(-p.pid(), unix.SIGKILL)
	}
	p.mu.Unlock()
	p.await(2 * killTime)
}

func (p *process) await(within time.Duration) {
	select {
	case <-p.over:
	case <-time.After(within):
	}
}

// ended says whether nothing is left.
func (p *process) ended() bool {
	select {
	case <-p.over:
		return true
	default:
		return false
	}
}

// diedByItself says whether the process ended before we killed it.
func (p *process) diedByItself() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.exited:
		return !p.killed
	default:
		return false
	}
}

// stop asks the process to end, as go-plugin does and by the end of its
// standard input, and kills it when it does not within the time.
func (p *process) stop(within time.Duration) error {
	ctx, cancel := context.WithTimeout(p.alive, within/2)
	// It goes without an answer, or does not know the call.
	_ = p.conn.Invoke(ctx, "/plugin.GRPCController/Shutdown", &emptypb.Empty{}, &emptypb.Empty{})
	cancel()
	p.stdin.Close()
	select {
	case <-p.exited:
		p.await(2 * killTime)
	case <-time.After(within):
		p.kill()
		if p.ended() {
			return fail(KindTimedOut, "it did not end within %v: it was killed", within)
		}
	}
	if !p.ended() || p.left > 0 {
		return fail(KindUnkillable, "process %d or one of its children is still there after SIGKILL", p.pid())
	}
	return nil
}

// call makes one call, which returns soon after ctx or the process has ended.
// Without an answer the process is of no use any more, and is killed.
func (p *process) call(ctx context.Context, f func(context.Context) error) error {
	began := time.Now()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.alive, cancel)()
	err := f(inner)
	if err == nil {
		return nil
	}
	// A broken connection is how a death shows first.
	if ctx.Err() == nil && p.alive.Err() == nil {
		select {
		case <-p.exited:
		case <-time.After(briefly):
		}
	}
	p.kill()
	return p.explain(ctx, began, err)
}

// followStdio takes what go-plugin's servers say after the handshake: they
// redirect their own standard output and error to a stream, and stop when
// nobody reads that. Others do not know the call.
func (p *process) followStdio() {
	select {
	case <-p.connected:
	case <-p.alive.Done():
		return
	}
	stream, err := p.conn.NewStream(p.alive, &grpc.StreamDesc{ServerStreams: true}, "/plugin.GRPCStdio/StreamStdio")
	if err != nil {
		return
	}
	if stream.SendMsg(&emptypb.Empty{}) != nil || stream.CloseSend() != nil {
		return
	}
	r, w := io.Pipe()
	p.outputs.Go(func() { p.words.listen(p.alive, r) })
	for {
		// The message is known by its wire format alone: field 2 holds the bytes.
		var data emptypb.Empty
		if err := stream.RecvMsg(&data); err != nil {
			_ = w.Close()
			return
		}
		_, _ = w.Write(field(data.ProtoReflect().GetUnknown(), 2))
	}
}

// field is the first bytes field of a number in a message.
func field(message []byte, number protowire.Number) []byte {
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil
		}
		message = message[n:]
		if num == number && typ == protowire.BytesType {
			b, _ := protowire.ConsumeBytes(message)
			return b
		}
		if n = protowire.ConsumeFieldValue(num, typ, message); n < 0 {
			return nil
		}
		message = message[n:]
	}
	return nil
}

// watchTemp ends a process whose folder has grown too large. The kernel bounds
// each file (RLIMIT_FSIZE) but not their sum.
func (p *process) watchTemp() {
	tick := time.NewTicker(tempInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.alive.Done():
			return
		case <-tick.C:
		}
		if size, files := folderSize(p.dir); size > p.maxTemp || files > maxTempFiles {
			p.lose(fail(KindTempFull, "its folder holds more than %d bytes or %d files", p.maxTemp, maxTempFiles))
			p.kill()
			return
		}
	}
}

// folderSize stops counting at maxTempFiles.
func folderSize(dir string) (size int64, files int) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it has just been removed
		}
		if files++; files > maxTempFiles {
			return fs.SkipAll
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size() // blocks would be counted late, holes are nobody's need
		}
		return nil
	})
	return size, files
}
