package scene

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maxRights is SCM_MAX_FD (include/net/scm.h): descriptors in one message.
const maxRights = 253

// socketPair makes two connected Unix sockets that close on exec.
func socketPair(kind int) (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "scene-pair"), os.NewFile(uintptr(fds[1]), "scene-pair"), nil
}

// sendFiles passes descriptors; the caller keeps its own.
func sendFiles(to *os.File, fds ...int) error {
	for len(fds) > 0 {
		n := min(len(fds), maxRights)
		if err := unix.Sendmsg(int(to.Fd()), []byte{0}, unix.UnixRights(fds[:n]...), nil, 0); err != nil {
			return os.NewSyscallError("sendmsg", err)
		}
		fds = fds[n:]
	}
	return nil
}

// receiveFiles takes descriptors until it has n.
func receiveFiles(from *os.File, n int) (fds []int, err error) {
	limit := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(int(from.Fd()), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	defer func() {
		if err != nil {
			closeAll(fds)
			fds = nil
		}
	}()
	for len(fds) < n {
		var data [1]byte
		oob := make([]byte, unix.CmsgSpace(maxRights*4))
		_, oobn, flags, _, err := unix.Recvmsg(int(from.Fd()), data[:], oob, unix.MSG_CMSG_CLOEXEC)
		if err != nil {
			return fds, os.NewSyscallError("recvmsg", err)
		}
		msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return fds, os.NewSyscallError("parse control message", err)
		}
		got := 0
		for i := range msgs {
			more, err := unix.ParseUnixRights(&msgs[i])
			if err != nil {
				return fds, os.NewSyscallError("parse rights", err)
			}
			fds, got = append(fds, more...), got+len(more)
		}
		switch {
		case flags&unix.MSG_CTRUNC != 0:
			return fds, errors.New("descriptors were lost: too many open files")
		case got == 0:
			return fds, fmt.Errorf("%d of %d descriptors came", len(fds), n)
		}
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
