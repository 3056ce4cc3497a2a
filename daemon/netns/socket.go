package netns

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OfSocket opens the namespace of a socket (SIOCGSKNS, Linux 4.10), for one that
// nothing but its sockets keeps. It needs CAP_NET_ADMIN in that namespace
// (sock_ioctl in net/socket.c). The caller closes the file; as long as it is
// open, Keep of it as a descriptor of this very process makes the namespace
// known like any other.
func OfSocket(fd int) (ns *os.File, inode uint32, err error) {
	got, err := unix.IoctlRetInt(fd, unix.SIOCGSKNS)
	if err != nil {
		return nil, 0, fmt.Errorf("open network namespace of a socket: %w", err)
	}
	unix.CloseOnExec(got)
	ns = os.NewFile(uintptr(got), "network namespace of a socket")
	st, err := statCached(got)
	if err != nil {
		_ = ns.Close()
		return nil, 0, fmt.Errorf("stat network namespace of a socket: %w", err)
	}
	return ns, uint32(st.Ino), nil
}
