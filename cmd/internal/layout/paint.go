package layout

// Style is a colour, used sparingly: for what needs a look.
type Style int

// The styles there are.
const (
	Plain Style = iota
	Bold
	Good
	Warn
	Bad
)

// the SGR parameters of ECMA-48
var sgr = [...]string{Plain: "", Bold: "1", Good: "32", Warn: "33", Bad: "1;31"}

// Painter colours text, or leaves it alone.
type Painter bool

// Style colours a text that has no colour yet.
func (p Painter) Style(text string, s Style) string {
	if !bool(p) || s == Plain || text == "" {
		return text
	}
	return "\x1b[" + sgr[s] + "m" + text + "\x1b[0m"
}
