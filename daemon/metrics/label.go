package metrics

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLabel bounds the value of a label, in bytes.
const maxLabel = 128

// nameless stands for a name that is empty, as a process may make its own.
const nameless = "unnamed"

// varies stands in a name for what is another with each process or connection.
const varies = "*"

// label makes a label's value of any text: valid UTF-8 without control
// characters, which processes may put into their names, and not too long.
func label(text string) string {
	if text == "" {
		return nameless
	}
	if plain(text) {
		return text
	}
	if len(text) > 4*maxLabel { // whatever becomes of it, no more is needed
		text = text[:4*maxLabel]
	}
	text = strings.Map(func(r rune) rune {
		// Also what turns the direction of writing: a person reads this.
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			return utf8.RuneError
		}
		return r // an invalid byte is utf8.RuneError already
	}, text)
	if len(text) <= maxLabel {
		return text
	}
	end := maxLabel
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// optionalLabel leaves what is not there empty, which for Prometheus is no
// label.
func optionalLabel(text string) string {
	if text == "" {
		return ""
	}
	return label(text)
}

func plain(text string) bool {
	if len(text) > maxLabel {
		return false
	}
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// steadyUnit is a unit's name without what is new each time that it is started:
// the connection of a socket's service, the process behind a scope, the random
// part of a transient unit. Units that differ in that alone are told as one.
func steadyUnit(name string) string {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return steady(name)
	}
	stem, suffix := name[:dot], name[dot:]
	if template, instance, ok := strings.Cut(stem, "@"); ok {
		// sshd@3-10.0.0.1:22-10.0.0.2:50000.service, of a socket with Accept=yes;
		// of a Unix socket it is a number, the pid and the uid: 3-4711-0.
		if steady(instance) != instance || numbers(instance) {
			return template + "@" + varies + suffix
		}
		return name
	}
	switch {
	case strings.HasPrefix(stem, "run-"): // systemd-run: run-u123, run-p123-i456, run-r and random digits
		return "run-" + varies + suffix
	case suffix == ".scope" && !strings.HasPrefix(stem, "session-"):
		return steadyParts(steady(stem), "-_") + suffix
	}
	return steady(stem) + suffix
}

// steadyGroup is a path of control groups without the numbers of processes that
// managers of containers and desktops make groups by.
func steadyGroup(path string) string { return steadyParts(steady(path), "/-_.") }

// steadyParts puts a star for each part between separators that is a number.
func steadyParts(text, separators string) string {
	if strings.IndexFunc(text, isDigit) < 0 {
		return text
	}
	var b strings.Builder
	for text != "" {
		end := strings.IndexAny(text, separators)
		if end < 0 {
			end = len(text)
		}
		if part := text[:end]; part != "" && strings.IndexFunc(part, func(r rune) bool { return !isDigit(r) }) < 0 {
			b.WriteString(varies)
		} else {
			b.WriteString(part)
		}
		if text = text[end:]; text != "" {
			b.WriteByte(text[0])
			text = text[1:]
		}
	}
	return b.String()
}

// numbers: text is several numbers and nothing else.
func numbers(text string) bool {
	return strings.ContainsAny(text, "-_") && strings.IndexFunc(text, func(r rune) bool { return !isDigit(r) && r != '-' && r != '_' }) < 0
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

// steady puts a star for each address and each long identifier in a name: of
// invocations, containers, and random ones.
func steady(text string) string {
	if len(text) > 4*maxLabel {
		text = text[:4*maxLabel]
	}
	if !strings.ContainsAny(text, ".:0123456789") {
		return text
	}
	var b strings.Builder
	done := 0
	for i := 0; i < len(text); {
		if !isIDByte(text[i]) {
			i++
			continue
		}
		if isUUID(text[i:]) {
			b.WriteString(text[done:i])
			b.WriteString(varies)
			i += uuidLen
			done = i
			continue
		}
		end := i + 1
		for end < len(text) && isIDByte(text[end]) {
			end++
		}
		if n := variable(text[i:end]); n > 0 {
			b.WriteString(text[done:i])
			b.WriteString(varies)
			done = i + n
		}
		i = end
	}
	if done == 0 {
		return text
	}
	b.WriteString(text[done:])
	return b.String()
}

// isIDByte says whether an address or an identifier is written with c.
func isIDByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == '.' || c == ':'
}

// uuidLen is how long a UUID is: 01234567-89ab-cdef-0123-456789abcdef.
const uuidLen = 36

func isUUID(text string) bool {
	if len(text) < uuidLen {
		return false
	}
	for i := range uuidLen {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if c := text[i]; dash != (c == '-') || !dash && (!isIDByte(c) || c == '.' || c == ':') {
			return false
		}
	}
	return true
}

// longID is how long a run of hexadecimal digits is that nobody chose by hand.
const longID = 32

// variable says how much of a run of such bytes is an address or an identifier,
// 0 for none.
func variable(run string) int {
	digits := strings.TrimRight(run, ".:")
	if len(digits) >= longID && !strings.ContainsAny(digits, ".:") {
		return len(digits)
	}
	if strings.Count(digits, ".") < 3 && strings.Count(digits, ":") < 2 {
		return 0
	}
	if _, err := netip.ParseAddr(digits); err == nil {
		return len(digits)
	}
	if _, err := netip.ParseAddrPort(digits); err == nil {
		return len(digits)
	}
	return 0
}
