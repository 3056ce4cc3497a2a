// Package npdtest stands in for node-problem-detector's custom plugin monitor:
// its configuration, how it runs a plugin, and what conditions and events it
// makes of the answers. It follows docs/custom_plugin_monitor.md and
// pkg/custompluginmonitor of kubernetes/node-problem-detector, and is stricter
// where that passes over a mistake in silence.
package npdtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Condition is of a node.
type Condition struct {
	Type       string    `json:"type"`
	Status     string    `json:"-"` // True, False or Unknown
	Transition time.Time `json:"-"`
	Reason     string    `json:"reason"`
	Message    string    `json:"message"`
}

// Rule runs a plugin.
type Rule struct {
	Type      string   `json:"type"` // permanent or temporary
	Condition string   `json:"condition"`
	Reason    string   `json:"reason"`
	Path      string   `json:"path"`
	Args      []string `json:"args"`
	Timeout   duration `json:"timeout"`
	Interval  duration `json:"invoke_interval"`
}

// Config is a file of the custom plugin monitor.
type Config struct {
	Plugin string `json:"plugin"`
	Global struct {
		Interval    duration `json:"invoke_interval"`
		Timeout     duration `json:"timeout"`
		MaxOutput   *int     `json:"max_output_length"`
		Concurrency *int     `json:"concurrency"`
		// MessageChange: a condition that stays true is updated when its message
		// changes.
		MessageChange     *bool `json:"enable_message_change_based_condition_update"`
		SkipInitialStatus *bool `json:"skip_initial_status"`
	} `json:"pluginConfig"`
	Source     string      `json:"source"`
	Conditions []Condition `json:"conditions"` // as they are when nothing is wrong
	Rules      []Rule      `json:"rules"`
	Metrics    *bool       `json:"metricsReporting"`
}

// duration is written as 30s; 0 where it is not written.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

// Load reads a file and fills in defaults. It refuses what the detector
// refuses at its start, and also keys that it does not know, which the
// detector passes over. change may replace what belongs to another host.
func Load(path string, change func(*Config)) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := new(Config)
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(c); err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	if dec.More() {
		return nil, fmt.Errorf("parse %s: something follows the configuration", path)
	}
	if change != nil {
		change(c)
	}
	c.defaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("validate %s: %w", path, err)
	}
	return c, nil
}

func (c *Config) defaults() {
	g := &c.Global
	if g.Interval == 0 {
		g.Interval = duration(30 * time.Second)
	}
	if g.Timeout == 0 {
		g.Timeout = duration(5 * time.Second)
	}
	set(&g.MaxOutput, 80)
	set(&g.Concurrency, 3)
	set(&g.MessageChange, false)
	set(&g.SkipInitialStatus, false)
	set(&c.Metrics, true)
	for i := range c.Rules {
		if c.Rules[i].Interval == 0 {
			c.Rules[i].Interval = g.Interval
		}
	}
}

func set[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func (c *Config) validate() error {
	if c.Plugin != "custom" {
		return fmt.Errorf("plugin %q is not custom", c.Plugin)
	}
	preset := make(map[string]bool)
	for _, cond := range c.Conditions {
		preset[cond.Type] = true
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		switch {
		case r.Timeout > c.Global.Timeout:
			return fmt.Errorf("rule %d: its timeout is longer than that of all", i)
		case r.Type != "permanent" && r.Type != "temporary":
			return fmt.Errorf("rule %d: type %q", i, r.Type)
		case r.Type == "permanent" && !preset[r.Condition]:
			return fmt.Errorf("rule %d: condition %q has no default", i, r.Condition)
		}
		if _, err := os.Stat(r.Path); err != nil {
			return fmt.Errorf("rule %d: %w", i, err)
		}
	}
	return nil
}
