package runcommand

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/tcpmemd/tcpmemd/remediate"
)

// EventVersion is the version of Event. Fields may be added without a new one.
const EventVersion = 1

const (
	maxRunnersUp = 16
	maxHolders   = 64
	maxEventText = 16 << 10 // bytes of the text
	maxEventWord = 1 << 10  // bytes of any other string
)

// Event is what a command gets on standard input, and a webhook as its body: one
// JSON object. Sizes are in bytes, where the name does not say pages. Unknown
// is null or "". What processes chose (command, name, cgroup, and the text,
// where it is escaped) is data: put none of it into a shell line or a query
// unquoted. Strings are cut where they are long; invalid UTF-8 is replaced.
type Event struct {
	Version    int    `json:"version"`
	ActionID   string `json:"action_id"`   // new at each try
	IncidentID string `json:"incident_id"` // the same from first to last
	Rule       string `json:"rule"`
	About      string `json:"about"`    // the rule's own line
	Key        string `json:"key"`      // whom the rule is about: an owner's key, or "host"
	Step       int    `json:"step"`     // of the rule, from 1
	Event      string `json:"event"`    // of the catalogue, "" for none
	Severity   string `json:"severity"` // info, warning, critical
	Text       string `json:"text"`     // one line for a person, then more
	Hostname   string `json:"hostname"`
	BootID     string `json:"boot_id"`

	Host      EventHost    `json:"host"`
	Owner     *EventOwner  `json:"owner"`      // null where the rule is about the host alone
	RunnersUp []EventOwner `json:"runners_up"` // the next biggest, at most 16
}

// EventHost is the pool of TCP memory at the decision.
type EventHost struct {
	PageSize      int      `json:"page_size"`
	UsedPages     int64    `json:"used_pages"`
	MinPages      int64    `json:"min_pages"`
	PressurePages int64    `json:"pressure_pages"`
	MaxPages      int64    `json:"max_pages"`
	Level         string   `json:"level"` // calm, elevated, pressure, critical, unknown
	Fill          float64  `json:"fill"`  // used against max
	Verdict       string   `json:"verdict"`
	EtaSeconds    *float64 `json:"eta_seconds"` // to max, null where it is not coming
	Coverage      float64  `json:"coverage"`
	Orphans       int64    `json:"orphans"`
	MaxOrphans    int64    `json:"max_orphans"`
}

// EventOwner is who holds TCP memory.
type EventOwner struct {
	Key          string                `json:"key"`
	Name         string                `json:"name"`
	Kind         string                `json:"kind"`
	Unit         string                `json:"unit"`
	Manager      string                `json:"manager"`
	UnitVerified bool                  `json:"unit_verified"` // PID 1 said so
	InvocationID string                `json:"invocation_id"`
	Container    string                `json:"container"`
	Pod          string                `json:"pod"`
	Cgroup       string                `json:"cgroup"`
	UID          *uint32               `json:"uid"`
	Command      string                `json:"command"`
	Holders      []EventHolder         `json:"holders"` // at most 64
	Verdict      string                `json:"verdict"`
	Reasons      []string              `json:"reasons"`
	Culprit      string                `json:"culprit"` // of a slow-peer verdict: who does not read
	Bytes        int64                 `json:"bytes"`
	Share        float64               `json:"share"` // of the memory in use
	Classes      map[string]EventTally `json:"classes"`
	Protected    string                `json:"protected"` // why, "" where it is not
	Shared       bool                  `json:"shared"`
}

// EventHolder is a process: its number with the start time (clock ticks since
// boot) is never reused.
type EventHolder struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"start_time"`
	Command   string `json:"command"`
}

// EventTally counts sockets and their bytes.
type EventTally struct {
	Sockets int64 `json:"sockets"`
	Bytes   int64 `json:"bytes"`
}

// EventOf tells a request as an event, in one line of JSON.
func EventOf(r *remediate.Request) ([]byte, error) {
	h := r.Host
	e := Event{
		Version: EventVersion, ActionID: cut(r.ActionID, maxEventWord), IncidentID: cut(r.IncidentID, maxEventWord),
		Rule: cut(r.Rule, maxEventWord), About: cut(r.About, maxEventWord), Key: cut(r.Key, maxEventWord), Step: r.Step,
		Event: cut(r.Event, maxEventWord), Severity: cut(r.Severity, maxEventWord), Text: cut(r.Text, maxEventText),
		Hostname: cut(r.Hostname, maxEventWord), BootID: cut(r.BootID, maxEventWord),
		Host: EventHost{
			PageSize: h.PageSize, UsedPages: h.UsedPages, MinPages: h.MinPages, PressurePages: h.PressurePages,
			MaxPages: h.MaxPages, Level: h.Level, Fill: h.Fill, Verdict: h.Verdict, Coverage: h.Coverage,
			Orphans: h.Orphans, MaxOrphans: h.MaxOrphans,
		},
		RunnersUp: []EventOwner{},
	}
	if h.EtaSeconds >= 0 {
		e.Host.EtaSeconds = &h.EtaSeconds
	}
	if r.Owner != nil {
		o := eventOwner(r.Owner)
		e.Owner = &o
	}
	for i := range min(len(r.RunnersUp), maxRunnersUp) {
		e.RunnersUp = append(e.RunnersUp, eventOwner(&r.RunnersUp[i]))
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil { // a number that is none
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return line.Bytes(), nil
}

func eventOwner(o *remediate.Owner) EventOwner {
	e := EventOwner{
		Key: cut(o.Key, maxEventWord), Name: cut(o.Name, maxEventWord), Kind: cut(o.Kind, maxEventWord),
		Unit: cut(o.Unit, maxEventWord), Manager: cut(o.Manager, maxEventWord), UnitVerified: o.UnitVerified,
		InvocationID: cut(o.InvocationID, maxEventWord), Container: cut(o.Container, maxEventWord),
		Pod: cut(o.Pod, maxEventWord), Cgroup: cut(o.Cgroup, maxEventWord), UID: o.UID,
		Command: cut(o.Command, maxEventWord), Holders: []EventHolder{}, Verdict: cut(o.Verdict, maxEventWord),
		Reasons: []string{}, Culprit: cut(o.Culprit, maxEventWord), Bytes: o.Bytes, Share: o.Share,
		Classes: map[string]EventTally{}, Protected: cut(o.Protected, maxEventWord), Shared: o.Shared,
	}
	for _, h := range o.Holders[:min(len(o.Holders), maxHolders)] {
		e.Holders = append(e.Holders, EventHolder{h.PID, h.StartTime, cut(h.Command, maxEventWord)})
	}
	for _, reason := range o.Reasons[:min(len(o.Reasons), maxRunnersUp)] {
		e.Reasons = append(e.Reasons, cut(reason, maxEventWord))
	}
	for class, t := range o.Classes {
		e.Classes[cut(class, maxEventWord)] = EventTally{t.Sockets, t.Bytes}
	}
	return e
}
