package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tcpmemd/tcpmemd/cmd/internal/cli"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/control"
	"github.com/tcpmemd/tcpmemd/daemon/direct"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// TestMain makes this test binary tcpmemctl as well: the scripts run the real
// main, only what --direct reads is a host in memory, unless HOST is kernel.
func TestMain(m *testing.M) {
	scene.RunIfChild()
	testscript.Main(m, map[string]func(){
		"tcpmemctl": func() {
			host := os.Getenv("HOST")
			os.Exit(run(func(ctx context.Context) (cli.Direct, error) {
				if host == "kernel" {
					return direct.Open(ctx, version)
				}
				return &fakeDirect{Host: hosts[host](), panics: host == "panic"}, nil
			}))
		},
	})
}

var hosts = map[string]func() *apitest.Host{
	"leak":  apitest.Leak,
	"acted": apitest.Acted,
	"broken": func() *apitest.Host {
		h := apitest.Acted()
		h.Refusal = &api.ConfigError{Message: `/etc/tcpmemd/policy.d/10-leak.toml:3:1: unknown key "whne"; did you mean when?`}
		return h
	},
	"hostile": apitest.Hostile,
	"many":    func() *apitest.Host { return apitest.Many(5000) },
	"panic":   apitest.Leak,
	"denied": func() *apitest.Host {
		h := apitest.New()
		h.Err = os.ErrPermission
		return h
	},
	"empty": func() *apitest.Host {
		h := apitest.New()
		h.Balance(0)
		return h
	},
}

// fakeDirect makes a host of apitest what --direct reads.
type fakeDirect struct {
	*apitest.Host
	panics bool // by the second reading
}

func (d *fakeDirect) Read(ctx context.Context) (*reading.Reading, error) {
	if n, _ := d.Reads(); d.panics && n > 0 {
		panic("of the second reading")
	}
	return d.Host.Read(ctx, true)
}

func (d *fakeDirect) Close() error { return nil }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOST", "leak")
			env.Setenv("TCPMEMD_SOCKET", env.WorkDir+"/s")
			return nil
		},
		Condition: func(name string) (bool, error) { return name == "root" && os.Geteuid() == 0, nil },
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"daemon": daemon, "code": code},
	})
}

// daemon HOST serves a host of apitest on the script's socket until its end.
func daemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || hosts[args[0]] == nil {
		ts.Fatalf("usage: daemon HOST")
	}
	l, err := control.Listen(ts.Getenv("TCPMEMD_SOCKET"))
	ts.Check(err)
	server := control.New(control.Config{Listener: l, Source: hosts[args[0]](), Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	<-server.Ready()
	ts.Defer(func() {
		cancel()
		ts.Check(<-done)
	})
}

// code N COMMAND... runs a command that has to end with exit code N.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND...")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Check(err)
		}
		got = exit.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}
