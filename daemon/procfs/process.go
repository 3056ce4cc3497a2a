package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Stat is what /proc/PID/stat says of a process (do_task_stat in
// fs/proc/array.c).
type Stat struct {
	PID  int
	Comm string // chosen by the process, any bytes
	// State is the letter of proc(5): R, S, D, Z, T, t, X, I, ...
	State byte
	PPID  int
	// Threads is the number of threads, the main one included even after it
	// has ended (get_nr_threads).
	Threads int64
	// StartTime is in clock ticks (USER_HZ, 100 per second on every
	// architecture in use) since boot: with PID it is never reused.
	StartTime uint64
	// Kernel: it is a thread of the kernel (PF_KTHREAD in include/linux/sched.h).
	Kernel bool
}

// Zombie reports whether the process has ended and holds no file any more.
func (s Stat) Zombie() bool { return s.ended() && s.Threads <= 1 }

// MainEnded reports whether the main thread alone has ended (pthread_exit(3) in
// main): the process looks like a zombie and /proc/PID/fd is empty, yet its
// other threads live on and hold its files. See LivingThread.
func (s Stat) MainEnded() bool { return s.ended() && s.Threads > 1 }

func (s Stat) ended() bool { return s.State == 'Z' || s.State == 'X' }

// Stat reads /proc/PID/stat. The error wraps fs.ErrNotExist, or ESRCH, where the
// process is gone; Gone knows both.
func (f FS) Stat(pid int) (Stat, error) { return f.stat(f.pidPath(pid, "stat")) }

func (f FS) stat(path string) (Stat, error) {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	data, _, err := readOnce(path, *buf) // 52 short fields: always fits
	if err != nil {
		return Stat{}, err
	}
	s, err := parseStat(data)
	if err != nil {
		return Stat{}, fmt.Errorf("parse %s: %w", path, err)
	}
	return s, nil
}

// UID gives the effective user id of a process: the owner of /proc/PID itself,
// which unlike the files in it is right also for processes that cannot be
// dumped (task_dump_owner in fs/proc/base.c).
func (f FS) UID(pid int) (uint32, error) {
	var st unix.Stat_t
	path := f.pidPath(pid, "")
	for {
		err := unix.Stat(path, &st)
		if err == nil {
			return st.Uid, nil
		}
		if err != unix.EINTR {
			return 0, &os.PathError{Op: "stat", Path: path, Err: err}
		}
	}
}

// Cmdline0 gives the base name of the first word of argv[0] from
// /proc/PID/cmdline, "" for kernel threads and zombies. Never more than that:
// programs that rewrite their title put the rest of the command line, and with
// it secrets, into argv[0] (setproctitle; get_mm_cmdline in fs/proc/base.c).
// The process chooses the text.
func (f FS) Cmdline0(pid int) (string, error) { return f.cmdline0(f.pidPath(pid, "cmdline")) }

func (f FS) cmdline0(path string) (string, error) {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	data, _, err := readOnce(path, (*buf)[:maxTitle])
	if err != nil {
		return "", err
	}
	return parseCmdline0(data), nil
}

// Command names a process for people: its comm, and the base name of argv[0] in
// parentheses where they differ; a comm that is argv[0] cut at 15 bytes is left
// out. The process chooses both: escape it before a person sees it.
func (f FS) Command(pid int) (string, error) {
	s, err := f.Stat(pid)
	if err != nil {
		return "", err
	}
	return f.CommandOf(s)
}

// CommandOf is Command for a process whose Stat is known already.
func (f FS) CommandOf(s Stat) (string, error) {
	path := f.pidPath(s.PID, "cmdline")
	if s.MainEnded() {
		tid, err := f.LivingThread(s.PID)
		if err != nil {
			return "", err
		}
		path = f.pidPath(s.PID, "task/"+strconv.Itoa(tid)+"/cmdline")
	}
	arg, err := f.cmdline0(path)
	if err != nil {
		return "", err
	}
	return command(s.Comm, arg), nil
}

// Gone reports whether err says that the process is no more: its directory
// vanished, or a file opened in time answered ESRCH.
func Gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// OpenForks opens stat and reads its number of processes ever started on the
// host (total_forks, show_stat in fs/proc/stat.c), threads included. Equal
// numbers mean that no process is new. The read costs more the more CPUs and
// interrupts the machine has, since the kernel sums and prints all of them.
func (f FS) OpenForks() (*CountFile, error) { return keep(f.path("stat"), firstRead, parseForks) }

// Forks reads the number once; see OpenForks.
func (f FS) Forks() (int64, error) { return once(f.OpenForks) }

func (f FS) pidPath(pid int, file string) string {
	path := f.root + "/" + strconv.Itoa(pid)
	if file != "" {
		path += "/" + file
	}
	return path
}

// readOnce reads a file from its start into buf; full says that there may be more.
// It goes around os.File, which would cost four allocations and a registration
// with the poller for each of thousands of processes.
func readOnce(path string, buf []byte) (data []byte, full bool, err error) {
	fd, err := openRaw(path, unix.O_RDONLY)
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(fd)
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, false, &os.PathError{Op: "read", Path: path, Err: err}
		case m == 0:
			return buf[:n], false, nil
		}
		n += m
	}
	return buf, true, nil
}

func openRaw(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return fd, nil
	}
}

// parseStat takes everything up to the last parenthesis as comm: the kernel
// does not escape it, so it may hold parentheses, blanks and newlines, but only
// numbers come after it.
func parseStat(data []byte) (Stat, error) {
	left, right := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if left < 0 || right < left {
		return Stat{}, errors.New("no name in parentheses")
	}
	line, rest, ok := nextLine(data[right+1:])
	if !ok {
		return Stat{}, errTruncated
	}
	if len(rest) > 0 {
		return Stat{}, errors.New("more than one line")
	}
	s := Stat{Comm: string(data[left+1 : right])}
	var err error
	if s.PID, err = pid(bytes.TrimSuffix(data[:left], []byte{' '})); err != nil {
		return Stat{}, fmt.Errorf("pid: %w", err)
	}

	// Field 3 of proc_pid_stat(5) is the first behind the name.
	const stateField, ppidField, flagsField, threadsField, startField = 3, 4, 9, 20, 22
	for i := stateField; i <= startField; i++ {
		var word []byte
		if word, line = nextWord(line); len(word) == 0 {
			return Stat{}, fmt.Errorf("%d fields, want %d", i-1, startField)
		}
		switch i {
		case stateField:
			if len(word) != 1 {
				return Stat{}, fmt.Errorf("state %.32q: not one letter", word)
			}
			s.State = word[0]
		case ppidField:
			if s.PPID, err = pid(word); err != nil {
				return Stat{}, fmt.Errorf("parent: %w", err)
			}
		case flagsField:
			flags, err := count(word)
			if err != nil {
				return Stat{}, fmt.Errorf("flags: %w", err)
			}
			const kthread = 0x00200000 // PF_KTHREAD
			s.Kernel = flags&kthread != 0
		case threadsField:
			// 0 for a process that is being reaped.
			if s.Threads, err = count(word); err != nil {
				return Stat{}, fmt.Errorf("threads: %w", err)
			}
		case startField:
			n, err := count(word)
			if err != nil {
				return Stat{}, fmt.Errorf("start time: %w", err)
			}
			s.StartTime = uint64(n)
		}
	}
	return s, nil
}

func pid(word []byte) (int, error) {
	n, err := strconv.ParseUint(string(word), 10, 31)
	if err != nil {
		return 0, numberError(word, err)
	}
	return int(n), nil
}

func parseCmdline0(data []byte) string {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		data = data[:i]
	}
	if i := bytes.IndexAny(data, " \t\n"); i >= 0 {
		data = data[:i]
	}
	if i := bytes.LastIndexByte(data, '/'); i >= 0 {
		data = data[i+1:]
	}
	// A login shell has "-bash", a rewritten title "nginx: master process".
	return strings.TrimSuffix(strings.TrimPrefix(string(data), "-"), ":")
}

// maxTitle is as much of a command line as is looked at for argv[0].
const maxTitle = 1024

// commLen is TASK_COMM_LEN without its terminator (include/linux/sched.h).
const commLen = 15

func command(comm, arg string) string {
	switch {
	case arg == "" || arg == comm:
		return comm
	case len(comm) == commLen && strings.HasPrefix(arg, comm):
		return arg
	}
	return comm + " (" + arg + ")"
}

func parseForks(data []byte) (int64, error) {
	rest, _, err := findLine(data, "processes")
	if err != nil {
		return 0, err
	}
	word, _ := nextWord(rest)
	return count(word)
}
