package sockdiag

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// some gives a few messages of each recording: its first, its last and one of
// each state.
func some(f testing.TB) (out [][]byte) {
	f.Helper()
	for _, name := range recordings {
		messages := load(f, name).messages(f)
		var states [256]bool
		for i, m := range messages {
			if state := m[17]; i == len(messages)-1 || !states[state] {
				states[state] = true
				out = append(out, m)
			}
		}
	}
	return out
}

// FuzzRows: whatever the buffer holds, every row that comes out was in it, and
// what is not understood is an error.
func FuzzRows(f *testing.F) {
	all := some(f)
	for _, m := range all {
		f.Add(m)
	}
	f.Add(bytes.Join(all, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 12 {
			return
		}
		m, _, err := nextMessage(b)
		if err != nil {
			return
		}
		n, before := 0, bytes.Clone(b)
		var r rowReader
		done, err := r.read(b, m.seq, func(s *reading.Socket) {
			n++
			if !s.Local.IsValid() || !s.Remote.IsValid() {
				t.Errorf("row without addresses: %+v", s)
			}
		})
		if done && err != nil {
			t.Error("complete and failed at once")
		}
		if n > len(b)/(unix.SizeofNlMsghdr+sizeofMsg) {
			t.Errorf("%d rows out of %d bytes", n, len(b))
		}
		if !bytes.Equal(before, b) {
			t.Error("the buffer was written to")
		}
	})
}

func FuzzParseSocket(f *testing.F) {
	for _, m := range some(f) {
		f.Add(m[unix.SizeofNlMsghdr:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var x, y reading.Socket
		y.CgroupID, y.Mem.Drops = 1, 1
		errX, errY := parseSocket(b, &x), parseSocket(b, &y)
		if (errX == nil) != (errY == nil) || errX == nil && x != y {
			t.Errorf("depends on the row before: %+v, %v and %+v, %v", x, errX, y, errY)
		}
		if errX == nil && x.State == reading.TimeWait && b[1] != uint8(reading.TimeWait) && x.Timer != 3 {
			t.Errorf("a socket that is no mini socket lost its memory: %+v", x)
		}
	})
}

func FuzzNextAttr(f *testing.F) {
	for _, m := range some(f) {
		if len(m) > unix.SizeofNlMsghdr+sizeofMsg {
			f.Add(m[unix.SizeofNlMsghdr+sizeofMsg:])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			_, value, rest, err := nextAttr(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) || len(value)+len(rest) > len(b) {
				t.Fatalf("%d bytes became %d and %d", len(b), len(value), len(rest))
			}
			b = rest
		}
	})
}

func FuzzTCPInfo(f *testing.F) {
	f.Add(make([]byte, 104))
	f.Add(make([]byte, 248))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := parseTCPInfo(b)
		if (err == nil) != (len(b) >= 104) || (i == nil) != (err != nil) {
			t.Errorf("%d bytes: %+v, %v", len(b), i, err)
		}
	})
}

func FuzzErrno(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0xfe, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		err := errno(b)
		if zero := len(b) >= 4 && bytes.Equal(b[:4], make([]byte, 4)); zero != (err == nil) {
			t.Errorf("errno(%x) = %v", b, err)
		}
	})
}

// FuzzAcknowledge: an outcome is booked once, for a request that waits, and
// nothing else than the kernel's zero means destroyed.
func FuzzAcknowledge(f *testing.F) {
	f.Add(bytes.Join([][]byte{msg(unix.NLMSG_ERROR, 1, words(0)), msg(unix.NLMSG_ERROR, 2, words(^uint32(1)))}, nil))
	f.Add(msg(unix.NLMSG_ERROR, 3, nil))
	f.Add(msg(unix.NLMSG_DONE, 3, words(0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		waiting := map[uint32]int{1: 0, 2: 1, 3: 2}
		outcomes := make([]error, 3)
		_ = acknowledge(b, waiting, outcomes)
		for _, i := range waiting {
			if outcomes[i] != nil {
				t.Errorf("%d waits, and has the outcome %v", i, outcomes[i])
			}
		}
		if answered := 3 - len(waiting); answered > len(b)/unix.SizeofNlMsghdr {
			t.Errorf("%d outcomes out of %d bytes", answered, len(b))
		}
		for seq := range uint32(3) {
			_, still := waiting[seq+1]
			if !still && outcomes[seq] == nil && !bytes.Contains(b, words(0)) {
				t.Errorf("%d is destroyed without a zero", seq+1)
			}
		}
	})
}
