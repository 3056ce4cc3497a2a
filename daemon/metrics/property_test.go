package metrics

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// TestProperty: whatever a host is like, there are never more series than may
// be, none is there twice, none of their labels tells of a process or a
// connection, the owners' bytes add up, and what is written reads the same.
func TestProperty(t *testing.T) {
	runs := uint64(1500)
	if raceEnabled {
		runs = 300
	}
	most := 0
	for seed := range runs {
		f := anyHost(rand.New(rand.NewPCG(seed, 6)), seed%150 == 0)
		families := Families(f)
		rows := rowsOf(families)
		most = max(most, len(rows))
		if len(rows) > MaxSeries {
			t.Errorf("seed %d: %d series, want %d at most", seed, len(rows), MaxSeries)
		}
		if sorted := slices.Sorted(slices.Values(rows)); len(slices.CompactFunc(sorted, sameSeries)) != len(rows) {
			t.Errorf("seed %d: a series is there twice", seed)
		}
		checkFamilies(t, seed, families)
		checkOwners(t, seed, f, families)
		formats := []expfmt.FormatType{expfmt.TypeTextPlain}
		if seed%500 == 1 && !raceEnabled { // the parser of OpenMetrics takes its time
			formats = append(formats, expfmt.TypeProtoDelim, expfmt.TypeOpenMetrics)
		}
		for _, format := range formats {
			if diff := cmp.Diff(rows, reread(t, families, expfmt.NewFormat(format))); diff != "" {
				t.Fatalf("seed %d, format %d (-families +read):\n%s", seed, format, diff)
			}
		}
	}
	t.Logf("%d hosts, %d series at most", runs, most)
	if most < MaxSeries-30 {
		t.Errorf("%d series at most: the hosts are too tame to prove anything", most)
	}
}

// TestWorst: the host on which everything happens has just as many series as may
// be, and the next such reading has the same ones.
func TestWorst(t *testing.T) {
	f := worst()
	families := Families(f)
	rows := rowsOf(families)
	if len(rows) != MaxSeries {
		for _, fam := range families {
			if m := &catalogue[place(fam)]; len(fam.Metric) != m.Max {
				t.Errorf("%s: %d series, want %d", m.Name, len(fam.Metric), m.Max)
			}
		}
		t.Errorf("%d series, want %d", len(rows), MaxSeries)
	}
	c := &f.Conduct.Counts
	for _, guard := range policy.GuardNames() {
		c.Refusals = Add(c.Refusals, guard, "", 1)
	}
	for _, a := range builtIn {
		c.Actions = Add(c.Actions, a, "done", 1)
		c.Effects = Add(c.Effects, a, "helped", 1)
	}
	if diff := cmp.Diff(withoutValues(rows), withoutValues(rowsOf(Families(f)))); diff != "" {
		t.Errorf("there are other series once more has happened (-before +after):\n%s", diff)
	}
}

func withoutValues(rows []string) (names []string) {
	for _, r := range rows {
		names = append(names, r[:strings.LastIndexByte(r, ' ')])
	}
	return names
}

// worst is a host on which everything happens that can.
func worst() *Facts {
	f := whole()
	f.Reading.Owners = nil
	for i := range 5000 {
		f.Reading.Owners = append(f.Reading.Owners, reading.Owner{
			Key: fmt.Sprintf("process/%d/%d", 1000+i, i), Name: fmt.Sprintf("worker-%d", i), Kind: reading.KindProcess,
			Sum: reading.Tally{Sockets: 3, Bytes: int64(1000 + i)}, Unread: 1, Send: 2, Stalled: new(int64(3)),
			GrowthPerMinute: new(int64(60)), Verdict: &reading.Verdict{Kind: reading.Leak},
		})
	}
	c := f.Conduct
	c.Rules = nil
	for i := range 100 {
		c.Rules = append(c.Rules, Rule{Name: fmt.Sprintf("rule-%d", i), Severity: "warning", Firing: 200, Pending: 1, Held: true})
	}
	for _, k := range event.Catalogue() {
		c.Blind = append(c.Blind, k.ID)
	}
	for _, guard := range policy.GuardNames() {
		c.Counts.Refusals = Add(c.Counts.Refusals, guard, "", 1)
	}
	actions := slices.Clone(builtIn)
	for i := range 60 {
		actions = append(actions, fmt.Sprintf("plugin-%d", i))
	}
	for _, a := range actions {
		for _, came := range outcomes {
			c.Counts.Actions = Add(c.Counts.Actions, a, came, 1)
		}
		for _, came := range effects {
			c.Counts.Effects = Add(c.Counts.Effects, a, came, 1)
		}
	}
	for i := range 40 {
		f.Sample.Gaps = append(f.Sample.Gaps, reading.Gap{Code: fmt.Sprintf("code-%d", i)})
	}
	return f
}

// BenchmarkScrape is what one scrape computes, of a small host and of one with
// 5,000 owners on which everything happens.
func BenchmarkScrape(b *testing.B) {
	for name, f := range map[string]*Facts{"small": whole(), "worst": worst()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Write(io.Discard, Families(f), expfmt.NewFormat(expfmt.TypeTextPlain)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// sameSeries compares two rows without their values.
func sameSeries(a, b string) bool {
	return a[:strings.LastIndexByte(a, ' ')] == b[:strings.LastIndexByte(b, ' ')]
}

// rowsOf lists series with their values. A label without a value is none.
func rowsOf(families []*dto.MetricFamily) (rows []string) {
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				if l.GetValue() != "" {
					labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
				}
			}
			slices.Sort(labels)
			value := m.GetGauge().GetValue()
			if f.GetType() == dto.MetricType_COUNTER {
				value = m.GetCounter().GetValue()
			}
			rows = append(rows, fmt.Sprintf("%s %s{%s} %v", f.GetType(), f.GetName(), strings.Join(labels, ","), value))
		}
	}
	return rows
}

// reread writes families and reads what was written.
func reread(t *testing.T, families []*dto.MetricFamily, format expfmt.Format) []string {
	t.Helper()
	var text bytes.Buffer
	if err := Write(&text, families, format); err != nil {
		t.Fatal(err)
	}
	var again []*dto.MetricFamily
	dec := expfmt.NewDecoder(&text, format)
	for range families {
		f := new(dto.MetricFamily)
		if err := dec.Decode(f); err != nil {
			t.Fatalf("read %s: %v", format, err)
		}
		if f.GetType() == dto.MetricType_COUNTER && !strings.HasSuffix(f.GetName(), "_total") {
			f.Name = new(f.GetName() + "_total") // OpenMetrics' family is without it
		}
		again = append(again, f)
	}
	// The text's parser gives families in no order.
	slices.SortFunc(again, func(a, b *dto.MetricFamily) int { return place(a) - place(b) })
	return rowsOf(again)
}

func place(f *dto.MetricFamily) int {
	return slices.IndexFunc(catalogue, func(m Metric) bool { return m.Name == f.GetName() })
}

func checkFamilies(t *testing.T, seed uint64, families []*dto.MetricFamily) {
	t.Helper()
	for _, f := range families {
		m := &catalogue[place(f)]
		if n := len(f.Metric); n > m.Max || n == 0 {
			t.Errorf("seed %d: %d series of %s, want 1 to %d", seed, n, m.Name, m.Max)
		}
		for _, s := range f.Metric {
			if len(s.Label) != len(m.Labels) {
				t.Errorf("seed %d: %s has the labels %v, want %q", seed, m.Name, s.Label, m.Labels)
			}
			for _, l := range s.Label {
				value := l.GetValue()
				if !utf8.ValidString(value) || len(value) > maxLabel {
					t.Errorf("seed %d: %s has a label %q", seed, m.Name, value)
				}
				for _, secret := range secrets {
					if strings.Contains(value, secret) {
						t.Errorf("seed %d: %s tells %s in %q", seed, m.Name, secret, value)
					}
				}
			}
		}
	}
}

// checkOwners: the owners that are shown, and the rest, are all that was seen.
func checkOwners(t *testing.T, seed uint64, f *Facts, families []*dto.MetricFamily) {
	t.Helper()
	if f.Reading == nil {
		return
	}
	var bytes, sockets, gotBytes, gotSockets float64
	for i := range f.Reading.Owners {
		bytes += float64(f.Reading.Owners[i].Sum.Bytes)
		sockets += float64(f.Reading.Owners[i].Sum.Sockets)
	}
	for _, fam := range families {
		for _, m := range fam.Metric {
			switch fam.GetName() {
			case "tcpmemd_owner_bytes":
				gotBytes += m.Gauge.GetValue()
			case "tcpmemd_owner_sockets":
				gotSockets += m.Gauge.GetValue()
			}
		}
	}
	if gotBytes != bytes || gotSockets != sockets {
		t.Errorf("seed %d: owners with %v bytes in %v sockets, want %v in %v", seed, gotBytes, gotSockets, bytes, sockets)
	}
}

// What no label may tell.
const (
	somePID     = "3817206"
	somePort    = "50123"
	someIPv4    = "198.51.100.23"
	someIPv6    = "2001:db8::9f"
	someCookie  = "918273645"
	someInode   = "4026539999"
	someInvoked = "5e0f9b3c7a1d4c2f8b6e0a9d3c5f7e1b"
)

var secrets = []string{somePID, somePort, someIPv4, someIPv6, someCookie, someInode, someInvoked, id64[:13], uuid}

// anyHost makes up a host: everything may be unknown, zero, negative, huge, or
// hostile. A crowd has 5,000 owners.
func anyHost(r *rand.Rand, crowd bool) *Facts {
	f := &Facts{Version: name(r), Started: moment(r), Owners: r.IntN(14) - 1, Level: reading.Level(r.IntN(6))}
	f.Process = Process{CPUSeconds: maybe(r, r.Float64()), ResidentBytes: maybe(r, number(r)), OpenFDs: maybe(r, number(r)), Started: moment(r)}
	if chance(r, 0.05) {
		return f
	}
	s := sample(r)
	f.Sample = &s
	f.Trend = reading.Trend{GrowthPerMinute: maybe(r, number(r)), EtaMax: maybe(r, time.Hour), EtaPressure: maybe(r, -time.Second), Verdict: verdict(r)}
	if crowd || chance(r, 0.9) {
		f.Reading = anyReading(r, crowd)
	}
	if crowd || chance(r, 0.9) {
		f.Conduct = anyConduct(r)
	}
	return f
}

func sample(r *rand.Rand) reading.Sample {
	return reading.Sample{
		At: moment(r), PageSize: 4096, Used: reading.Pages(number(r) / 4096), UnderPressure: maybe(r, chance(r, 0.5)),
		Mem:     reading.TCPMem{Min: reading.Pages(r.IntN(1000)), Pressure: 5, Max: reading.Pages(number(r) / 4096)},
		Orphans: number(r), MaxOrphans: number(r), Alloc: number(r),
		Kernel: reading.Counters{
			MemoryPressures: maybe(r, number(r)), MemoryPressuresChrono: maybe(r, number(r)), AbortOnMemory: maybe(r, number(r)),
			PruneCalled: maybe(r, number(r)), RcvPruned: maybe(r, number(r)),
		},
		Log:  reading.LogCounts{Readable: chance(r, 0.8), OutOfMemory: number(r), Lost: number(r)},
		Gaps: gaps(r),
	}
}

func anyReading(r *rand.Rand, crowd bool) *reading.Reading {
	out := &reading.Reading{Sample: sample(r), Took: time.Duration(r.IntN(1e9)), Gaps: gaps(r)}
	out.Ledger = reading.Ledger{
		Seen: number(r), Named: number(r), Unseen: number(r), ReserveMax: number(r), HiddenEstimate: number(r),
		Coverage: pick(r, 0, 0.5, 1, math.NaN(), math.Inf(1)),
		Checks:   []reading.Check{{Status: pick(r, reading.CheckMismatch, reading.CheckOK, "odd")}},
	}
	for c := range out.Ledger.Classes {
		out.Ledger.Classes[c] = reading.Tally{Sockets: number(r), Bytes: number(r)}
	}
	n := r.IntN(30)
	if crowd {
		n = 5000
	}
	for i := range n {
		out.Owners = append(out.Owners, anyOwner(r, i))
	}
	return out
}

// anyOwner has its secrets in its key and wherever else they are kept.
func anyOwner(r *rand.Rand, i int) reading.Owner {
	o := reading.Owner{
		Key: fmt.Sprintf("process/%s/%s/%d", somePID, someCookie, i), Name: name(r), Kind: pick(r, kinds...), Manager: pick(r, "system", "user@1000", ""),
		Cgroup: "/jobs/" + somePID, InvocationID: someInvoked, Command: name(r), Holders: []reading.Holder{{PID: 3817206}},
		Netns: []reading.NetnsID{{Inode: 4026539999, Cookie: 918273645}}, Peers: []reading.Peer{{Address: someIPv4 + ":" + somePort}},
		Sum: reading.Tally{Sockets: int64(r.IntN(1000)), Bytes: int64(r.IntN(1<<40)) - 1<<20}, Send: number(r), Unread: number(r),
		Stalled: maybe(r, number(r)), GrowthPerMinute: maybe(r, number(r)), Verdict: verdict(r),
	}
	switch r.IntN(6) {
	case 0:
		o.Unit = name(r) + ".service"
	case 1:
		o.Unit = pick(r,
			"sshd@3-"+someIPv4+":"+somePort+"-"+someIPv4+":22.service", "sshd@7-"+someIPv6+":"+somePort+"-"+someIPv6+":22.service",
			"app-x-"+somePID+".scope", "run-p"+somePID+"-i5.scope", "run-r"+someInvoked+".service", "dump@0-"+somePID+"-0.service",
			"vte-"+uuid+".scope", "libpod-"+id64+".scope", "x@"+someInvoked+".service")
	case 2:
		o.Container = &reading.Container{ID: id64, Runtime: pick(r, "docker", "cri-o", ""), Name: pick(r, name(r), "")}
		o.Pod = &reading.Pod{Namespace: pick(r, name(r), ""), Name: pick(r, name(r), ""), UID: uuid}
	case 3:
		o.Name = pick(r, "/jobs/"+somePID+"/"+id64, "nfs mount of "+someIPv4+":/x", "nfs mount of ["+someIPv6+"]:/x", other)
	}
	return o
}

var kinds = []reading.Kind{
	reading.KindService, reading.KindUserService, reading.KindSession, reading.KindScope, reading.KindContainer, reading.KindProcess,
	reading.KindKernel, reading.KindUnresolved, "", other, "odd",
}

func anyConduct(r *rand.Rand) *Conduct {
	c := &Conduct{
		Enforcing: chance(r, 0.5), Paused: chance(r, 0.5), Stopped: chance(r, 0.5), LeaseExpires: maybe(r, moment(r)),
		Base: reading.TCPMem{Max: reading.Pages(r.IntN(3))}, ActionsInProgress: r.IntN(3), IncidentsOpen: r.IntN(100), RightsMissing: r.IntN(5),
		Counts: Counts{Decisions: map[record.Choice]int64{"odd": 1}, Incidents: number(r)},
	}
	if chance(r, 0.8) {
		c.Journal = &Journal{Waiting: r.IntN(100), Lost: number(r)}
	}
	for i := range r.IntN(100) {
		c.Rules = append(c.Rules, Rule{
			Name: pick(r, fmt.Sprintf("rule-%d", i), name(r)), Severity: pick(r, "info", "warning", "critical", "odd"),
			Pending: r.IntN(3), Firing: r.IntN(3), Held: chance(r, 0.1),
		})
	}
	for _, k := range event.Catalogue() {
		if chance(r, 0.3) {
			c.Blind = append(c.Blind, k.ID)
		}
	}
	for _, choice := range choices {
		c.Counts.Decisions[choice] = number(r)
	}
	// Each guard, in any order; 60 plugins beside what comes along.
	for _, guard := range shuffled(r, append(policy.GuardNames(), name(r))) {
		c.Counts.Refusals = Add(c.Counts.Refusals, guard, "", number(r))
	}
	c.Counts.Refusals = c.Counts.Refusals[:r.IntN(len(c.Counts.Refusals)+1)]
	actions := slices.Clone(builtIn)
	for i := range 60 {
		actions = append(actions, fmt.Sprintf("plugin-%d", i))
	}
	actions = shuffled(r, append(actions, name(r)))
	for _, a := range actions[:r.IntN(len(actions)+1)] {
		for _, came := range shuffled(r, append(slices.Clone(outcomes), name(r)))[:r.IntN(9)] {
			c.Counts.Actions = Add(c.Counts.Actions, a, came, number(r))
		}
		for _, came := range shuffled(r, append(slices.Clone(effects), name(r)))[:r.IntN(5)] {
			c.Counts.Effects = Add(c.Counts.Effects, a, came, number(r))
		}
	}
	return c
}

// gaps are of any code that there is, and some more.
func gaps(r *rand.Rand) (list []reading.Gap) {
	codes := []string{
		"netns-unreadable", "processes-unreadable", "search-over-budget", "netns-too-many", "sockets-unreadable", "hidden-unreadable",
		"netns-unseen", "cgroup-unreadable", "cgroup-incomplete", "pod-names-unreadable", "cgroup-v2-missing", "pid-namespace",
		"bus-missing", "table-full", "new", "", other,
	}
	for range r.IntN(40) {
		list = append(list, reading.Gap{Code: pick(r, codes...), What: "netns " + someInode})
	}
	return list
}

func verdict(r *rand.Rand) *reading.Verdict {
	if chance(r, 0.5) {
		return nil
	}
	return &reading.Verdict{Kind: pick(r, reading.Leak, reading.Load, reading.SlowPeer, "odd"), Culprit: someIPv4}
}

// name is what processes, containers and files are called, or call themselves.
func name(r *rand.Rand) string {
	if chance(r, 0.6) {
		return fmt.Sprintf("name-%d", r.IntN(2000))
	}
	return pick(r, hostile...)
}

var hostile = []string{
	"", "a\nb", "a\r\nb", `quo"te`, `back\slash`, "\xff\xfe\x80", "nul\x00", "\x1b[31mred", "{x=\"y\"} 1 2 # EOF", "# HELP x", "\u202eabc", "\ufeff",
	strings.Repeat("x", 10_000), strings.Repeat("ä", 5000), strings.Repeat("\xff", 10_000), strings.Repeat("\"", 200), "日本語",
}

func moment(r *rand.Rand) time.Time {
	if chance(r, 0.1) {
		return time.Time{}
	}
	return testStart.Add(time.Duration(r.IntN(1e9)) * time.Millisecond)
}

// number is exact as a float, so that sums can be compared.
func number(r *rand.Rand) int64 { return pick(r, 0, 1, 100, r.Int64N(1<<40), -r.Int64N(1<<20)) }

func maybe[T any](r *rand.Rand, v T) *T {
	if chance(r, 0.2) {
		return nil
	}
	return &v
}

func chance(r *rand.Rand, p float64) bool { return r.Float64() < p }

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func shuffled[T any](r *rand.Rand, list []T) []T {
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
