package sockdiag

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// msg builds a netlink message; attr an attribute, padded.
func msg(kind uint16, seq uint32, payload ...[]byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr)
	for _, p := range payload {
		b = append(b, p...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint32(b[8:], seq)
	return pad(b)
}

func attr(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, value...))
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func words(values ...uint32) (b []byte) {
	for _, v := range values {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

// head is struct inet_diag_msg of a socket that mem and more describe.
func head(family uint8, state reading.State, timer uint8) []byte {
	b := make([]byte, sizeofMsg)
	b[0], b[1], b[2], b[3] = family, uint8(state), timer, 2
	binary.BigEndian.PutUint16(b[4:], 443)
	binary.BigEndian.PutUint16(b[6:], 50000)
	copy(b[8:], []byte{127, 0, 0, 1})
	copy(b[24:], []byte{127, 0, 0, 2})
	copy(b[40:], words(3, 0x11, 0x22, 250, 7, 8, 1000, 4242))
	return b
}

var mem9 = attr(netlink.INET_DIAG_SKMEMINFO, words(1, 2, 3, 4, 0xffffffff, 6, 7, 8, 9))

func wantSocket() reading.Socket {
	return reading.Socket{
		State: reading.Established, Cookie: 0x22_0000_0011, Inode: 4242, UID: 1000,
		Local: netip.MustParseAddrPort("127.0.0.1:443"), Remote: netip.MustParseAddrPort("127.0.0.2:50000"),
		Interface: 3, Timer: 1, Retrans: 2, TimerExpires: 250, Rqueue: 7, Wqueue: 8,
		Mem: reading.SkMem{
			RmemAlloc: 1, Rcvbuf: 2, WmemAlloc: 3, Sndbuf: 4, FwdAlloc: -1,
			WmemQueued: 6, Optmem: 7, Backlog: 8, Drops: 9,
		},
	}
}

func TestParseSocket(t *testing.T) {
	cgroup := attr(netlink.INET_DIAG_CGROUP_ID, words(5, 1))
	tests := []struct {
		name    string
		attrs   [][]byte
		change  func(row []byte)
		want    func(*reading.Socket)
		failure bool
	}{
		{name: "plain", attrs: [][]byte{mem9}},
		{name: "with cgroup", attrs: [][]byte{mem9, cgroup}, want: func(s *reading.Socket) { s.CgroupID = 1<<32 | 5 }},
		{name: "cgroup first", attrs: [][]byte{cgroup, mem9}, want: func(s *reading.Socket) { s.CgroupID = 1<<32 | 5 }},
		{name: "unknown attributes", attrs: [][]byte{attr(200, []byte("x")), mem9, attr(0x3fff, nil)}},
		{name: "nested flag", attrs: [][]byte{attr(unix.NLA_F_NESTED|netlink.INET_DIAG_SKMEMINFO, mem9[4:])}},
		{
			name: "8 values of memory", attrs: [][]byte{attr(netlink.INET_DIAG_SKMEMINFO, mem9[4:36])},
			want: func(s *reading.Socket) { s.Mem.Drops = 0 },
		},
		{name: "more values than known", attrs: [][]byte{attr(netlink.INET_DIAG_SKMEMINFO, append(mem9[4:40:40], words(10, 11)...))}},
		{name: "7 values of memory", attrs: [][]byte{attr(netlink.INET_DIAG_SKMEMINFO, mem9[4:32])}, failure: true},
		{name: "no memory", failure: true},
		{name: "no memory in FIN_WAIT2", change: func(b []byte) { b[1] = uint8(reading.FinWait2) }, failure: true},
		{name: "cgroup cut", attrs: [][]byte{mem9, attr(netlink.INET_DIAG_CGROUP_ID, words(5))}, failure: true},
		{name: "attribute of length 0", attrs: [][]byte{mem9, words(0)}, failure: true},
		{name: "attribute of length 3", attrs: [][]byte{mem9, words(3)}, failure: true},
		{name: "attribute too long", attrs: [][]byte{mem9, words(9)}, failure: true},
		{name: "half an attribute", attrs: [][]byte{mem9, {4, 0}}, failure: true},
		{name: "another family", attrs: [][]byte{mem9}, change: func(b []byte) { b[0] = unix.AF_UNIX }, failure: true},
		{
			name: "mini socket", change: func(b []byte) { b[1], b[2] = uint8(reading.FinWait2), 3 },
			want: func(s *reading.Socket) {
				s.State, s.Timer, s.Mem = reading.TimeWait, 3, reading.SkMem{}
			},
		},
		{
			name: "bound only", attrs: [][]byte{mem9},
			change: func(b []byte) { b[1] = uint8(reading.Close); clear(b[6:8]); clear(b[24:28]) },
			want: func(s *reading.Socket) {
				s.State, s.Remote = reading.BoundInactive, netip.MustParseAddrPort("0.0.0.0:0")
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := head(unix.AF_INET, reading.Established, 1)
			if tt.change != nil {
				tt.change(b)
			}
			for _, a := range tt.attrs {
				b = append(b, a...)
			}
			want := wantSocket()
			if tt.want != nil {
				tt.want(&want)
			}
			// Left over from the row before: nothing of it may shine through.
			got := reading.Socket{CgroupID: 99, Mem: reading.SkMem{Drops: 99}, State: reading.Listen}
			err := parseSocket(b, &got)
			if tt.failure {
				if err == nil {
					t.Errorf("parsed as %+v, want an error", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(func(x, y netip.AddrPort) bool { return x == y })); diff != "" {
				t.Errorf("socket (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseSocketFamilies(t *testing.T) {
	b := append(head(unix.AF_INET6, reading.Established, 1), mem9...)
	v6 := netip.MustParseAddr("::ffff:127.0.0.1").As16()
	copy(b[8:], v6[:])
	var s reading.Socket
	if err := parseSocket(b, &s); err != nil {
		t.Fatal(err)
	}
	if want := netip.MustParseAddrPort("[::ffff:127.0.0.1]:443"); s.Local != want {
		t.Errorf("local address %v, want %v as the kernel tells it", s.Local, want)
	}
}

func TestErrno(t *testing.T) {
	tests := []struct {
		payload []byte
		want    error // nil: any, with whole
		ok      bool
	}{
		{words(0), nil, true},
		{words(uint32(0xffffffff - 1)), unix.ENOENT, true},
		{words(0, 1, 2), nil, true},
		{words(22), nil, false},         // a positive code is no errno
		{words(0x80000000), nil, false}, // nor is the smallest number
		{words()[:0], errTruncated, false},
		{words(0)[:3], errTruncated, false},
	}
	for _, tt := range tests {
		err := errno(tt.payload)
		if tt.ok && tt.want == nil && err != nil || tt.want != nil && !errors.Is(err, tt.want) || !tt.ok && err == nil {
			t.Errorf("errno(%x) = %v, want %v", tt.payload, err, tt.want)
		}
	}
}

func TestRows(t *testing.T) {
	const seq = 7
	row := msg(tcpdiagGetsock, seq, head(unix.AF_INET, reading.Established, 1), mem9)
	done := msg(unix.NLMSG_DONE, seq, words(0))
	enoent := uint32(0xfffffffe)
	tests := []struct {
		name     string
		messages [][]byte
		rows     int
		done     bool
		failure  string
	}{
		{"whole", [][]byte{row, row, done}, 2, true, ""},
		{"goes on", [][]byte{row}, 1, false, ""},
		{"nothing", nil, 0, false, ""},
		{"an older dump's rest", [][]byte{msg(tcpdiagGetsock, seq-1, head(unix.AF_INET, reading.Established, 1), mem9), row, done}, 1, true, ""},
		{"an older dump's end", [][]byte{msg(unix.NLMSG_DONE, seq-1, words(0)), row}, 1, false, ""},
		{"an acknowledgement", [][]byte{msg(unix.NLMSG_ERROR, seq, words(0)), row, done}, 1, true, ""},
		{"no operation", [][]byte{msg(unix.NLMSG_NOOP, seq), row, done}, 1, true, ""},
		{"an error in the middle", [][]byte{row, msg(unix.NLMSG_ERROR, seq, words(enoent)), done}, 1, false, "no such file"},
		{"an error without a code", [][]byte{msg(unix.NLMSG_ERROR, seq)}, 0, false, "truncated"},
		{"a failed end", [][]byte{row, msg(unix.NLMSG_DONE, seq, words(enoent))}, 1, false, "no such file"},
		{"an end without a code", [][]byte{row, msg(unix.NLMSG_DONE, seq)}, 1, false, "truncated"},
		{"overrun", [][]byte{row, msg(unix.NLMSG_OVERRUN, seq), done}, 1, false, "unknown type 4"},
		{"unknown", [][]byte{row, msg(99, seq), done}, 1, false, "unknown type 99"},
		{"a row cut", [][]byte{msg(tcpdiagGetsock, seq, make([]byte, sizeofMsg-1)), done}, 0, false, "truncated"},
		{"a length of 0", [][]byte{row, make([]byte, 16), done}, 1, false, "length 0"},
		{"a length too large", [][]byte{words(1000, 0, seq, 0)}, 0, false, "length 1000"},
		{"half a header", [][]byte{row, words(16)}, 1, false, "truncated"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b []byte
			for _, m := range tt.messages {
				b = append(b, m...)
			}
			n := 0
			var r rowReader
			done, err := r.read(b, seq, func(*reading.Socket) { n++ })
			if n != tt.rows || done != tt.done {
				t.Errorf("%d rows, done %v; want %d, %v", n, done, tt.rows, tt.done)
			}
			checkError(t, err, tt.failure)
		})
	}
}

// TestRowsWithoutMemory: a row whose memory the kernel does not tell is counted,
// and the others are still read.
func TestRowsWithoutMemory(t *testing.T) {
	const seq = 7
	bare := head(unix.AF_INET, reading.Established, 1)
	b := slices.Concat(
		msg(tcpdiagGetsock, seq, bare), msg(tcpdiagGetsock, seq, bare, mem9),
		msg(tcpdiagGetsock, seq, head(unix.AF_INET, reading.FinWait2, 3)), msg(unix.NLMSG_DONE, seq, words(0)))
	var r rowReader
	var states []reading.State
	done, err := r.read(b, seq, func(s *reading.Socket) { states = append(states, s.State) })
	if !done || err != nil || r.skipped != 1 {
		t.Errorf("done %v, error %v, %d skipped; want 1", done, err, r.skipped)
	}
	if want := []reading.State{reading.Established, reading.TimeWait}; !slices.Equal(states, want) {
		t.Errorf("rows in states %v, want %v", states, want)
	}
}

// TestTCPInfo: the struct has grown; what a kernel lacks is not known, not zero.
func TestTCPInfo(t *testing.T) {
	full := make([]byte, 248)
	for i := range full {
		full[i] = byte(i)
	}
	for _, tt := range []struct {
		size                      int
		ok, acked, received, rate bool
	}{
		{248, true, true, true, true},
		{168, true, true, true, true},
		{167, true, true, true, false},
		{136, true, true, true, false},
		{135, true, true, false, false},
		{127, true, false, false, false},
		{104, true, false, false, false},
		{103, false, false, false, false},
		{0, false, false, false, false},
	} {
		i, err := parseTCPInfo(full[:tt.size])
		if (err == nil) != tt.ok {
			t.Errorf("%d bytes: error %v", tt.size, err)
		}
		if err != nil {
			continue
		}
		if (i.BytesAcked != nil) != tt.acked || (i.BytesReceived != nil) != tt.received || (i.DeliveryRate != nil) != tt.rate {
			t.Errorf("%d bytes: %+v", tt.size, i)
		}
	}
}

func TestParseMemInfo(t *testing.T) {
	if _, err := parseMemInfo(mem9[4:35]); !errors.Is(err, errTruncated) {
		t.Errorf("31 bytes: error %v, want truncated", err)
	}
	got, err := parseMemInfo(mem9[4:40])
	if diff := cmp.Diff(wantSocket().Mem, got); err != nil || diff != "" {
		t.Errorf("error %v, (-want +got):\n%s", err, diff)
	}
}
