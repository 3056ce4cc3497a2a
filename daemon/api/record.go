package api

import (
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// RecordQuery selects records of the action log; a zero field selects all.
type RecordQuery struct {
	Since    time.Time
	Incident string
	Action   string // the id that joins intent, result and effect
	Rule     string
	Kind     record.Kind
	ID       string
	Limit    int // the newest so many; 0: all
}

// Selects reports whether the query, but for its limit, selects r.
func (q *RecordQuery) Selects(r *record.Record) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return !r.At.Before(q.Since) && is(q.Incident, r.Incident) && is(q.Action, r.Action) && is(q.Rule, r.Rule) &&
		is(string(q.Kind), string(r.Kind)) && is(q.ID, r.ID)
}

// RecordFrame is one line of the answer to a RecordQuery: a record, the newest
// first, or what went wrong meanwhile, or the end. An answer without an end or
// an error is not whole.
type RecordFrame struct {
	Record *record.Record `json:"record,omitempty"`
	Error  string         `json:"error,omitempty"`
	End    bool           `json:"end,omitempty"`
}

// HistoryFrame is one line of what was recorded: a [Segment], or what went
// wrong meanwhile, or the end.
type HistoryFrame struct {
	Segment *Segment `json:"segment,omitempty"`
	Error   string   `json:"error,omitempty"`
	End     bool     `json:"end,omitempty"`
}

// Segment is a file of recorded readings as the daemon's store keeps it, which
// is a hundredth of what they would be as JSON; package store/history reads it.
type Segment struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// Records is the document of "tcpmemctl explain ID --json" for a record or an
// action: the newest first.
type Records struct {
	Version int             `json:"version"`
	Records []record.Record `json:"records"`
}

// Actions is the document of "tcpmemctl actions --json", the newest first.
type Actions struct {
	Version int      `json:"version"`
	Actions []Action `json:"actions"`
	// Truncated counts those that a limit cut off.
	Truncated int `json:"truncated"`
}

// Action is one action from intent to effect, or a decision that was none. ID
// is what `explain` takes; what has not come yet is null.
type Action struct {
	ID       string         `json:"id"`
	At       time.Time      `json:"at"` // of the intent, or of the decision
	Incident string         `json:"incident"`
	Rule     string         `json:"rule"`
	Key      string         `json:"key"`
	Target   string         `json:"target"` // the name a person knows
	Step     int            `json:"step"`
	Action   string         `json:"action"`
	Touches  string         `json:"touches"`
	Choice   record.Choice  `json:"choice"`
	Guard    *string        `json:"guard"` // what refused or held it
	Why      string         `json:"why"`
	By       *record.Caller `json:"by"` // a person
	Started  bool           `json:"started"`

	Outcome     *record.Outcome `json:"outcome"`
	Code        *string         `json:"code"`
	Message     *string         `json:"message"`
	TookSeconds *float64        `json:"took_seconds"`
	Effect      *record.Verdict `json:"effect"`
	EffectWhy   *string         `json:"effect_why"`
}

// ActionRows turns records into rows, in whatever order they come. The zero
// value is ready. Dry runs are rows, too; with All every decision is, as one
// that was refused.
type ActionRows struct {
	All bool

	rows []*Action
	byID map[string]*Action
}

// Add takes a record; those that tell of no action are passed over.
func (a *ActionRows) Add(r *record.Record) {
	d := r.Decision
	switch {
	case r.Intent != nil:
		row := a.row(r)
		row.decision(&r.Intent.Decision)
		row.At, row.Started = utc(r.At), true
	case d != nil && r.Action != "":
		if row := a.row(r); !row.Started {
			row.decision(d)
		}
	case d != nil && (a.All || d.Choice == record.ChoseDryRun):
		row := newRow(r, r.ID)
		row.decision(d)
		a.rows = append(a.rows, row)
	case r.Action == "":
	case r.Result != nil:
		row := a.row(r)
		row.Outcome, row.Code, row.Message = &r.Result.Outcome, known(r.Result.Code), &r.Result.Message
		row.TookSeconds = new(finite(r.Result.TookSeconds))
	case r.Effect != nil:
		row := a.row(r)
		row.Effect, row.EffectWhy = &r.Effect.Verdict, &r.Effect.Why
	}
}

// Rows lists them, the newest first.
func (a *ActionRows) Rows() []Action {
	slices.SortStableFunc(a.rows, func(x, y *Action) int { return y.At.Compare(x.At) })
	rows := make([]Action, len(a.rows))
	for i, r := range a.rows {
		rows[i] = *r
	}
	return rows
}

func (a *ActionRows) row(r *record.Record) *Action {
	if row := a.byID[r.Action]; row != nil {
		return row
	}
	if a.byID == nil {
		a.byID = make(map[string]*Action)
	}
	row := newRow(r, r.Action)
	a.byID[r.Action] = row
	a.rows = append(a.rows, row)
	return row
}

func newRow(r *record.Record, id string) *Action {
	return &Action{ID: id, At: utc(r.At), Incident: r.Incident, Rule: r.Rule, Key: r.Key, Target: r.Key}
}

func (a *Action) decision(d *record.Decision) {
	a.Step, a.Action, a.Touches, a.Choice = d.Step, d.Action, d.Touches, d.Choice
	a.Guard, a.Why, a.By = known(d.Guard), d.Why, d.By
	if d.Owner != nil && d.Owner.Name != "" {
		a.Target = d.Owner.Name
	}
}

// Incidents is the document of "tcpmemctl incidents --json", the newest first.
type Incidents struct {
	Version   int               `json:"version"`
	Incidents []IncidentSummary `json:"incidents"`
	Truncated int               `json:"truncated"`
}

// IncidentSummary is one line about an incident.
type IncidentSummary struct {
	ID       string     `json:"id"`
	Rule     string     `json:"rule"`
	About    string     `json:"about"`
	Severity string     `json:"severity"`
	Mode     string     `json:"mode"`
	Began    time.Time  `json:"began"`
	Fired    *time.Time `json:"fired"` // null: it never did
	Ended    *time.Time `json:"ended"` // null while it lasts
	End      record.End `json:"end"`
	Keys     int        `json:"keys"`
	// First is the key with the most bytes, Name what a person calls it.
	First string `json:"first_key"`
	Name  string `json:"name"`
	// WorstFill is the highest used / max seen, null where nothing was.
	WorstFill *float64 `json:"worst_fill"`
	Actions   int      `json:"actions"` // started
	// Last is how the last action came out, in the order of what was told.
	Choice  record.Choice   `json:"choice"`
	Outcome *record.Outcome `json:"outcome"`
	Effect  *record.Verdict `json:"effect"`
}

// SummaryOf sums up an incident.
func SummaryOf(i *record.Incident) IncidentSummary {
	s := IncidentSummary{
		ID: i.ID, Rule: i.Rule, About: i.About, Severity: i.Severity, Mode: i.Mode,
		Began: utc(i.Began.At), Fired: knownTime(i.Fired.At), End: i.End, Keys: len(i.Keys) + i.LeftOut.Keys,
	}
	if i.Ended != nil {
		s.Ended = knownTime(i.Ended.At)
	}
	if len(i.Keys) > 0 {
		s.First, s.Name, s.Choice = i.Keys[0].Key, i.Keys[0].Key, i.Keys[0].Choice
		if o := i.Keys[0].Owner; o != nil && o.Name != "" {
			s.Name = o.Name
		}
	}
	for _, p := range i.Readings {
		if fill := finite(float64(p.Used) / float64(max(p.Max, reading.Pages(1)))); s.WorstFill == nil || fill > *s.WorstFill {
			s.WorstFill = &fill
		}
	}
	for n := range i.Records {
		switch r := &i.Records[n]; {
		case r.Incident != "" && r.Incident != i.ID:
		case r.Intent != nil:
			s.Actions++
		case r.Result != nil:
			s.Outcome, s.Effect = &r.Result.Outcome, nil
		case r.Effect != nil:
			s.Effect = &r.Effect.Verdict
		}
	}
	return s
}
