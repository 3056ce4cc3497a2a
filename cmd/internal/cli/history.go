package cli

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// past is the document of "tcpmemctl history --json".
type past struct {
	Version  int       `json:"version"`
	Hostname string    `json:"hostname"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	// Begins is when the recording begins, null where that is before From, or
	// where there is none.
	Begins    *time.Time            `json:"begins"`
	PageSize  int                   `json:"page_size"` // bytes
	Points    []pastPoint           `json:"points"`    // one a minute, and each of the last hour
	Gaps      []pastGap             `json:"gaps"`
	Actions   []api.Action          `json:"actions"`
	Incidents []api.IncidentSummary `json:"incidents"`

	owners  map[string]*pastOwner // by key
	scans   []time.Time
	earlier bool          // the recording goes back further
	step    time.Duration // between the last two points
}

// pastPoint is one recorded moment of the pool.
type pastPoint struct {
	At        time.Time     `json:"at"`
	Level     reading.Level `json:"level"`
	Used      reading.Pages `json:"used_pages"`
	Min       reading.Pages `json:"min_pages"`
	Pressure  reading.Pages `json:"pressure_pages"`
	Max       reading.Pages `json:"max_pages"`
	UsedBytes int64         `json:"used_bytes"`
	Fill      float64       `json:"fill"`
	Orphans   int64         `json:"orphans"`
	// Owners are the biggest, null where no scan ended since the point before.
	Owners []pastBytes `json:"owners"`
	Events []string    `json:"events"` // ids of what happened
}

// pastBytes is what one owner held.
type pastBytes struct {
	Key     string               `json:"key"`
	Name    string               `json:"name"`
	Bytes   int64                `json:"bytes"`
	Verdict *reading.VerdictKind `json:"verdict"`
}

// pastGap is a time of which nothing is recorded.
type pastGap struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Seconds float64   `json:"seconds"`
}

// pastOwner is one owner over the time.
type pastOwner struct {
	key, name string
	scans     []int32 // of past.scans, in which it was among the biggest
	bytes     []int64
	most      int64
	mostAt    time.Time
	verdict   *reading.VerdictKind // the last one
}

func (c *command) history() *cobra.Command {
	since, until := "2h", ""
	cmd := &cobra.Command{
		Use:   "history",
		Short: "How the pool moved, drawn in the terminal",
		Long: `Draw how full the pool was against its limits, the level, the biggest owners, and
on the same axis what happened and what was done. The daemon keeps one moment a
minute for two weeks, and each second of the last hour. Each column has the worst
of its time; what is not recorded is marked.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := parseSince(since, c.now())
			if err != nil {
				return err
			}
			to := c.now()
			if until != "" {
				if to, err = parseTime("--until", until, c.now()); err != nil {
					return err
				}
			}
			if !from.Before(to) {
				return usagef("history: --since %s is not before --until %s", prose.Time(from), prose.Time(to))
			}
			return c.ask(cmd.Context(), func(ctx context.Context, t teller) (any, page, error) {
				doc, err := c.past(ctx, t, from, to)
				if doc == nil {
					return nil, nil, err
				}
				return doc, func(columns int, paint layout.Painter) []string {
					return pastPage(doc, cmp.Or(columns, 80), c.charset(), paint)
				}, err
			})
		},
	}
	sinceFlag(cmd, &since, since)
	cmd.Flags().StringVar(&until, "until", "", "up to `WHEN` (left out: now)")
	return cmd
}

// maxPastOwners bounds the owners of a point in JSON.
const maxPastOwners = 5

// past reads what is recorded. With an error it is not whole, or nil.
func (c *command) past(ctx context.Context, t teller, from, to time.Time) (*past, error) {
	status, err := t.Status(ctx)
	if err != nil {
		return nil, err
	}
	doc := newPast(status.Hostname, from, to)
	told := c.progress()
	defer told.end()
	broken := doc.read(ctx, t, told)
	rows := api.ActionRows{}
	for r, err := range t.Records(ctx, api.RecordQuery{Since: from}) {
		if err != nil {
			broken = errors.Join(broken, err)
			break
		}
		rows.Add(&r)
	}
	doc.did(rows.Rows())
	incidents, err := t.Incidents(ctx)
	if err != nil {
		return doc, errors.Join(broken, err)
	}
	doc.happenedTo(incidents.Incidents)
	return doc, broken
}

// did takes the actions of the time.
func (p *past) did(actions []api.Action) {
	for _, a := range actions {
		if !a.At.Before(p.From) && !a.At.After(p.To) {
			p.Actions = append(p.Actions, a)
		}
	}
}

// happenedTo takes the incidents of the time.
func (p *past) happenedTo(incidents []api.IncidentSummary) {
	for _, in := range incidents {
		if !in.Began.After(p.To) && (in.Ended == nil || !in.Ended.Before(p.From)) {
			p.Incidents = append(p.Incidents, in)
		}
	}
}

func newPast(hostname string, from, to time.Time) *past {
	return &past{
		Version: api.Version, Hostname: hostname, From: from.UTC(), To: to.UTC(), Points: []pastPoint{}, Gaps: []pastGap{},
		Actions: []api.Action{}, Incidents: []api.IncidentSummary{}, owners: make(map[string]*pastOwner),
	}
}

// read fills in the points.
func (p *past) read(ctx context.Context, t teller, told *progress) (broken error) {
	for e, err := range momentsAround(ctx, t, p.From, p.To) {
		if err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		p.add(e)
		told.say("read up to %s", prose.Time(e.At))
	}
	p.end()
	return broken
}

// add takes the next moment. Those before the time that is asked for only say
// that the recording goes back further.
func (p *past) add(e *history.Entry) {
	if e.At.Before(p.From) {
		p.earlier = true
		return
	}
	if n := len(p.Points); n > 0 {
		last := p.Points[n-1].At
		if !e.At.After(last) {
			return // the clock was set back
		}
		p.gap(last, e.At, p.step)
		p.step = e.At.Sub(last)
	}
	p.PageSize = e.Sample.PageSize
	p.Points = append(p.Points, pointOf(e))
	if e.Reading != nil {
		p.scans = append(p.scans, e.At)
		for i := range e.Reading.Owners {
			p.follow(e.At, &e.Reading.Owners[i])
		}
	}
}

// follow notes what an owner held.
func (p *past) follow(at time.Time, o *reading.Owner) {
	of := p.owners[o.Key]
	if of == nil {
		of = &pastOwner{key: o.Key, name: o.Name}
		p.owners[o.Key] = of
	}
	of.scans, of.bytes = append(of.scans, int32(len(p.scans)-1)), append(of.bytes, o.Sum.Bytes)
	if of.most < o.Sum.Bytes {
		of.most, of.mostAt = o.Sum.Bytes, at
	}
	if o.Verdict != nil {
		of.verdict = &o.Verdict.Kind
	}
}

// biggest are the owners in the order of the most that they held.
func (p *past) biggest() []*pastOwner {
	return slices.SortedFunc(maps.Values(p.owners), func(a, b *pastOwner) int {
		return cmp.Or(cmp.Compare(b.most, a.most), cmp.Compare(a.key, b.key))
	})
}

// end looks at what lies before the first and behind the last point.
func (p *past) end() {
	n := len(p.Points)
	switch {
	case n > 0 && !p.earlier:
		p.Begins = &p.Points[0].At
	case n > 0:
		p.gap(p.From, p.Points[0].At, time.Minute)
	case p.earlier:
		p.gap(p.From, p.To, 0)
	}
	if n > 0 {
		p.gap(p.Points[n-1].At, p.To, time.Minute)
	}
	slices.SortFunc(p.Gaps, func(a, b pastGap) int { return a.From.Compare(b.From) })
}

// coarsest is more than the widest spacing that is there on purpose.
const coarsest = 90 * time.Second

// gap notes that nothing is recorded between two moments, where that is longer
// than usual: before is how far apart the two before were.
func (p *past) gap(from, to time.Time, before time.Duration) {
	usual := coarsest
	if before > 0 && before <= 10*time.Second {
		usual = 3*before + 2*time.Second
	}
	if d := to.Sub(from); d > usual {
		p.Gaps = append(p.Gaps, pastGap{From: from.UTC(), To: to.UTC(), Seconds: d.Seconds()})
	}
}

func pointOf(e *history.Entry) pastPoint {
	s := &e.Sample
	point := pastPoint{
		At: e.At.UTC(), Level: e.Level, Used: s.Used, Min: s.Mem.Min, Pressure: s.Mem.Pressure, Max: s.Mem.Max,
		UsedBytes: s.Used.Bytes(s.PageSize), Fill: float64(s.Used) / float64(max(s.Mem.Max, 1)), Orphans: s.Orphans,
		Events: append([]string{}, e.Events...),
	}
	if e.Reading == nil {
		return point
	}
	point.Owners = []pastBytes{}
	for i := range e.Reading.Owners {
		o := &e.Reading.Owners[i]
		if i == maxPastOwners || o.Sum.Bytes <= 0 {
			break // they are sorted
		}
		point.Owners = append(point.Owners, pastBytes{Key: o.Key, Name: o.Name, Bytes: o.Sum.Bytes, Verdict: verdictOf(o)})
	}
	return point
}

func verdictOf(o *reading.Owner) *reading.VerdictKind {
	if o.Verdict == nil {
		return nil
	}
	return &o.Verdict.Kind
}
