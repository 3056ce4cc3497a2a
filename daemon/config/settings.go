package config

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/units"
)

// setting is a known key: how its value, in TOML's own types, becomes a field
// of Config. Its error does not name key and value: apply does.
type setting struct {
	key string
	set func(c *Config, v any) error
	get func(c Config) any
}

// same says whether a and b agree on the setting.
func (s setting) same(a, b Config) bool { return reflect.DeepEqual(s.get(a), s.get(b)) }

// settings are in the order of the shipped files, which name the same ranges.
var settings = []setting{
	at("mode", func(c *Config) *policy.Mode { return &c.Mode }, parseMode),
	at("protect", func(c *Config) *[]string { return &c.Protect }, parseGlobs),
	at("opt_out", func(c *Config) *[]string { return &c.OptOut }, parseGlobs),
	at("settle.start", func(c *Config) *time.Duration { return &c.Settle.Start }, between(0, time.Hour)),
	at("settle.owner", func(c *Config) *time.Duration { return &c.Settle.Owner }, between(0, 24*time.Hour)),
	at("min_coverage", func(c *Config) *float64 { return &c.MinCoverage }, shareOf("", 0)),
	at("sample.interval", func(c *Config) *time.Duration { return &c.Sample.Interval }, between(time.Second, 5*time.Second)),
	at("scan.calm", func(c *Config) *time.Duration { return &c.Scan.Calm }, between(5*time.Second, 10*time.Minute)),
	at("scan.pressed", func(c *Config) *time.Duration { return &c.Scan.Pressed }, between(time.Second, time.Minute)),
	at("scan.cpu", func(c *Config) *float64 { return &c.Scan.CPU }, shareOf(" of one CPU", leastShare)),
	at("budget.host", func(c *Config) *policy.Budget { return &c.Budget.Host }, parseBudget),
	at("state.table_size", func(c *Config) *int { return &c.State.TableBytes }, sizeBetween(1<<20, 1<<30)),
	at("state.max_size", func(c *Config) *int { return &c.State.MaxBytes }, sizeBetween(64<<20, 4<<30)),
	at("control.socket", func(c *Config) *string { return &c.Control.Socket }, parseSocket),
	at("metrics.listen", func(c *Config) *[]Endpoint { return &c.Metrics.Listen }, parseEndpoints),
	at("metrics.web_config", func(c *Config) *string { return &c.Metrics.WebConfig }, parseOptionalFile("", "/etc/tcpmemd/web.yml")),
	at("metrics.textfile", func(c *Config) *string { return &c.Metrics.Textfile }, parseOptionalFile(".prom", "/var/lib/prometheus/node-exporter/tcpmemd.prom")),
	at("metrics.interval", func(c *Config) *time.Duration { return &c.Metrics.Interval }, between(time.Second, 10*time.Minute)),
	at("metrics.owners", func(c *Config) *int { return &c.Metrics.Owners }, intBetween(0, 10)),
}

// at joins a key, its field and its parser.
func at[T any](key string, field func(*Config) *T, parse func(any) (T, error)) setting {
	return setting{
		key: key,
		set: func(c *Config, v any) error {
			parsed, err := parse(v)
			if err == nil {
				*field(c) = parsed
			}
			return err
		},
		get: func(c Config) any { return *field(&c) },
	}
}

func settingOf(key string) (setting, bool) {
	i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key })
	if i < 0 {
		return setting{}, false
	}
	return settings[i], true
}

// settingAt finds a known key, one of a plugin too.
func settingAt(path toml.Key) (setting, bool) {
	if s, ok := settingOf(path.String()); ok {
		return s, true
	}
	return pluginSetting(path)
}

var settingsSchema = schema{
	isValue: func(path toml.Key) bool { _, ok := settingAt(path); return ok },
	isTable: func(path toml.Key) bool { return isTable(path.String()) || isPlugin(path) },
}

// tables lists the tables that hold a known key.
func tables() []string {
	names := []string{"plugin"}
	for _, s := range settings {
		if table, _, ok := strings.Cut(s.key, "."); ok && !slices.Contains(names, table) {
			names = append(names, table)
		}
	}
	return names
}

func isTable(key string) bool { return slices.Contains(tables(), key) }

// firstOf gives the first known key of a table.
func firstOf(table string) string {
	if table == "plugin" {
		return PluginKeys()[0]
	}
	i := slices.IndexFunc(settings, func(s setting) bool { return strings.HasPrefix(s.key, table+".") })
	return settings[i].key
}

func parseMode(v any) (policy.Mode, error) {
	switch v {
	case string(policy.Observe):
		return policy.Observe, nil
	case string(policy.Enforce):
		return policy.Enforce, nil
	}
	return "", errors.New(`must be "observe" or "enforce"`)
}

// parseGlobs tells all globs that are wrong, not only the first.
func parseGlobs(v any) ([]string, error) {
	const want = `must be a list of globs, e.g. ["ssh*", "my-database"]`
	list, ok := v.([]any)
	if !ok {
		return nil, errors.New(want)
	}
	globs := make([]string, 0, len(list))
	var wrong []string
	for i, item := range list {
		glob, ok := item.(string)
		switch {
		case !ok:
			return nil, fmt.Errorf("item %d is %s: %s", i+1, show(item), want)
		case glob == "":
			wrong = append(wrong, fmt.Sprintf("item %d is empty", i+1))
		case units.CheckGlobs([]string{glob}) != nil:
			wrong = append(wrong, fmt.Sprintf("item %d is a malformed glob, %s", i+1, quote(glob)))
		}
		globs = append(globs, glob)
	}
	if wrong != nil {
		return nil, errors.New(strings.Join(wrong, "; "))
	}
	return globs, nil
}

// between parses a duration within both bounds. A bare number is refused:
// whoever writes 5 may mean seconds, and the toml package would make it 5 ns.
func between(least, most time.Duration) func(any) (time.Duration, error) {
	return func(v any) (time.Duration, error) {
		text, ok := v.(string)
		if !ok || text != "" && strings.Trim(text, "0123456789.") == "" {
			return 0, fmt.Errorf("a duration needs a unit, e.g. %q", short(min(5*time.Second, most)))
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, errors.New(`not a duration, e.g. "500ms", "5s", "2m"`)
		}
		if d < least || d > most {
			return 0, fmt.Errorf("must be from %q to %q", short(least), short(most))
		}
		return d, nil
	}
}

// short writes a duration as people do: 10m, not 10m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// leastShare leaves enough CPU to read a host's processes within minutes.
const leastShare = 0.01

// shareOf parses a share from least to 1, written as "5%" or 0.05. An integer is
// refused, since 1 could be one percent or all of it.
func shareOf(what string, least float64) func(any) (float64, error) {
	return func(v any) (float64, error) {
		var share float64
		switch v := v.(type) {
		case float64:
			share = v
		case string:
			digits, ok := strings.CutSuffix(v, "%")
			percent, err := strconv.ParseFloat(digits, 64)
			if !ok || err != nil || strings.Trim(digits, "0123456789.") != "" {
				return 0, fmt.Errorf(`not a share%s, e.g. "5%%" or 0.05`, what)
			}
			share = percent / 100
		default:
			return 0, fmt.Errorf(`a share%s is written as "5%%" or 0.05`, what)
		}
		// The negation also refuses NaN.
		if !(share >= least && share <= 1) {
			return 0, fmt.Errorf(`must be from "%g%%" to "100%%"%s, or %.3g to 1.0`, least*100, what, least)
		}
		return share, nil
	}
}

func parseBudget(v any) (policy.Budget, error) {
	text, ok := v.(string)
	if !ok {
		return policy.Budget{}, errors.New(`a budget is written as "2 per 1h"`)
	}
	return policy.ParseBudget(text)
}

var sizeUnits = map[string]int64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

// sizeBetween parses bytes.
func sizeBetween(least, most int64) func(any) (int, error) {
	return func(v any) (int, error) {
		text, ok := v.(string)
		unit := strings.TrimLeft(text, "0123456789")
		if !ok || text != "" && unit == "" {
			return 0, errors.New(`a size needs a unit, e.g. "64MiB"`)
		}
		factor, ok := sizeUnits[unit]
		n, err := strconv.ParseInt(strings.TrimSuffix(text, unit), 10, 64)
		if errors.Is(err, strconv.ErrRange) {
			n, err = math.MaxInt64, nil
		}
		if !ok || err != nil {
			return 0, errors.New(`not a size in B, KiB, MiB or GiB, e.g. "64MiB"`)
		}
		// Dividing cannot overflow as n*factor could.
		if n > most/factor || n*factor < least {
			return 0, fmt.Errorf("must be from %q to %q", size(least), size(most))
		}
		return int(n * factor), nil
	}
}

// size writes bytes in the largest unit that needs no fraction.
func size(n int64) string {
	for _, unit := range []string{"GiB", "MiB", "KiB"} {
		if n%sizeUnits[unit] == 0 && n > 0 {
			return strconv.FormatInt(n/sizeUnits[unit], 10) + unit
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// maxSocketPath is the room in struct sockaddr_un (unix(7)) with its
// terminating zero.
const maxSocketPath = 107

func parseSocket(v any) (string, error) {
	path, ok := v.(string)
	switch {
	case !ok || !filepath.IsAbs(path) || strings.ContainsRune(path, 0) || strings.HasSuffix(path, "/"):
		return "", errors.New(`must be the absolute path of a socket, e.g. "/run/tcpmemd/tcpmemd.sock"`)
	case len(path) > maxSocketPath:
		return "", fmt.Errorf("longer than %d bytes, the most a Unix socket's path can have", maxSocketPath)
	}
	return filepath.Clean(path), nil
}
