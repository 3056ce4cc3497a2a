package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// hands are the runner of one life: what it is asked to do it does to the
// world, or not.
type hands struct{ *life }

// runnerHabits are how the plugins behave.
type runnerHabits struct {
	hang, fail float64       // chances
	slow       time.Duration // at most, and a second
	takes      time.Duration // not 0: exactly
}

func (h hands) Ready(...string)             {}
func (h hands) Close(context.Context) error { return nil }

// hang waits for the end of the call, or for somebody to let go.
func (h hands) hang(ctx context.Context, rng *rand.Rand) error {
	h.w.mu.Lock()
	release := h.w.release
	h.w.mu.Unlock()
	select {
	case <-ctx.Done():
		h.pause(context.Background(), time.Second, rng) // it takes a while to be ended
		return ctx.Err()
	case <-release:
		h.pause(ctx, 0, rng)
		return errNoSuchLuck
	case <-h.died:
		return errNoSuchLuck
	}
}

// dice are for what comes of one call: by what it is, and when, since calls that
// begin at one moment do so in any order.
func (w *world) dice(call, key string) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, call, key, w.truth())
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

func (h hands) Run(ctx context.Context, action string, req *remediate.Request) (*remediate.Response, error) {
	w := h.w
	w.mu.Lock()
	rng := w.dice(action, req.Rule+req.Key)
	info, known := propertyActions[action]
	if h.dead {
		w.mu.Unlock()
		return nil, errNoSuchLuck
	}
	if !known {
		w.violation("%s is no action", action)
	}
	if info.Touches != policy.TouchesNothing {
		if req.DryRun {
			w.seen["dry run"] = true
			if w.touching != 0 {
				w.violation("%s is tried while another action is under way", action)
			}
		} else if n := w.mayTouch(h.life, action, req); n != nil {
			n.ran = true
			w.done = append(w.done, n)
		}
		w.touching++
		w.note("runs %s %s for %s, dry %v", action, req.ActionID, req.Key, req.DryRun)
		defer func() {
			w.mu.Lock()
			w.touching--
			w.mu.Unlock()
		}()
	}
	takes := time.Duration(rng.Int64N(int64(w.bad.slow) + int64(time.Second)))
	if w.bad.takes > 0 {
		takes = w.bad.takes
	}
	w.mu.Unlock()
	if !h.pause(ctx, takes, rng) {
		return nil, ctx.Err()
	}
	w.mu.Lock()
	hang, fail := chance(rng, w.bad.hang), chance(rng, w.bad.fail)
	w.mu.Unlock()
	switch {
	case info.Touches == policy.TouchesNothing:
		return h.tell(ctx, rng, hang, fail)
	case info.Lease:
		return h.lend(ctx, rng, req, hang, fail)
	}
	if req.DryRun {
		return &remediate.Response{Result: remediate.DryRun}, nil
	}
	if hang && rng.Float64() < 0.5 {
		return nil, h.hang(ctx, rng)
	}
	roll := rng.Float64()
	switch {
	case roll < 0.08:
		return &remediate.Response{Result: remediate.Refused, Code: "not-now"}, nil
	case roll < 0.18:
		return &remediate.Response{Result: remediate.Refused, Code: policy.FreesNothing}, nil
	case fail && roll < 0.5:
		return &remediate.Response{Result: remediate.Failed, Code: "boom"}, nil
	}
	if req.Owner != nil {
		h.touch(req.Owner.Key, action, roll)
	}
	switch {
	case hang:
		return nil, h.hang(ctx, rng)
	case fail:
		return nil, errNoSuchLuck
	}
	return &remediate.Response{Result: remediate.Done, Predicted: map[string]int64{"owned": 4096}}, nil
}

// touch does to an owner what an action does.
func (h hands) touch(key, action string, roll float64) {
	w := h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.find(key)
	if o == nil || h.dead {
		return
	}
	if action == "restart-unit" || action == "signal-process" && o.Kind != "process" {
		w.spawn(o, 0)
	}
	switch {
	case roll < 0.6:
		w.set(o, 30<<10, max(o.rate, 0)) // it frees, and grows again
	case roll < 0.7:
		w.set(o, float64(o.holds(w.truth()))*2, o.rate)
	}
}

func (h hands) tell(ctx context.Context, rng *rand.Rand, hang, fail bool) (*remediate.Response, error) {
	switch {
	case hang:
		return nil, h.hang(ctx, rng)
	case fail:
		return &remediate.Response{Result: remediate.Undelivered, Retry: remediate.Settings(`{"only":"one"}`)}, nil
	}
	return &remediate.Response{Result: remediate.Delivered}, nil
}

func (h hands) lend(ctx context.Context, rng *rand.Rand, req *remediate.Request, hang, fail bool) (*remediate.Response, error) {
	w := h.w
	if req.DryRun {
		w.mu.Lock()
		live := w.live
		p := plan{Version: 1, BootID: req.BootID, Base: live, Raised: triple{live.Min * 3 / 2, live.Pressure * 3 / 2, live.Max * 3 / 2}}
		w.mu.Unlock()
		switch {
		case hang:
			return nil, h.hang(ctx, rng)
		case fail && rng.Float64() < 0.3:
			return &remediate.Response{Result: remediate.DryRun}, nil
		case fail && rng.Float64() < 0.5: // it lies: there may be a lease
			text, err := json.Marshal(p)
			return &remediate.Response{Result: remediate.DryRun, Undo: text}, err
		case fail:
			return nil, errNoSuchLuck
		case req.Host.BaseMax != int64(live.Max):
			return &remediate.Response{Result: remediate.Refused, Code: "leased"}, nil
		}
		text, err := json.Marshal(p)
		return &remediate.Response{Result: remediate.DryRun, Undo: text}, err
	}
	p, err := parsePlan(req.Plan)
	if err != nil {
		return nil, err
	}
	if hang && rng.Float64() < 0.5 {
		return nil, h.hang(ctx, rng)
	}
	w.mu.Lock()
	if h.dead {
		w.mu.Unlock()
		return nil, errNoSuchLuck
	}
	if w.live != p.Base {
		w.mu.Unlock()
		return &remediate.Response{Result: remediate.Refused, Code: "rival"}, nil
	}
	w.live, w.raised, w.lentBase = p.Raised, p.Raised, p.Base
	w.seen["raised tcp_mem"] = true
	w.note("tcp_mem is %s", w.live)
	w.mu.Unlock()
	switch {
	case hang:
		return nil, h.hang(ctx, rng)
	case fail:
		return nil, errNoSuchLuck
	}
	return &remediate.Response{Result: remediate.Done, Undo: req.Plan}, nil
}

func (h hands) Undo(ctx context.Context, _ string, req *remediate.UndoRequest) (*remediate.Response, error) {
	w := h.w
	p, err := parsePlan(req.Undo)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	rng := w.dice("undo", "")
	w.mu.Unlock()
	if !h.pause(ctx, time.Second, rng) {
		return nil, ctx.Err()
	}
	w.mu.Lock()
	hang, fail := chance(rng, w.bad.hang), chance(rng, w.bad.fail)
	w.mu.Unlock()
	if hang {
		return nil, h.hang(ctx, rng)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case h.dead:
		return nil, errNoSuchLuck
	case fail && rng.IntN(2) == 0:
		return nil, errNoSuchLuck
	case p.BootID != w.stamp().BootID:
		return &remediate.Response{Result: remediate.Refused, Code: "other-boot"}, nil
	case w.live == p.Raised:
		w.live = p.Base
		w.seen["restored tcp_mem"] = true
		w.note("tcp_mem is %s again", w.live)
	case w.live != p.Base:
		return &remediate.Response{Result: remediate.Refused, Code: "rival"}, nil
	}
	if fail {
		return nil, errNoSuchLuck
	}
	return &remediate.Response{Result: remediate.Done, Message: "restored"}, nil
}
