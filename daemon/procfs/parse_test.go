package procfs

import (
	"strings"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// refuses checks that every input is an error, never a value.
func refuses[T any](t *testing.T, parse func([]byte) (T, error), inputs ...string) {
	t.Helper()
	for _, in := range inputs {
		if v, err := parse([]byte(in)); err == nil {
			t.Errorf("%.80q = %+v, want an error", in, v)
		} else if strings.Contains(err.Error(), "failed") || strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%.80q: error text %q", in, err)
		}
	}
}

func accepts[T comparable](t *testing.T, parse func([]byte) (T, error), in string, want T) {
	t.Helper()
	got, err := parse([]byte(in))
	if err != nil {
		t.Errorf("%.80q: %v", in, err)
	} else if got != want {
		t.Errorf("%.80q = %+v, want %+v", in, got, want)
	}
}

func TestParseTCPMem(t *testing.T) {
	accepts(t, parseTCPMem, "43257\t57676\t86514\n", reading.TCPMem{Min: 43257, Pressure: 57676, Max: 86514})
	accepts(t, parseTCPMem, "0 0 9223372036854775807\n", reading.TCPMem{Max: 1<<63 - 1})
	refuses(t, parseTCPMem, "", "\n", "1 2\n", "1 2 3", "1 2 3 4\n", "1 2 3\n4\n", "1 -2 3\n", "1 +2 3\n",
		"1 2 9223372036854775808\n", "1 2 18446744073709551616\n", "1 2 3\x00\n", "1 x 3\n", "0x1 2 3\n", "1_0 2 3\n")
}

func TestParseFileNr(t *testing.T) {
	accepts(t, parseFileNr, "521\t0\t2466170\n", reading.Usage{Count: 521, Limit: 2466170})
	refuses(t, parseFileNr, "", "521\t0\n", "521 0 -1\n")
}

func TestParseCPUList(t *testing.T) {
	accepts(t, parseCPUList, "0\n", 1)
	accepts(t, parseCPUList, "0-127\n", 128)
	accepts(t, parseCPUList, "0-3,8,10-11\n", 7)
	refuses(t, parseCPUList, "", "\n", "0-3", "0-\n", "-3\n", "3-1\n", "0-3,2\n", "0,,1\n", "0-9999999999\n",
		"0-18446744073709551615\n", "a\n", "0-1-2\n")
}

func TestParseSockstat(t *testing.T) {
	const tcp = "TCP: inuse 24 orphan 1 tw 58 alloc 863 mem 87916"
	want := Sockstat{24, 1, 58, 863, 87916}
	accepts(t, parseSockstat, "sockets: used 1\n"+tcp+"\nUDP: inuse 9 mem 2\n", want)
	accepts(t, parseSockstat, tcp+" more 7\n", want)
	accepts(t, parseSockstat, "TCP: new 7 mem 87916 alloc 863 tw 58 orphan 1 inuse 24\n", want)
	accepts(t, parseSockstat, "TCPv9: inuse 1\nTCP:x inuse 3\n"+tcp+"\n", want)
	refuses(t, parseSockstat, "", "\n", "\x00", tcp, "sockets: used 1\n", "TCP:\n", "TCP6: inuse 0\n",
		"TCP: inuse 24 orphan 1 tw 58 alloc 863\n", "TCP: inuse 24 orphan 1 tw 58 alloc 863 mem\n",
		"TCP: inuse -1 orphan 1 tw 58 alloc 863 mem 1\n", "TCP: inuse 1 orphan 1 tw 58 alloc 863 mem 9223372036854775808\n",
		"TCP: inuse 1 inuse 1 orphan 1 tw 58 alloc 863 mem 1\n", "TCP: inuse 1\x00 orphan 1 tw 58 alloc 863 mem 1\n")
}

func TestParseSockstat6(t *testing.T) {
	accepts(t, parseSockstat6, "TCP6: inuse 12\nUDP6: inuse 3\n", Sockstat6{12})
	refuses(t, parseSockstat6, "", "TCP6: inuse 12", "TCP6:\n", "TCP6: inuse x\n", "TCP: inuse 1\n")
}

const protocolsHeader = "protocol  size sockets  memory press maxhdr  slab module\n"

func TestParseProtocols(t *testing.T) {
	accepts(t, parseProtocols, protocolsHeader+
		"MPTCPv6   2064      3     328   no       0   yes  kernel\n"+
		"UDP       1344      0       0   NI       0   yes  kernel\n"+
		"TCPv6     2432      2     328   yes    192   yes  kernel\n"+
		"MPTCP     1936      1     328   no       0   yes  kernel\n"+
		"TCP       2304  123456789 87916   yes    192   yes  kernel\n",
		Protocols{
			TCP:     Protocol{true, 123456789, 87916, PressYes},
			TCPv6:   Protocol{true, 2, 328, PressYes},
			MPTCP:   Protocol{true, 1, 328, PressNo},
			MPTCPv6: Protocol{true, 3, 328, PressNo},
		})
	accepts(t, parseProtocols, protocolsHeader+"TCP 1 2 -1 NI 0\n",
		Protocols{TCP: Protocol{true, 2, -1, PressNI}})
	refuses(t, parseProtocols, "", "\n", protocolsHeader, "TCP 1 2 3 no 0\n",
		"protocol  size memory sockets press\nTCP 1 2 3 no\n",
		protocolsHeader+"TCP 1 2 3 no 0", protocolsHeader+"TCP 1 2 3\n", protocolsHeader+"TCP 1 -2 3 no\n",
		protocolsHeader+"TCP 1 2 -3 no\n", protocolsHeader+"TCP 1 2 3 maybe\n", protocolsHeader+"TCP 1 2 99999999999999999999 no\n",
		protocolsHeader+"TCP 1 2 3 no\nTCP 1 2 3 no\n", protocolsHeader+"UDP 1 2 3 no\n")
}

func TestProtocolsOptionals(t *testing.T) {
	var none Protocols
	if none.UnderPressure() != nil || none.MPTCPSockets() != nil {
		t.Error("absent protocols say something")
	}
	p := Protocols{TCP: Protocol{Present: true, Press: PressYes}, MPTCPv6: Protocol{Present: true, Sockets: 4}}
	if got := p.UnderPressure(); got == nil || !*got {
		t.Errorf("under pressure: %v", got)
	}
	if got := p.MPTCPSockets(); got == nil || *got != 4 {
		t.Errorf("MPTCP sockets: %v", got)
	}
	p.TCP.Press = PressNI
	if got := p.UnderPressure(); got != nil {
		t.Errorf("NI: %v", *got)
	}
}

func TestParseNetstat(t *testing.T) {
	num := func(n int64) *int64 { return &n }
	for _, tt := range []struct {
		name, in string
		want     reading.Counters
	}{
		{
			"usual", "TcpExt: PruneCalled TCPAbortOnMemory TCPMemoryPressuresChrono\nTcpExt: 1 2 3\n",
			reading.Counters{PruneCalled: num(1), AbortOnMemory: num(2), MemoryPressuresChrono: num(3)},
		},
		{
			"reordered, with others", "IpExt: A\nIpExt: 9\nTcpExt: New TCPAbortOnMemory Newer PruneCalled\nTcpExt: 18446744073709551615 2 -1 1\nX: y\n",
			reading.Counters{PruneCalled: num(1), AbortOnMemory: num(2)},
		},
		{"none known", "TcpExt: A\nTcpExt: 1\n", reading.Counters{}},
		{"zero is known", "TcpExt: ListenDrops\nTcpExt: 0\n", reading.Counters{ListenDrops: num(0)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseNetstat([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			equal(t, tt.want, got.Counters())
		})
	}
	refuses(t, parseNetstat, "", "TcpExt:\n", "TcpExt: PruneCalled\n", "TcpExt: PruneCalled\nTcpExt: 1",
		"TcpExt: PruneCalled\nTcpExt:\n", "TcpExt: PruneCalled\nTcpExt: 1 2\n", "TcpExt: A PruneCalled\nTcpExt: 1\n",
		"TcpExt: PruneCalled\nIpExt: 1\n", "TcpExt: PruneCalled PruneCalled\nTcpExt: 1 2\n",
		"TcpExt: PruneCalled\nTcpExt: 9223372036854775808\n", "TcpExt: PruneCalled\nTcpExt: -1\n", "TcpExt: PruneCalled\nTcpExt: 1\x00\n")
}

// TestCountersAreCopies: a later read must not change what was handed out.
func TestCountersAreCopies(t *testing.T) {
	var ext TCPExt
	ext.Set(RcvPruned, 5)
	c := ext.Counters()
	ext.Set(RcvPruned, 6)
	if *c.RcvPruned != 5 {
		t.Errorf("handed out 5, now %d", *c.RcvPruned)
	}
}

const snmpNames = "Tcp: RtoAlgorithm MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts\n"

func TestParseSNMP(t *testing.T) {
	accepts(t, parseSNMP, "Ip: A\nIp: 1\n"+snmpNames+"Tcp: 1 -1 20 2 3 4 5 1825 1511 6 0 7\n",
		TCPStats{20, 2, 3, 4, 5, 1825, 1511, 6, 7})
	// a sum over CPUs that was caught in the middle
	accepts(t, parseSNMP, snmpNames+"Tcp: 1 -1 20 2 3 4 18446744073709551615 1825 1511 6 0 7\n",
		TCPStats{20, 2, 3, 4, 0, 1825, 1511, 6, 7})
	refuses(t, parseSNMP, "", snmpNames, snmpNames+"Tcp: 1\n", "Tcp: ActiveOpens\nTcp: 1\n",
		snmpNames+"Tcp: 1 -1 -20 2 3 4 5 1825 1511 6 0 7\n", snmpNames+"Tcp: 1 -1 20 2 3 4 9223372036854775808 1825 1511 6 0 7\n",
		snmpNames+"Tcp: 1 -1 20 2 3 4 18446744073709551616 1825 1511 6 0 7\n")
}

func TestParseForks(t *testing.T) {
	accepts(t, parseForks, "cpu  1 2\nintr 1\nprocesses 51989\nprocs_running 2\n", 51989)
	refuses(t, parseForks, "", "cpu 1\n", "processes\n", "processes 5", "processes x\n", "processes_x 1\n")
}
