package sockdiag

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// With -record the dumps in testdata are taken anew from the running kernel
// (root):
//
//	go test ./daemon/sockdiag -run TestRecord -record
var record = flag.Bool("record", false, "write testdata/*.bin from this kernel")

// recording is one dump as the kernel sent it, datagram by datagram.
type recording struct {
	name      string
	seq       uint32 // of the request
	datagrams [][]byte
}

// The file is each datagram after its length (u32, little endian): recorded on
// a little-endian machine, like the datagrams themselves.
func (r recording) write(t *testing.T) {
	t.Helper()
	var b []byte
	for _, d := range r.datagrams {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(d)))
		b = append(b, d...)
	}
	if err := os.WriteFile(filepath.Join("testdata", r.name+".bin"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", r.name+".golden"), []byte(r.summary(t)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB, name string) recording {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	r := recording{name: name}
	for len(b) > 0 {
		n := binary.LittleEndian.Uint32(b)
		r.datagrams = append(r.datagrams, b[4:4+n])
		b = b[4+n:]
	}
	r.seq = binary.NativeEndian.Uint32(r.datagrams[0][8:])
	return r
}

// replay drains the datagrams as a Conn would; after the last one nothing comes.
func (r recording) replay(ctx context.Context, yield func(*reading.Socket)) error {
	rest := r.datagrams
	receive := func() ([]byte, error) {
		if len(rest) == 0 {
			return nil, errSilent
		}
		b := rest[0]
		rest = rest[1:]
		return b, nil
	}
	var rows rowReader
	return drain(ctx, receive, r.seq, &rows, yield)
}

var errSilent = fmt.Errorf("no answer in %v", answerTimeout)

// summary counts what a replay shows, by state.
func (r recording) summary(t *testing.T) string {
	t.Helper()
	var states [reading.NumStates]reading.Tally
	var v4, v6, mapped, cgroups int
	err := r.replay(t.Context(), func(s *reading.Socket) {
		states[s.State].Add(1, s.Mem.Bytes())
		switch a := s.Local.Addr(); {
		case a.Is4():
			v4++
		case a.Is4In6():
			mapped++
		default:
			v6++
		}
		if s.CgroupID != 0 {
			cgroups++
		}
	})
	if err != nil {
		t.Fatalf("replay %s: %v", r.name, err)
	}
	var b strings.Builder
	for s, n := range states {
		if n.Sockets != 0 {
			fmt.Fprintf(&b, "%s: %d sockets, %d bytes\n", reading.State(s), n.Sockets, n.Bytes)
		}
	}
	fmt.Fprintf(&b, "IPv4 %d, mapped %d, IPv6 %d; %d with a cgroup id\n", v4, mapped, v6, cgroups)
	return b.String()
}

// TestRecord makes some hundred sockets in a namespace of their own, so that a
// recording holds nothing of the machine but loopback.
func TestRecord(t *testing.T) {
	if !*record {
		return // nothing is lacking: dumps are recorded on purpose, and kept
	}
	require.Root(t)
	ns := scene.NewNetns(t)
	c := scene.StartT(t, scene.ChildOptions{Netns: ns})
	for _, spec := range []scene.Spec{
		{Kind: scene.Idle, Pairs: 20},
		{Kind: scene.Idle, Pairs: 10, Family: scene.IPv6},
		{Kind: scene.Idle, Pairs: 10, Family: scene.Mapped},
		{Kind: scene.Unread, Pairs: 20, Bytes: 9000},
		{Kind: scene.Unread, Pairs: 10, Bytes: 30000, Family: scene.IPv6},
		{Kind: scene.Unsent, Pairs: 5, SendBuffer: 1 << 16},
		{Kind: scene.CloseWait, Pairs: 20, Bytes: 4000},
		{Kind: scene.FinWait2, Pairs: 20, Bytes: 4000},
		{Kind: scene.Orphan, Pairs: 10, SendBuffer: 1 << 16},
		{Kind: scene.Unaccepted, Pairs: 20, Bytes: 2000},
		{Kind: scene.Unaccepted, Pairs: 5, Bytes: 2000, Family: scene.Mapped, Wildcard: true, Finish: true},
		{Kind: scene.Hidden, Pairs: 5, Bytes: 2000},
		{Kind: scene.Listening, Pairs: 5},
		{Kind: scene.Bound, Pairs: 5},
		{Kind: scene.Unread, Pairs: 5, Bytes: 20000, MPTCP: true},
		{Kind: scene.Unread, Pairs: 5, Bytes: 20000, MPTCP: true, Family: scene.IPv6},
	} {
		scene.BuildT(t, c, spec)
	}
	conn := openIn(t, ns)
	mptcp := &request{family: unix.AF_INET, protocol: ipprotoMPTCP, ext: extSkMem, states: sweepStates}
	conn.record(t, "tcp", tcpdiagGetsock, &legacyRequest{ext: extSkMem, states: sweepStates}).write(t)
	conn.record(t, "mptcp", sockDiagByFam, mptcp).write(t)
	writeCorpus(t, "FuzzRows", some(t))
}

// writeCorpus writes the seeds in the form that go test -fuzz reads and adds to.
func writeCorpus(t *testing.T, target string, seeds [][]byte) {
	t.Helper()
	dir := filepath.Join("testdata", "fuzz", target)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for i, b := range seeds {
		text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", b)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("recorded-%02d", i)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// record keeps every datagram of a dump.
func (c *Conn) record(t *testing.T, name string, kind int, data interface {
	Len() int
	Serialize() []byte
},
) recording {
	t.Helper()
	seq, err := c.send(kind, unix.NLM_F_DUMP, data)
	if err != nil {
		t.Fatal(err)
	}
	r := recording{name: name, seq: seq}
	receive := func() ([]byte, error) {
		b, err := c.receive()
		r.datagrams = append(r.datagrams, append([]byte(nil), b...))
		return b, err
	}
	if err := drain(t.Context(), receive, seq, &c.rows, func(*reading.Socket) {}); err != nil {
		t.Fatal(err)
	}
	return r
}
