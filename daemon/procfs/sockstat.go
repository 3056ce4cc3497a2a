package procfs

import (
	"errors"
	"fmt"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Sockstat is the TCP line of /proc/net/sockstat (sockstat_seq_show in
// net/ipv4/proc.c). Inuse counts hashed IPv4 sockets and TimeWait mini sockets
// of the namespace; Orphan, Alloc and Mem are of the whole host, the same in
// every namespace.
type Sockstat struct {
	Inuse, Orphan, TimeWait, Alloc int64
	Mem                            reading.Pages
}

// Sockstat6 is the TCP6 line of /proc/net/sockstat6 (sockstat6_seq_show in
// net/ipv6/proc.c): hashed IPv6 sockets of the namespace.
type Sockstat6 struct {
	Inuse int64
}

type (
	// SockstatFile reads net/sockstat of one namespace.
	SockstatFile = Kept[Sockstat]
	// Sockstat6File reads net/sockstat6 of one namespace.
	Sockstat6File = Kept[Sockstat6]
)

// OpenSockstat opens a sockstat file by its path, for example
// /proc/412/net/sockstat.
func OpenSockstat(path string) (*SockstatFile, error) {
	return keep(path, firstRead, parseSockstat)
}

// OpenSockstat6 opens a sockstat6 file by its path. It returns nil without an
// error where the directory exists and the file does not: IPv6 is off
// (ipv6.disable=1, or a kernel without it).
func OpenSockstat6(path string) (*Sockstat6File, error) {
	k, err := keep(path, firstRead, parseSockstat6)
	if siblingsExist(path, err) {
		return nil, nil
	}
	return k, err
}

// OpenSockstat opens net/sockstat of the daemon's own namespace.
func (f FS) OpenSockstat() (*SockstatFile, error) { return OpenSockstat(f.path("net/sockstat")) }

// OpenSockstat6 opens net/sockstat6 of the daemon's own namespace, nil where IPv6 is off.
func (f FS) OpenSockstat6() (*Sockstat6File, error) { return OpenSockstat6(f.path("net/sockstat6")) }

func parseSockstat(data []byte) (Sockstat, error) {
	fields := [...]field{{name: "inuse"}, {name: "orphan"}, {name: "tw"}, {name: "alloc"}, {name: "mem"}}
	if err := parsePairs(data, "TCP:", fields[:]); err != nil {
		return Sockstat{}, err
	}
	return Sockstat{
		Inuse:    fields[0].value,
		Orphan:   fields[1].value,
		TimeWait: fields[2].value,
		Alloc:    fields[3].value,
		Mem:      reading.Pages(fields[4].value),
	}, nil
}

func parseSockstat6(data []byte) (Sockstat6, error) {
	fields := [...]field{{name: "inuse"}}
	if err := parsePairs(data, "TCP6:", fields[:]); err != nil {
		return Sockstat6{}, err
	}
	return Sockstat6{Inuse: fields[0].value}, nil
}

// parsePairs finds the line that starts with the word label and sets the
// fields named on it. Every field must be there; other names are left alone.
func parsePairs(data []byte, label string, fields []field) error {
	line, _, err := findLine(data, label)
	if err != nil {
		return err
	}
	for {
		var name, value []byte
		if name, line = nextWord(line); len(name) == 0 {
			break
		}
		if value, line = nextWord(line); len(value) == 0 {
			return fmt.Errorf("line %s %.32q has no value", label, name)
		}
		if err := setField(fields, name, value, count); err != nil {
			return fmt.Errorf("line %s %w", label, err)
		}
	}
	if err := allFound(fields); err != nil {
		return fmt.Errorf("line %s %w", label, err)
	}
	return nil
}

// field is a number that a file must hold under a name. It holds the value
// itself: a pointer to where it belongs would force that to the heap.
type field struct {
	name  string
	value int64
	found bool
}

// setField parses value into the field called name, if there is one.
func setField(fields []field, name, value []byte, parse func([]byte) (int64, error)) error {
	for i := range fields {
		f := &fields[i]
		if string(name) != f.name {
			continue
		}
		if f.found {
			return fmt.Errorf("%q appears twice", name)
		}
		n, err := parse(value)
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		f.value, f.found = n, true
	}
	return nil
}

func allFound(fields []field) error {
	for i := range fields {
		if !fields[i].found {
			return fmt.Errorf("has no %q", fields[i].name)
		}
	}
	return nil
}

// findLine gives what follows the word label on the first line that starts with
// it, and the lines after that one.
func findLine(data []byte, label string) (line, rest []byte, err error) {
	for len(data) > 0 {
		var ok bool
		if line, data, ok = nextLine(data); !ok {
			return nil, nil, errTruncated
		}
		if word, values := nextWord(line); string(word) == label {
			return values, data, nil
		}
	}
	return nil, nil, errors.New("no line " + label)
}
