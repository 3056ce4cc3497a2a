package scene

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// guardianLockFD is the first of exec.Cmd.ExtraFiles.
const guardianLockFD = 3

// runGuardian sets the sysctl of its first argument to the triple of its
// second, says the old one on out, and restores it once in closes: when the
// parent says so or is gone. The lock file keeps the old triple meanwhile, for
// whoever comes next should the guardian not get that far.
func runGuardian(in io.Reader, out io.Writer) (err error) {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	if len(os.Args) != 3 {
		return errors.New("want a path and a triple")
	}
	if err := rename([]byte("scene-guardian")); err != nil {
		return err
	}
	unix.CloseOnExec(guardianLockFD)
	g := &guardian{sysctl: os.Args[1], note: os.NewFile(guardianLockFD, "lock file")}
	to, err := parseTCPMem(os.Args[2])
	if err != nil {
		return err
	}
	if err := g.healStale(); err != nil {
		return err
	}
	old, err := g.read()
	if err != nil {
		return err
	}
	if err := g.remember(formatTCPMem(old)); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, g.restore(old))
	}()
	if err := g.set(to); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, formatTCPMem(old)); err != nil {
		return nil // the parent is gone already
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

type guardian struct {
	sysctl string
	note   *os.File // the lock file
}

// healStale restores what a guardian that was killed left in the lock file.
func (g *guardian) healStale() error {
	text, err := io.ReadAll(io.NewSectionReader(g.note, 0, 256))
	if err != nil || strings.TrimSpace(string(text)) == "" {
		return err
	}
	old, err := parseTCPMem(string(text))
	if err != nil {
		return fmt.Errorf("read lock file: %w", err)
	}
	return g.restore(old)
}

func (g *guardian) restore(old reading.TCPMem) error {
	if err := g.set(old); err != nil {
		return err
	}
	return g.remember("")
}

func (g *guardian) remember(text string) error {
	if err := g.note.Truncate(0); err != nil {
		return err
	}
	_, err := g.note.WriteAt([]byte(text), 0)
	return err
}

func (g *guardian) read() (reading.TCPMem, error) {
	text, err := os.ReadFile(g.sysctl)
	if err != nil {
		return reading.TCPMem{}, err
	}
	return parseTCPMem(string(text))
}

// set writes the triple and reads it back.
func (g *guardian) set(to reading.TCPMem) error {
	if err := os.WriteFile(g.sysctl, []byte(formatTCPMem(to)+"\n"), 0); err != nil {
		return err
	}
	now, err := g.read()
	if err == nil && now != to {
		err = fmt.Errorf("write %s: it says %s, not %s", g.sysctl, formatTCPMem(now), formatTCPMem(to))
	}
	return err
}
