package netns

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts finds the network namespaces that a bind mount keeps (ip-netns(8),
// /run/netns, /run/docker/netns). The file is read again only when the
// kernel says that it changed (POLLPRI, mounts_poll in fs/proc_namespace.c).
type mounts struct {
	file *os.File
	root string // prefix for the paths in it: those of the mount namespace it describes
	list map[uint32]string
}

func openMounts(path, root string) (*mounts, error) {
	// Not os.Open: it would let the runtime's poller watch the file, and a change
	// is told once for each open file, to whoever asks first.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open mount table: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return &mounts{file: os.NewFile(uintptr(fd), path), root: root}, nil
}

func (m *mounts) Close() error { return m.file.Close() }

// refresh returns the path of a mount for each namespace inode.
func (m *mounts) refresh() (map[uint32]string, error) {
	if m.list != nil && !m.changed() {
		return m.list, nil
	}
	if _, err := m.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	list, err := parseMounts(m.file)
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	for inode, path := range list {
		list[inode] = m.root + path
	}
	m.list = list
	return list, nil
}

func (m *mounts) changed() bool {
	poll := []unix.PollFd{{Fd: int32(m.file.Fd()), Events: unix.POLLPRI}}
	n, err := unix.Poll(poll, 0)
	return err != nil || n > 0
}

// parseMounts reads lines of proc_pid_mountinfo(5) and keeps those whose root
// is "net:[INODE]" on nsfs, the last of each namespace.
func parseMounts(r io.Reader) (map[uint32]string, error) {
	list := map[uint32]string{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// Only the blank ends a field: a path may hold any other white space.
		fields := bytes.SplitN(lines.Bytes(), []byte(" "), 6)
		if len(fields) < 5 || !bytes.HasPrefix(fields[3], []byte("net:[")) {
			continue
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(string(fields[3][len("net:["):]), "]"), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("mount of %.40q: no namespace number", fields[3])
		}
		list[uint32(inode)] = unescape(string(fields[4]))
	}
	return list, lines.Err()
}

// unescape turns \040 and its like, with which the kernel writes white space
// (mangle in fs/proc_namespace.c), back.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
