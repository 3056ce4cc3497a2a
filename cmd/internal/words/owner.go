package words

import (
	"fmt"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Owner is the owner's name as a table shows it: plain processes are often
// many of one name, so theirs have the pid behind it.
func Owner(o *api.Owner) string {
	if o.Kind == reading.KindProcess && len(o.Holders) > 0 {
		return fmt.Sprintf("%s[%d]", prose.Escape(o.Name), o.Holders[0].PID)
	}
	return prose.Escape(o.Name)
}

// Growth is a cell of growth, "-" where it is not known.
func Growth(g *int64) string {
	if g == nil {
		return "-"
	}
	return prose.Growth(*g)
}

// VerdictCell is the bare verdict, "-" where there is none.
func VerdictCell(j *api.Judgement) string {
	if j.Verdict == nil {
		return "-"
	}
	return string(*j.Verdict)
}

// Whole is what shares are parts of: all that is used, or all that was seen
// where the per-CPU reserve makes that a little more.
func Whole(l *api.Ledger, m *api.Memory) int64 { return max(m.UsedBytes, l.SeenBytes) }
