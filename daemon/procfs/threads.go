package procfs

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// AppendThreads appends the ids of all threads of a process to dst, its main
// thread's, which is pid, included, even if that one has ended. Threads that
// start meanwhile may be missing. Gone knows the error of a process that is no
// more.
func (f FS) AppendThreads(dst []int32, pid int) ([]int32, error) {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	path := f.pidPath(pid, "task")
	fd, err := openRaw(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return dst, err
	}
	defer unix.Close(fd)
	return appendNumbers(dst, fd, path, *buf)
}

// LivingThread finds a thread of a process that has not ended, for a process
// whose main thread has (Stat.MainEnded): what /proc/PID shows of descriptors,
// namespaces and command line is then empty, but /proc/PID/task/TID has it.
// The error wraps os.ErrNotExist where no thread lives any more.
func (f FS) LivingThread(pid int) (int, error) {
	tids, err := f.AppendThreads(nil, pid)
	if err != nil {
		return 0, err
	}
	for _, tid := range tids {
		s, err := f.stat(f.pidPath(pid, "task/"+strconv.Itoa(int(tid))+"/stat"))
		switch {
		case Gone(err):
			continue
		case err != nil:
			return 0, err
		case !s.ended():
			return int(tid), nil
		}
	}
	return 0, fmt.Errorf("find a living thread of %d: %w", pid, os.ErrNotExist)
}
