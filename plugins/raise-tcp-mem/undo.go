package raisetcpmem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/plugins/internal/settings"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// quietShare is the part of the old pressure mark under which the memory in
// use must be for a lease to end: right above it the kernel would be under
// pressure again at once.
const quietShare = 0.8

// Undo implements remediate.Undoer. It restores the old triple if the raised
// one stands, in the boot it was raised in, and the memory in use is well
// below the old pressure mark; the setting force leaves out the last.
func (a *Action) Undo(_ context.Context, r *remediate.UndoRequest) (*remediate.Response, error) {
	l, problems := a.read(r.Settings)
	if err := settings.Err(problems); err != nil {
		return nil, err
	}
	p, err := parsePlan(r.Undo)
	if err != nil {
		return nil, err
	}
	if no, err := a.stands(p); no != nil || err != nil {
		return no, err
	}
	if !l.force {
		if no := a.inUse(p, reading.Pages(r.Host.UsedPages)); no != nil {
			return no, nil
		}
	}
	if no, err := a.write(p.Base); no != nil || err != nil {
		return no, err
	}
	return &remediate.Response{
		Result: remediate.Done, Message: fmt.Sprintf("%s restored from %q to %q pages", sysctl, p.Raised, p.Base),
		Changes: []remediate.Change{{What: sysctl, Before: p.Raised.String(), After: p.Base.String()}},
	}, nil
}

// EndLeases ends leases by their plans (Lease.Undo in leases.json), the last
// one first, whatever memory is in use: for ExecStopPost=, when no daemon is
// left to watch over them. Each plan has its answer. What is not ours any more
// is left as it is.
func (a *Action) EndLeases(ctx context.Context, plans []json.RawMessage) ([]*remediate.Response, error) {
	var (
		answers []*remediate.Response
		all     error
	)
	for _, raw := range slices.Backward(plans) {
		resp, err := a.Undo(ctx, &remediate.UndoRequest{Undo: raw, Settings: remediate.Settings(`{"force":true}`)})
		if err != nil {
			resp = &remediate.Response{Result: remediate.Failed, Code: "error", Message: err.Error()}
			all = errors.Join(all, err)
		}
		answers = append(answers, resp)
	}
	slices.Reverse(answers)
	return answers, all
}

// stands answers where there is nothing to restore, nil where the raised triple
// stands.
func (a *Action) stands(p plan) (*remediate.Response, error) {
	boot, err := a.proc.BootID()
	if err != nil {
		return nil, err
	}
	if boot != p.BootID {
		return refused("other-boot", "the lease is of another boot: nothing of it is left"), nil
	}
	live, err := a.proc.TCPMem()
	if err != nil {
		return nil, err
	}
	switch triple(live) {
	case p.Raised:
		return nil, nil
	case p.Base:
		return &remediate.Response{Result: remediate.Done, Message: fmt.Sprintf("%s is %q already", sysctl, p.Base)}, nil
	}
	return refused("rival", fmt.Sprintf("%s is %q, not %q as lent: somebody else set it, so it stays, and %q does not come back",
		sysctl, triple(live), p.Raised, p.Base)), nil
}

// inUse refuses while the memory in use is near the old pressure mark, by the
// kernel's count and by the daemon's.
func (a *Action) inUse(p plan, used reading.Pages) *remediate.Response {
	if file, err := a.proc.OpenSockstat(); err == nil {
		if now, err := file.Read(); err == nil {
			used = max(used, now.Mem)
		}
		_ = file.Close() // it was only read
	}
	if float64(used) < quietShare*float64(p.Base.Pressure) {
		return nil
	}
	return refused("in-use", fmt.Sprintf("%d pages are in use, not under %.0f %% of the old pressure mark, %d", used, 100*quietShare, p.Base.Pressure))
}
