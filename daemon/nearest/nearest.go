// Package nearest finds the known name that a wrong one was probably meant to
// be, for messages: "did you mean ...?".
package nearest

import "strings"

// maxName is longer than any known name; what is longer is nothing misspelt.
const maxName = 64

// Name gives the known name that a wrong one was probably meant to be, ""
// where none is near: the one of that name in another table ("a.bytes" for
// "b.bytes"), one that begins so, or the one with the fewest letters to change,
// a third of them at most. Case does not count.
func Name(wrong string, known []string) string {
	if len(wrong) > maxName {
		return ""
	}
	last := wrong[strings.LastIndexByte(wrong, '.')+1:]
	best, least := "", max(2, len(wrong)/3)+1
	for _, k := range known {
		if k[strings.LastIndexByte(k, '.')+1:] == last {
			return k
		}
		d := edits(strings.ToLower(wrong), strings.ToLower(k))
		if len(wrong) > 1 && strings.HasPrefix(k, strings.ToLower(wrong)) {
			d = min(d, 1)
		}
		if d < least {
			best, least = k, d
		}
	}
	return best
}

// edits counts the insertions, deletions, changes and swaps of neighbours
// between two names, in bytes (optimal string alignment).
func edits(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
