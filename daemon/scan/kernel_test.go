package scan

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// The kernel's users are known by the addresses in mountinfo and sysfs. This
// machine's kernel may have none of them, so these are files of other hosts.
func TestKernelUsers(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/1/mountinfo", `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:50 / /srv rw,relatime shared:9 - nfs4 files:/srv rw,vers=4.2,proto=tcp,timeo=600,clientaddr=10.0.0.9,addr=10.0.0.1
41 22 0:51 / /old rw - nfs old:/x rw,vers=3,proto=udp,addr=10.0.0.2
42 22 0:52 / /six rw - nfs six:/x rw,proto=tcp6,addr=fd00::5
43 22 0:53 / /win rw - cifs //win/share rw,addr=10.0.0.3
44 22 0:54 / /vm rw - 9p 10.0.0.4 rw,trans=tcp,port=564
45 22 0:55 / /bad rw - nfs bad:/x rw,proto=tcp,addr=not-an-address
46 broken
`)
	write("sys/class/nvme/nvme0/transport", "tcp\n")
	write("sys/class/nvme/nvme0/address", "traddr=10.0.1.1,trsvcid=4420,src_addr=10.0.0.9\n")
	write("sys/class/nvme/nvme1/transport", "pcie\n")
	write("sys/class/nvme/nvme1/address", "0000:00:1f.0\n")
	write("sys/class/iscsi_connection/connection1:0/persistent_address", "10.0.2.1\n")
	write("sys/class/iscsi_connection/connection1:0/persistent_port", "3260\n")

	k := newKernelUsers(filepath.Join(root, "proc"), filepath.Join(root, "sys"))
	k.refresh()
	for remote, want := range map[string]string{
		"10.0.0.1:2049":          "nfs4 mount of files:/srv",
		"10.0.0.1:635":           "nfs4 mount of files:/srv", // mountd, lockd
		"[::ffff:10.0.0.1]:2049": "nfs4 mount of files:/srv",
		"[fd00::5]:2049":         "nfs mount of six:/x",
		"10.0.0.2:2049":          "", // over UDP
		"10.0.0.3:445":           "cifs mount of //win/share",
		"10.0.0.4:564":           "9p mount of 10.0.0.4",
		"10.0.1.1:4420":          "nvme-tcp nvme0",
		"10.0.1.1:80":            "",
		"10.0.2.1:3260":          "iSCSI connection1:0",
		"10.0.9.9:2049":          "",
		"[::ffff:10.0.2.1]:3260": "iSCSI connection1:0",
	} {
		sock := reading.Socket{Remote: netip.MustParseAddrPort(remote), Inode: 7}
		if got := k.match(&sock); got != want {
			t.Errorf("%s is %q, want %q", remote, got, want)
		}
		sock.Inode = 0
		if got := k.match(&sock); got != "" {
			t.Errorf("%s without a struct socket is %q: an orphan is nobody's use", remote, got)
		}
	}
}

func FuzzMountUsers(f *testing.F) {
	f.Add("40 22 0:50 / /srv rw - nfs4 files:/srv rw,proto=tcp,addr=10.0.0.1\n")
	f.Add("40 22 0:50 / /srv rw - 9p\n - - -\n")
	f.Fuzz(func(_ *testing.T, text string) {
		k := &kernelUsers{remote: map[netip.AddrPort]string{}, host: map[netip.Addr]string{}}
		k.mounts([]byte(text))
	})
}
