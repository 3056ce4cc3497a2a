package settings

import (
	"strings"

	"github.com/tcpmemd/tcpmemd/remediate"
)

// unknown says that there is no such setting, with the one that was probably
// meant.
func unknown(name string, declared []remediate.Setting) string {
	if near := nearest(name, declared); near != "" {
		return "unknown setting; did you mean " + near + "?"
	}
	if len(declared) == 0 {
		return "unknown setting; there are none"
	}
	var names []string
	for _, s := range declared {
		names = append(names, s.Name)
	}
	return "unknown setting; there are " + strings.Join(names, ", ")
}

// nearest gives the setting with the fewest letters to change, a third of them
// at most, "" where none is near.
func nearest(name string, declared []remediate.Setting) string {
	if len(name) > maxShown {
		return ""
	}
	best, least := "", max(2, len(name)/3)+1
	for _, s := range declared {
		if d := distance(strings.ToLower(name), s.Name); d < least {
			best, least = s.Name, d
		}
	}
	return best
}

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
