package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/internal/wire"
	"github.com/tcpmemd/tcpmemd/remediate/launch"
)

const (
	coreVersion  = 1       // of go-plugin's own protocol
	maxHandshake = 4 << 10 // bytes of the line
	maxHeaders   = 64 << 10
)

// start brings up a process of s with the given capabilities, up to where it
// can be called. What it returns as an error has left nothing behind.
func (r *Runner) start(ctx context.Context, s *slot, caps []string) (_ *process, err error) {
	f, err := r.verify(s)
	if err != nil {
		return nil, wrap(s.plugin.Name, PhaseVerify, err)
	}
	defer f.Close()
	launcher, err := open(r.cfg.Launcher)
	if err != nil {
		return nil, wrap(s.plugin.Name, PhaseVerify, err)
	}
	defer launcher.Close()
	if r.afterVerify != nil {
		r.afterVerify()
	}
	p, line, err := r.spawn(s, f, launcher, caps)
	if err != nil {
		return nil, wrap(s.plugin.Name, PhaseStart, err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Handshake)
	defer cancel()
	defer context.AfterFunc(r.closing, cancel)()
	began := time.Now()
	if err := p.shakeHands(ctx, line); err != nil {
		p.kill()
		if errors.Is(err, errSilent) {
			err = p.silent(ctx, began)
		}
		return nil, wrap(s.plugin.Name, PhaseHandshake, err)
	}
	return p, nil
}

// verify opens the plugin's file and, where the configuration has a checksum,
// compares that.
func (r *Runner) verify(s *slot) (*opened, error) {
	f, err := open(s.plugin.Path)
	if err != nil {
		return nil, err
	}
	if s.plugin.SHA256 != "" {
		if err := f.match(s.plugin.SHA256); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// environment is all that a plugin inherits.
func (s *slot) environment(dir string) []string {
	env := append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, s.plugin.Env...)
	return append(env,
		remediate.CookieKey+"="+remediate.CookieValue,
		fmt.Sprintf("PLUGIN_PROTOCOL_VERSIONS=%d", remediate.ProtocolVersion),
		"PLUGIN_UNIX_SOCKET_DIR="+dir,
		"TMPDIR="+dir,
	)
}

// spawn executes the launcher, which becomes the plugin. The descriptors that
// were checked are what is executed; a script's interpreter opens it by its
// path once more, which rests on the rule for the folders above.
func (r *Runner) spawn(s *slot, f, launcher *opened, caps []string) (_ *process, line <-chan string, err error) {
	dir := filepath.Join(r.cfg.Dir, fmt.Sprintf("%.16s-%d", s.plugin.Name, r.serial.Add(1)))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make its folder: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	seen := dir
	if u := s.plugin.User; u != nil {
		if err := os.Chown(dir, u.UID, u.GID); err != nil {
			return nil, nil, fmt.Errorf("give its folder away: %w", err)
		}
		seen = "." // it may not pass the folders above
	}
	pipes, err := newPipes()
	if err != nil {
		return nil, nil, err
	}
	defer pipes.closeTheirs()
	spec := launch.Spec{
		Caps: caps, NoFile: r.cfg.MaxOpenFiles, FSize: uint64(r.cfg.MaxTemp), User: s.plugin.User,
		Target: "4", Args: append([]string{filepath.Base(s.plugin.Path)}, s.plugin.Args...),
	}
	if f.info.Script {
		spec.Target = s.plugin.Path
	}
	if s.plugin.BuiltIn {
		// Programs that run-command starts inherit these: they are the
		// operator's, and may have much to write.
		spec.NoFile, spec.FSize = max(spec.NoFile, 1024), 0
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/fd/3", Args: append([]string{filepath.Base(r.cfg.Launcher)}, spec.Flags()...),
		Env: s.environment(seen), Dir: dir,
		Stdin: pipes.stdin[0], Stdout: pipes.stdout[1], Stderr: pipes.stderr[1],
		ExtraFiles:  []*os.File{launcher.File, f.File},
		SysProcAttr: &unix.SysProcAttr{Setsid: true},
	}
	err = r.family.start(func() (int, error) {
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	if err != nil {
		pipes.closeOurs()
		return nil, nil, err
	}
	p, line, err := r.newProcess(s, cmd, dir, pipes, f.id)
	return p, line, err
}

// errSilent: the plugin's standard output ended, or the time, without a line.
var errSilent = errors.New("no handshake")

// silent says what kept a plugin from shaking hands.
func (p *process) silent(ctx context.Context, began time.Time) error {
	switch {
	case context.Cause(ctx) != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return fail(KindCanceled, "you cancelled: %w", context.Cause(ctx))
	case p.diedByItself():
		return p.obituary()
	case ctx.Err() != nil:
		return fail(KindHandshakeTimeout, "no handshake within %v", time.Since(began).Round(time.Millisecond))
	}
	return fail(KindHandshakeGarbage, "it closed its standard output without a handshake")
}

// shakeHands reads the line that a plugin begins with (go-plugin's
// docs/internals.md):
//
//	CORE-VERSION | VERSION | NETWORK | ADDRESS | grpc [| CERTIFICATE [| ...]]
//
// and connects to the address.
func (p *process) shakeHands(ctx context.Context, lines <-chan string) error {
	var line string
	select {
	case l, ok := <-lines:
		if !ok {
			// It is dead or dying; how will be known in a moment.
			select {
			case <-p.exited:
			case <-time.After(briefly):
			}
			return errSilent
		}
		line = l
	case <-ctx.Done():
		return errSilent
	case <-p.exited:
		select {
		case l, ok := <-lines:
			if !ok {
				return errSilent
			}
			line = l
		case <-time.After(briefly):
			return errSilent
		}
	}
	path, err := p.address(line)
	if err != nil {
		return err
	}
	return p.connect(ctx, path)
}

// address is the socket's path in a handshake.
func (p *process) address(line string) (string, error) {
	fields := strings.Split(strings.TrimSpace(line), "|")
	if len(fields) < 5 {
		return "", fail(KindHandshakeGarbage, "its first line is no handshake: \"%s\"", wire.Printable(line, 200))
	}
	core, err1 := strconv.Atoi(fields[0])
	version, err2 := strconv.Atoi(fields[1])
	network, address := fields[2], fields[3]
	switch {
	case err1 != nil || err2 != nil:
		return "", fail(KindHandshakeGarbage, "its first line is no handshake: \"%s\"", wire.Printable(line, 200))
	case core != coreVersion:
		return "", fail(KindVersion, "it speaks version %d of go-plugin's protocol, not %d", core, coreVersion)
	case version != remediate.ProtocolVersion:
		return "", fail(KindVersion, "it speaks version %d of the protocol, not %d", version, remediate.ProtocolVersion)
	case network != "unix":
		return "", fail(KindNetwork, "it listens on \"%s\"; only a Unix socket is allowed", wire.Printable(network, 20))
	case fields[4] != "grpc":
		return "", fail(KindHandshakeGarbage, "it speaks \"%s\", not grpc", wire.Printable(fields[4], 20))
	case len(fields) > 5 && fields[5] != "":
		return "", fail(KindHandshakeGarbage, "it wants TLS, which was not offered")
	}
	if !filepath.IsAbs(address) {
		address = filepath.Join(p.dir, address)
	}
	if filepath.Dir(filepath.Clean(address)) != p.dir {
		return "", fail(KindNetwork, "it listens at \"%s\", outside its own folder", wire.Printable(address, 200))
	}
	info, err := os.Lstat(address)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return "", fail(KindNetwork, "it listens at \"%s\", which is no socket", wire.Printable(address, 200))
	}
	return filepath.Clean(address), nil
}

// newConn prepares the connection to a process; it is made when connect has
// the path. There is no TLS on it: the folder is closed to others, and the
// kernel says who listens. (go-plugin's AutoMTLS would use P-521, which other
// languages' gRPC does not know, and costs 60 ms at each start.)
func (p *process) newConn() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///plugin",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.dial(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(remediate.MaxAnswerBytes),
			grpc.MaxCallSendMsgSize(remediate.MaxRequestBytes)),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithIdleTimeout(0),
	)
}

// connect makes sure of whom the socket reaches, and lets calls begin.
func (p *process) connect(ctx context.Context, path string) error {
	p.socket = path
	conn, err := p.dial(ctx)
	if err != nil {
		if _, ok := errors.AsType[*failure](err); ok {
			return err
		}
		return fail(KindNetwork, "connect to its socket: %w", err)
	}
	p.first <- conn
	close(p.connected)
	p.conn.Connect()
	return nil
}

// dial gives out the connection that connect has made; another is made only
// when that breaks.
func (p *process) dial(ctx context.Context) (net.Conn, error) {
	select {
	case conn := <-p.first:
		return conn, nil
	default:
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", p.socket)
	if err != nil {
		return nil, err
	}
	if err := p.isOurs(conn.(*net.UnixConn)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// isOurs asks the kernel who listens (SO_PEERCRED, unix(7)).
func (p *process) isOurs(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return fmt.Errorf("ask who listens: %w", credErr)
	}
	if !p.family.descends(int(cred.Pid), p.pid()) {
		return fail(KindNetwork, "process %d listens on its socket, which is not of this plugin", cred.Pid)
	}
	return nil
}

// firstLine reads the handshake, gives it to lines and closes that, and leaves
// the rest of r to the caller.
func firstLine(r *bufio.Reader, lines chan<- string) {
	defer close(lines)
	line, err := r.ReadSlice('\n')
	if err == nil || len(line) > 0 && errors.Is(err, bufio.ErrBufferFull) {
		lines <- string(line)
	}
}
