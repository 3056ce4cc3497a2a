package cli

import (
	"fmt"
	"io"

	"github.com/tcpmemd/tcpmemd/daemon/api"
)

// Report writes a page on who holds the host's TCP memory, as the command
// owners shows it, without colour: for the daemon in the foreground.
func Report(w io.Writer, doc *api.Owners, columns int) {
	const owners = 10
	for _, line := range ownersPage(doc, owners, columns, false) {
		fmt.Fprintln(w, line)
	}
}
