package procfs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// NotTakenError says that tcp_mem holds something else than was just written:
// the kernel did not take it, or somebody else wrote at the same time.
type NotTakenError struct{ Wrote, Reads reading.TCPMem }

func (e *NotTakenError) Error() string {
	return fmt.Sprintf("wrote %q, but it reads %q", FormatTCPMem(e.Wrote), FormatTCPMem(e.Reads))
}

// FormatTCPMem gives the triple as the sysctl takes it.
func FormatTCPMem(m reading.TCPMem) string {
	return fmt.Sprintf("%d %d %d", m.Min, m.Pressure, m.Max)
}

// TCPMemWritable says why sys/net/ipv4/tcp_mem could not be written: EROFS
// where /proc/sys is mounted read-only, as ProtectKernelTunables= of
// systemd.exec(5) does, EACCES without the right to. Nothing is written.
func (f FS) TCPMemWritable() error {
	path := f.path("sys/net/ipv4/tcp_mem")
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// SetTCPMem writes sys/net/ipv4/tcp_mem in one write(2), which the kernel
// takes number by number, without a lock (proc_doulongvec_minmax), and reads
// it back. It checks nothing but that the triple is one: the kernel takes any
// numbers. The error is a *NotTakenError where it reads otherwise.
func (f FS) SetTCPMem(m reading.TCPMem) error {
	if m.Min < 0 || m.Min > m.Pressure || m.Pressure > m.Max || m.Max == 0 {
		return fmt.Errorf("write tcp_mem: %q is no triple of rising sizes", FormatTCPMem(m))
	}
	path := f.path("sys/net/ipv4/tcp_mem")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(FormatTCPMem(m) + "\n")
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	if err := f.holdsTCPMem(m); err != nil {
		return fmt.Errorf("read back %s: %w", path, err)
	}
	return nil
}

func (f FS) holdsTCPMem(m reading.TCPMem) error {
	now, err := f.TCPMem()
	if err == nil && now != m {
		err = &NotTakenError{Wrote: m, Reads: now}
	}
	return err
}
