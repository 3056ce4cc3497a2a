package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/expr-lang/expr/file"
)

// syntaxError keeps the parser's place, and its message where nothing better is
// known.
func syntaxError(text string, err error) error {
	parseErr, ok := errors.AsType[*file.Error](err)
	if !ok {
		return &ConditionError{0, err}
	}
	at := offsetOf(text, parseErr.From)
	return &ConditionError{at, errors.New(syntaxWords(text[:at], text[at:], parseErr.Message))}
}

// unexpected and badNumber are how the parser writes a token and a number with
// letters behind it.
var (
	unexpected = regexp.MustCompile(`^unexpected token (\w+)(?:\("(.*)"\))?$`)
	badNumber  = regexp.MustCompile(`^bad number syntax: "([0-9.]+)(\w*)"$`)
)

// syntaxWords says what people mean who write this, by the parser's message and
// the text before and after its place.
func syntaxWords(before, after, message string) string {
	if m := badNumber.FindStringSubmatch(message); m != nil {
		if strings.HasPrefix(m[2], "K") || strings.HasPrefix(m[2], "M") || strings.HasPrefix(m[2], "G") {
			return fmt.Sprintf("a size is written %s * MiB (or KiB, GiB)", m[1])
		}
		return fmt.Sprintf(`a duration is written duration("%s%s"), a size 100 * MiB`, m[1], m[2])
	}
	m := unexpected.FindStringSubmatch(message)
	if m == nil {
		return message
	}
	kind, token := m[1], m[2]
	_, isSize := sizes[token]
	switch lower := strings.ToLower(token); {
	case kind == "EOF" && strings.HasSuffix(strings.TrimRight(before+after, " \t\n"), "%"):
		return "a share is a number: write 0.3 for 30 %"
	case kind == "EOF":
		return "ends where something has to follow"
	case kind == "Operator" && token == "=":
		return "= compares nothing: write =="
	case kind == "Identifier" && token != lower && (lower == "and" || lower == "or" || lower == "not"):
		return fmt.Sprintf("unexpected %q; did you mean %s?", token, lower)
	case kind == "Identifier" && (isSize || lower == "kb" || lower == "mb" || lower == "gb"):
		return "a size is a product: 100 * MiB (or KiB, GiB)"
	}
	return fmt.Sprintf("unexpected %q", token)
}
