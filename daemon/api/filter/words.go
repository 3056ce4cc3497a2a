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
