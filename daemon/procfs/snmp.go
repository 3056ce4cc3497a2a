package procfs

import (
	"fmt"
	"math"
	"strconv"
)

// TCPStats are counters of the Tcp table of /proc/net/snmp (snmp_seq_show in
// net/ipv4/proc.c), of one namespace and both IP versions. CurrEstab is the
// number of sockets in ESTABLISHED and CLOSE_WAIT, the others count events
// since the namespace was made. They tell whether connections came and went
// between two looks.
type TCPStats struct {
	ActiveOpens, PassiveOpens, AttemptFails, EstabResets int64
	CurrEstab                                            int64
	InSegs, OutSegs, RetransSegs, OutRsts                int64
}

// SNMPFile reads the Tcp table of net/snmp of one namespace.
type SNMPFile = Kept[TCPStats]

// OpenSNMP opens an snmp file by its path.
func OpenSNMP(path string) (*SNMPFile, error) { return keep(path, firstRead, parseSNMP) }

// OpenSNMP opens net/snmp of the daemon's own namespace.
func (f FS) OpenSNMP() (*SNMPFile, error) { return OpenSNMP(f.path("net/snmp")) }

func parseSNMP(data []byte) (TCPStats, error) {
	names, values, err := findTable(data, "Tcp:")
	if err != nil {
		return TCPStats{}, err
	}
	fields := [...]field{
		{name: "ActiveOpens"},
		{name: "PassiveOpens"},
		{name: "AttemptFails"},
		{name: "EstabResets"},
		{name: "CurrEstab"},
		{name: "InSegs"},
		{name: "OutSegs"},
		{name: "RetransSegs"},
		{name: "OutRsts"},
	}
	for {
		name, value, err := nextColumn(&names, &values)
		if err != nil {
			return TCPStats{}, fmt.Errorf("table Tcp: %w", err)
		}
		if name == nil {
			break
		}
		parse := count
		if string(name) == "CurrEstab" {
			parse = gauge
		}
		if err := setField(fields[:], name, value, parse); err != nil {
			return TCPStats{}, fmt.Errorf("table Tcp: %w", err)
		}
	}
	if err := allFound(fields[:]); err != nil {
		return TCPStats{}, fmt.Errorf("table Tcp: %w", err)
	}
	return TCPStats{
		ActiveOpens:  fields[0].value,
		PassiveOpens: fields[1].value,
		AttemptFails: fields[2].value,
		EstabResets:  fields[3].value,
		CurrEstab:    fields[4].value,
		InSegs:       fields[5].value,
		OutSegs:      fields[6].value,
		RetransSegs:  fields[7].value,
		OutRsts:      fields[8].value,
	}, nil
}

// gauge parses a number that the kernel sums over its CPUs without a lock while
// it rises on one and falls on another (snmp_fold_field): the sum may for a
// moment be just below zero, printed as unsigned. That is 0.
func gauge(word []byte) (int64, error) {
	n, err := strconv.ParseUint(string(word), 10, 64)
	if err != nil {
		return 0, numberError(word, err)
	}
	const slightly = 1 << 20
	if n > math.MaxUint64-slightly {
		return 0, nil
	}
	return count(word)
}
