package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
)

// EffectiveTOML prints a policy as one file that means the same, with where
// each value is from behind it. What no file sets is a default.
func EffectiveTOML(p Policy) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %d rules of %d files.\n", len(p.Rules), len(p.Files))
	for _, path := range p.LeftOut {
		fmt.Fprintf(&b, "# Left out for its mistakes: %s\n", printable(path))
	}
	for _, r := range p.Rules {
		b.WriteString("\n")
		writeRule(&b, r, func(key string) string {
			if o, ok := p.Origins["rule."+r.Name+"."+key]; ok {
				return "  # " + printable(o.String())
			}
			return "  # default"
		})
	}
	return b.String()
}

// hashOf gives the same for the same effective text, whatever files it is from.
func hashOf(r *policy.Rule) string {
	var b strings.Builder
	writeRule(&b, r, func(string) string { return "" })
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:8])
}

func writeRule(b *strings.Builder, r *policy.Rule, origin func(key string) string) {
	fmt.Fprintf(b, "[rule.%s]\n", r.Name)
	for _, k := range ruleKeys {
		if text := k.text(r); text != "" {
			fmt.Fprintf(b, "%s = %s%s\n", k.name, text, origin(k.name))
		}
	}
	for i := range r.Steps {
		s := &r.Steps[i]
		fmt.Fprintf(b, "[[rule.%s.step]]%s\naction = %s\nafter = %s\nbudget = %s\n",
			r.Name, origin(fmt.Sprintf("step.%d", i+1)), tomlString(s.Action), tomlDuration(s.After), tomlBudget(s.Budget))
		settings := settingsOf(s.Settings)
		for _, key := range slices.Sorted(maps.Keys(settings)) {
			fmt.Fprintf(b, "%s = %s\n", tomlKey(key), tomlValue(settings[key]))
		}
	}
}

// settingsOf reads what settingsJSON wrote.
func settingsOf(text []byte) map[string]any {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var settings map[string]any
	if err := dec.Decode(&settings); err != nil {
		return nil
	}
	return settings
}

func tomlKey(key string) string {
	if key != "" && strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "" {
		return key
	}
	return tomlBasic(key)
}

func tomlValue(v any) string {
	switch v := v.(type) {
	case string:
		return tomlString(v)
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	case []any:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = tomlValue(item)
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return `""`
}

func tomlDuration(d time.Duration) string { return `"` + short(d) + `"` }

func tomlBudget(b policy.Budget) string { return `"` + b.String() + `"` }

// tomlString writes a string that has quotes or lines as a literal one where it
// can.
func tomlString[T ~string](text T) string {
	s := string(text)
	if strings.Contains(s, "\n") && !strings.Contains(s, "'''") && !strings.HasSuffix(s, "'") && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '\n' && r != '\t' && unprintable(r)
	}) {
		return "'''\n" + s + "'''"
	}
	if strings.ContainsAny(s, `"\`) && !strings.Contains(s, "'") && !strings.ContainsFunc(s, unprintable) {
		return "'" + s + "'"
	}
	return tomlBasic(s)
}

// tomlBasic escapes what could move a terminal's cursor.
func tomlBasic(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unprintable(r):
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
