package policy

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// maxAge is how old a full reading may be to act on.
const maxAge = 5 * time.Second

// maxIndexAge is how old what is known of the oldest process may be: a holder
// found longer ago may have closed its sockets since.
const maxIndexAge = 30 * time.Second

// How long a step waits for a guard before it is given up and the next one has
// its turn.
const (
	never  = time.Duration(0)  // it will not change while the owner is the same
	soon   = 2 * time.Minute   // it may with the next readings
	always = time.Duration(-1) // it ends by itself, or by the operator
)

// attempt is a touching step about to be taken.
type attempt struct {
	rule  *Rule
	step  *Step
	info  ActionInfo
	key   string
	owner *reading.Owner // nil where the host is touched
	in    *Input
	cfg   *Config
	mem   *Memory
	mode  Mode
	why   string       // of the mode
	seen  record.Stamp // since when the owner is known
	fired record.Stamp // since when the rule fires for it
	// then is the decision that was made, where this is the look right before
	// acting; nil at the decision itself. holds: the condition does now.
	then  *Decision
	holds Truth
}

// guard refuses an attempt by saying why.
type guard struct {
	name  string
	waits time.Duration
	why   func(*attempt) string
}

// guards are asked in this order; the first that refuses names the reason.
// None of them is there for the others: a test takes each out and expects to
// see a wrong action.
var guards = []guard{
	{"mode", always, observing},
	{"rights", never, rightsMissing},
	{"condition", soon, conditionGone},
	{"gone", soon, ownerGone},
	{"identity", never, identityChanged},
	{"resolved", never, unresolved},
	{"unit", never, notPID1s},
	{"protected", never, protected},
	{"shared", never, shared},
	{"slow-peer", never, victimOfPeer},
	{"leak", never, raiseForLeak},
	// What only time ends is asked before what a scan could: nothing is scanned
	// for a step that is held for an hour.
	{"settle", always, tooEarly},
	{"young", always, ownerYoung},
	{"budget", always, budgetSpent},
	{"cooldown", always, coolingDown},
	{"stale", soon, stale},
	{"partial", soon, partial},
	{"coverage", soon, underCovered},
	{"evidence", soon, weakEvidence},
	{"busy", always, busy},
}

// refused asks the guards.
func refused(a *attempt) (g guard, why string) {
	for _, g := range guards {
		if why := g.why(a); why != "" {
			if g.name == "unit" && unheard(a) {
				g.waits = soon
			}
			return g, why
		}
	}
	return guard{}, ""
}

// unheard: PID 1 says nothing at all just now. Its word may yet come.
func unheard(a *attempt) bool {
	o := a.owner
	return slices.Contains(a.in.Facts.Blind, BlindBus) && (o.Manager == "" || o.Manager == "system") && o.Kind != reading.KindUserService
}

// GuardNames lists the guards in the order they are asked.
func GuardNames() []string {
	names := make([]string, len(guards))
	for i, g := range guards {
		names[i] = g.name
	}
	return names
}

// observing speaks only right before acting: a decision in observe mode is a
// dry run, and one asked for by hand is asked for in any mode but a stop.
func observing(a *attempt) string {
	switch {
	case a.then == nil:
		return ""
	case a.in.Stop != "":
		return "everything is stopped: " + a.in.Stop
	case a.mode != Enforce && a.then.Record.By == nil:
		return "the mode is observe since: " + a.why
	}
	return ""
}

func rightsMissing(a *attempt) string {
	if a.info.Missing == "" {
		return ""
	}
	return fmt.Sprintf("%s cannot work here: %s", a.info.Name, a.info.Missing)
}

func conditionGone(a *attempt) string {
	switch {
	case a.then == nil || a.holds == Yes:
		return ""
	case a.holds == Unknown:
		return "whether the condition still holds is not known"
	}
	return "the condition does not hold any more"
}

func ownerGone(a *attempt) string {
	if a.info.Touches == TouchesOwner && a.owner == nil {
		return "nobody holds the memory any more"
	}
	return ""
}

func identityChanged(a *attempt) string {
	switch {
	case a.then == nil || a.owner == nil:
		return ""
	case a.then.Owner == nil:
		return "there was nobody, and now there is " + a.owner.Key
	}
	before, now := a.then.Owner, a.owner
	switch {
	case before.Key != now.Key:
		return fmt.Sprintf("the biggest owner is now %s, not %s", now.Key, before.Key)
	case before.InvocationID != now.InvocationID:
		return "the unit was started anew since"
	case before.InvocationID == "" && !sameHolder(before, now):
		return "its processes are others now"
	}
	return ""
}

// sameHolder: the primary holder of then is still one.
func sameHolder(before, now *reading.Owner) bool {
	if len(before.Holders) == 0 {
		return len(now.Holders) == 0
	}
	first := before.Holders[0]
	return slices.ContainsFunc(now.Holders, func(h reading.Holder) bool {
		return h.PID == first.PID && h.StartTime == first.StartTime
	})
}

func unresolved(a *attempt) string {
	if a.owner == nil {
		return ""
	}
	switch a.owner.Kind {
	case reading.KindKernel:
		return "the kernel itself uses these sockets"
	case reading.KindUnresolved:
		return "nobody knows whose sockets these are"
	}
	return ""
}

// notPID1s: only PID 1's own word makes a unit a target.
func notPID1s(a *attempt) string {
	switch o := a.owner; {
	case o == nil || o.Unit == "":
		return ""
	case o.Kind == reading.KindUserService || o.Manager != "" && o.Manager != "system":
		return "units of a user's own manager are told of, not touched"
	case !o.UnitVerified:
		return "PID 1 does not say that it is this unit: its name is only a label"
	}
	return ""
}

func protected(a *attempt) string {
	switch {
	case a.owner == nil:
		return ""
	case a.owner.Protected != "":
		return "it is protected: " + a.owner.Protected
	case a.in.OptOut != nil:
		return a.in.OptOut(a.owner)
	}
	return ""
}

func shared(a *attempt) string {
	if a.owner != nil && a.owner.Shared {
		return "processes of several owners hold its sockets"
	}
	return ""
}

// victimOfPeer: who waits for a peer that does not read is its victim.
func victimOfPeer(a *attempt) string {
	if a.owner == nil || a.info.Connections || a.owner.Verdict == nil || a.owner.Verdict.Kind != reading.SlowPeer {
		return ""
	}
	return "it waits for a peer that does not read: ending it would not help"
}

// raiseForLeak: more memory only feeds a leak.
func raiseForLeak(a *attempt) string {
	if !a.info.Lease {
		return ""
	}
	if v := a.in.Facts.Trend.Verdict; v != nil && v.Kind == reading.Leak {
		return "the memory leaks: more of it would leak, too"
	}
	return ""
}

func stale(a *attempt) string {
	switch f := &a.in.Facts; {
	case f.Reading == nil:
		return "there is no full reading yet"
	case a.in.Overtaken:
		return "the last full reading began before the last action ended"
	case f.Age >= maxAge:
		return fmt.Sprintf("the last full reading is %s old", f.Age.Round(time.Second))
	case a.owner != nil && f.Reading.IndexAge > maxIndexAge:
		return fmt.Sprintf("some processes were last read %s ago", f.Reading.IndexAge.Round(time.Second))
	}
	return ""
}

func partial(a *attempt) string {
	if r := a.in.Facts.Reading; r != nil && r.Partial && a.owner != nil {
		return "the last reading ended early"
	}
	return ""
}

func underCovered(a *attempt) string {
	r := a.in.Facts.Reading
	if r == nil {
		return ""
	}
	least := a.cfg.MinCoverage
	if a.rule.MinCoverage != nil {
		least = *a.rule.MinCoverage
	}
	if r.Ledger.Coverage >= least {
		return ""
	}
	return fmt.Sprintf("only %.0f %% of the memory has a name, %.0f %% are asked for", 100*r.Ledger.Coverage, 100*least)
}

func weakEvidence(a *attempt) string {
	if a.owner == nil {
		return ""
	}
	kinds, least := a.info.Evidence, a.info.EvidenceShare
	if len(kinds) == 0 {
		kinds, least = []string{reading.FD.String()}, 0.5
	}
	var strong int64
	for _, name := range kinds {
		if i := slices.Index(evidenceNames, name); i >= 0 {
			strong += a.owner.Evidence[i].Bytes
		}
	}
	share := float64(strong) / float64(max(1, a.owner.Sum.Bytes))
	if strong > 0 && share >= least {
		return ""
	}
	return fmt.Sprintf("only %.0f %% of its memory has evidence that %s may act on", 100*max(0, share), a.info.Name)
}

// evidenceNames, in the order of reading's kinds.
var evidenceNames = func() (names []string) {
	for e := range reading.NumEvidence {
		names = append(names, e.String())
	}
	return names
}()

func tooEarly(a *attempt) string {
	if run := a.in.Now.Since(a.in.Started); run < a.cfg.SettleStart {
		return fmt.Sprintf("tcpmemd started %s ago, it watches for %s first", run.Round(time.Second), a.cfg.SettleStart)
	}
	return ""
}

// ticks per second of /proc/PID/stat's starttime: USER_HZ is 100 for every
// process on every architecture here (include/asm-generic/param.h).
const userHz = 100

func ownerYoung(a *attempt) string {
	if a.owner == nil {
		return ""
	}
	// By the oldest process; without one, by when it was first seen.
	age := a.in.Now.Since(a.seen)
	for _, h := range a.owner.Holders {
		age = max(age, time.Duration((a.in.Now.BootSeconds-float64(h.StartTime)/userHz)*float64(time.Second)))
	}
	if age >= a.cfg.SettleOwner {
		return ""
	}
	return fmt.Sprintf("it is %s old, it has %s to settle", max(0, age).Round(time.Second), a.cfg.SettleOwner)
}

// coolingDown keeps a rule that fires again from acting again at once. The steps
// of one firing follow one another without it.
func coolingDown(a *attempt) string {
	at, ok := a.mem.Acted[pair(a.rule.Name, a.key)]
	if lost := a.mem.Distrusted; lost != nil && !ok {
		at, ok = *lost, true // it may have acted just before
	}
	if a.fired.BootID == at.BootID && a.fired.BootSeconds <= at.BootSeconds {
		return ""
	}
	if since := a.in.Now.Since(at); ok && since < a.rule.Cooldown {
		return fmt.Sprintf("the rule acted on it %s ago, its cooldown is %s", since.Round(time.Second), a.rule.Cooldown)
	}
	return ""
}

func budgetSpent(a *attempt) string {
	if a.then != nil {
		return "" // paid for with the intent
	}
	for _, p := range prices(a.rule, a.step, a.owner, a.cfg.HostBudget) {
		if a.mem.left(p.key, p.budget, a.in.Now) <= 0 {
			return fmt.Sprintf("the budget of %s is spent: %s", p.budget, p.key)
		}
	}
	return ""
}

func busy(a *attempt) string {
	if a.then == nil {
		return a.in.Busy
	}
	return ""
}

// UnderWay is why nothing can begin while an action is.
func UnderWay(what string) string { return "another action is under way: " + what }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
