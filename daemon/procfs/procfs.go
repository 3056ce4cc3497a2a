// Package procfs reads the kernel's counters of TCP memory, and what identifies
// a process, from /proc.
//
// Two kinds of reader exist. A Kept reader opens its file once and reads it
// again and again with pread(2) at offset 0, without allocating: these serve
// the sample of each second. Everything else (FS.Process, FS.TCPMem, ...)
// opens, reads and closes.
//
// Whose numbers a file shows is fixed when it is opened. /proc/net is a link to
// /proc/self/net, the namespace of the process's main thread
// (get_proc_task_net in fs/proc/proc_net.c); /proc/sys/net is that of the
// calling thread (net_ctl_header_lookup in net/sysctl_net.c), so never open it
// from a goroutine that has moved its thread to another namespace. An open file
// below /proc/PID/net keeps that namespace alive.
//
// A number that does not fit 63 bits, a missing column or an incomplete line is
// an error, never zero.
package procfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrNotInitNetns says that net.ipv4.tcp_mem does not exist here. The kernel
// offers it in the initial network namespace only (ipv4_table against
// ipv4_net_table in net/ipv4/sysctl_net_ipv4.c).
var ErrNotInitNetns = errors.New("this network namespace has no net.ipv4.tcp_mem: " +
	"start tcpmemd in the host's (initial) network namespace")

// FS is a proc file system. It is a plain value, safe for concurrent use.
type FS struct {
	root string
}

// New gives the proc file system mounted at root, usually /proc. It touches
// nothing yet.
func New(root string) FS { return FS{root: root} }

// Root is where the file system is mounted.
func (f FS) Root() string { return f.root }

func (f FS) path(elem ...string) string {
	return filepath.Join(append([]string{f.root}, elem...)...)
}

// siblingsExist reports whether the directory of a missing file is there: then
// the kernel lacks that one file. Without it the process or the whole mount is
// gone, which is another fault.
func siblingsExist(path string, err error) bool {
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err = os.Stat(filepath.Dir(path))
	return err == nil
}
