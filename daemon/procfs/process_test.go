package procfs

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestProcessFixture(t *testing.T) {
	f := New(fixture)
	for _, tt := range []struct {
		pid     int
		stat    Stat
		command string
		cgroup  Cgroup
		v1Only  bool
	}{
		{1, Stat{1, "systemd", 'S', 0, 1, 9, false}, "systemd", Cgroup{Path: "/init.scope"}, false},
		{
			412,
			Stat{412, "task) (\nqueue", 'R', 1, 1, 112424, false},
			"task) (\nqueue (python3)",
			Cgroup{V1: "/system.slice/task-queue.service"},
			true,
		},
		{77, Stat{77, "kworker/u4:1-events_unbound", 'I', 2, 1, 66, true}, "kworker/u4:1-events_unbound", Cgroup{Path: "/"}, false},
	} {
		s, err := f.Stat(tt.pid)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, tt.stat, s)
		name, err := f.Command(tt.pid)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, tt.command, name)
		c, err := f.Cgroup(tt.pid)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, tt.cgroup, c)
		equal(t, tt.v1Only, c.V1Only())
		owner, err := os.Stat(filepath.Join(fixture, strconv.Itoa(tt.pid)))
		if err != nil {
			t.Fatal(err)
		}
		if uid, err := f.UID(tt.pid); err != nil || uid != owner.Sys().(*syscall.Stat_t).Uid {
			t.Errorf("uid: %d, %v", uid, err)
		}
	}
	_, err := f.Stat(4711)
	if !Gone(err) || !strings.HasPrefix(err.Error(), "open "+fixture+"/4711/stat: ") {
		t.Errorf("no process: %v", err)
	}
	if _, err := f.UID(4711); !Gone(err) {
		t.Errorf("no process: %v", err)
	}
}

func TestOwnProcess(t *testing.T) {
	f := New(realProc)
	s, err := f.Stat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if s.PID != os.Getpid() || s.PPID != os.Getppid() || s.StartTime == 0 || s.Zombie() {
		t.Errorf("own stat: %+v", s)
	}
	if uid, err := f.UID(s.PID); err != nil || int(uid) != os.Geteuid() {
		t.Errorf("own uid: %d, %v", uid, err)
	}
	if arg, err := f.Cmdline0(s.PID); err != nil || arg != filepath.Base(os.Args[0]) {
		t.Errorf("own argv[0]: %q, %v", arg, err)
	}
	if c, err := f.Cgroup(s.PID); err != nil || c.Path == "" && c.V1 == "" {
		t.Errorf("own cgroup: %+v, %v", c, err)
	}
}

// TestHostileName lets a real process choose the worst name the kernel allows.
func TestHostileName(t *testing.T) {
	const name = ") R 1\n2 \x1b[31m("
	dir := t.TempDir()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "1000")
	cmd.Args[0] = "/a b/--password=secret"
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f, pid := New(realProc), cmd.Process.Pid
	// Start returns when exec has closed its descriptors; the command line
	// appears a little later (mm->env_end, get_mm_cmdline).
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		if arg, err := f.Cmdline0(pid); err != nil {
			t.Fatal(err)
		} else if arg != "" {
			break
		} else if time.Since(begun) > 5*time.Second {
			t.Fatal("no command line")
		}
	}
	s, err := f.Stat(pid)
	if err != nil {
		t.Error(err)
	} else if s.Comm != name || s.PPID != os.Getpid() || s.PID != pid {
		t.Errorf("stat: %+v", s)
	}
	got, err := f.Command(pid)
	if want := name + " (a)"; err != nil || got != want {
		t.Errorf("command: %q, %v, want %q", got, err, want)
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // killed: an error is expected
	if _, err := f.Stat(pid); !Gone(err) {
		t.Errorf("ended process: %v", err)
	}
}

// TestMainEnded: a dead main thread is no dead process while others live.
func TestMainEnded(t *testing.T) {
	for _, tt := range []struct {
		state             byte
		threads           int
		zombie, mainEnded bool
	}{
		{'S', 1, false, false},
		{'S', 5, false, false},
		{'Z', 1, true, false},
		{'Z', 2, false, true},
		{'X', 1, true, false},
		{'X', 0, true, false},
		{'X', 3, false, true},
	} {
		line := fmt.Sprintf("5 (a) %c 7%s %d 0 99\n", tt.state, strings.Repeat(" 0", 15), tt.threads)
		s, err := parseStat([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if s.Threads != int64(tt.threads) || s.Zombie() != tt.zombie || s.MainEnded() != tt.mainEnded {
			t.Errorf("%q: zombie %v, main thread ended %v: %+v", line, s.Zombie(), s.MainEnded(), s)
		}
	}
}

// TestDirents: a name has its NUL and nothing of what pads the entry behind it.
func TestDirents(t *testing.T) {
	b := dirents(".", "12", "a")
	for i := range b[:24] { // "." has five bytes of padding
		if i > direntName+1 {
			b[i] = 0xaa
		}
	}
	var names []string
	for name, err := range Dirents(b) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, string(name))
	}
	equal(t, []string{".\x00", "12\x00", "a\x00"}, names)
	for name, err := range Dirents(b) {
		if err != nil || len(name) != 2 {
			t.Errorf("%q, %v", name, err)
		}
		break // it may be left early
	}
	noEnd := dirents("1234")
	for i := direntName; i < len(noEnd); i++ {
		noEnd[i] = '1'
	}
	for what, bad := range map[string][]byte{"no end": noEnd, "cut": b[:30], "short": b[:direntName]} {
		var last error
		for _, err := range Dirents(bad) {
			last = err
		}
		if last == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func TestThreads(t *testing.T) {
	f := New(realProc)
	tids, err := f.AppendThreads(nil, os.Getpid())
	if err != nil || !slices.Contains(tids, int32(os.Getpid())) || len(tids) < 2 {
		t.Errorf("own threads: %v, %v", tids, err)
	}
	if tid, err := f.LivingThread(os.Getpid()); err != nil || tid != os.Getpid() {
		t.Errorf("own living thread: %d, %v", tid, err)
	}
	if _, err := f.AppendThreads(nil, math.MaxInt32); !Gone(err) {
		t.Errorf("threads of nobody: %v", err)
	}
	// One that ended and that nobody waited for has its main thread, dead.
	cmd := exec.CommandContext(t.Context(), "true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		if s, err := f.Stat(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		} else if s.Zombie() {
			break
		} else if time.Since(begun) > 5*time.Second {
			t.Fatalf("it does not end: %+v", s)
		}
	}
	if tid, err := f.LivingThread(cmd.Process.Pid); !Gone(err) {
		t.Errorf("living thread of a zombie: %d, %v", tid, err)
	}
}

func TestParseStat(t *testing.T) {
	tail := " S 7" + strings.Repeat(" 0", 17) + " 99 1 2\n"
	for in, comm := range map[string]string{
		"5 (a)": "a", "5 ()": "", "5 (a) (b)": "a) (b", "5 (((": "", "5 ( )": " ", "5 (a\nb)": "a\nb", "5 (\x00)": "\x00",
		"5 (x) S 1 2 3)": "x) S 1 2 3",
	} {
		got, err := parseStat([]byte(in + tail))
		if in == "5 (((" {
			if err == nil {
				t.Errorf("%q = %+v", in, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		equal(t, Stat{5, comm, 'S', 7, 0, 99, false}, got)
	}
	refuses(t, parseStat, "", "5", "5 (a", "5 a)", ")(", "5 (a)", "5 (a)\n", "5 (a) S\n", "5 (a) S 7 0\n",
		"(a)"+tail, "x (a)"+tail, "-5 (a)"+tail, "2147483648 (a)"+tail, "5 (a)"+strings.TrimSuffix(tail, "\n"),
		"5 (a) SS 7"+strings.Repeat(" 0", 17)+" 99\n", "5 (a) S 7"+strings.Repeat(" 0", 17)+" -1\n",
		"5 (a) S 7"+strings.Repeat(" 0", 17)+" 18446744073709551616\n", "5 (a)"+tail+"more\n")
}

func TestParseCmdline0(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      "",
		"\x00":                                  "",
		"/usr/sbin/nginx\x00-g\x00":             "nginx",
		"nginx: master process /usr/sbin/nginx": "nginx",
		"postgres: user db secret\x00":          "postgres",
		"/opt/chrome --key=/a/b\x00":            "chrome",
		"-bash\x00":                             "bash",
		"no end":                                "no",
		"/":                                     "",
		"a\nb\x00":                              "a",
		"\x1b[31m\x00":                          "\x1b[31m",
	} {
		if got := parseCmdline0([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestCommand(t *testing.T) {
	for _, tt := range []struct{ comm, arg, want string }{
		{"sshd", "sshd", "sshd"},
		{"sshd", "", "sshd"},
		{"gunicorn", "python3", "gunicorn (python3)"},
		{"systemd-journal", "systemd-journald", "systemd-journald"},
		{"system", "systemd", "system (systemd)"},
		{"", "x", " (x)"},
	} {
		if got := command(tt.comm, tt.arg); got != tt.want {
			t.Errorf("command(%q, %q) = %q, want %q", tt.comm, tt.arg, got, tt.want)
		}
	}
}

func TestParseCgroup(t *testing.T) {
	for in, want := range map[string]Cgroup{
		"":                          {},
		"0::/\n":                    {Path: "/"},
		"0::/a:b/c.service\n":       {Path: "/a:b/c.service"},
		"0::/../../other\n":         {Path: "/../../other"},
		"0::/x.service (deleted)\n": {Path: "/x.service", Gone: true},
		"4:memory:/a\n1:name=systemd:/s/x.service\n0::/\n": {Path: "/", V1: "/s/x.service"},
		"4:memory:/long/er\n3:cpu,cpuacct:/a\n":            {V1: "/long/er"},
		"4:memory:/long/er\n1:name=systemd:/\n":            {V1: "/long/er"},
		"2:cpu:/\n1:name=systemd:/\n":                      {V1: "/"},
		"4:memory:/a (deleted)\n":                          {V1: "/a (deleted)"},
	} {
		accepts(t, parseCgroup, in, want)
	}
	refuses(t, parseCgroup, "0::/a", "0:/a\n", "x::/a\n", "0::a\n", "0::\n", "\n", "-1::/\n", "99999999999999999999::/\n")
}

func TestLongCgroup(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "9"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{4095, firstRead - 6, firstRead - 5, firstRead, maxCgroup - 6, maxCgroup - 5, maxCgroup} {
		path := "/" + strings.Repeat("a", n)
		if err := os.WriteFile(filepath.Join(dir, "9/cgroup"), []byte("0::"+path+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := New(dir).Cgroup(9)
		if tooLong := n+5 >= maxCgroup; (err != nil) != tooLong || !tooLong && c.Path != path {
			t.Errorf("path of %d bytes: %d bytes, %v", n, len(c.Path), err)
		}
	}
}

func TestPIDs(t *testing.T) {
	f := New(fixture)
	p, err := f.OpenPIDs()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for range 2 { // the second listing begins anew
		got, err := p.Append([]int32{-1})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got) // a fixture has no order
		equal(t, []int32{-1, 1, 77, 412}, got)
	}
}

func TestPIDsOfThisKernel(t *testing.T) {
	p, err := New(realProc).OpenPIDs()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	got, err := p.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(got) || !slices.Contains(got, int32(os.Getpid())) {
		t.Errorf("processes %v", got)
	}
	buf := make([]int32, 0, 1<<16)
	if n := testing.AllocsPerRun(20, func() {
		if _, err := p.Append(buf); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a listing", n)
	}
}

// dirents writes a getdents64 buffer.
func dirents(names ...string) []byte {
	var b []byte
	for _, name := range names {
		size := (direntName + len(name) + 1 + 7) &^ 7
		e := make([]byte, size)
		binary.NativeEndian.PutUint16(e[16:], uint16(size))
		copy(e[direntName:], name)
		b = append(b, e...)
	}
	return b
}

func TestAppendPIDs(t *testing.T) {
	got, err := appendPIDs(nil, dirents(".", "..", "1", "self", "12a", "2147483647", "2147483648", "0", "-3", "", "99"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, []int32{1, 2147483647, 99}, got)
	good := dirents("7")
	for _, bad := range [][]byte{good[:len(good)-1], good[:10], append(dirents("7"), 0), make([]byte, 64)} {
		if _, err := appendPIDs(nil, bad); err == nil {
			t.Errorf("% x: no error", bad)
		}
	}
}

func BenchmarkProcess(b *testing.B) {
	f, pid := New(realProc), os.Getpid()
	run := func(name string, call func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("stat", func() error { _, err := f.Stat(pid); return err })
	run("uid", func() error { _, err := f.UID(pid); return err })
	run("cgroup", func() error { _, err := f.Cgroup(pid); return err })
	run("cmdline0", func() error { _, err := f.Cmdline0(pid); return err })
	p, err := f.OpenPIDs()
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	var pids []int32
	run("pids", func() error {
		var err error
		pids, err = p.Append(pids[:0])
		return err
	})
	b.Log(strconv.Itoa(len(pids)) + " processes")
}
