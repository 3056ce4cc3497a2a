package filter

import (
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const allStates = 1<<reading.NumStates - 1

// the groups of states of ss(8), STATE-FILTER
var stateGroups = map[string]uint32{
	"all":          allStates,
	"connected":    allStates &^ (1<<reading.Listen | 1<<reading.Close | 1<<reading.BoundInactive | 1),
	"synchronized": allStates &^ (1<<reading.Listen | 1<<reading.Close | 1<<reading.BoundInactive | 1 | 1<<reading.SynSent),
	"bucket":       1<<reading.SynRecv | 1<<reading.NewSynRecv | 1<<reading.TimeWait,
	"big":          allStates &^ (1<<reading.SynRecv | 1<<reading.NewSynRecv | 1<<reading.TimeWait),
}

// other spellings, also from ss(8) and netstat(8)
var stateAliases = map[string]reading.State{
	"estab": reading.Established, "listen": reading.Listen, "close": reading.Close, "unconnected": reading.Close,
	"fin-wait1": reading.FinWait1, "fin-wait2": reading.FinWait2, "timewait": reading.TimeWait,
	"closewait": reading.CloseWait,
}

// stateMask accepts a state, an alias or a group.
func stateMask(name string) (uint32, bool) {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	if mask, ok := stateGroups[name]; ok {
		return mask, true
	}
	if state, ok := stateAliases[name]; ok {
		return 1 << state, true
	}
	state, ok := reading.ParseState(name)
	return 1 << state, ok
}

func stateNames() []string {
	var names []string
	for s := reading.Established; s < reading.NumStates; s++ {
		names = append(names, s.String())
	}
	return append(names, "connected", "synchronized", "bucket", "big", "all")
}

func classNames() []string {
	var names []string
	for _, c := range reading.ClassesByName() {
		names = append(names, c.String())
	}
	return names
}

func evidenceNames() []string {
	var names []string
	for e := range reading.NumEvidence {
		names = append(names, e.String())
	}
	return names
}

// nearest is the known name that is few edits away from what was written, or
// begins with it; "" where none is.
func nearest(written string, known []string) string {
	written = strings.ToLower(written)
	if len(written) > 32 {
		return ""
	}
	best, distance := "", 1+max(1, len(written)/3)
	for _, name := range known {
		d := edits(written, name)
		if len(written) > 1 && strings.HasPrefix(name, written) {
			d = 1
		}
		if d < distance {
			best, distance = name, d
		}
	}
	return best
}

// edits counts the insertions, deletions, changes and swaps of neighbours
// between two names (optimal string alignment).
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

// matchGlob reports whether the pattern, in which * stands for any characters
// and ? for one byte, matches the whole name. It takes time linear in the
// product at worst and remembers only the last star, so that no pattern
// explodes.
func matchGlob(pattern, name string) bool {
	p, n, star, from := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// Keywords lists the words between terms.
func Keywords() []string { return []string{"and", "or", "not"} }
