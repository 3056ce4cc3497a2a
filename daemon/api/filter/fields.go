package filter

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/nearest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// field is a name that a term can compare.
type field struct {
	name    string
	about   string // for completion
	wants   string // what a value looks like
	values  func() []string
	compile func(op, string) (func(*Subject) bool, *valueError)
}

// valueError is what is wrong with a value, or with the operator before it.
type valueError struct {
	msg, near string
	op        bool
}

var fields = []field{
	glob("owner", "name or key of the owner", func(s *Subject) [3]string {
		if s.Owner == nil {
			return [3]string{s.Socket.Owner}
		}
		return [3]string{s.Owner.Name, s.Owner.Key}
	}),
	glob("unit", "systemd unit of the owner", func(s *Subject) [3]string {
		if s.Owner == nil {
			return [3]string{}
		}
		return [3]string{s.Owner.Unit}
	}),
	glob("container", "id or name of the owner's container", func(s *Subject) [3]string {
		if s.Owner == nil || s.Owner.Container == nil {
			return [3]string{}
		}
		return [3]string{s.Owner.Container.ID, s.Owner.Container.Name}
	}),
	glob("pod", "name, namespace/name or uid of the owner's pod", podNames),
	glob("cgroup", "cgroup path of the owner", func(s *Subject) [3]string {
		if s.Owner == nil {
			return [3]string{}
		}
		return [3]string{s.Owner.Cgroup}
	}),
	glob("comm", "command of the primary holder", func(s *Subject) [3]string {
		if s.Socket.Holder == nil {
			return [3]string{}
		}
		// "comm" or "comm (base name of argv[0])"
		whole := s.Socket.Holder.Command
		comm, argv0, _ := strings.Cut(whole, " (")
		return [3]string{whole, comm, strings.TrimSuffix(argv0, ")")}
	}),
	number("pid", "process id of the primary holder", func(s *Subject) (uint64, bool) {
		if s.Socket.Holder == nil {
			return 0, false
		}
		return uint64(s.Socket.Holder.PID), true
	}),
	number("uid", "user id of the socket", func(s *Subject) (uint64, bool) { return uint64(s.Socket.UID), true }),
	number("netns", "inode of the network namespace", func(s *Subject) (uint64, bool) {
		return uint64(s.Socket.Netns.Inode), true
	}),
	number("cookie", "socket cookie", func(s *Subject) (uint64, bool) { return uint64(s.Socket.Cookie), true }),
	size("mem", "bytes of TCP memory", func(s *Subject) int64 { return s.Socket.Mem.Bytes() }),
	size("recv", "receive memory (skmem r)", func(s *Subject) int64 { return int64(s.Socket.Mem.RmemAlloc) }),
	size("send", "send memory (skmem w)", func(s *Subject) int64 { return int64(s.Socket.Mem.WmemQueued) }),
	size("reserved", "memory reserved ahead (skmem f)", func(s *Subject) int64 { return int64(s.Socket.Mem.FwdAlloc) }),
	size("recv-q", "bytes not read yet", func(s *Subject) int64 { return int64(s.Socket.Rqueue) }),
	size("send-q", "bytes not acknowledged yet", func(s *Subject) int64 { return int64(s.Socket.Wqueue) }),
	words("state", "TCP state", stateNames, stateMask, func(s *Subject) uint32 { return 1 << s.Socket.State }),
	words("class", "class of the ledger", classNames, func(name string) (uint32, bool) {
		c, ok := reading.ParseClass(name)
		return 1 << c, ok
	}, func(s *Subject) uint32 { return 1 << s.Socket.Class }),
	words("evidence", "how the owner is known", evidenceNames, func(name string) (uint32, bool) {
		i := slices.Index(evidenceNames(), name)
		return 1 << max(i, 0), i >= 0
	}, func(s *Subject) uint32 { return 1 << s.Socket.Evidence }),
	endpoint("src", "local address", func(s *Subject) netip.AddrPort { return s.Socket.Local }),
	endpoint("dst", "remote address", func(s *Subject) netip.AddrPort { return s.Socket.Remote }),
	port("sport", "local port", func(s *Subject) netip.AddrPort { return s.Socket.Local }),
	port("dport", "remote port", func(s *Subject) netip.AddrPort { return s.Socket.Remote }),
}

// Fields lists the names a term can begin with.
func Fields() []string {
	names := make([]string, len(fields))
	for i := range fields {
		names[i] = fields[i].name
	}
	return names
}

// About says in a few words what a field is; "" for an unknown one.
func About(name string) string {
	if f := lookup(name); f != nil {
		return f.about
	}
	return ""
}

// Values lists the words that a field accepts, nil where it takes any text or
// number.
func Values(name string) []string {
	if f := lookup(name); f != nil && f.values != nil {
		return f.values()
	}
	return nil
}

func lookup(name string) *field {
	if i := slices.IndexFunc(fields, func(f field) bool { return f.name == name }); i >= 0 {
		return &fields[i]
	}
	return nil
}

// glob is a text field; a socket has it where one of its names is not empty.
func glob(name, about string, names func(*Subject) [3]string) field {
	compile := func(o op, value string) (func(*Subject) bool, *valueError) {
		if o > opNotEqual {
			return nil, onlyEqual(name, o)
		}
		return func(s *Subject) bool {
			found := false
			for _, n := range names(s) {
				found = found || n != "" && matchGlob(value, n)
			}
			return found != (o == opNotEqual)
		}, nil
	}
	return field{name: name, about: about, wants: "a name, * and ? stand for any characters", compile: compile}
}

func podNames(s *Subject) [3]string {
	if s.Owner == nil || s.Owner.Pod == nil {
		return [3]string{}
	}
	p := s.Owner.Pod
	// "namespace/name" is joined only where there is one: Match must not
	// allocate for the many sockets outside pods.
	both := ""
	if p.Name != "" {
		both = p.Namespace + "/" + p.Name
	}
	return [3]string{p.Name, p.UID, both}
}

func number(name, about string, get func(*Subject) (n uint64, known bool)) field {
	compile := func(o op, value string) (func(*Subject) bool, *valueError) {
		want, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return nil, &valueError{msg: fmt.Sprintf("%s %q is not a whole number", name, value)}
		}
		return func(s *Subject) bool {
			n, known := get(s)
			if !known {
				return o == opNotEqual
			}
			return o.holds(cmp.Compare(n, want))
		}, nil
	}
	return field{name: name, about: about, wants: "a whole number", compile: compile}
}

func size(name, about string, get func(*Subject) int64) field {
	compile := func(o op, value string) (func(*Subject) bool, *valueError) {
		want, ok := parseSize(value)
		if !ok {
			return nil, &valueError{msg: fmt.Sprintf("%s %q is not a size, such as 4096, 64K or 1.5M", name, value)}
		}
		return func(s *Subject) bool { return o.holds(cmp.Compare(get(s), want)) }, nil
	}
	return field{name: name, about: about, wants: "a size, such as 4096, 64K or 1.5M", compile: compile}
}

// parseSize reads bytes with an optional unit (K, KiB, KB and so on, all of
// 1024) in either case; fractions are cut to whole bytes.
func parseSize(s string) (int64, bool) {
	digits := strings.TrimRight(s, "kKmMgGtTiIbB")
	unit := strings.ToUpper(s[len(digits):])
	shift := 0
	switch strings.TrimSuffix(strings.TrimSuffix(unit, "B"), "I") {
	case "":
		if strings.HasPrefix(unit, "I") {
			return 0, false
		}
	case "K":
		shift = 10
	case "M":
		shift = 20
	case "G":
		shift = 30
	case "T":
		shift = 40
	default:
		return 0, false
	}
	if strings.Trim(strings.TrimPrefix(digits, "-"), "0123456789.") != "" {
		return 0, false // no exponents, no hexadecimal, no "inf"
	}
	if whole, err := strconv.ParseInt(digits, 10, 64); err == nil {
		if bytes := whole << shift; bytes>>shift == whole {
			return bytes, true
		}
		return 0, false
	}
	f, err := strconv.ParseFloat(digits, 64)
	f *= float64(int64(1) << shift)
	if err != nil || math.Abs(f) >= math.MaxInt64 {
		return 0, false
	}
	return int64(f), true
}

// words is a field with a fixed vocabulary; a word stands for one or more bits
// of what get returns.
func words(name, about string, values func() []string, parse func(string) (uint32, bool), get func(*Subject) uint32) field {
	compile := func(o op, value string) (func(*Subject) bool, *valueError) {
		if o > opNotEqual {
			return nil, onlyEqual(name, o)
		}
		mask, ok := parse(value)
		if !ok {
			return nil, &valueError{msg: fmt.Sprintf("unknown %s %q", name, value), near: nearest.Name(value, values())}
		}
		return func(s *Subject) bool { return (get(s)&mask != 0) != (o == opNotEqual) }, nil
	}
	return field{name: name, about: about, wants: "one of its words", values: values, compile: compile}
}

// endpoint is an address, a prefix, or either with a port.
func endpoint(name, about string, get func(*Subject) netip.AddrPort) field {
	const wants = "an address such as 10.0.0.0/8, 1.2.3.4:443 or [::1]:443"
	compile := func(o op, value string) (func(*Subject) bool, *valueError) {
		if o > opNotEqual {
			return nil, onlyEqual(name, o)
		}
		prefix, wantPort, ok := parseEndpoint(value)
		if !ok {
			return nil, &valueError{msg: fmt.Sprintf("%s %q is not %s", name, value, wants)}
		}
		return func(s *Subject) bool {
			a := get(s)
			inside := a.IsValid() && (wantPort < 0 || int(a.Port()) == wantPort) &&
				(!prefix.IsValid() || prefix.Contains(a.Addr().Unmap().WithZone("")))
			return inside != (o == opNotEqual)
		}, nil
	}
	return field{name: name, about: about, wants: wants, compile: compile}
}

// parseEndpoint reads ADDR, PREFIX, ADDR:PORT, PREFIX:PORT, [ADDR]:PORT,
// *:PORT and :PORT; port is -1 where there is none, prefix invalid for any.
func parseEndpoint(s string) (prefix netip.Prefix, port int, ok bool) {
	if p, ok := parsePrefix(s); ok {
		return p, -1, true
	}
	host, portText := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, portText = s[:i], s[i+1:]
		n, err := strconv.ParseUint(portText, 10, 16)
		if err != nil && portText != "*" {
			return prefix, 0, false
		}
		port = int(n)
	}
	if portText == "*" || portText == "" {
		port = -1
	}
	if host == "" || host == "*" {
		return prefix, port, s != ""
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	} else if strings.Count(host, ":") > 0 {
		return prefix, 0, false // an IPv6 address with a port needs its brackets
	}
	prefix, ok = parsePrefix(host)
	return prefix, port, ok
}

func parsePrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), true
}

func port(name, about string, get func(*Subject) netip.AddrPort) field {
	compile := func(o op, value string) (func(*Subject) bool, *valueError) {
		want, err := strconv.ParseUint(strings.TrimPrefix(value, ":"), 10, 16)
		if err != nil {
			return nil, &valueError{msg: fmt.Sprintf("%s %q is not a port, such as :443", name, value)}
		}
		return func(s *Subject) bool {
			a := get(s)
			if !a.IsValid() {
				return o == opNotEqual
			}
			return o.holds(cmp.Compare(uint64(a.Port()), want))
		}, nil
	}
	return field{name: name, about: about, wants: "a port, such as :443", compile: compile}
}

func onlyEqual(name string, o op) *valueError {
	return &valueError{op: true, msg: fmt.Sprintf("%s has no order: use = or !=, not %s", name, o)}
}
