package scene

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// What a scene leaves in the file system is named after the process that made
// it, so that the next one can clear up after one that was killed.
const litterPrefix = "tcpmemd-scene-"

var litterCount atomic.Int64 // names within this process

// litterName is unique on this host: prefix, pid, start time of the pid, number.
func litterName() (string, error) {
	start, err := startTime(os.Getpid())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s%d-%d-%d", litterPrefix, os.Getpid(), start, litterCount.Add(1)), nil
}

// abandoned gives the paths in dir that were made by processes that are gone.
func abandoned(dir string) []string {
	paths, _ := filepath.Glob(filepath.Join(dir, litterPrefix+"*")) // the pattern is well-formed
	var old []string
	for _, path := range paths {
		parts := strings.Split(strings.TrimPrefix(filepath.Base(path), litterPrefix), "-")
		if len(parts) != 3 {
			continue
		}
		pid, err1 := strconv.Atoi(parts[0])
		start, err2 := strconv.ParseUint(parts[1], 10, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		if now, err := startTime(pid); os.IsNotExist(err) || err == nil && now != start {
			old = append(old, path)
		}
	}
	return old
}

// startTime is field 22 of /proc/PID/stat, in clock ticks since boot (proc(5)).
// The name in field 2 may hold spaces and brackets: count from its last one.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := cutLast(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0, fmt.Errorf("read /proc/%d/stat: %d fields", pid, len(fields))
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// inode is what ls -i shows of the path.
func inode(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}
