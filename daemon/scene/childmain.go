package scene

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// unixCredential has no name in x/sys/unix.
type unixCredential = syscall.Credential

const (
	// envLoopback asks a child to bring lo up in the namespace it was born in.
	envLoopback = "TCPMEMD_SCENE_LOOPBACK"
	// envComm is what a holder calls itself.
	envComm = "TCPMEMD_SCENE_COMM"
	// mailboxFD is the first of exec.Cmd.ExtraFiles.
	mailboxFD = 3
)

// RunIfChild runs the job of a child process and exits, where the process was
// started as one by this package; otherwise it returns at once. Call it first
// thing in TestMain or main.
func RunIfChild() {
	job := os.Getenv(envChild)
	var err error
	switch job {
	case "":
		return
	case jobSockets:
		err = runSockets()
	case jobHolder:
		err = runHolder()
	case jobGuardian:
		err = runGuardian(os.Stdin, os.Stdout)
	default:
		err = fmt.Errorf("no such job")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "scene: %s: %v\n", job, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runSockets follows the protocol until the parent says exit or closes its end.
func runSockets() error {
	if os.Getenv(envLoopback) != "" {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	unix.CloseOnExec(mailboxFD)
	s := &server{workshop: newWorkshop(), mailbox: os.NewFile(mailboxFD, "mailbox")}
	requests := make(chan request)
	go func() {
		in := json.NewDecoder(os.Stdin)
		for {
			var req request
			if err := in.Decode(&req); err != nil {
				// Nobody is left to answer to, whatever is being done.
				os.Exit(0)
			}
			requests <- req
		}
	}()
	out := json.NewEncoder(os.Stdout)
	for req := range requests {
		rep, err := s.call(context.Background(), req)
		if err := out.Encode(toReply(rep, err)); err != nil {
			return err
		}
		if req.Op == opExit {
			return nil
		}
	}
	return nil
}

// runHolder holds what it inherited until its standard input closes.
func runHolder() error {
	if err := rename([]byte(os.Getenv(envComm))); err != nil {
		return err
	}
	os.Stdout.Close() // says ready
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// server is the workshop of a child, with what needs a process of its own.
type server struct {
	*workshop
	mailbox *os.File
	forks   []*process
	pipes   []io.Closer

	leaks  sync.WaitGroup
	unleak []context.CancelFunc
}

func (s *server) call(ctx context.Context, req request) (reply, error) {
	rep := reply{PID: s.pid}
	var err error
	switch req.Op {
	case opHello, opRename:
		err = rename(req.Name)
	case opFork:
		rep.PID, err = s.fork(req)
	case opSend:
		err = s.send(req.IDs)
	case opReceive:
		rep.IDs, err = s.receive(req.N)
	case opMove:
		path := filepath.Join(string(req.Name), "cgroup.procs")
		err = os.WriteFile(path, []byte(strconv.Itoa(s.pid)), 0)
	case opLeak:
		s.leak(ctx, *req.Leak)
	case opExit:
		err = s.exit()
	default:
		return s.workshop.call(ctx, req)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", req.Op, err)
	}
	return rep, err
}

// rename sets the comm of the thread group's leader, which is the one that
// people see. Writing the file takes newlines as they are (comm_write in
// fs/proc/base.c), and needs no particular thread.
func rename(comm []byte) error {
	if len(comm) == 0 {
		return nil
	}
	return os.WriteFile("/proc/self/comm", comm, 0)
}

func (s *server) fork(req request) (pid int, err error) {
	cmd := selfCommand(jobHolder)
	cmd.Args = []string{"scene-holder"}
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	err = s.each(req.IDs, func(sock *Socket) error {
		fd, err := unix.FcntlInt(uintptr(sock.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(fd), "shared"))
		}
		return os.NewSyscallError("dup", err)
	})
	defer func() {
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
	}()
	if err != nil {
		return 0, err
	}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	ready, stdout, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer ready.Close()
	cmd.Stdout = stdout
	comm := string(req.Name)
	if comm == "" {
		comm = "scene-holder"
	}
	cmd.Env = append(cmd.Env, envComm+"="+comm)
	p, err := spawn(cmd, nil)
	stdout.Close()
	if err != nil {
		return 0, err
	}
	s.forks, s.pipes = append(s.forks, p), append(s.pipes, pipe)
	if _, err := io.Copy(io.Discard, ready); err != nil {
		return 0, err
	}
	return p.pid(), nil
}

// send passes the descriptors on. The mailbox of the receiver waits in the own one.
func (s *server) send(ids []int) error {
	to, err := receiveFiles(s.mailbox, 1)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(to[0]), "other mailbox")
	defer f.Close()
	var fds []int
	err = s.each(ids, func(sock *Socket) error {
		fds = append(fds, sock.FD)
		return nil
	})
	if err != nil {
		return err
	}
	return sendFiles(f, fds...)
}

func (s *server) receive(n int) ([]int, error) {
	fds, err := receiveFiles(s.mailbox, n)
	var ids []int
	for i, fd := range fds {
		protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err != nil {
			closeAll(fds[i:])
			return nil, os.NewSyscallError("getsockopt SO_PROTOCOL", err)
		}
		sock, err := s.adopt(fd, Accepted, protocol == unix.IPPROTO_MPTCP)
		if err != nil && !errors.Is(err, unix.ENOTCONN) { // a hidden one has no peer
			closeAll(fds[i+1:])
			return nil, err
		}
		ids = append(ids, sock.ID)
	}
	return ids, err
}

func (s *server) leak(ctx context.Context, spec LeakSpec) {
	ctx, cancel := context.WithCancel(ctx)
	s.unleak = append(s.unleak, cancel)
	s.leaks.Go(func() {
		if err := Leaker(ctx, spec); err != nil {
			fmt.Fprintf(os.Stderr, "scene: leak: %v\n", err)
			os.Exit(1)
		}
	})
}

func (s *server) exit() error {
	for _, cancel := range s.unleak {
		cancel()
	}
	s.leaks.Wait()
	for i, p := range s.forks {
		s.pipes[i].Close()
		p.end(patience)
	}
	return s.forgetAll()
}

// loopbackUp brings lo up in the calling thread's network namespace.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
