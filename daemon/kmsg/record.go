package kmsg

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// record is one read(2) of /dev/kmsg, whose format is
// Documentation/ABI/testing/dev-kmsg:
//
//	PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,more];MESSAGE
//	 KEY=VALUE of the device it concerns, each on a line that starts with a blank
type record struct {
	facility uint64
	seq      uint64
	message  []byte // the first line, control bytes escaped by the kernel as \xNN
}

// facilityKernel is what only the kernel's own messages have: a write to
// /dev/kmsg that names facility 0 gets LOG_USER (devkmsg_write in
// kernel/printk/printk.c).
const facilityKernel = 0

// parseRecord reads the parts that matter. message points into data.
func parseRecord(data []byte) (record, error) {
	header, text, ok := bytes.Cut(data, []byte{';'})
	if !ok {
		return record{}, errors.New("no end of header")
	}
	message, _, ok := bytes.Cut(text, []byte{'\n'})
	if !ok {
		return record{}, errors.New("no end of message")
	}
	priority, header, _ := bytes.Cut(header, []byte{','})
	sequence, _, ok := bytes.Cut(header, []byte{','})
	if !ok {
		return record{}, errors.New("header too short")
	}
	prio, err := strconv.ParseUint(string(priority), 10, 32)
	if err != nil {
		return record{}, fmt.Errorf("priority %.32q: not a number", priority)
	}
	seq, err := strconv.ParseUint(string(sequence), 10, 64)
	if err != nil {
		return record{}, fmt.Errorf("sequence number %.32q: not a number", sequence)
	}
	return record{facility: prio >> 3, seq: seq, message: message}, nil
}

// kind is what a kernel message says.
type kind uint8

const (
	other kind = iota
	outOfMemory
	tooManyOrphans
	conntrackFull
)

// classify knows the messages of tcp_check_oom (net/ipv4/tcp.c) and of
// __nf_conntrack_alloc (net/netfilter/nf_conntrack_core.c). It looks at the
// beginning only: other messages quote names that programs choose. The
// subsystem's prefix comes once, twice or never, depending on the version.
func classify(message []byte) kind {
	tcp, isTCP := cutPrefixes(message, "TCP: ")
	switch {
	case hasPrefix(tcp, "out of memory -- consider tuning tcp_mem"),
		isTCP && hasPrefix(tcp, "out of memory"):
		return outOfMemory
	case hasPrefix(tcp, "too many orphaned sockets"):
		return tooManyOrphans
	}
	// What follows differs between versions.
	table, isConntrack := cutPrefixes(message, "nf_conntrack: ")
	if isConntrack && hasPrefix(table, "table full") {
		return conntrackFull
	}
	return other
}

// cutPrefixes removes prefix as often as it is there, and reports whether it was.
func cutPrefixes(b []byte, prefix string) (rest []byte, found bool) {
	for hasPrefix(b, prefix) {
		b, found = b[len(prefix):], true
	}
	return b, found
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}
