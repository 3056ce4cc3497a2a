// Package settings reads the settings of a policy's step by the list that an
// action declares: the same list that tcpmemd shows, so that neither can name
// what the other does not know.
package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/remediate"
)

const (
	maxShown = 64 // bytes of a value that a message repeats
	maxList  = 64 // entries of a list
	maxText  = 4 << 10
)

// Values are settings that were read, each of the type it was declared with.
// Asking for one that was not declared, or by another type, is a mistake of
// the program and panics.
type Values struct{ by map[string]any }

// Read reads settings by what an action declares. A setting that is unknown,
// missing or of another type is a problem. Values has all that are declared:
// those that were not given, or not right, with their default.
func Read(declared []remediate.Setting, from remediate.Settings) (Values, []remediate.Problem) {
	v := Values{by: make(map[string]any, len(declared))}
	for _, s := range declared {
		v.by[s.Name] = usual(s)
	}
	given, err := object(from)
	if err != nil {
		return v, []remediate.Problem{{Message: "read settings: " + err.Error()}}
	}
	var problems []remediate.Problem
	for _, s := range declared {
		raw, ok := given[s.Name]
		delete(given, s.Name)
		if !ok && !s.Required {
			continue
		}
		value, err := any(nil), fmt.Errorf("missing: %s", s.About)
		if ok {
			value, err = parse(s.Type, raw)
		}
		if err != nil {
			problems = append(problems, remediate.Problem{Setting: s.Name, Message: err.Error()})
			continue
		}
		v.by[s.Name] = value
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		problems = append(problems, remediate.Problem{Setting: cut(name), Message: unknown(name, declared)})
	}
	return v, problems
}

// Err joins problems to one error, nil for none.
func Err(problems []remediate.Problem) error {
	var all []error
	for _, p := range problems {
		if p.Setting == "" {
			all = append(all, errors.New(p.Message))
			continue
		}
		all = append(all, fmt.Errorf("setting %s: %s", Quote(p.Setting), p.Message))
	}
	return errors.Join(all...)
}

// Bool gives a setting of type bool.
func (v Values) Bool(name string) bool { return v.by[name].(bool) }

// String gives a setting of type string.
func (v Values) String(name string) string { return v.by[name].(string) }

// Int gives a setting of type int.
func (v Values) Int(name string) int { return v.by[name].(int) }

// Float gives a setting of type float, or of type share: 0.15 for "15%".
func (v Values) Float(name string) float64 { return v.by[name].(float64) }

// Duration gives a setting of type duration.
func (v Values) Duration(name string) time.Duration { return v.by[name].(time.Duration) }

// List gives a setting of type list, a copy.
func (v Values) List(name string) []string { return slices.Clone(v.by[name].([]string)) }

// Quote writes a text in double quotes with all that does not print escaped,
// cut where it is long: for names and values that somebody else chose.
func Quote(s string) string {
	return strconv.Quote(cut(s))
}

func cut(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "..."
}

// object splits the settings; none at all is an empty object.
func object(from remediate.Settings) (map[string]json.RawMessage, error) {
	given := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(from)) == 0 {
		return given, nil
	}
	d := json.NewDecoder(bytes.NewReader(from))
	if err := d.Decode(&given); err != nil || given == nil { // null
		return nil, errors.New("not a JSON object")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON object")
	}
	return given, nil
}

// usual is a setting's default. One that does not parse is a mistake of the
// program and panics.
func usual(s remediate.Setting) any {
	raw := json.RawMessage(s.Default)
	switch s.Type {
	case "string", "duration", "share":
		raw = json.RawMessage(strconv.Quote(s.Default))
	}
	value, err := zero(s.Type)
	if s.Default != "" {
		value, err = parse(s.Type, raw)
	}
	if err != nil {
		panic(fmt.Sprintf("default of setting %s: %v", s.Name, err))
	}
	return value
}

func zero(kind string) (any, error) {
	switch kind {
	case "string":
		return "", nil
	case "bool":
		return false, nil
	case "int":
		return 0, nil
	case "float", "share":
		return 0.0, nil
	case "duration":
		return time.Duration(0), nil
	case "list":
		return []string(nil), nil
	}
	return nil, fmt.Errorf("no settings of type %q here", kind)
}

func parse(kind string, raw json.RawMessage) (any, error) {
	switch kind {
	case "string":
		return text(raw)
	case "bool":
		var b *bool
		if err := json.Unmarshal(raw, &b); err != nil || b == nil {
			return nil, errors.New("want true or false")
		}
		return *b, nil
	case "int":
		var n *int
		if err := json.Unmarshal(raw, &n); err != nil || n == nil {
			return nil, errors.New("want a whole number, e.g. 100")
		}
		return *n, nil
	case "float":
		var f *float64
		if err := json.Unmarshal(raw, &f); err != nil || f == nil {
			return nil, errors.New("want a number, e.g. 1.5")
		}
		return *f, nil
	case "share":
		return share(raw)
	case "duration":
		s, err := text(raw)
		if err != nil {
			return nil, errors.New(`want a duration as text, e.g. "10s"`)
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			return nil, fmt.Errorf(`%s is no duration, e.g. "10s"`, Quote(s))
		}
		return d, nil
	case "list":
		return list(raw)
	}
	return zero(kind)
}

func text(raw json.RawMessage) (string, error) {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", errors.New("want a text in quotes")
	}
	if len(*s) > maxText {
		return "", fmt.Errorf("longer than %d bytes", maxText)
	}
	if strings.IndexByte(*s, 0) >= 0 {
		return "", errors.New("has a NUL byte")
	}
	return *s, nil
}

// share takes "15%" or 0.15. A whole number above 0 is refused, since 1 could
// be one percent or all of it.
func share(raw json.RawMessage) (float64, error) {
	want := errors.New(`want a share, e.g. "15%" or 0.15`)
	var f float64
	if s, err := text(raw); err == nil {
		digits, ok := strings.CutSuffix(s, "%")
		if f, err = strconv.ParseFloat(digits, 64); err != nil || !ok {
			return 0, want
		}
		f /= 100
	} else if json.Unmarshal(raw, &f) != nil || string(raw) == "null" || f == 1 {
		return 0, want
	}
	if math.IsNaN(f) || f < 0 || f > 1 {
		return 0, errors.New("want a share between 0% and 100%")
	}
	return f, nil
}

func list(raw json.RawMessage) ([]string, error) {
	var entries []json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil || entries == nil {
		return nil, errors.New("want a list of texts")
	}
	if len(entries) > maxList {
		return nil, fmt.Errorf("more than %d entries", maxList)
	}
	all := make([]string, len(entries))
	for i, e := range entries {
		var err error
		if all[i], err = text(e); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	return all, nil
}
