package procfs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// seed adds a fixture, whole and cut, and texts that once were trouble elsewhere.
func seed(f *testing.F, file string, more ...string) {
	f.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add(bytes.ReplaceAll(data, []byte("0"), []byte("99999999999999999999")))
	f.Add(bytes.ReplaceAll(data, []byte(" "), []byte{0}))
	for _, s := range append(more, "", "\n", "\x00") {
		f.Add([]byte(s))
	}
}

func notNegative(t *testing.T, data []byte, values ...int64) {
	t.Helper()
	for _, v := range values {
		if v < 0 {
			t.Fatalf("%q gives %d", data, v)
		}
	}
}

func FuzzTCPMem(f *testing.F) {
	seed(f, "proc/sys/net/ipv4/tcp_mem", "1 2 -3\n")
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseTCPMem(data)
		if err == nil && !bytes.HasSuffix(data, []byte("\n")) {
			t.Fatalf("%q is whole", data)
		}
		notNegative(t, data, int64(m.Min), int64(m.Pressure), int64(m.Max))
	})
}

func FuzzFileNr(f *testing.F) {
	seed(f, "proc/sys/fs/file-nr")
	f.Fuzz(func(t *testing.T, data []byte) {
		u, _ := parseFileNr(data)
		notNegative(t, data, u.Count, u.Limit)
	})
}

func FuzzCPUList(f *testing.F) {
	seed(f, "sys/devices/system/cpu/possible", "0-3,8,10-11\n")
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := parseCPUList(data)
		if err == nil && (n < 1 || n > maxCPUs) {
			t.Fatalf("%q: %d CPUs", data, n)
		}
	})
}

func FuzzSockstat(f *testing.F) {
	seed(f, "proc/net/sockstat")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _ := parseSockstat(data)
		notNegative(t, data, s.Inuse, s.Orphan, s.TimeWait, s.Alloc, int64(s.Mem))
	})
}

func FuzzSockstat6(f *testing.F) {
	seed(f, "proc/net/sockstat6")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _ := parseSockstat6(data)
		notNegative(t, data, s.Inuse)
	})
}

func FuzzProtocols(f *testing.F) {
	seed(f, "proc/net/protocols")
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parseProtocols(data)
		if err == nil && !p.TCP.Present {
			t.Fatalf("%q: no TCP", data)
		}
		for _, one := range []Protocol{p.TCP, p.TCPv6, p.MPTCP, p.MPTCPv6} {
			notNegative(t, data, one.Sockets, int64(one.Memory)+1)
		}
	})
}

func FuzzNetstat(f *testing.F) {
	seed(f, "proc/net/netstat", "TcpExt: PruneCalled\nTcpExt: 1 2\n")
	f.Fuzz(func(t *testing.T, data []byte) {
		ext, _ := parseNetstat(data)
		for c := range NumCounters {
			n, known := ext.Get(c)
			notNegative(t, data, n)
			if !known && n != 0 {
				t.Fatalf("%q: unknown counter %d is %d", data, c, n)
			}
		}
	})
}

func FuzzSNMP(f *testing.F) {
	seed(f, "proc/net/snmp", snmpNames+"Tcp: 1 -1 20 2 3 4 18446744073709551615 1825 1511 6 0 7\n")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _ := parseSNMP(data)
		notNegative(t, data, s.ActiveOpens, s.PassiveOpens, s.AttemptFails, s.EstabResets, s.CurrEstab,
			s.InSegs, s.OutSegs, s.RetransSegs, s.OutRsts)
	})
}

func FuzzForks(f *testing.F) {
	seed(f, "proc/stat")
	f.Fuzz(func(t *testing.T, data []byte) {
		n, _ := parseForks(data)
		notNegative(t, data, n)
	})
}

func FuzzStat(f *testing.F) {
	seed(f, "proc/412/stat", "5 (a) (b) S 1\n")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseStat(data)
		if err == nil && !bytes.Contains(data, []byte("("+s.Comm+")")) {
			t.Fatalf("%q: comm %q", data, s.Comm)
		}
		notNegative(t, data, int64(s.PID), int64(s.PPID), int64(s.StartTime))
	})
}

func FuzzCgroup(f *testing.F) {
	seed(f, "proc/412/cgroup", "0::/a (deleted)\n", "1:name=systemd:/\n0::/\n")
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _ := parseCgroup(data)
		for _, p := range []string{c.Path, c.V1} {
			if p != "" && p[0] != '/' && !c.Gone || strings.Contains(p, "\n") {
				t.Fatalf("%q: path %q", data, p)
			}
		}
	})
}

func FuzzCmdline0(f *testing.F) {
	seed(f, "proc/412/cmdline", "nginx: master process\x00")
	f.Fuzz(func(t *testing.T, data []byte) {
		if s := parseCmdline0(data); strings.ContainsAny(s, "/ \t\n\x00") {
			t.Fatalf("%q: %q", data, s)
		}
	})
}

func FuzzDirents(f *testing.F) {
	f.Add(dirents("1", "self", "4711"))
	f.Add(dirents("99999999999999999999"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		pids, _ := appendPIDs(nil, data)
		for _, pid := range pids {
			notNegative(t, data, int64(pid)-1)
		}
	})
}
