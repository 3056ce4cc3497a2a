package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/units"
	raisetcpmem "github.com/tcpmemd/tcpmemd/plugins/raise-tcp-mem"
	"github.com/tcpmemd/tcpmemd/remediate"
)

const exitFailure = 1

// endLeases gives back what the daemon had lent, by its leases.json: a lease
// must not outlive it. Where the daemon ended as it should, there is none, and
// where it comes back it takes the lease over.
func endLeases(ctx context.Context, file, proc string, comesBack func(context.Context) bool, out io.Writer) int {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	var kept struct {
		Leases []struct {
			Action string          `json:"action"`
			Undo   json.RawMessage `json:"undo"`
		} `json:"leases"`
	}
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		fmt.Fprintf(out, "tcpmemd-action: read leases of %s: %v\n", file, err)
		return exitFailure
	}
	action := raisetcpmem.New(version, proc)
	var plans []json.RawMessage
	for _, l := range kept.Leases {
		if l.Action == action.Describe().Name {
			plans = append(plans, l.Undo)
		}
	}
	if len(plans) == 0 {
		return 0
	}
	if comesBack(ctx) {
		fmt.Fprintln(out, "a raise of net.ipv4.tcp_mem is left for tcpmemd, which is started again")
		return 0
	}
	answers, _ := action.EndLeases(ctx, plans) // each error is an answer, too
	code := 0
	for _, a := range answers {
		fmt.Fprintln(out, a.Message)
		if a.Result == remediate.Failed {
			code = exitFailure
		}
	}
	return code
}

// ending is how a service ended, as ExecStopPost= is told (systemd.exec(5)), and
// what its manager says of it.
type ending struct {
	result  string // SERVICE_RESULT
	code    string // EXIT_CODE
	restart string // Restart=
	job     bool   // one is under way: somebody stops or restarts it
}

// comesBack reports whether Restart= starts the daemon again. In doubt it does
// not: a raise that ends early costs less than one that nobody ends. So it is
// for a daemon that was killed only; one that exits may have a status that
// forbids it (RestartPreventExitStatus=).
func (e ending) comesBack() bool {
	killed := e.result != "success" && (e.code == "killed" || e.code == "dumped")
	return killed && !e.job && slices.Contains([]string{"always", "on-failure", "on-abnormal"}, e.restart)
}

// askTime bounds the question to PID 1.
const askTime = 5 * time.Second

// unitComesBack asks PID 1 about the unit whose ExecStopPost= this is.
func unitComesBack(unit string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()
		systemd := units.New(units.SystemBus(units.SystemBusSocket), units.Private(units.PrivateSocket))
		defer func() { _ = systemd.Close() }() // it was only asked
		s, err := systemd.Service(ctx, unit)
		if err != nil {
			fmt.Fprintf(os.Stderr, "tcpmemd-action: whether tcpmemd is started again: %v\n", err)
			return false
		}
		return ending{os.Getenv("SERVICE_RESULT"), os.Getenv("EXIT_CODE"), s.Restart, s.JobID != 0}.comesBack()
	}
}
