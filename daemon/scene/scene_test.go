package scene

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

func TestMain(m *testing.M) {
	RunIfChild()
	goleak.VerifyTestMain(m)
}

// isolated gives a child in a namespace of its own: what it counts is its own.
func isolated(t *testing.T) (*Child, *Netns) {
	t.Helper()
	require.Root(t)
	ns := NewNetns(t)
	return StartT(t, ChildOptions{Netns: ns}), ns
}

// sockstat reads one number of /proc/net/sockstat (or sockstat6) in the
// namespace; nil is the test's own.
func sockstat(t *testing.T, ns *Netns, file, line, field string) int {
	t.Helper()
	var data []byte
	read := func() (err error) {
		data, err = os.ReadFile("/proc/thread-self/net/" + file)
		return err
	}
	var err error
	if ns == nil {
		err = read()
	} else {
		err = ns.Do(read)
	}
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(data)) {
		words := strings.Fields(l)
		for i := 1; i+1 < len(words); i += 2 {
			if words[0] == line+":" && words[i] == field {
				return atoi(t, words[i+1])
			}
		}
	}
	t.Fatalf("no %s %s in %s", line, field, file)
	return 0
}

// hostCounter checks that building and releasing n sockets moves a host-wide
// counter of sockstat up and down by n. Other programs move it too: some tries.
func hostCounter(t *testing.T, field string, n int, build, release func()) {
	t.Helper()
	read := func() int { return sockstat(t, nil, "sockstat", "TCP", field) }
	var up, down int
	for range 5 {
		before := read()
		build()
		built := read()
		release()
		up, down = built-before, built-read()
		if max(up-n, n-up, down-n, n-down) <= n/20 {
			return
		}
	}
	t.Errorf("%s rose by %d and fell by %d, want %d", field, up, down, n)
}

// ssRow is a line of ss -H.
type ssRow struct {
	state, local, remote, rest string
}

// ss lists the sockets of the namespace.
func ss(t *testing.T, ns *Netns, args ...string) []ssRow {
	t.Helper()
	path := require.Tool(t, "ss")
	var out []byte
	err := ns.Do(func() (err error) {
		out, err = exec.Command(path, append([]string{"-H", "-n", "-O"}, args...)...).Output()
		return err
	})
	if err != nil {
		t.Fatalf("ss %v: %v", args, err)
	}
	var rows []ssRow
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 5 {
			t.Fatalf("ss %v: %q", args, lines.Text())
		}
		rows = append(rows, ssRow{f[0], f[3], f[4], strings.Join(f[5:], " ")})
	}
	return rows
}

// ssBytes sums rmem_alloc, wmem_queued and fwd_alloc over skmem:(...) of the rows.
func ssBytes(t *testing.T, rows []ssRow) int64 {
	t.Helper()
	var sum int64
	for _, r := range rows {
		_, rest, ok := strings.Cut(r.rest, "skmem:(")
		if !ok {
			continue
		}
		mem, _, _ := strings.Cut(rest, ")")
		for field := range strings.SplitSeq(mem, ",") {
			switch {
			case strings.HasPrefix(field, "rb"), strings.HasPrefix(field, "tb"), strings.HasPrefix(field, "bl"):
			case strings.HasPrefix(field, "r"), strings.HasPrefix(field, "f"), strings.HasPrefix(field, "w"):
				sum += int64(atoi(t, field[1:]))
			}
		}
	}
	return sum
}

// check verifies what every settled scene must fulfil: each class has n
// sockets, and the memory is whole pages.
func check(t *testing.T, b *Built, want map[reading.Class]int) {
	t.Helper()
	tally := b.Tally()
	for class, sum := range tally {
		if int(sum.Sockets) != want[reading.Class(class)] {
			t.Errorf("%v: %d sockets, want %d", reading.Class(class), sum.Sockets, want[reading.Class(class)])
		}
	}
	if !b.Settled {
		t.Error("not settled")
	}
	if b.Bytes()%int64(os.Getpagesize()) != 0 {
		t.Errorf("%d bytes are not whole pages", b.Bytes())
	}
	cookies := make(map[reading.Cookie]bool)
	for _, s := range b.Sockets {
		if s.Gone {
			continue
		}
		// mptcp_sk_clone_init leaves an accepted MPTCP socket with the cookie of
		// its listener, where that was given one before.
		if s.Cookie == 0 || cookies[s.Cookie] && !(s.MPTCP && s.Role == Accepted) {
			t.Errorf("%s socket %v: cookie %d is 0 or not its own", s.Role, s.Local, s.Cookie)
		}
		cookies[s.Cookie] = true
		if (s.FD >= 0) != (s.Inode != 0) && s.Role != Subflow {
			t.Errorf("%s socket %v: descriptor %d with inode %d", s.Role, s.Local, s.FD, s.Inode)
		}
	}
}

var pageSize = os.Getpagesize()

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0) }

// gone waits for a process that is not our child to end; its new parent may
// take its time to reap it.
func gone(pid int) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(pollEvery) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if os.IsNotExist(err) || strings.Contains(string(stat), ") Z ") {
			return true
		}
	}
	return false
}

func home4() netip.AddrPort { return netip.AddrPortFrom(home(IPv4, os.Getpid()), 9) }
