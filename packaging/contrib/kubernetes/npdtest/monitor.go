package npdtest

import (
	"fmt"
	"strings"
	"time"
)

// Monitor makes conditions and events of what plugins answer. A test calls Turn
// in place of the detector's clock.
type Monitor struct {
	Config     *Config
	Conditions []Condition
	// Updates counts what the detector would have written to the API server:
	// a condition that changed, each with an event.
	Updates int
	Events  []string
}

// Start gives every condition its default, which is false: the detector
// reports that before the first run of a plugin. With skip_initial_status it
// makes no conditions at all (monitorLoop calls initializeStatus or does not),
// and whatever plugins say has none to change.
func Start(c *Config, now time.Time) *Monitor {
	m := &Monitor{Config: c}
	if *c.Global.SkipInitialStatus {
		return m
	}
	m.Conditions = append(m.Conditions, c.Conditions...)
	for i := range m.Conditions {
		m.Conditions[i].Status, m.Conditions[i].Transition = "False", now
	}
	m.Updates++
	return m
}

// Turn runs every rule once and takes its result.
func (m *Monitor) Turn(now time.Time) (last Result) {
	for i := range m.Config.Rules {
		last = m.Config.Run(&m.Config.Rules[i])
		m.take(&m.Config.Rules[i], last, now)
	}
	return last
}

func (m *Monitor) take(r *Rule, result Result, now time.Time) {
	if r.Type == "temporary" {
		if result.Status != "False" {
			m.Events = append(m.Events, r.Reason+": "+result.Message)
		}
		return
	}
	for i := range m.Conditions {
		if m.Conditions[i].Type == r.Condition {
			m.move(&m.Conditions[i], m.Config.preset(r.Condition), r, result, now)
			return
		}
	}
}

// move changes a condition as generateStatus does: the rule's reason and the
// plugin's message while it is true, the default reason otherwise, with the
// default message for false and the plugin's for unknown. What stays false or
// unknown keeps what it says.
func (m *Monitor) move(c *Condition, preset *Condition, r *Rule, result Result, now time.Time) {
	was := c.Status
	reason, message := preset.Reason, preset.Message
	switch result.Status {
	case "True":
		reason, message = r.Reason, result.Message
		if was == "True" && c.Reason == reason && (!*m.Config.Global.MessageChange || c.Message == message) {
			return
		}
	case was:
		return
	case "Unknown":
		message = result.Message
	}
	c.Status, c.Reason, c.Message, c.Transition = result.Status, reason, message, now
	m.Updates++
	m.Events = append(m.Events, fmt.Sprintf("Node condition %s is now: %s, reason: %s, message: %q", c.Type, c.Status, c.Reason, c.Message))
}

func (c *Config) preset(kind string) *Condition {
	for i := range c.Conditions {
		if c.Conditions[i].Type == kind {
			return &c.Conditions[i]
		}
	}
	return new(Condition)
}

// Describe prints conditions as kubectl describe node does.
func (m *Monitor) Describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-20s %-8s %-20s %-18s %s\n", "Type", "Status", "LastTransitionTime", "Reason", "Message")
	for _, c := range m.Conditions {
		fmt.Fprintf(&b, "%-20s %-8s %-20s %-18s %s\n", c.Type, c.Status, c.Transition.UTC().Format("2006-01-02 15:04:05"), c.Reason, c.Message)
	}
	return b.String()
}
