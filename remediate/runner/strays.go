package runner

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// family is all processes that plugins have brought about. The kernel gives
// what outlives its parent to the nearest ancestor that asked for it
// (PR_SET_CHILD_SUBREAPER), which this process does: whatever a plugin starts,
// and however it forks away, is in the end a child of ours.
//
// A control group per plugin would tell whose a process is without any doubt,
// but needs a delegated subtree of version 2, which not every host has. Here
// the session tells: a plugin leads its own, a process may leave it but not
// enter another, and the daemon itself starts nothing but plugins. So a child
// of ours in another session than ours that is no plugin is a stray.
type family struct {
	proc string // where procfs is

	mu      sync.Mutex
	leaders map[int]bool
}

func newFamily(proc string) (*family, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become the reaper of plugins: %w", err)
	}
	return &family{proc: proc, leaders: make(map[int]bool)}, nil
}

// start has f start a session leader, and learns of it before anybody could
// take it for a stray.
func (f *family) start(begin func() (pid int, err error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	pid, err := begin()
	if err == nil {
		f.leaders[pid] = true
	}
	return err
}

// bury forgets a leader, which has been waited for, and ends what it leaves
// behind. It says how many processes it has met, and how many are still there
// when the time is over: one that is stuck in the kernel cannot be killed.
func (f *family) bury(leader int, within time.Duration) (met, left int) {
	f.mu.Lock()
	delete(f.leaders, leader)
	f.mu.Unlock()
	deadline := time.Now().Add(within)
	all := make(map[int]bool)
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		now := f.sweep(leader)
		for _, pid := range now {
			all[pid] = true
		}
		if len(now) == 0 || time.Now().After(deadline) {
			return len(all), len(now)
		}
		time.Sleep(pause)
	}
}

// sweep kills and reaps strays once, and says which it has met. Those in the
// session of a plugin that lives are that plugin's.
func (f *family) sweep(leader int) (met []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for pid, session := range f.strays() {
		if session != leader && f.leaders[session] {
			continue
		}
		met = append(met, pid)
		unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
	return met
}

// reap takes strays off the process table that have ended by themselves.
func (f *family) reap() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for pid := range f.strays() {
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

// strays yields processes and their sessions. The caller has the lock.
func (f *family) strays() iter.Seq2[int, int] {
	return func(yield func(pid, session int) bool) {
		own, err := unix.Getsid(0)
		if err != nil {
			return
		}
		for _, pid := range f.children() {
			st, ok := f.stat(pid)
			if ok && st.session != own && !f.leaders[pid] && !yield(pid, st.session) {
				return
			}
		}
	}
}

// children are our child processes, from /proc/self/task/TID/children (Linux
// 3.5, CONFIG_PROC_CHILDREN) or, where that is missing, from all processes.
func (f *family) children() (pids []int) {
	lists, _ := filepath.Glob(f.proc + "/self/task/*/children")
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for word := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	if lists != nil {
		return pids
	}
	entries, _ := os.ReadDir(f.proc)
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if st, ok := f.stat(pid); ok && st.parent == os.Getpid() {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// descends says whether pid is ancestor or came from it.
func (f *family) descends(pid, ancestor int) bool {
	for range 32 {
		if pid == ancestor {
			return true
		}
		st, ok := f.stat(pid)
		if !ok || pid <= 1 {
			return false
		}
		pid = st.parent
	}
	return false
}

type stat struct{ parent, session int }

// stat reads fields 4 and 6 of /proc/PID/stat (proc_pid_stat(5)). The name
// before them may hold anything, also a parenthesis.
func (f *family) stat(pid int) (st stat, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", f.proc, pid))
	if err != nil {
		return st, false
	}
	return parseStat(text)
}

func parseStat(text []byte) (st stat, ok bool) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return st, false
	}
	fields := bytes.Fields(text[end+1:])
	if len(fields) < 4 {
		return st, false
	}
	parent, err1 := strconv.Atoi(string(fields[1]))
	session, err2 := strconv.Atoi(string(fields[3]))
	return stat{parent, session}, err1 == nil && err2 == nil
}
