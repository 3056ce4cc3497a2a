package words

import (
	"fmt"
	"math"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// MaxHealth bounds a line of Health, in bytes: what node-problem-detector keeps
// of it by default, and what Nagios' guidelines advise.
const MaxHealth = 80

// leastName is how much of a name is kept before other words go.
const leastName = 34

// Health says in one line of room bytes of printable ASCII who is worst and how
// bad it is. A steady line has numbers in steps of ten, for readers that take
// each change of it for news.
func Health(doc *api.Health, room int, steady bool) string {
	switch doc.Status {
	case api.HealthProblem:
		return healthProblem(doc, room, steady)
	case api.HealthOK:
		return healthCalm(doc, room, steady)
	}
	if doc.Stale {
		return HealthUnknown(fmt.Sprintf("tcpmemd's counters are %.0f s old", doc.AgeSeconds), room)
	}
	return HealthUnknown("tcpmemd does not know the level of this host", room)
}

// HealthUnknown says why nothing can be said.
func HealthUnknown(why string, room int) string {
	return fit("", why, "", room)
}

func healthCalm(doc *api.Health, room int, steady bool) string {
	head := "TCP memory " + fill(doc, steady) + " of max"
	if l := doc.Memory.Level; l != reading.Calm {
		head += ", " + l.String()
	}
	switch o := doc.Owner; {
	case o != nil:
		return fit(head+"; most held by ", o.Name, " ("+share(o, steady)+")", room)
	case doc.ScanAgeSeconds == nil:
		return head + "; who holds it is not known yet"
	}
	return head
}

// healthProblem leaves words out until the owner's name has room, the last of
// the list first.
func healthProblem(doc *api.Health, room int, steady bool) string {
	o := doc.Owner
	used, why, verdict, doing := "; "+fill(doc, steady)+" of max used", healthWhy(doc), "", healthDoing(doc)
	if o == nil {
		return fit("", "TCP memory"+strings.TrimPrefix(used, ";")+why+doing, "", room)
	}
	if o.Verdict != nil {
		verdict = "; " + Plain(strings.ReplaceAll(string(*o.Verdict), "-", " "))
	}
	holds := " holds " + share(o, steady)
	name := min(len(Plain(o.Name)), leastName)
	var rest string
	for _, rest = range []string{
		holds + " of TCP memory" + used + why + verdict + doing,
		holds + used + why + verdict + doing,
		holds + used + why + verdict,
		holds + why + verdict,
		holds + why,
	} {
		if name+len(rest) <= room {
			break
		}
	}
	return fit("", o.Name, rest, room)
}

// healthWhy is what the numbers do not say: the level speaks through them.
func healthWhy(doc *api.Health) string {
	for _, reason := range doc.Reasons {
		switch {
		case reason == api.ReasonOutOfMemory && doc.Reasons[0] == api.ReasonLevel:
			return "; out of memory"
		case reason == api.ReasonOutOfMemory:
			return "; was out of memory" // some minutes ago, and the pool has room again
		case reason == api.ReasonRule && len(doc.Reasons) == 1 && len(doc.Rules) > 0:
			return "; rule " + cut(Plain(doc.Rules[0]), 20)
		}
	}
	return ""
}

// healthDoing is what the daemon does about it.
func healthDoing(doc *api.Health) string {
	switch {
	case doc.Acting != nil:
		switch *doc.Acting {
		case "restart-unit":
			return "; restarting"
		case "signal-process":
			return "; signalled"
		case "destroy-sockets":
			return "; cutting"
		case "raise-tcp-mem":
			return "; raising"
		}
		return "; acting"
	case doc.ActingElsewhere:
		return "; acting"
	case doc.Held:
		return "; held"
	}
	return ""
}

func fill(doc *api.Health, steady bool) string {
	return percent(doc.Memory.FillLive, doc.FillTens, steady)
}

func share(o *api.HealthOwner, steady bool) string { return percent(o.Share, o.ShareTens, steady) }

// percent is exact, or so many tens of percent and up.
func percent(f float64, tens *int, steady bool) string {
	n := int(math.Round(100 * min(max(f, 0), 9.99)))
	if !steady {
		return fmt.Sprintf("%d%%", n)
	}
	low := n / 10 * 10
	if tens != nil {
		low = min(max(*tens, 0), 990)
	}
	return fmt.Sprintf("%d%%+", low)
}

// fit puts a text that anybody may have chosen between two that are ours, and
// shortens it in its middle: both ends of a name tell.
func fit(before, text, after string, room int) string {
	// What is ours fits, unless a document has words that are not.
	return cut(before+cut(Plain(text), max(room-len(before)-len(after), 0))+after, room)
}

func cut(s string, room int) string {
	const gap = ".."
	switch {
	case len(s) <= room:
		return s
	case room <= len(gap):
		return s[:room]
	}
	tail := (room - len(gap)) / 3
	return s[:room-len(gap)-tail] + gap + s[len(s)-tail:]
}

// plainExtra are the signs that names of units, pods and processes have. A
// monitor may take others (; | < > & $ ` and quotes) for its own.
const plainExtra = " ._-:@/()[]+,=#%"

// longest (bytes) is more of a name than any line shows.
const longest = 4096

// Plain is s in printable ASCII on one line: what else is in it becomes one
// question mark for each character, and blanks become one.
func Plain(s string) string {
	if len(s) > longest {
		s = s[:longest/2] + s[len(s)-longest/2:]
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r < 0x80 && strings.ContainsRune(plainExtra, r):
			b.WriteRune(r)
		default:
			b.WriteByte('?')
		}
	}
	if out := strings.Join(strings.Fields(b.String()), " "); out != "" {
		return out
	}
	return "?"
}
