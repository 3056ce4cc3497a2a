// Command catalog writes the journal's catalog of the kinds of event into the
// file that it is given; see event.WriteCatalog.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/tcpmemd/tcpmemd/daemon/event"
)

func main() {
	var b bytes.Buffer
	event.WriteCatalog(&b)
	if err := os.WriteFile(os.Args[1], b.Bytes(), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
