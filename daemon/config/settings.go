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
	at("mode", func(c *Config) *Mode { return &c.Mode }, parseMode),
	at("protect", func(c *Config) *[]string { return &c.Protect }, parseGlobs),
	at("sample.interval", func(c *Config) *time.Duration { return &c.Sample.Interval }, between(time.Second, 5*time.Second)),
	at("scan.calm", func(c *Config) *time.Duration { return &c.Scan.Calm }, between(5*time.Second, 10*time.Minute)),
	at("scan.pressed", func(c *Config) *time.Duration { return &c.Scan.Pressed }, between(time.Second, time.Minute)),
	at("scan.cpu", func(c *Config) *float64 { return &c.Scan.CPU }, parseShare),
	at("state.table_size", func(c *Config) *int { return &c.State.TableBytes }, parseSize),
	at("control.socket", func(c *Config) *string { return &c.Control.Socket }, parseSocket),
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

func isSetting(key string) bool {
	_, ok := settingOf(key)
	return ok
}

// tables lists the tables that hold a known key.
func tables() []string {
	var names []string
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
	i := slices.IndexFunc(settings, func(s setting) bool { return strings.HasPrefix(s.key, table+".") })
	return settings[i].key
}

func parseMode(v any) (Mode, error) {
	switch v {
	case string(Observe):
		return Observe, nil
	case "enforce":
		return "", errors.New(`this version can only observe, it has no actions; write "observe"`)
	default:
		return "", errors.New(`must be "observe"`)
	}
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

// parseShare gives a share of one CPU. An integer is refused, since 1 could be
// one percent or all of it.
func parseShare(v any) (float64, error) {
	var share float64
	switch v := v.(type) {
	case float64:
		share = v
	case string:
		digits, ok := strings.CutSuffix(v, "%")
		percent, err := strconv.ParseFloat(digits, 64)
		if !ok || err != nil || strings.Trim(digits, "0123456789.") != "" {
			return 0, errors.New(`not a share of one CPU, e.g. "5%" or 0.05`)
		}
		share = percent / 100
	default:
		return 0, errors.New(`a share of one CPU is written as "5%" or 0.05`)
	}
	// The negation also refuses NaN.
	if !(share >= leastShare && share <= 1) {
		return 0, errors.New(`must be from "1%" to "100%" of one CPU, or 0.01 to 1.0`)
	}
	return share, nil
}

var sizeUnits = map[string]int64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

// parseSize gives bytes.
func parseSize(v any) (int, error) {
	const least, most = 1 << 20, 1 << 30
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
		return 0, errors.New(`must be from "1MiB" to "1GiB"`)
	}
	return int(n * factor), nil
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
