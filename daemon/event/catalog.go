package event

import (
	"fmt"
	"io"
	"strings"
)

// catalogHead begins the file.
const catalogHead = `# Messages of tcpmemd for journalctl --catalog. Made by go generate from the
# kinds of daemon/event; the format is of https://systemd.io/CATALOG/.
`

// WriteCatalog writes what `journalctl -x` prints beside an entry of each kind:
// what happened, what it means, what to do.
func WriteCatalog(w io.Writer) {
	fmt.Fprint(w, catalogHead)
	for _, k := range catalogue {
		fmt.Fprintf(w, "\n-- %s\nSubject: tcpmemd: %s\nDefined-By: tcpmemd\nSupport: https://github.com/tcpmemd/tcpmemd\nDocumentation: man:tcpmemd(8)\n", k.MessageID, k.Title)
		fmt.Fprintf(w, "\n%s\n", fold(k.Means))
		if k.Do != "" {
			// On one line: a command is copied from here.
			fmt.Fprintf(w, "\nWhat to do: %s\n", named.Replace(k.Do))
		}
	}
}

// named puts the entry's own values where a hint speaks of one.
var named = strings.NewReplacer(
	"INCIDENT", "@TCPMEMD_INCIDENT@", "ACTION", "@TCPMEMD_ACTION@", "RECORD", "@TCPMEMD_RECORD@", " RULE", " @TCPMEMD_RULE@",
)

// fold breaks a text into lines of at most 80 columns.
func fold(text string) string {
	const columns = 80
	var b strings.Builder
	at := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case at == 0:
		case at+1+len(word) > columns:
			b.WriteByte('\n')
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	return b.String()
}
