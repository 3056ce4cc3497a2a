package scan

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/netns"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// TestMemQuantum: for some years sockstat counted in units of its own.
func TestMemQuantum(t *testing.T) {
	for _, tt := range []struct {
		release  string
		pageSize int
		want     int
	}{
		{"6.18.44-fc", 65536, 65536},
		{"6.0.0", 65536, 65536},
		{"5.19.17", 65536, 4096},
		{"5.10.0-21-arm64", 65536, 4096},
		{"5.15.0", 4096, 4096},
		{"4.18.0-553.el8.aarch64", 65536, 4096},
		{"4.11.0", 16384, 4096},
		{"4.10.17", 65536, 65536},
		{"", 65536, 65536},
		{"later", 65536, 65536},
	} {
		if got := memQuantum(tt.release, tt.pageSize); got != tt.want {
			t.Errorf("memQuantum(%q, %d) = %d, want %d", tt.release, tt.pageSize, got, tt.want)
		}
	}
	for mem, want := range map[reading.Pages]reading.Pages{0: 0, 1: 1, 16: 1, 17: 2, 160: 10} {
		if got := pagesOf(mem, 4096, 65536); got != want {
			t.Errorf("%d quanta are %d pages of 64 KiB, want %d", mem, got, want)
		}
	}
}

// hostRoot is a proc file system with the counters of a host, and no others.
func hostRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range map[string]string{
		"sys/net/ipv4/tcp_mem":            "10 20 30\n",
		"sys/net/ipv4/tcp_max_orphans":    "40\n",
		"sys/net/ipv4/tcp_max_tw_buckets": "50\n",
		"sys/net/core/mem_pcpu_rsv":       "256\n",
		"sys/fs/file-nr":                  "60 0 70\n",
		"net/sockstat":                    "sockets: used 9\nTCP: inuse 3 orphan 1 tw 2 alloc 9 mem 5\n",
		"net/protocols":                   "protocol  size sockets  memory press maxhdr\nTCP 2000 3 5 yes 320\n",
	} {
		write(t, filepath.Join(root, path), text)
	}
	return root
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestOptionalCounters: what is not the pool itself is a gap where it fails,
// and never the end of the sample.
func TestOptionalCounters(t *testing.T) {
	root := hostRoot(t)
	h, err := openHost(procfs.New(root), filepath.Join(root, "nosys"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	codes := func(v reading.Sample) (list []string) {
		for _, g := range v.Gaps {
			list = append(list, g.Code)
		}
		return list
	}
	v, err := h.read()
	if err != nil {
		t.Fatal(err)
	}
	if v.UnderPressure == nil || !*v.UnderPressure || v.Used != 5 || v.ReserveMax != reading.Pages(256*runtime.NumCPU()) {
		t.Errorf("sample %+v", v)
	}
	if diff := cmp.Diff([]string{"cpus-unreadable"}, codes(v)); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}

	for _, path := range []string{"net/protocols", "sys/net/ipv4/tcp_max_tw_buckets", "sys/fs/file-nr"} {
		write(t, filepath.Join(root, path), "nonsense\n")
	}
	v, err = h.read()
	if err != nil {
		t.Fatalf("optional counters fail the sample: %v", err)
	}
	if v.UnderPressure != nil || v.MaxTimeWait != nil || v.Files != nil || v.Used != 5 {
		t.Errorf("sample %+v", v)
	}
	want := []string{"cpus-unreadable", "pressure-flag-unreadable", "time-wait-limit-unreadable", "file-handles-unreadable"}
	if diff := cmp.Diff(want, codes(v)); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}

	write(t, filepath.Join(root, "net/sockstat"), "nonsense\n")
	if _, err := h.read(); err == nil {
		t.Error("a sample without the pool")
	}
}

// TestAskTurn: of many hidden sockets each scan asks a part, and after some
// scans each was asked.
func TestAskTurn(t *testing.T) {
	for _, n := range []int{0, 1, maxAsked, maxAsked + 1, 5*maxAsked + 3} {
		var turn askTurn
		times := make([]int, n)
		scans := (n+maxAsked-1)/maxAsked + 1
		for range scans {
			asked := turn.take(n)
			count := 0
			for i := range n {
				if asked(i) {
					times[i]++
					count++
				}
			}
			if count != min(n, maxAsked) {
				t.Errorf("of %d, one scan asks %d", n, count)
			}
		}
		if n > 0 && slices.Min(times) == 0 {
			t.Errorf("of %d, some are not asked in %d scans", n, scans)
		}
		turn.all = true
		asked := turn.take(n)
		for i := range n {
			if !asked(i) {
				t.Errorf("of %d, not all are asked when all must be", n)
				break
			}
		}
	}
}

// TestUnknownSpace: a namespace that no sweep saw is none of those seen, also
// when more are found later.
func TestUnknownSpace(t *testing.T) {
	s := &Scanner{spaces: []*netns.Namespace{
		{ID: reading.NetnsID{Inode: 1}}, {ID: reading.NetnsID{Inode: 2, Cookie: 5}},
	}}
	for cookie, want := range map[uint64]uint16{5: 1, 6: unknownSpace, 0: unknownSpace} {
		if got := s.spaceOf(reading.Socket{Netns: reading.NetnsID{Cookie: cookie}}); got != want {
			t.Errorf("cookie %d is at %d, want %d", cookie, got, want)
		}
	}
}

// TestLocals: in which namespaces a connection may end.
func TestLocals(t *testing.T) {
	var l locals
	add := func(ns uint16, addr string, state reading.State) {
		l.add(ns, &reading.Socket{State: state, Local: netip.MustParseAddrPort(addr)})
	}
	for i, addr := range []string{"10.0.0.1:1", "10.0.0.2:1", "[::ffff:10.0.0.1]:2", "127.0.0.1:5"} {
		add(uint16(i), addr, reading.Established)
		add(uint16(i), addr, reading.Established)
	}
	add(9, "10.0.0.9:80", reading.Listen)
	for range 3 {
		for ns := range uint16(20) {
			add(ns, "172.17.0.2:1", reading.CloseWait)
		}
	}
	check := func(from uint16, addr string, want ...uint16) {
		t.Helper()
		if got := l.spaces(from, netip.MustParseAddr(addr)); !slices.Equal(got, want) {
			t.Errorf("from %d to %s: namespaces %v, want %v", from, addr, got, want)
		}
	}
	check(0, "10.0.0.1", 0, 2)
	check(2, "10.0.0.1", 2, 0)
	check(7, "10.0.0.1", 0, 2)
	check(7, "10.0.0.2", 1)
	check(7, "127.0.0.1", 7)
	check(7, "::1", 7)
	check(7, "10.0.0.9")
	check(7, "192.0.2.1") // another host
	check(15, "172.17.0.2", 15, 0, 1, 2, 3, 4, 5, 6, 7)
	for i := range uint32(maxLocals) {
		add(0, fmt.Sprintf("11.%d.%d.%d:1", i>>16, i>>8&255, i&255), reading.Established)
	}
	if len(l.at) != maxLocals || !l.full {
		t.Errorf("%d addresses, full %v", len(l.at), l.full)
	}
	check(7, "192.0.2.1", 7) // who knows
}

// TestLeave: what a dump leaves out is a gap, one for all MPTCP sockets.
func TestLeave(t *testing.T) {
	var w sweep
	n := &netns.Namespace{ID: reading.NetnsID{Inode: 7}}
	w.leave(n, leftOut{})
	if w.blind || w.gaps != nil {
		t.Errorf("blind %v, gaps %+v; nothing was left out", w.blind, w.gaps)
	}
	w.leave(n, leftOut{mptcp: 3})
	w.leave(n, leftOut{rows: 2})
	w.leave(n, leftOut{mptcp: 4})
	var got []string
	for _, g := range w.gaps {
		got = append(got, g.Code+": "+g.What)
	}
	want := []string{"mptcp-undumpable: 7 MPTCP sockets", "sockets-unreadable: 2 sockets of netns 7"}
	if diff := cmp.Diff(want, got); diff != "" || !w.blind {
		t.Errorf("blind %v, gaps (-want +got):\n%s", w.blind, diff)
	}
}

// TestRetryMPTCP: one odd answer does not last for ever.
func TestRetryMPTCP(t *testing.T) {
	s := &Scanner{noMPTCP: true}
	scans := 0
	for ; s.noMPTCP && scans < 1000; scans++ {
		s.retryMPTCP()
	}
	if scans != 100 {
		t.Errorf("asked again after %d scans, want 100", scans)
	}
}

// TestOutOfSight: a socket of two holders is one.
func TestOutOfSight(t *testing.T) {
	o := outOfSight{seen: map[reading.Cookie]struct{}{}}
	if o.gaps() != nil {
		t.Error("a gap for nothing")
	}
	for range 2 {
		o.add(&reading.Socket{Cookie: 1, Mem: reading.SkMem{RmemAlloc: 100}}, 10)
	}
	o.add(&reading.Socket{Cookie: 2, Mem: reading.SkMem{WmemQueued: 50}}, 10)
	gaps := o.gaps()
	if len(gaps) != 1 || gaps[0].Code != "netns-unseen" || *gaps[0].MayHideBytes != 150 || o.sum.Sockets != 2 {
		t.Errorf("gaps %+v, sum %+v; want two sockets with 150 bytes", gaps, o.sum)
	}
}
