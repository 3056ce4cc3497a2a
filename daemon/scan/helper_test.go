package scan_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// Some scenes need a process that package scene has not: sockets between two
// namespaces, a scanner with fewer rights, connections without pause. It is
// this executable again, with a job and its arguments in the environment.
const envHelper = "TCPMEMD_SCAN_HELPER"

// helper is such a process. It ends when its standard input does.
type helper struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

func (h *helper) pid() int { return h.cmd.Process.Pid }

// say reads a line that the helper wrote.
func (h *helper) say(t *testing.T) string {
	t.Helper()
	line, err := h.out.ReadString('\n')
	if err != nil {
		t.Fatalf("helper %v: %v", h.cmd.Env[len(h.cmd.Env)-1], err)
	}
	return strings.TrimSuffix(line, "\n")
}

// kill ends it as a crash would.
func (h *helper) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.stdin.Close()
	_ = h.cmd.Wait()
}

// startHelper starts one inside a namespace, or beside the caller where that is
// nil.
func startHelper(t *testing.T, ns *scene.Netns, attr *syscall.SysProcAttr, job ...string) *helper {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", envHelper+"="+strings.Join(job, " "))
	cmd.SysProcAttr = attr
	stdin, err := cmd.StdinPipe()
	do(t, "helper", err)
	stdout, err := cmd.StdoutPipe()
	do(t, "helper", err)
	cmd.Stderr = os.Stderr
	begin := cmd.Start
	if ns != nil {
		begin = func() error { return ns.Do(cmd.Start) }
	}
	do(t, "start helper", begin())
	h := &helper{cmd, stdin, bufio.NewReader(stdout)}
	t.Cleanup(h.kill)
	return h
}

// inCgroup are the attributes of a process that starts in g. The caller closes dir.
func inCgroup(t *testing.T, g *scene.Cgroup) *syscall.SysProcAttr {
	t.Helper()
	dir, err := os.Open(g.Path)
	do(t, "open cgroup", err)
	t.Cleanup(func() { _ = dir.Close() })
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
}

func runIfHelper() {
	job := strings.Fields(os.Getenv(envHelper))
	if len(job) == 0 {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	var err error
	switch job[0] {
	case "accept":
		err = helpAccept(job[1])
	case "dial":
		err = helpDial(job[1])
	case "drain":
		err = helpDrain()
	case "churn":
		err = helpChurn()
	case "scan":
		err = helpScan()
	default:
		err = errors.New("no such job")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "helper %v: %v\n", job, err)
		os.Exit(1)
	}
	select {}
}

// helpers use as many connections as this between two namespaces.
const farPairs = 5

var plainTCP = func() (c net.ListenConfig) { c.SetMultipathTCP(false); return c }()

// helpAccept accepts and never reads.
func helpAccept(addr string) error {
	l, err := plainTCP.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for range farPairs {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		kept = append(kept, c)
	}
	fmt.Println("accepted")
	select {}
}

// kept are connections that live as long as their process.
var kept []net.Conn

// helpDial writes until nothing more goes in.
func helpDial(addr string) error {
	for range farPairs {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		kept = append(kept, c)
		if err := c.(*net.TCPConn).SetWriteBuffer(small); err != nil {
			return err
		}
		buf := make([]byte, 16<<10)
		for {
			_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := c.Write(buf); errors.Is(err, os.ErrDeadlineExceeded) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	fmt.Println("full")
	select {}
}

// helpChurn opens and closes connections as fast as it can, in every way that
// a connection may end.
func helpChurn() error {
	l, err := plainTCP.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var held []net.Conn
	for i := 0; ; i++ {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		p, err := l.Accept()
		if err != nil {
			return err
		}
		_, _ = c.Write(make([]byte, 5000))
		_ = p.(*net.TCPConn).SetLinger(0) // or TIME_WAIT sockets would use up the ports
		switch i % 3 {
		case 0:
			_ = c.Close()
			held = append(held, p) // in close-wait for a while
		case 1:
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
			held = append(held, p) // hidden for a while
		default:
			_ = p.Close()
			_ = c.Close()
		}
		if len(held) > 50 {
			for _, p := range held {
				_ = p.Close()
			}
			held = held[:0]
		}
	}
}

// scanned is what a scan in a helper came to.
type scanned struct {
	OpenError  string
	NotInit    bool
	ScanErrors []string
	Gaps       [][]reading.Gap // by scan
	Mismatches []string
	Owners     []reading.Owner // of the last scan
}

// helpScan scans three times and prints the outcome.
func helpScan() error {
	var out scanned
	s, err := scan.Open(context.Background(), scan.Config{})
	if err != nil {
		out.OpenError, out.NotInit = err.Error(), errors.Is(err, procfs.ErrNotInitNetns)
		return json.NewEncoder(os.Stdout).Encode(out)
	}
	for range 3 {
		r, err := s.Scan(context.Background(), scan.Options{Thorough: true})
		if err != nil {
			out.ScanErrors = append(out.ScanErrors, err.Error())
			continue
		}
		out.Gaps = append(out.Gaps, r.Gaps)
		out.Owners = r.Owners
		for _, c := range r.Ledger.Checks {
			if c.Status == reading.CheckMismatch {
				out.Mismatches = append(out.Mismatches, fmt.Sprintf("%+v", c))
			}
		}
	}
	if err := s.Sockets(context.Background(), func(*reading.Socket) error { return nil }); err != nil {
		out.ScanErrors = append(out.ScanErrors, err.Error())
	}
	if err := s.Close(); err != nil {
		out.ScanErrors = append(out.ScanErrors, err.Error())
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// scanIn runs a scanner in a process with these attributes.
func scanIn(t *testing.T, attr *syscall.SysProcAttr) (out scanned) {
	t.Helper()
	h := startHelper(t, nil, attr, "scan")
	if err := json.Unmarshal([]byte(h.say(t)), &out); err != nil {
		t.Fatal(err)
	}
	return out
}
