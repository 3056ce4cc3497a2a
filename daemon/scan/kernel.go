package scan

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// kernelUsers knows which remote addresses the kernel itself talks TCP to. A
// socket with an inode that no process holds is the kernel's only if its
// address is one of them: positive evidence, where the mere lack of a holder
// has many causes.
type kernelUsers struct {
	proc, sys string
	at        time.Time
	remote    map[netip.AddrPort]string // the user, for people
	host      map[netip.Addr]string     // any port: NFS uses several (mountd, lockd)
}

// kernelUsersAge is how long the list is good: mounts come and go seldom.
const kernelUsersAge = time.Minute

func newKernelUsers(proc, sys string) *kernelUsers {
	return &kernelUsers{proc: proc, sys: sys}
}

func (k *kernelUsers) refresh() {
	if time.Since(k.at) < kernelUsersAge {
		return
	}
	k.at = time.Now()
	k.remote, k.host = map[netip.AddrPort]string{}, map[netip.Addr]string{}
	if b, err := os.ReadFile(k.proc + "/1/mountinfo"); err == nil {
		k.mounts(b)
	} else if b, err := os.ReadFile(k.proc + "/self/mountinfo"); err == nil {
		k.mounts(b)
	}
	k.fabrics()
	k.iscsi()
}

// match names the kernel's user of a socket, "" where there is none.
func (k *kernelUsers) match(s *reading.Socket) string {
	if len(k.remote)+len(k.host) == 0 || s.Inode == 0 {
		return ""
	}
	remote := netip.AddrPortFrom(s.Remote.Addr().Unmap(), s.Remote.Port())
	if who := k.remote[remote]; who != "" {
		return who
	}
	return k.host[remote.Addr()]
}

// mounts takes the servers of network file systems from mountinfo: NFS says
// addr= and proto=tcp, CIFS addr=, 9p trans=tcp and the server as the source.
func (k *kernelUsers) mounts(mountinfo []byte) {
	for line := range bytes.Lines(mountinfo) {
		_, after, ok := strings.Cut(string(line), " - ")
		if !ok {
			continue
		}
		fields := strings.Fields(after) // type, source, super options
		if len(fields) < 3 {
			continue
		}
		kind, options := fields[0], map[string]string{}
		for o := range strings.SplitSeq(fields[2], ",") {
			key, value, _ := strings.Cut(o, "=")
			options[key] = value
		}
		server := options["addr"]
		switch {
		case kind == "nfs" || kind == "nfs4":
			if !strings.HasPrefix(options["proto"], "tcp") {
				continue
			}
		case kind == "cifs" || kind == "smb3" || kind == "ceph":
		case kind == "9p" && options["trans"] == "tcp":
			server = fields[1]
		default:
			continue
		}
		if addr, err := netip.ParseAddr(server); err == nil {
			k.host[addr.Unmap()] = kind + " mount of " + fields[1]
		}
	}
}

// fabrics takes the controllers of nvme-tcp from /sys/class/nvme/*/address:
// "traddr=10.0.0.1,trsvcid=4420".
func (k *kernelUsers) fabrics() {
	dirs, _ := filepath.Glob(k.sys + "/class/nvme/*")
	for _, dir := range dirs {
		if transport, _ := os.ReadFile(dir + "/transport"); strings.TrimSpace(string(transport)) != "tcp" {
			continue
		}
		b, _ := os.ReadFile(dir + "/address")
		var host, port string
		for o := range strings.SplitSeq(strings.TrimSpace(string(b)), ",") {
			if v, ok := strings.CutPrefix(o, "traddr="); ok {
				host = v
			} else if v, ok := strings.CutPrefix(o, "trsvcid="); ok {
				port = v
			}
		}
		k.add(host, port, "nvme-tcp "+filepath.Base(dir))
	}
}

// iscsi takes the portals from /sys/class/iscsi_connection.
func (k *kernelUsers) iscsi() {
	dirs, _ := filepath.Glob(k.sys + "/class/iscsi_connection/*")
	for _, dir := range dirs {
		host, _ := os.ReadFile(dir + "/persistent_address")
		port, _ := os.ReadFile(dir + "/persistent_port")
		k.add(strings.TrimSpace(string(host)), strings.TrimSpace(string(port)), "iSCSI "+filepath.Base(dir))
	}
}

func (k *kernelUsers) add(host, port, who string) {
	addr, err := netip.ParseAddr(host)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err == nil && perr == nil {
		k.remote[netip.AddrPortFrom(addr.Unmap(), uint16(n))] = who
	}
}

// kernelOwners puts the kernel's users of this sweep into the book.
func (s *Scanner) kernelOwners(w *sweep) map[reading.Cookie]owner.Ref {
	if len(w.kernelUse) == 0 {
		return nil
	}
	refs := make(map[reading.Cookie]owner.Ref, len(w.kernelUse))
	for cookie, who := range w.kernelUse {
		refs[cookie] = s.book.Put(reading.Owner{Key: "kernel/" + who, Name: who, Kind: reading.KindKernel})
	}
	return refs
}
