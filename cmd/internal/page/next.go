package page

import (
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// next says what a person can do now.
func (t *telling) next() section {
	s := section{ID: "next", Title: "What to do next"}
	add := func(text, command string) { s.Steps = append(s.Steps, step{text, command}) }
	if t.Ended == nil {
		add("It is not over: see how it is now.", "tcpmemctl status")
	}
	if d := t.deed(); d != nil {
		t.afterDeed(d, add)
	}
	if o := t.suspect(); o != nil {
		afterVerdict(o, t.Ended == nil, len(t.Sample) > 0, add)
	} else if t.Ended == nil {
		add("See who holds the memory now.", "tcpmemctl owners")
	}
	if t.End == record.EndStopped {
		add("tcpmemd stopped before the end. Start it, and see whether the rule fires again.", "systemctl status tcpmemd")
	}
	return s
}

// afterDeed is about what tcpmemd decided.
func (t *telling) afterDeed(d *deed, add func(text, command string)) {
	explain := ""
	if id := d.rec.Action; id != "" && simple(id) {
		explain = "tcpmemctl explain " + id
	} else if simple(d.rec.ID) {
		explain = "tcpmemctl explain " + d.rec.ID
	}
	switch d.about.Choice {
	case record.ChoseDryRun:
		add("tcpmemd only watched, because "+prose.Escape(d.about.ModeWhy)+". If what it would have done is right, let it: set mode = \"enforce\" for the rule and for the daemon.",
			"tcpmemctl policy show "+word(t.Rule))
		if t.Ended == nil {
			add("Or take the step by hand, once.", "tcpmemctl act "+word(t.ID))
		}
		return
	case record.ChoseRefuse:
		add("A guard refused to act: "+prose.Escape(d.about.Why)+". If that should not be, change what it rests on; if it should, somebody has to act by hand.", explain)
		return
	case record.ChoseHold:
		add("A budget is spent: "+prose.Escape(d.about.Why)+". What was done before did not last, so find the cause first.", "tcpmemctl reset "+word(t.Rule))
		return
	case record.ChoseNothing:
		add("Every step of the rule was taken: a person has to act.", "tcpmemctl owners")
		return
	case record.ChoseWait:
		add("tcpmemd waits to act: "+prose.Escape(d.about.Why)+".", explain)
		return
	}
	switch {
	case d.effect != nil && (d.effect.Verdict == record.NoEffect || d.effect.Verdict == record.Worse):
		add("What was done did not help. Look at the runners-up.", explain)
	case d.result != nil && d.result.Outcome != record.Done && d.result.Outcome != record.Delivered:
		add(sentence(event.ResultWords(d.result))+". Find out why.", explain)
	case d.about.Action == "raise-tcp-mem":
		add("The limits were raised for a time only. If the load is there to stay, make it permanent with the sysctl.d line in the result.", explain)
	}
}

// afterVerdict is about who held the memory.
func afterVerdict(o *record.Suspect, open, sampled bool, add func(text, command string)) {
	name, sockets := prose.Escape(cut(nameOf(o.Key, o.Name), 64)), ""
	if open && o.Unit != "" && simple(o.Unit) {
		sockets = "tcpmemctl sockets 'unit = " + o.Unit + "'"
	}
	switch o.Kind {
	case reading.KindUnresolved:
		add("Find out who holds it: see what keeps tcpmemd from naming the owner.", "tcpmemctl doctor")
		return
	case reading.KindKernel:
		add("The kernel itself holds it, as for NFS: look at the mounts and at what is behind them.", "tcpmemctl sockets 'class kernel'")
		return
	}
	kind := reading.VerdictKind("")
	if o.Verdict != nil {
		kind = o.Verdict.Kind
	}
	switch kind {
	case reading.Leak:
		why := "it keeps sockets that it does not use any more"
		switch {
		case o.Classes["hidden"] > o.Bytes/2:
			why = "it keeps sockets that their peer has reset, with data that it never read"
		case o.Classes["orphan"] > o.Bytes/2:
			why = "it closes sockets whose data nobody takes"
		case o.Classes["unaccepted"] > o.Bytes/2:
			why = "it does not accept its connections"
		}
		below := ""
		if sampled {
			below = " The sockets below show where they went."
		}
		add("Mend "+name+": "+why+". A restart gives the memory back and not the cause; look for a path, such as one after an error, that does not close its connection."+below, sockets)
	case reading.SlowPeer:
		who := "the peer"
		if o.Verdict.Culprit != "" {
			who = prose.Escape(cut(o.Verdict.Culprit, 64))
		}
		add("Look at "+who+": it does not read what it is sent. "+name+" is the victim, and a restart of it would not help; a limit on how long it waits to send would.", sockets)
	case reading.Load:
		add(name+" was busy, and nothing leaked. If such load is to be expected, raise net.ipv4.tcp_mem, or give it less to do at once.", "sysctl net.ipv4.tcp_mem")
	default:
		add("Whether "+name+" leaks or is busy was not clear. Watch how its memory moves with its connections.", sockets)
	}
}

// word is a name as one word of a shell. What no command needs is told as a
// word to fill in: a name that a process chose is never part of a command.
func word(name string) string {
	if simple(name) {
		return name
	}
	return "NAME"
}

func simple(name string) bool {
	return name != "" && !strings.HasPrefix(name, "-") && !strings.ContainsFunc(name, func(r rune) bool {
		return r > 0x7e || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@:", r)
	})
}
