package metrics

import (
	"fmt"
	"strings"
)

//go:generate go test -run TestDocumented -update .

// Table is the catalogue as a table of Markdown.
func Table() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | series | from | meaning |\n|---|---|---|---:|---|---|\n")
	for i := range catalogue {
		m := &catalogue[i]
		kind := "gauge"
		if m.Counter {
			kind = "counter"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %d | %s | %s |\n", m.Name, kind, strings.Join(m.Labels, ", "), m.Max, m.Of, m.Help)
	}
	return b.String()
}
