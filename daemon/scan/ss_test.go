package scan_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// What we list of a socket is what ss says of it.
func TestSameAsSS(t *testing.T) {
	s, c := open(t), start(t)
	tool := require.Tool(t, "ss")
	var built []*scene.Built
	for _, spec := range []scene.Spec{
		{Kind: scene.Unread, Pairs: 10, Bytes: 9000},
		{Kind: scene.Unread, Pairs: 10, Bytes: 9000, Family: scene.IPv6},
		{Kind: scene.Unread, Pairs: 10, Bytes: 9000, Family: scene.Mapped},
		{Kind: scene.CloseWait, Pairs: 10, Bytes: 5000},
		{Kind: scene.Unaccepted, Pairs: 10, Bytes: 5000},
		{Kind: scene.Listening, Pairs: 2},
	} {
		built = append(built, scene.BuildT(t, c, spec))
	}
	read(t, s)
	ours := map[string]string{}
	addrs := portsOf(built...)
	for _, sock := range rows(t, s, func(sock *reading.Socket) bool { return addrs[sock.Local.String()] && sock.State != reading.TimeWait }) {
		m := sock.Mem
		ours[connection(sock.Local.String(), sock.Remote.String())] = fmt.Sprintf("r%d,rb%d,t%d,tb%d,f%d,w%d,o%d,bl%d,d%d",
			m.RmemAlloc, m.Rcvbuf, m.WmemAlloc, m.Sndbuf, m.FwdAlloc, m.WmemQueued, m.Optmem, m.Backlog, m.Drops)
	}
	if len(ours) < 60 {
		t.Fatalf("only %d sockets are listed", len(ours))
	}

	out, err := exec.CommandContext(t.Context(), tool, "-tanmHO").Output()
	do(t, "ss", err)
	theirs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		_, mem, _ := strings.Cut(line, "skmem:(")
		mem, _, ok := strings.Cut(mem, ")")
		if !ok {
			continue // a mini socket
		}
		if key := connection(fields[3], fields[4]); ours[key] != "" {
			theirs[key] = mem
		}
	}
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("memory of sockets (-ss +ours):\n%s", diff)
	}
}

// connection spells a pair of addresses in one way: ss writes "*" for any port
// and address.
func connection(local, remote string) string {
	remote = strings.NewReplacer("*:*", "any", "0.0.0.0:*", "any", "0.0.0.0:0", "any", "[::]:*", "any", "[::]:0", "any").Replace(remote)
	return local + " " + remote
}
