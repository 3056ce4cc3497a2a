package page

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

const (
	mib      = 1 << 20
	pageSize = 4096
	boot     = "8ee26d30-1f4b-4a4c-9b0c-0d7e3b6f7a11"
)

var began = time.Date(2026, 11, 22, 8, 15, 0, 0, time.UTC)

// at is a moment after the beginning.
func at(d time.Duration) record.Stamp {
	return record.Stamp{At: began.Add(d), BootID: boot, BootSeconds: 90_000 + d.Seconds(), Synced: true}
}

// scene makes incidents: the pool moves by a function of time.
type scene struct {
	from, to time.Duration // of the readings
	fired    time.Duration
	ended    time.Duration // 0: it lasts
	step     time.Duration // between samples
	scan     int           // samples between scans
	owners   func(d time.Duration) []record.OwnerBytes
	missing  func(d time.Duration) bool
	rest     int64 // bytes that no owner holds
}

func (s scene) incident(in record.Incident) *record.Incident {
	in.Version, in.Hostname, in.PageSize = record.Version, "web-7.example", pageSize
	in.Began, in.Fired = at(0), at(s.fired)
	if s.ended > 0 {
		end := at(s.ended)
		in.Ended = &end
		if in.End == "" {
			in.End = record.EndCleared
		}
	}
	n := 0
	worst := int64(0)
	aborts := int64(0)
	for d := s.from; d <= s.to; d += s.step {
		n++
		if s.missing != nil && s.missing(d) {
			continue
		}
		owners := s.owners(d)
		sum := s.rest
		for _, o := range owners {
			sum += o.Bytes
		}
		p := record.Point{Stamp: at(d), Used: reading.Pages(sum / pageSize), Min: 43257, Pressure: 57676, Max: 86514, Orphans: 4}
		switch fill := float64(p.Used); {
		case fill > 0.9*86514:
			p.Level = "critical"
			aborts++
		case fill > 57676:
			p.Level = "pressure"
		case fill > 0.8*57676:
			p.Level = "elevated"
		default:
			p.Level = "calm"
		}
		p.Aborts = new(aborts)
		if n%s.scan == 0 {
			p.Owners = owners[:min(len(owners), 5)]
			if sum > worst {
				worst = sum
				in.Worst = ledger(d, sum, owners)
			}
		}
		in.Readings = append(in.Readings, p)
	}
	return &in
}

func ledger(d time.Duration, sum int64, owners []record.OwnerBytes) *record.Ledger {
	l := &record.Ledger{Stamp: at(d), UsedPages: reading.Pages(sum / pageSize), Coverage: 0.998, Classes: map[string]int64{"orphan": 4 * mib}}
	for i, o := range owners {
		l.Seen += o.Bytes
		if i < 20 {
			l.Owners = append(l.Owners, suspect(o.Key, o.Name, o.Bytes, sum))
		} else {
			l.LeftOut++
		}
	}
	l.Classes["owned"] = l.Seen - 4*mib
	l.Named, l.Unseen = l.Seen, sum-l.Seen
	return l
}

func suspect(key, name string, bytes, sum int64) record.Suspect {
	return record.Suspect{
		Key: key, Name: name, Kind: reading.KindService, Unit: name, Manager: "system", UnitVerified: true, UID: new(uint32),
		Command: name, Holders: []reading.Holder{{PID: 412, StartTime: 123, Command: name, Unit: name}},
		Sockets: 1 + bytes/200_000, Bytes: bytes, Share: float64(bytes) / float64(max(sum, 1)), Growth: new(bytes / 20),
		Classes: map[string]int64{"owned": bytes}, Evidence: map[string]int64{"fd": bytes},
	}
}

// acts gives the records of an incident in which a step was taken.
func acts(in *record.Incident, culprit record.Suspect, told, acted, took time.Duration, choice record.Choice, helped record.Verdict) {
	in.ID = "i-20261122T081500-leaking-service"
	in.Rule, in.Severity = "leaking-service", "critical"
	in.About = "one service's share of TCP memory keeps growing and the host nears its limit"
	in.Mode = "enforce"
	if choice == record.ChoseDryRun {
		in.Mode = "observe"
	}
	seq := uint64(0)
	add := func(d time.Duration, r record.Record) {
		seq++
		r.Version, r.Seq, r.ID, r.Stamp, r.Rule, r.Key = record.Version, seq, fmt.Sprint("r-", seq), at(d), in.Rule, culprit.Key
		if r.Incident == "" {
			r.Incident = in.ID
		}
		in.Records = append(in.Records, r)
	}
	second := suspect("system/web.service", "web.service", 40*mib, 295*mib)
	base := record.Decision{
		Choice: choice, About: in.About, Mode: in.Mode, ModeWhy: "daemon and rule enforce", Level: "critical", Fill: 0.87, Coverage: new(0.998), AgeSecs: new(0.4),
		Condition: `tcp.fill > 0.7 && owner.share > 0.3 && owner.verdict == "leak"`,
		Numbers:   record.Numbers{"tcp.fill": 0.87, "owner.share": 0.85, "owner.verdict": "leak"},
		Owner:     &culprit, RunnersUp: []record.Suspect{second}, Predicted: new(culprit.Bytes),
		Why: "the condition holds and nothing stands against it", Step: 2, Action: "restart-unit", Touches: "owner",
	}
	if choice == record.ChoseDryRun {
		base.ModeWhy = `the rule's mode is "observe"`
	}
	tell := base
	tell.Choice, tell.Why, tell.Step, tell.Action, tell.Touches = record.ChoseAct, "telling is never blocked", 1, "notify", "nothing"
	state := func(d time.Duration, s record.State) {
		s.Since, s.Mode, s.Owner = at(0), in.Mode, &culprit
		add(d, record.Record{Kind: record.KindState, State: &s})
	}
	state(0, record.State{Phase: record.Pending, Why: "the condition holds", Level: "pressure", Numbers: base.Numbers})
	state(told, record.State{Phase: record.Firing, Why: "the condition has held for 30s", Level: "critical", Numbers: base.Numbers})
	add(told, record.Record{Kind: record.KindIntent, Action: "a-1", Intent: &record.Intent{Decision: tell, Deadline: at(told + time.Minute)}})
	add(told+300*time.Millisecond, record.Record{Kind: record.KindResult, Action: "a-1", Result: &record.Result{Outcome: record.Delivered, Message: "told the journal and 1 webhook", TookSeconds: 0.3}})
	add(told+time.Second, record.Record{Incident: "i-other", Kind: record.KindEvent, Event: &record.Event{ID: "level-changed", Severity: "info", Text: "pressure to critical: used 305.0 MiB > 0.9 x max"}})
	if choice == record.ChoseAct {
		add(acted, record.Record{Kind: record.KindIntent, Action: "a-2", Intent: &record.Intent{Decision: base, Deadline: at(acted + time.Minute)}})
		add(acted+took, record.Record{Kind: record.KindResult, Action: "a-2", Result: &record.Result{
			Outcome: record.Done, Message: "restarted, and destroyed 2 orphans that it left", TookSeconds: took.Seconds(),
			Changes: []record.Change{{What: "unit " + culprit.Unit, Before: "invocation 4ac1d2b1", After: "invocation 99d0aa12"}},
		}})
		add(acted+took+6*time.Second, record.Record{Kind: record.KindEffect, Action: "a-2", Effect: &record.Effect{
			Verdict: helped, Why: "the target fell by 250.0 MiB and the pool by 248.0 MiB", TargetBefore: new(culprit.Bytes), TargetAfter: new(int64(mib)),
			PoolBefore: new(int64(295 * mib)), PoolAfter: new(int64(47 * mib)), Bound: 2 * mib, AfterSeconds: 6,
		}})
	} else {
		add(acted, record.Record{Kind: record.KindDecision, Decision: &base})
	}
	if in.Ended != nil {
		state(in.Ended.At.Sub(began), record.State{Phase: record.Ended, Why: "over: tcp.fill < 0.5", End: record.EndCleared, Level: "calm"})
	}
	in.Keys = []record.KeyState{{
		Key: culprit.Key, Phase: record.Firing, Began: at(0), Owner: &culprit, Step: 2, Choice: choice, Why: base.Why,
	}}
	if in.Ended != nil {
		in.Keys[0].Phase, in.Keys[0].Ended, in.Keys[0].End = record.Ended, in.Ended, record.EndCleared
	}
	for i := range 12 {
		in.Sample = append(in.Sample, record.SocketLine{
			Cookie: reading.Cookie(i + 1), Netns: 4026531840, State: "close-wait", Class: "owned", Local: new(fmt.Sprintf("10.0.0.5:%d", 40000+i)),
			Remote: new("10.0.0.9:5672"), Bytes: 266240, Receive: 262144, Evidence: "fd", PID: 412,
		})
	}
	in.LeftOut.Sockets = 1190
}

func owner(name string, bytes float64) record.OwnerBytes {
	return record.OwnerBytes{Key: "system/" + name, Name: name, Bytes: int64(bytes)}
}

// wobble is a load that moves, the same each time.
func wobble(d time.Duration, seed float64) float64 {
	s := d.Seconds()
	return 1 + 0.12*math.Sin(s/7+seed) + 0.08*math.Sin(s/2.3+2*seed)
}

func leakOf(name string) record.Suspect {
	s := suspect("system/"+name, name, 251*mib, 295*mib)
	s.Verdict = &reading.Verdict{Kind: reading.Leak, Reasons: []string{"900 of its sockets are in close-wait", "its queues have not moved for 5 min"}}
	return s
}

// restarted is the story: a leak of some minutes that a restart ended.
func restarted(name string) *record.Incident {
	s := scene{
		from: -time.Minute, to: 5 * time.Minute, fired: 30 * time.Second, ended: 5 * time.Minute, step: time.Second, scan: 5, rest: 3 * mib,
		owners: func(d time.Duration) []record.OwnerBytes {
			leak := 120 + 131*math.Min(math.Max((d.Seconds()+60)/160, 0), 1)
			if d > 104*time.Second {
				leak = 1
			}
			return []record.OwnerBytes{
				owner(name, leak*mib), owner("web.service", 40*mib*wobble(d, 1)), owner("postgresql.service", 12*mib*wobble(d, 2)),
				owner("redis.service", 6*mib*wobble(d, 3)), owner("node-exporter.service", 2*mib*wobble(d, 5)), owner("sshd.service", 1*mib),
			}
		},
	}
	in := s.incident(record.Incident{})
	acts(in, leakOf(name), 30*time.Second, 100*time.Second, 4*time.Second, record.ChoseAct, record.Helped)
	return in
}

// short is an incident of 3 s.
func short() *record.Incident {
	s := scene{
		from: -time.Minute, to: 4 * time.Second, fired: 0, ended: 3 * time.Second, step: time.Second, scan: 5, rest: 3 * mib,
		owners: func(d time.Duration) []record.OwnerBytes {
			burst := 60.0
			if d >= -5*time.Second && d < 2*time.Second {
				burst = 270
			}
			return []record.OwnerBytes{owner("backup.service", burst*mib), owner("web.service", 30*mib*wobble(d, 1))}
		},
	}
	in := s.incident(record.Incident{})
	acts(in, leakOf("backup.service"), 0, time.Second, 500*time.Millisecond, record.ChoseAct, record.NotMeasured)
	return in
}

// long is an incident of 3 days, observed, with two gaps in the readings.
func long() *record.Incident {
	s := scene{
		from: -10 * time.Minute, to: 72 * time.Hour, fired: 30 * time.Second, ended: 72 * time.Hour, step: 6 * time.Minute, scan: 1, rest: 4 * mib,
		owners: func(d time.Duration) []record.OwnerBytes {
			leak := 110 + 130*math.Mod(d.Hours()+6, 30)/30
			return []record.OwnerBytes{
				owner("task-queue.service", leak*mib), owner("web.service", 45*mib*(1+0.5*math.Sin(d.Hours()*math.Pi/12))), owner("postgresql.service", 14*mib*wobble(d, 2)),
				owner("redis.service", 6*mib*wobble(d, 3)), owner("exporter.service", 4*mib),
			}
		},
		missing: func(d time.Duration) bool {
			return d > 20*time.Hour && d < 29*time.Hour || d > 50*time.Hour && d < 51*time.Hour
		},
	}
	in := s.incident(record.Incident{})
	acts(in, leakOf("task-queue.service"), 30*time.Second, 90*time.Second, time.Second, record.ChoseDryRun, "")
	dry := in.Records[len(in.Records)-2]
	end := in.Records[len(in.Records)-1]
	in.Records = in.Records[:len(in.Records)-1]
	for i := range 300 {
		r := dry
		r.ID, r.Stamp = fmt.Sprint("r-1-", i), at(90*time.Second+time.Duration(i+1)*14*time.Minute)
		in.Records = append(in.Records, r)
	}
	exhausted := *dry.Decision
	exhausted.Choice, exhausted.Why = record.ChoseNothing, "exhausted: every step was taken, and the condition still holds"
	dry.ID, dry.Stamp, dry.Decision = "r-2", at(71*time.Hour), &exhausted
	in.Records = append(in.Records, dry, end)
	in.LeftOut.Records = 57
	return in
}

// open lasts, has no scan, and knows no limits.
func open() *record.Incident {
	in := scene{
		from: -time.Minute, to: 9 * time.Minute, fired: 30 * time.Second, step: time.Second, scan: 10_000,
		owners: func(d time.Duration) []record.OwnerBytes {
			return []record.OwnerBytes{owner("x", 200*mib*wobble(d, 1))}
		},
	}.incident(record.Incident{ID: "i-20261122T081500-tcp-pressure", Rule: "tcp-pressure", Severity: "warning", Mode: "observe", About: "TCP memory is short: the kernel slows connections down"})
	for i := range in.Readings {
		p := &in.Readings[i]
		p.Min, p.Pressure, p.Max, p.Level = 0, 0, 0, "unknown"
	}
	in.Keys = []record.KeyState{{Key: "host", Phase: record.Firing, Began: at(0)}}
	return in
}

// many has the names of 5,000 owners, of which a record keeps some.
func many() *record.Incident {
	some := func(n int, d time.Duration) []record.OwnerBytes {
		names := make([]record.OwnerBytes, n)
		for i := range names {
			names[i] = owner(fmt.Sprintf("job@%05d.service", (i+int(d.Seconds())/300)%5000), 60_000*wobble(d, float64(i))+float64(5000-i)*10)
		}
		return names
	}
	s := scene{
		from: -time.Minute, to: 40 * time.Minute, fired: 30 * time.Second, step: 4 * time.Second, scan: 1, rest: 400 * mib,
		owners: func(d time.Duration) []record.OwnerBytes { return some(8, d) },
	}
	in := s.incident(record.Incident{})
	in.Worst = ledger(time.Minute, 400*mib, some(5000, time.Minute))
	acts(in, suspect("system/job@00001.service", "job@00001.service", 110_000, 300*mib), 30*time.Second, 60*time.Second, time.Second, record.ChoseDryRun, "")
	for i := range 49 {
		k := in.Keys[0]
		o := suspect(fmt.Sprintf("system/job@%05d.service", i+2), fmt.Sprintf("job@%05d.service", i+2), 100_000, 300*mib)
		k.Key, k.Owner = o.Key, &o
		in.Keys = append(in.Keys, k)
	}
	in.LeftOut.Keys = 4950
	return in
}

// hostile is the story with names that attack a browser or a terminal.
func hostile() *record.Incident {
	in := restarted("task-queue.service")
	names := append([]string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</style><script>alert(2)</script>`, `{{.Headline}}`, `'; rm -rf / #`,
		`https://example.com/?a=<b>&c="d"`,
	}, apitest.HostileNames...)
	for i := range in.Readings {
		for j := range in.Readings[i].Owners {
			o := &in.Readings[i].Owners[j]
			o.Name = names[j%len(names)]
		}
	}
	evil := func(s *record.Suspect, i int) {
		n := names[i%len(names)]
		s.Name, s.Command, s.Unit = n, n, n
		s.Holders = []reading.Holder{{PID: 1, Command: n, Unit: n}}
		s.Verdict = &reading.Verdict{Kind: reading.SlowPeer, Culprit: n, Reasons: []string{n}}
		s.Protected = n
		s.Classes, s.Evidence = map[string]int64{n: s.Bytes}, map[string]int64{n: s.Bytes}
		s.Pod, s.Container = &reading.Pod{Namespace: n, Name: n, UID: n}, &reading.Container{ID: n, Runtime: n, Name: n}
	}
	for i := range in.Worst.Owners {
		evil(&in.Worst.Owners[i], i)
	}
	in.Worst.Classes = map[string]int64{names[0]: in.Worst.Seen}
	for i := range in.Keys {
		evil(in.Keys[i].Owner, i)
		in.Keys[i].Why = names[1]
	}
	for i := range in.Records {
		r := &in.Records[i]
		n := names[i%len(names)]
		r.Key, r.Rule = n, n
		for _, d := range []*record.Decision{r.Decision, decisionIn(r.Intent)} {
			if d != nil {
				d.Why, d.Guard, d.About, d.ModeWhy, d.Condition, d.Action, d.Mode, d.Level = n, n, n, n, n, n, n, n
				d.Numbers = record.Numbers{"owner.name": n, "x": []any{n}}
				for j := range d.RunnersUp {
					evil(&d.RunnersUp[j], j)
				}
			}
		}
		if r.State != nil {
			r.State.Why = n
		}
		if r.Result != nil {
			r.Result.Message, r.Result.Code = n, n
			r.Result.Changes = []record.Change{{What: n, Before: n, After: n}}
		}
		if r.Effect != nil {
			r.Effect.Why = n
		}
		if r.Event != nil {
			r.Event.ID, r.Event.Text = n, n
		}
	}
	for i := range in.Sample {
		s := &in.Sample[i]
		n := names[i%len(names)]
		s.Local, s.Remote, s.State, s.Class, s.Evidence = &n, &n, n, n, n
	}
	in.Hostname, in.Rule, in.About, in.Severity, in.Mode = names[0], names[1], names[6], names[2], names[3]
	return in
}

func decisionIn(i *record.Intent) *record.Decision {
	if i == nil {
		return nil
	}
	return &i.Decision
}

// worst has of everything as much as a record can hold, with long names.
func worst() *record.Incident {
	name := strings.Repeat("a-name-of-some-length-&-<markup>.", 7) + "service"
	in := many()
	for len(in.Readings) < 719 {
		p := in.Readings[len(in.Readings)-1]
		p.Stamp = at(p.At.Sub(began) + 4*time.Second)
		in.Readings = append(in.Readings, p)
	}
	in.Records = nil
	for i := range 400 {
		o := suspect("system/"+name, name, 100*mib, 300*mib)
		d := &record.Decision{
			Choice: record.ChoseRefuse, Guard: "coverage", Why: fmt.Sprint(name, i), About: name, Mode: "enforce", ModeWhy: name, Level: "critical", Fill: 1,
			Condition: name, Numbers: record.Numbers{"owner.share": 0.1, "tcp.fill": 0.2, "owner.name": name}, Step: i, Action: "restart-unit", Touches: "owner",
			Owner: &o, RunnersUp: []record.Suspect{o, o, o, o, o},
		}
		in.Records = append(in.Records, record.Record{
			ID: fmt.Sprint("r-", i), Stamp: at(time.Duration(i) * 6 * time.Second), Kind: record.KindDecision, Incident: in.ID, Rule: in.Rule, Key: o.Key, Decision: d,
		})
	}
	for i := range in.Worst.Owners {
		in.Worst.Owners[i] = suspect("system/"+name, name, 100*mib, 300*mib)
	}
	for len(in.Sample) < 30 {
		in.Sample = append(in.Sample, in.Sample[0])
	}
	return in
}
