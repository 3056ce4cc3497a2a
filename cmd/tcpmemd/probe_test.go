package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	raisetcpmem "github.com/tcpmemd/tcpmemd/plugins/raise-tcp-mem"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// probe is an action that touches nothing really, says that it touches its
// owner, and writes down each of its runs.
type probe struct{}

// Marks that a probe leaves in the journal and the bell, each a line "MARK
// ACTION-ID PID".
const (
	probeJournal = "probe.journal"
	probeBell    = "probe.bell" // a FIFO: who listens there knows at once
	markStart    = "start"
	markEnd      = "end"
)

type probeSettings struct {
	Dir  string  `json:"dir"`
	Hold float64 `json:"hold"` // seconds that a run takes
}

func (probe) Describe() remediate.Description {
	return remediate.Description{
		Name: "probe", Version: "1", About: "writes down that it ran", Touches: remediate.TouchesOwner,
		Evidence: []string{"fd"}, EvidenceShare: 0.5, NeedsSockets: true,
		Settings: []remediate.Setting{
			{Name: "dir", Type: "string", Required: true, About: "where"},
			{Name: "hold", Type: "float", About: "seconds that a run takes"},
		},
	}
}

func (probe) Validate(context.Context, remediate.Settings) []remediate.Problem { return nil }

func (probe) Run(ctx context.Context, r *remediate.Request) (*remediate.Response, error) {
	var s probeSettings
	if err := json.Unmarshal(r.Settings, &s); err != nil {
		return nil, err
	}
	if err := mark(s.Dir, markStart, r.ActionID); err != nil {
		return nil, err
	}
	select {
	case <-time.After(time.Duration(s.Hold * float64(time.Second))):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := mark(s.Dir, markEnd, r.ActionID); err != nil {
		return nil, err
	}
	return &remediate.Response{Result: remediate.Done, Message: "it ran", Predicted: map[string]int64{"owned": 1}}, nil
}

// mark writes a line to the journal, durably as far as a kill of processes
// goes, and rings the bell.
func mark(dir, what, action string) error {
	line := fmt.Sprintf("%s %s %d\n", what, action, os.Getpid())
	for name, flags := range map[string]int{probeJournal: unix.O_APPEND | unix.O_CREAT, probeBell: unix.O_NONBLOCK} {
		f, err := os.OpenFile(filepath.Join(dir, name), unix.O_WRONLY|flags, 0o600)
		if err != nil && name == probeBell {
			continue // nobody listens
		}
		if err != nil {
			return err
		}
		_, err = f.WriteString(line)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil && name == probeJournal {
			return err
		}
	}
	return nil
}

// lender is raise-tcp-mem, told that the verdict is load: a real one takes
// minutes to come by.
type lender struct{ *raisetcpmem.Action }

func (l lender) Describe() remediate.Description {
	d := l.Action.Describe()
	d.Name = lenderProgram
	return d
}

func (l lender) Run(ctx context.Context, r *remediate.Request) (*remediate.Response, error) {
	load := *r
	load.Host.Verdict = "load"
	if r.Owner != nil {
		owner := *r.Owner
		owner.Verdict = ""
		load.Owner = &owner
	}
	return l.Action.Run(ctx, &load)
}

// serveProbe is the main of both plugins: the name of the file says which.
func serveProbe() {
	exe, _ := os.Executable()
	if filepath.Base(exe) == lenderProgram {
		remediate.Serve(lender{raisetcpmem.New("1", "/proc")})
		return
	}
	remediate.Serve(probe{})
}
