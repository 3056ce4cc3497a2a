package cli

import "github.com/tcpmemd/tcpmemd/daemon/reading"

// style is a colour, used sparingly: for what needs a look.
type style int

const (
	plain style = iota
	bold
	good
	warn
	bad
)

// the SGR parameters of ECMA-48
var sgr = [...]string{plain: "", bold: "1", good: "32", warn: "33", bad: "1;31"}

// painter colours text, or leaves it alone.
type painter bool

func (p painter) style(text string, s style) string {
	if !bool(p) || s == plain || text == "" {
		return text
	}
	return "\x1b[" + sgr[s] + "m" + text + "\x1b[0m"
}

func levelStyle(l reading.Level) style {
	switch l {
	case reading.Calm:
		return good
	case reading.Elevated, reading.Unknown:
		return warn
	default:
		return bad
	}
}
