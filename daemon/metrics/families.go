package metrics

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Families gives what the facts say, in the order of the catalogue. A family
// without a series is left out.
func Families(f *Facts) []*dto.MetricFamily {
	v := newView(f)
	out := make([]*dto.MetricFamily, 0, len(catalogue))
	for i := range catalogue {
		m := &catalogue[i]
		if !v.has(m.Of) {
			continue
		}
		s := series{of: m}
		m.take(v, &s)
		if len(s.list) > 0 {
			out = append(out, s.family())
		}
	}
	return out
}

// view is the facts with what several families need.
type view struct {
	*Facts
	groups []group // the biggest owners, and last the rest
	sum    sums
}

// sums are over all owners.
type sums struct {
	unread, unsent int64
	stalled        *int64   // nil before queues could be compared
	judged         [3]int64 // by verdict
}

func newView(f *Facts) *view {
	v := &view{Facts: f}
	if f.Reading == nil {
		return v
	}
	v.groups = grouped(f.Reading.Owners, f.Owners)
	var stalled int64
	known := true
	for i := range f.Reading.Owners {
		o := &f.Reading.Owners[i]
		v.sum.unread += o.Unread
		v.sum.unsent += o.Send
		if o.Stalled != nil {
			stalled += *o.Stalled
		} else {
			known = false
		}
		if o.Verdict != nil {
			if at := slices.Index(verdicts, o.Verdict.Kind); at >= 0 {
				v.sum.judged[at]++
			}
		}
	}
	if known {
		v.sum.stalled = &stalled
	}
	return v
}

// has says whether there is anything to take values from.
func (v *view) has(of Origin) bool {
	switch of {
	case OfSample:
		return v.Sample != nil
	case OfReading:
		return v.Reading != nil
	case OfDaemon:
		return v.Conduct != nil
	}
	return true
}

func (v *view) pages(n reading.Pages) int64 { return n.Bytes(v.Sample.PageSize) }

func (v *view) rules(are func(*Rule) bool) (n int64) {
	for i := range v.Conduct.Rules {
		if are(&v.Conduct.Rules[i]) {
			n++
		}
	}
	return n
}

// severities are the words of a rule's severity, the gravest first.
var severities = []string{"critical", "warning", "info"}

// firing gives the gravest of the rules that fire.
func (v *view) firing(s *series) {
	var list []*Rule
	for i := range v.Conduct.Rules {
		if r := &v.Conduct.Rules[i]; r.Firing > 0 {
			list = append(list, r)
		}
	}
	rank := func(r *Rule) int {
		if i := slices.Index(severities, r.Severity); i >= 0 {
			return i
		}
		return len(severities)
	}
	slices.SortStableFunc(list, func(a, b *Rule) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
	})
	for _, r := range list[:min(len(list), maxFiring)] {
		s.count(int64(r.Firing), label(r.Name), label(r.Severity))
	}
}

// blind gives all that is known to happen, and what else does as one.
func (v *view) blind(s *series) {
	on := make([]bool, len(blindness))
	more := false
	for _, id := range v.Conduct.Blind {
		i := slices.Index(blindness, strings.TrimPrefix(id, "blind-"))
		if i < 0 {
			more = true
			continue
		}
		on[i] = true
	}
	for i, kind := range blindness {
		s.flag(on[i], kind)
	}
	if more {
		s.flag(true, other)
	}
}

// gaps counts them by code, each once, in the order of the codes.
func (v *view) gaps() []Count {
	lists := [][]reading.Gap{v.Sample.Gaps, nil, nil}
	if r := v.Reading; r != nil {
		lists[1], lists[2] = r.Sample.Gaps, r.Gaps
	}
	type id struct{ code, what string }
	seen := make(map[id]bool)
	var counts []Count
	for _, gaps := range lists {
		for _, g := range gaps {
			if k := (id{g.Code, g.What}); !seen[k] {
				seen[k] = true
				counts = Add(counts, label(g.Code), "", 1)
			}
		}
	}
	slices.SortFunc(counts, func(a, b Count) int { return cmp.Compare(a.Of, b.Of) })
	return counts
}

// counted keeps a list within most series: what came first stays by itself, and
// where the rest does not fit it is added up as "other", by what came of it.
func counted(list []Count, most int) []Count {
	if len(list) <= most {
		return list
	}
	var came []string
	for _, c := range list {
		if !slices.Contains(came, c.Came) {
			came = append(came, c.Came)
		}
	}
	own := max(0, most-len(came))
	out := slices.Clone(list[:own])
	for _, c := range list[own:] {
		out = Add(out, other, c.Came, c.N)
	}
	return out
}

// known says "other" for actions and words that are not of the daemon's own, of
// which there may be any number.
func known(list []Count, came []string) []Count {
	var out []Count
	for _, c := range list {
		if !slices.Contains(builtIn, c.Of) {
			c.Of = other
		}
		if !slices.Contains(came, c.Came) {
			c.Came = other
		}
		out = Add(out, c.Of, c.Came, c.N)
	}
	return out
}

// series collects those of one family.
type series struct {
	of   *Metric
	list []*dto.Metric
}

// add takes one series; the values of labels are in the order of their names.
// Where it is there already, the values are added up. What is no number, or a count
// below 0, is not known.
func (s *series) add(value float64, labels ...string) {
	if math.IsNaN(value) || math.IsInf(value, 0) || s.of.Counter && value < 0 {
		return
	}
	for _, m := range s.list {
		if sameLabels(m.Label, labels) {
			*s.value(m) += value
			return
		}
	}
	m := &dto.Metric{Label: make([]*dto.LabelPair, len(labels))}
	for i := range labels {
		m.Label[i] = &dto.LabelPair{Name: &s.of.Labels[i], Value: &labels[i]}
	}
	if s.of.Counter {
		m.Counter = &dto.Counter{Value: &value}
	} else {
		m.Gauge = &dto.Gauge{Value: &value}
	}
	s.list = append(s.list, m)
}

func sameLabels(have []*dto.LabelPair, want []string) bool {
	for i := range want {
		if have[i].GetValue() != want[i] {
			return false
		}
	}
	return true
}

func (s *series) value(m *dto.Metric) *float64 {
	if s.of.Counter {
		return m.Counter.Value
	}
	return m.Gauge.Value
}

func (s *series) count(n int64, labels ...string) { s.add(float64(n), labels...) }
func (s *series) bytes(n int64, labels ...string) { s.add(float64(n), labels...) }

func (s *series) flag(on bool, labels ...string) {
	n := 0.0
	if on {
		n = 1
	}
	s.add(n, labels...)
}

func (s *series) optional(n *int64) {
	if n != nil {
		s.count(*n)
	}
}

func (s *series) optionalBytes(n *int64) { s.optional(n) }

func (s *series) optionalFlag(on *bool) {
	if on != nil {
		s.flag(*on)
	}
}

func (s *series) duration(d *time.Duration, labels ...string) {
	if d != nil {
		s.add(d.Seconds(), labels...)
	}
}

// moment is in Unix time, to the millisecond as elsewhere.
func (s *series) moment(at time.Time) {
	if !at.IsZero() {
		s.add(float64(at.UnixMilli()) / 1000)
	}
}

func (s *series) counts(list []Count) {
	for _, c := range list {
		labels := []string{label(c.Of), label(c.Came)}
		s.count(c.N, labels[:len(s.of.Labels)]...)
	}
}

func (s *series) family() *dto.MetricFamily {
	f := &dto.MetricFamily{Name: &s.of.Name, Help: &s.of.Help, Metric: s.list, Type: dto.MetricType_GAUGE.Enum()}
	if s.of.Counter {
		f.Type = dto.MetricType_COUNTER.Enum()
	}
	if s.of.Unit != "" {
		f.Unit = &s.of.Unit
	}
	return f
}
