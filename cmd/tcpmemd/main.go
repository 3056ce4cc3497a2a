// Command tcpmemd watches a host's TCP memory; see tcpmemd --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon"
	"github.com/tcpmemd/tcpmemd/daemon/ability"
	"github.com/tcpmemd/tcpmemd/daemon/cgroup"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/journal"
	"github.com/tcpmemd/tcpmemd/daemon/metrics/serve"
	"github.com/tcpmemd/tcpmemd/daemon/sdnotify"
)

// version is set by the linker (-X main.version=...).
var version = "0.1.0-dev"

// Exit codes; the unit does not restart the daemon after usage and
// configuration. Go ends a crash with usage's, so the unit has it abort.
const (
	exitOK            = 0
	exitFailure       = 1
	exitUsage         = 2
	exitConfiguration = 6
)

// flushTime is what an output may take at the end.
const flushTime = time.Second

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
	// First of all, since it may start this program over.
	joined := cgroup.JoinNamespace("/proc")
	out, errs := newLines(os.Stdout), newLines(os.Stderr)
	defer out.flush(flushTime)
	defer errs.flush(flushTime)
	say := &speaker{out: out, version: version}
	if !flags.check && toJournal(os.Getenv, os.Stdout, os.Stderr) {
		say.journal = journal.New(journal.Socket, aliveIn("/proc"))
	}
	log := slog.New(say.handler(errs))
	handed, err := serve.Handed() // before anything is started that must not have it
	if err != nil {
		log.Warn("a socket for metrics is not used", "err", err)
	}
	if joined != nil {
		log.Warn("services and containers are named by process only", "err", joined)
	}

	loaded, broken := config.Load(config.Options{File: flags.config})
	if flags.check {
		return check(flags, loaded, broken)
	}
	if broken != nil && flags.config != "" {
		say.fail(errs, broken)
		return exitConfiguration
	}

	// The heap is small and holds few pointers: collecting more often costs
	// little and keeps the daemon's memory low.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
	// Where the journal goes, it takes standard output and error with it: a write
	// to them would end a Go program, even where the service has SIGPIPE ignored.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	_, cfg, err := assemble(ctx, loaded, broken, flags, log)
	var d *daemon.Daemon
	if err == nil {
		cfg.Notify = sdnotify.New(os.Getenv)
		cfg.FirstReading, cfg.Say, cfg.Undelivered = say.firstReading, say.event, say.undelivered()
		export(&cfg, loaded.Config.Metrics, handed, log, func() *daemon.Daemon { return d })
		d, err = daemon.New(ctx, cfg)
	}
	if err == nil {
		say.start(cfg.Socket, describe(&cfg))
		go reloadOnHangup(ctx, d)
		err = d.Run(ctx)
	}
	if err != nil {
		say.fail(errs, err)
		say.end(flushTime)
		return exitFailure
	}
	say.end(flushTime)
	return exitOK
}

// check says what is wrong with the configuration and the policies.
func check(f flags, loaded config.Loaded, broken error) int {
	can := ability.New(context.Background(), version, loaded.Config.Plugins, nil)
	_, err := config.LoadPolicy(config.Options{File: f.config, Actions: can.List(), CheckStep: can.CheckStep})
	if err := errors.Join(broken, err, checkMetrics(loaded)); err != nil {
		fmt.Fprintf(os.Stderr, "tcpmemd: %v\n", err)
		return exitConfiguration
	}
	fmt.Println("configuration is valid")
	for _, name := range slices.Sorted(maps.Keys(loaded.Config.Plugins)) {
		if loaded.Config.Plugins[name].Path != "" {
			fmt.Printf("not looked at: the file of plugin %s, and its settings; once tcpmemd runs, tcpmemctl plugins verify does\n", name)
		}
	}
	return exitOK
}

// reloadOnHangup reads the files again at each SIGHUP; what is wrong is logged.
func reloadOnHangup(ctx context.Context, d *daemon.Daemon) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-hangup:
			_ = d.Reload(ctx)
		case <-ctx.Done():
			return
		}
	}
}
