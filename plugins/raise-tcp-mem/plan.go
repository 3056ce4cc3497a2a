package raisetcpmem

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/remediate"
)

const planVersion = 1

// plan is what a lease is about, as it stands in leases.json.
type plan struct {
	Version int    `json:"version"`
	BootID  string `json:"boot_id"`
	Base    triple `json:"base"`   // to come back
	Raised  triple `json:"raised"` // meanwhile
}

// triple is net.ipv4.tcp_mem, in pages.
type triple struct {
	Min      reading.Pages `json:"min"`
	Pressure reading.Pages `json:"pressure"`
	Max      reading.Pages `json:"max"`
}

func (t triple) tcpMem() reading.TCPMem { return reading.TCPMem(t) }
func (t triple) String() string         { return procfs.FormatTCPMem(t.tcpMem()) }

func (t triple) rising() bool {
	return t.Min >= 0 && t.Min <= t.Pressure && t.Pressure <= t.Max && t.Max > 0
}

// errRange says that a plan's numbers make no raise.
var errRange = errors.New("the plan is out of range")

func parsePlan(raw json.RawMessage) (plan, error) {
	var p plan
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(&p)
	switch {
	case err != nil:
		return plan{}, fmt.Errorf("parse plan: %w", err)
	case p.Version != planVersion:
		return plan{}, fmt.Errorf("parse plan: version %d, not %d", p.Version, planVersion)
	case p.BootID == "":
		return plan{}, errors.New("parse plan: no boot id")
	case !p.Base.rising() || !p.Raised.rising() || p.Raised.Min < p.Base.Min ||
		p.Raised.Pressure < p.Base.Pressure || p.Raised.Max <= p.Base.Max:
		return plan{}, fmt.Errorf("%w: from %q to %q", errRange, p.Base, p.Raised)
	}
	return p, nil
}

// facts are what the host says right now.
type facts struct {
	live             triple
	bootID           string
	total, available int64    // bytes
	full             *float64 // percent of ten seconds, nil where the kernel does not tell
	pageSize         int
}

// look reads the host. The page size comes with the request, since it is the
// unit of the triple.
func (a *Action) look(pageSize int) (facts, error) {
	if pageSize <= 0 {
		return facts{}, fmt.Errorf("page size %d: not positive", pageSize)
	}
	live, err := a.proc.TCPMem()
	if err != nil {
		return facts{}, err
	}
	boot, err := a.proc.BootID()
	if err != nil {
		return facts{}, err
	}
	mem, err := a.proc.MemInfo()
	if err != nil {
		return facts{}, err
	}
	full, err := a.proc.MemoryFull()
	if err != nil {
		return facts{}, err
	}
	return facts{triple(live), boot, mem.Total, mem.Available, full, pageSize}, nil
}

// agrees refuses where the host is not as the decision saw it.
func agrees(r *remediate.Request, now facts) *remediate.Response {
	h := r.Host
	seen := triple{reading.Pages(h.MinPages), reading.Pages(h.PressurePages), reading.Pages(h.MaxPages)}
	base := triple{reading.Pages(h.BaseMin), reading.Pages(h.BasePressure), reading.Pages(h.BaseMax)}
	switch {
	case r.BootID != "" && r.BootID != now.bootID:
		return refused("other-boot", "the decision was made in another boot")
	case seen != triple{} && seen != now.live:
		return refused("rival", fmt.Sprintf("%s is %q by now, not %q as at the decision: somebody else sets it", sysctl, now.live, seen))
	case base != triple{} && base != now.live:
		return refused("leased", fmt.Sprintf("%s is lent already: it is %q, and %q without that", sysctl, now.live, base))
	}
	return nil
}

// plan makes the triple larger, all three by the same, so that the kernel keeps
// its zone between min and pressure: by the factor, or as far as the ceiling
// allows.
func (l limits) plan(now facts) (plan, *remediate.Response) {
	base := now.live
	if !base.rising() {
		return plan{}, refused("out-of-range", fmt.Sprintf("%s is %q: no rising sizes", sysctl, base))
	}
	most := l.ceiling * float64(now.total) / float64(now.pageSize)
	by := min(l.factor, most/float64(base.Max))
	grown := func(p reading.Pages) reading.Pages { return max(p, reading.Pages(float64(p)*by)) }
	p := plan{planVersion, now.bootID, base, triple{grown(base.Min), grown(base.Pressure), grown(base.Max)}}
	// Less than a hundredth more is no help.
	if by < 1.01 || p.Raised.Max <= base.Max {
		return plan{}, refused("ceiling", fmt.Sprintf("max is %s already; the ceiling is %.4g %% of memory, %s",
			size(base.Max.Bytes(now.pageSize)), 100*l.ceiling, size(int64(l.ceiling*float64(now.total)))))
	}
	return p, nil
}

// maxFull is the memory pressure above which nothing is lent: full avg10.
const maxFull = 5

// allow refuses a raise that nobody needs, or that the host cannot afford.
func (l limits) allow(r *remediate.Request, p plan, now facts) *remediate.Response {
	verdict := r.Host.Verdict
	if r.Owner != nil && (r.Owner.Verdict == "leak" || verdict != "leak" && r.Owner.Verdict == "slow-peer") {
		verdict = r.Owner.Verdict
	}
	most := p.Raised.Max.Bytes(now.pageSize)
	added := (p.Raised.Max - p.Base.Max).Bytes(now.pageSize)
	need := int64(l.minAvailable * float64(now.total))
	switch {
	case verdict == "leak":
		return refused("leak", "the verdict is leak: it would take the new room as well")
	case verdict == "slow-peer":
		return refused("slow-peer", "the verdict is slow-peer: its connections are the remedy")
	case verdict != "load":
		return refused("no-verdict", "only load may raise, and the trend has not called it that")
	case float64(most) > l.ceiling*float64(now.total)+float64(now.pageSize):
		return refused("ceiling", fmt.Sprintf("max would be %s; the ceiling is %.4g %% of memory, %s",
			size(most), 100*l.ceiling, size(int64(l.ceiling*float64(now.total)))))
	case now.available-added < need:
		return refused("too-little-memory", fmt.Sprintf("%s of memory are available; less the %s to be lent, under %.4g %% of %s",
			size(now.available), size(added), 100*l.minAvailable, size(now.total)))
	case now.full != nil && *now.full > maxFull:
		return refused("memory-pressure", fmt.Sprintf("all tasks waited for memory in %.2f %% of the last ten seconds, more than %d %%", *now.full, maxFull))
	}
	return nil
}

// size writes bytes for people.
func size(bytes int64) string {
	if bytes < 10<<20 {
		return fmt.Sprintf("%d kB", bytes>>10)
	}
	return fmt.Sprintf("%d MB", bytes>>20)
}
