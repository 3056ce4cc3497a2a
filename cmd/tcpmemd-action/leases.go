package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	raisetcpmem "github.com/tcpmemd/tcpmemd/plugins/raise-tcp-mem"
	"github.com/tcpmemd/tcpmemd/remediate"
)

const exitFailure = 1

// endLeases gives back what the daemon had lent, by its leases.json: a lease
// must not outlive it. Where the daemon ended as it should, there is none.
func endLeases(ctx context.Context, file, proc string, out io.Writer) int {
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
