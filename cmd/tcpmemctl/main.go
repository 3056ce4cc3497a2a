// Command tcpmemctl shows who holds a host's TCP memory; see tcpmemctl --help.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/tcpmemd/tcpmemd/cmd/internal/cli"
	"github.com/tcpmemd/tcpmemd/daemon/ability"
	"github.com/tcpmemd/tcpmemd/daemon/cgroup"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/direct"
)

// version is set by the linker (-X main.version=...).
var version = "0.1.0-dev"

func main() {
	os.Exit(run(func(ctx context.Context) (cli.Direct, error) {
		// In a container it may start this program over; what fails is a gap.
		_ = cgroup.JoinNamespace("/proc")
		return direct.Open(ctx, version)
	}))
}

// run runs the command of os.Args; openDirect reads the kernel for --direct.
func run(openDirect func(context.Context) (cli.Direct, error)) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return cli.Main(ctx, cli.Env{
		Args:         os.Args[1:],
		Stdout:       os.Stdout,
		Stderr:       os.Stderr,
		Getenv:       os.Getenv,
		UID:          os.Geteuid(),
		Version:      version,
		TerminalSize: terminalSize(),
		Progress:     progress(),
		Input:        os.Stdin,
		Interactive:  term.IsTerminal(int(os.Stdin.Fd())),
		OpenDirect:   openDirect,
		Abilities: func(ctx context.Context, plugins map[string]config.Plugin) cli.Abilities {
			return ability.New(ctx, version, plugins, nil)
		},
	})
}

// progress is standard error where that is a terminal.
func progress() io.Writer {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	return os.Stderr
}

// terminalSize is nil where standard output is no terminal.
func terminalSize() func() (columns, rows int) {
	fd := int(os.Stdout.Fd())
	if !term.IsTerminal(fd) {
		return nil
	}
	return func() (int, int) {
		columns, rows, err := term.GetSize(fd)
		if err != nil {
			return 80, 24
		}
		return columns, rows
	}
}
