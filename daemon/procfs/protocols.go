package procfs

import (
	"errors"
	"fmt"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Press is the press column of /proc/net/protocols.
type Press uint8

// Values of Press. NI ("not implemented") is the kernel's word for a protocol
// without a memory limit.
const (
	PressNI Press = iota
	PressNo
	PressYes
)

// Known gives the flag as an optional value: nil for PressNI.
func (p Press) Known() *bool {
	if p == PressNI {
		return nil
	}
	yes := p == PressYes
	return &yes
}

// Protocol is one line of /proc/net/protocols. Present is false where the
// kernel has no such protocol; the rest then says nothing.
type Protocol struct {
	Present bool
	Sockets int64         // of the namespace
	Memory  reading.Pages // of the whole host, -1 where the protocol does not count it
	Press   Press         // of the whole host
}

// Protocols holds the lines that share the tcp_mem pool.
type Protocols struct {
	TCP, TCPv6, MPTCP, MPTCPv6 Protocol
}

// UnderPressure is the kernel's own flag that TCP is above tcp_mem's pressure
// mark and not yet back at min (tcp_memory_pressure, set and cleared in
// net/ipv4/tcp.c). Nil where the kernel does not say.
func (p Protocols) UnderPressure() *bool {
	if !p.TCP.Present {
		return nil
	}
	return p.TCP.Press.Known()
}

// MPTCPSockets counts the MPTCP sockets of the namespace over IPv4 and IPv6,
// nil where the kernel has no MPTCP. No other file shows them.
func (p Protocols) MPTCPSockets() *int64 {
	if !p.MPTCP.Present && !p.MPTCPv6.Present {
		return nil
	}
	n := p.MPTCP.Sockets + p.MPTCPv6.Sockets // absent ones hold 0
	return &n
}

// ProtocolsFile reads net/protocols of one namespace.
type ProtocolsFile = Kept[Protocols]

// OpenProtocols opens a protocols file by its path (proto_seq_printf in
// net/core/sock.c).
func OpenProtocols(path string) (*ProtocolsFile, error) {
	return keep(path, firstRead, parseProtocols)
}

// OpenProtocols opens net/protocols of the daemon's own namespace.
func (f FS) OpenProtocols() (*ProtocolsFile, error) { return OpenProtocols(f.path("net/protocols")) }

// protocolColumns are the first columns, the only ones read here.
var protocolColumns = [...]string{"protocol", "size", "sockets", "memory", "press"}

func parseProtocols(data []byte) (Protocols, error) {
	header, data, ok := nextLine(data)
	if !ok {
		return Protocols{}, errTruncated
	}
	for _, want := range protocolColumns {
		var word []byte
		if word, header = nextWord(header); string(word) != want {
			return Protocols{}, fmt.Errorf("header: %.32q where %q should be", word, want)
		}
	}

	var p Protocols
	for len(data) > 0 {
		var line []byte
		if line, data, ok = nextLine(data); !ok {
			return Protocols{}, errTruncated
		}
		name, rest := nextWord(line)
		var into *Protocol
		switch string(name) {
		case "TCP":
			into = &p.TCP
		case "TCPv6":
			into = &p.TCPv6
		case "MPTCP":
			into = &p.MPTCP
		case "MPTCPv6":
			into = &p.MPTCPv6
		default:
			continue
		}
		if into.Present {
			return Protocols{}, fmt.Errorf("protocol %s: appears twice", name)
		}
		one, err := parseProtocol(rest)
		if err != nil {
			return Protocols{}, fmt.Errorf("protocol %s: %w", name, err)
		}
		*into = one
	}
	if !p.TCP.Present {
		return Protocols{}, errors.New("no protocol TCP")
	}
	return p, nil
}

// parseProtocol reads the columns behind the name: size, sockets, memory, press.
func parseProtocol(line []byte) (Protocol, error) {
	_, line = nextWord(line)
	sockets, line := nextWord(line)
	memory, line := nextWord(line)
	press, _ := nextWord(line)

	p := Protocol{Present: true}
	var err error
	if p.Sockets, err = count(sockets); err != nil {
		return Protocol{}, fmt.Errorf("sockets: %w", err)
	}
	pages, err := signed(memory)
	if err != nil {
		return Protocol{}, fmt.Errorf("memory: %w", err)
	}
	if pages < -1 {
		return Protocol{}, fmt.Errorf("memory: %d pages", pages)
	}
	p.Memory = reading.Pages(pages)
	switch string(press) {
	case "yes":
		p.Press = PressYes
	case "no":
		p.Press = PressNo
	case "NI":
		p.Press = PressNI
	default:
		return Protocol{}, fmt.Errorf("press: %.32q is neither yes, no nor NI", press)
	}
	return p, nil
}
