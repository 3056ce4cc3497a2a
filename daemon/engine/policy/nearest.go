package policy

import "strings"

// Nearest gives the known name that a wrong one was probably meant to be, ""
// where none is near: the one of that name in another table, or the one with
// the fewest letters to change, a third of them at most.
func Nearest(name string, known []string) string {
	if len(name) > 64 {
		return ""
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	best, least := "", max(2, len(name)/3)+1
	for _, k := range known {
		if k[strings.LastIndexByte(k, '.')+1:] == last {
			return k
		}
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < least {
			best, least = k, d
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
