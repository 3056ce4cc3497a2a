package cgroup

import (
	"strconv"
	"strings"
)

// Suffixes of the unit types that own processes and with them a cgroup.
var unitSuffixes = [...]string{".service", ".scope", ".socket", ".mount", ".swap"}

// unescape undoes cg_escape of systemd's basic/cgroup-util.c: a unit whose
// name could be taken for a file of the cgroup ("cpu.service", "_x.service")
// has a directory with an underscore in front.
func unescape(name string) string { return strings.TrimPrefix(name, "_") }

// unitOf returns the unit that a directory stands for.
func unitOf(dir string) (string, bool) {
	name := unescape(dir)
	for _, suffix := range unitSuffixes {
		if strings.HasSuffix(name, suffix) {
			return name, validUnit(name)
		}
	}
	return "", false
}

// sliceOf returns the slice that a directory stands for.
func sliceOf(dir string) (string, bool) {
	name := unescape(dir)
	return name, strings.HasSuffix(name, ".slice") && validUnit(name)
}

// validUnit follows unit_name_is_valid of systemd's basic/unit-name.c: a
// directory with any other name was not made by systemd.
func validUnit(name string) bool {
	const maxLen = 255 // UNIT_NAME_MAX is 256 with the NUL
	if len(name) > maxLen || name[0] == '.' || name[0] == '@' {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z',
			c == ':', c == '-', c == '_', c == '.', c == '\\', c == '@':
		default:
			return false
		}
	}
	return true
}

// unescapeName undoes unit_name_escape: "-" stands for "/" and \xHH for a
// byte. It serves for names of machines, which a person knows unescaped.
func unescapeName(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if c, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// between returns what stands between prefix and suffix.
func between(s, prefix, suffix string) (string, bool) {
	s, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return "", false
	}
	s, ok = strings.CutSuffix(s, suffix)
	return s, ok && s != ""
}

// parseUID accepts the decimal form that systemd writes, and nothing else.
func parseUID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && strconv.FormatUint(n, 10) == s
}
