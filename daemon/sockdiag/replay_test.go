package sockdiag

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

var recordings = []string{"tcp", "mptcp"}

func checkError(t *testing.T, err error, part string) {
	t.Helper()
	switch {
	case part == "" && err != nil:
		t.Errorf("error %v, want none", err)
	case part != "" && (err == nil || !strings.Contains(err.Error(), part)):
		t.Errorf("error %v, want one with %q", err, part)
	}
}

func TestReplay(t *testing.T) {
	for _, name := range recordings {
		r := load(t, name)
		want, err := os.ReadFile(filepath.Join("testdata", name+".golden"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), r.summary(t)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		err = r.replay(t.Context(), func(s *reading.Socket) {
			for _, a := range []string{s.Local.Addr().Unmap().String(), s.Remote.Addr().Unmap().String()} {
				if !strings.HasPrefix(a, "127.") && a != "::1" && a != "::" && a != "0.0.0.0" {
					t.Errorf("%s holds the address %s of a real machine", name, a)
				}
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// messages takes a recording apart.
func (r recording) messages(t testing.TB) (out [][]byte) {
	t.Helper()
	for _, b := range r.datagrams {
		for len(b) > 0 {
			_, rest, err := nextMessage(b)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, b[:len(b)-len(rest)])
			b = rest
		}
	}
	return out
}

// with puts messages together as datagrams of one message each.
func (r recording) with(messages ...[]byte) recording {
	return recording{name: r.name, seq: r.seq, datagrams: messages}
}

// cookies lists what a replay shows.
func (r recording) cookies(t *testing.T) (list []reading.Cookie, err error) {
	t.Helper()
	err = r.replay(t.Context(), func(s *reading.Socket) { list = append(list, s.Cookie) })
	return list, err
}

// TestReplayTruncated cuts the recording at every byte: of that only the whole
// may come out as a complete list.
func TestReplayTruncated(t *testing.T) {
	for _, name := range recordings {
		r := load(t, name)
		whole, err := r.cookies(t)
		if err != nil {
			t.Fatal(err)
		}
		last := len(r.datagrams) - 1
		for i, d := range r.datagrams {
			for n := range d {
				if i != last && n%7 != 0 && n > 1000 {
					continue // one message is like the other
				}
				cut := r.with(slices.Clone(r.datagrams[:i+1])...)
				cut.datagrams[i] = d[:n]
				got, err := cut.cookies(t)
				if err == nil && !slices.Equal(got, whole) {
					t.Fatalf("%s cut at byte %d of datagram %d: %d of %d sockets and no error", name, n, i, len(got), len(whole))
				}
			}
		}
	}
}

// TestReplayReordered: order and repetition change nothing but what comes twice.
func TestReplayReordered(t *testing.T) {
	for _, name := range recordings {
		r := load(t, name)
		messages := r.messages(t)
		rows, done := messages[:len(messages)-1], messages[len(messages)-1]
		want, err := r.cookies(t)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(want)

		random := rand.New(rand.NewPCG(1, 2))
		shuffled := slices.Clone(rows)
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		got, err := r.with(append(shuffled, done)...).cookies(t)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s in another order: error %v (-want +got):\n%s", name, err, diff)
		}
		twice := append(slices.Concat(rows, rows), done)
		if got, err := r.with(twice...).cookies(t); err != nil || len(got) != 2*len(want) {
			t.Errorf("%s with repeated rows: %d sockets, error %v; want each twice", name, len(got), err)
		}
	}
}

func TestReplayBroken(t *testing.T) {
	r := load(t, "tcp")
	messages := r.messages(t)
	rows := messages[:len(messages)-1]
	half := len(rows) / 2
	enomem := words(^uint32(unix.ENOMEM) + 1)
	change := func(at int, f func([]byte)) [][]byte {
		out := slices.Clone(messages)
		out[at] = slices.Clone(out[at])
		f(out[at])
		return out
	}
	tests := []struct {
		name     string
		messages [][]byte
		want     string
	}{
		{"no end", rows, "no answer"},
		{"an end of another dump", append(slices.Clone(rows), msg(unix.NLMSG_DONE, r.seq+1, words(0))), "no answer"},
		{"an error in the middle", slices.Insert(slices.Clone(messages), half, msg(unix.NLMSG_ERROR, r.seq, enomem)), "cannot allocate memory"},
		{"a failed end", append(slices.Clone(rows), msg(unix.NLMSG_DONE, r.seq, enomem)), "cannot allocate memory"},
		{"overrun", slices.Insert(slices.Clone(messages), half, msg(unix.NLMSG_OVERRUN, r.seq)), "unknown type"},
		{"another family", change(half, func(b []byte) { b[16] = unix.AF_PACKET }), "address family 17"},
		{"an attribute of length 0", change(half, func(b []byte) { binary.NativeEndian.PutUint16(b[16+sizeofMsg:], 0) }), "attribute length 0"},
		{"an attribute of length 3", change(half, func(b []byte) { binary.NativeEndian.PutUint16(b[16+sizeofMsg:], 3) }), "attribute length 3"},
		{"an attribute too long", change(half, func(b []byte) { binary.NativeEndian.PutUint16(b[16+sizeofMsg:], 60000) }), "attribute length 60000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.with(tt.messages...).cookies(t)
			checkError(t, err, tt.want)
		})
	}
	t.Run("wrong sequence number", func(t *testing.T) {
		other := change(half, func(b []byte) { binary.NativeEndian.PutUint32(b[8:], r.seq+1) })
		got, err := r.with(other...).cookies(t)
		if err != nil || len(got) != len(rows)-1 {
			t.Errorf("%d sockets, error %v; want all %d but the one that is no answer of ours", len(got), err, len(rows))
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		err := r.with(messages...).replay(ctx, func(*reading.Socket) {
			if n++; n == half {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || n != half {
			t.Errorf("%d rows, error %v; want %d and cancelled", n, err, half)
		}
	})
}

// TestReplayAllocates: the cost of a dump must not grow with its sockets.
func TestReplayAllocates(t *testing.T) {
	r := load(t, "tcp")
	seq := r.seq
	var rows rowReader
	var bytes int64
	yield := func(s *reading.Socket) { bytes += s.Mem.Bytes() }
	allocs := testing.AllocsPerRun(10, func() {
		for _, d := range r.datagrams {
			if _, err := rows.read(d, seq, yield); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocs != 0 {
		t.Errorf("parsing %d messages allocates %.0f times, want 0", len(r.messages(t)), allocs)
	}
}
