// Command tcpmemd watches a host's TCP memory; see tcpmemd --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/tcpmemd/tcpmemd/daemon"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/sdnotify"
)

// version is set by the linker (-X main.version=...).
var version = "0.1.0-dev"

// Exit codes; the unit does not restart the daemon after usage and
// configuration.
const (
	exitOK            = 0
	exitFailure       = 1
	exitUsage         = 2
	exitConfiguration = 6
)

func main() {
	os.Exit(run())
}

func run() int {
	flags, err := parseFlags(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, errHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case flags.version:
		fmt.Println("tcpmemd", version)
		return exitOK
	}
	say := &speaker{out: os.Stdout, version: version, journal: os.Getenv("JOURNAL_STREAM") != ""}
	log := slog.New(say.handler(os.Stderr))

	loaded, err := config.Load(config.Options{File: flags.config})
	if err != nil {
		fmt.Fprintf(os.Stderr, "tcpmemd: %v\n", err)
		if flags.check || flags.config != "" {
			return exitConfiguration
		}
	}
	if flags.check {
		if err == nil {
			fmt.Println("configuration is valid")
		}
		return exitOK
	}

	// The heap is small and holds few pointers: collecting more often costs
	// little and keeps the daemon's memory low.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg := settings(loaded.Config, flags, log)
	cfg.Notify = sdnotify.New(os.Getenv)
	cfg.FirstReading, cfg.Level = say.firstReading, say.level
	d, err := daemon.New(ctx, cfg)
	if err == nil {
		say.start(cfg.Socket)
		err = d.Run(ctx)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "tcpmemd: %v\n", err)
		return exitFailure
	}
	say.end()
	return exitOK
}
