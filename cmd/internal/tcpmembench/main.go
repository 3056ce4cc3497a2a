// Command tcpmembench measures what tcpmemd costs, side by side with what a
// user would run instead (ss) and with the kernel's own floor (a bare receive
// loop). It prints a table in Markdown, each row with its target. Run it as
// root by "make bench"; -short leaves out what takes minutes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"

	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

func main() {
	scene.RunIfChild()
	short := flag.Bool("short", false, "100,000 sockets only, and shorter times at rest")
	bin := flag.String("bin", "bin", "`directory` with tcpmemd and tcpmemctl")
	only := flag.String("only", "", "comma-separated `groups`: rest, act, sockets")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "tcpmembench: needs root: it reads other processes and namespaces as the daemon does")
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	debug.SetGCPercent(40) // as the daemon
	b := &bench{ctx: ctx, short: *short, bin: *bin, out: os.Stdout}
	b.header(runtime.NumCPU())
	err := b.run(*only)
	b.print()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tcpmembench:", err)
		os.Exit(1)
	}
}
