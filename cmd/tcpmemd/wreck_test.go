package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
	actionlog "github.com/tcpmemd/tcpmemd/daemon/store/actions"
)

// after looks at what a killed daemon left: it says when it was hit, and checks
// that the log is whole.
func (v *victim) after(p *process) moment {
	v.t.Helper()
	v.noPlugin()
	before := len(v.records)
	v.read(true)
	open := unfinished(v.records)
	began := slices.ContainsFunc(v.records[before:], func(r record.Record) bool { return r.Event != nil && r.Event.ID == "daemon-started" })
	switch {
	case len(open) > 1:
		v.t.Errorf("%d intents have no result at one time", len(open))
	case began && len(open) == 1 && open[0].Seq <= uint64(before):
		v.t.Errorf("the daemon started and gave an intent of before no result: %+v", open[0])
	case len(open) == 0 && len(actionsOf(v.records[before:])) == 0:
		return beforeIntent
	case len(open) == 0:
		return afterResult
	}
	runs := v.runs()
	switch action := open[0].Action; {
	case runs[markEnd][action] > 0:
		return resultToRecord
	case runs[markStart][action] > 0:
		return pluginRunning
	}
	return intentToStart
}

// noPlugin waits until the plugins of the killed daemon are gone, as they must
// without it.
func (v *victim) noPlugin() {
	v.t.Helper()
	var left []int
	for deadline := time.Now().Add(pluginsGone); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if left = v.plugins(); len(left) == 0 {
			return
		}
	}
	v.t.Errorf("plugin processes outlive the daemon by %s: %v", pluginsGone, left)
}

// plugins lists the plugin processes of this one's daemons: their temporary
// folder is below its own.
func (v *victim) plugins() []int {
	return slices.DeleteFunc(v.lab.pluginProcesses(), func(pid int) bool {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		return err != nil || !bytes.Contains(env, []byte(filepath.Dir(v.socket)))
	})
}

// runs counts the marks of each action.
func (v *victim) runs() map[string]map[string]int {
	count := map[string]map[string]int{markStart: {}, markEnd: {}}
	data, err := os.ReadFile(filepath.Join(filepath.Dir(v.bell.Name()), probeJournal))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var mark, action string
		if _, err := fmt.Sscan(line, &mark, &action); err != nil {
			v.t.Fatalf("journal of the probe: %q", line)
		}
		count[mark][action]++
	}
	return count
}

// read takes the whole log and checks it. torn: its last line may be cut short.
func (v *victim) read(torn bool) {
	v.t.Helper()
	data, err := os.ReadFile(v.logPath())
	if errors.Is(err, fs.ErrNotExist) && len(v.records) == 0 {
		return
	}
	if err != nil {
		v.t.Fatal(err)
	}
	if end := bytes.LastIndexByte(data, '\n'); end+1 != len(data) {
		if !torn {
			v.t.Error("the log ends with a torn line")
		}
		data = data[:end+1]
	}
	var list []record.Record
	for line := range bytes.Lines(data) {
		rec, err := actionlog.Parse(line)
		if err != nil {
			v.t.Fatalf("record %d: %v", len(list)+1, err)
		}
		if want := uint64(len(list) + 1); rec.Seq != want {
			v.t.Fatalf("record %d has the number %d", want, rec.Seq)
		}
		list = append(list, rec)
	}
	if len(list) < len(v.records) {
		v.t.Fatalf("the log had %d records and has %d", len(v.records), len(list))
	}
	v.records = list
	v.checkActions()
}

// checkActions: each action has one intent before its one result, and was run
// once at most, if it was meant; the scarce rule was never above its budget.
func (v *victim) checkActions() {
	v.t.Helper()
	intents, results := map[string]int{}, map[string]int{}
	for i := range v.records {
		r := &v.records[i]
		switch {
		case r.Intent != nil:
			if intents[r.Action]++; intents[r.Action] > 1 || results[r.Action] > 0 {
				v.t.Errorf("action %s was meant twice", r.Action)
			}
		case r.Result != nil:
			if results[r.Action]++; results[r.Action] > 1 || intents[r.Action] == 0 {
				v.t.Errorf("action %s has %d results and %d intents", r.Action, results[r.Action], intents[r.Action])
			}
		}
	}
	if n := len(slices.Collect(actionsOfRule(v.records, "a-scarce"))); n > scarceBudget {
		v.t.Errorf("%d actions of a budget of %d", n, scarceBudget)
	}
	for action, n := range v.runs()[markStart] {
		if n > 1 || intents[action] != 1 {
			v.t.Errorf("action %s ran %d times, with %d intents", action, n, intents[action])
		}
	}
}

// finish has a last daemon run, and end in order: it leaves nothing open.
func (v *victim) finish() {
	v.t.Helper()
	cut := unfinished(v.records)
	time.Sleep(200 * time.Millisecond) // see lockedOut
	p := v.startT(v.t)
	p.stop(v.t)
	v.read(false)
	if open := unfinished(v.records); len(open) > 0 {
		v.t.Errorf("%d intents have no result in the end: %+v", len(open), open[0])
	}
	interrupted := 0
	for i := range v.records {
		if r := v.records[i].Result; r != nil && r.Outcome == record.Interrupted {
			interrupted++
		}
	}
	if scarce := slices.Collect(actionsOfRule(v.records, "a-scarce")); len(actionsOf(v.records)) > 10*scarceBudget && len(scarce) != 0 && len(scarce) != scarceBudget {
		v.t.Errorf("the scarce rule acted %d times, its budget is %d", len(scarce), scarceBudget)
	}
	v.t.Logf("%d records, %d actions, %d interrupted, %d open before the last start; %d runs; %d starts were locked out", len(v.records), len(actionsOf(v.records)), interrupted, len(cut), len(v.runs()[markStart]), v.locked)
	v.noPlugin()
}

func actionsOf(records []record.Record) []string { return slices.Collect(actionsOfRule(records, "")) }

// actionsOfRule gives the actions that were meant, of all rules if it is "".
func actionsOfRule(records []record.Record, rule string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range records {
			if r := &records[i]; r.Intent != nil && (rule == "" || r.Rule == rule) && !yield(r.Action) {
				return
			}
		}
	}
}

// unfinished lists the intents without a result.
func unfinished(records []record.Record) (list []record.Record) {
	ended := map[string]bool{}
	for i := range records {
		if records[i].Result != nil {
			ended[records[i].Action] = true
		}
	}
	for i := range records {
		if records[i].Intent != nil && !ended[records[i].Action] {
			list = append(list, records[i])
		}
	}
	return list
}
