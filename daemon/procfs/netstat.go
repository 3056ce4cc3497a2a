package procfs

import (
	"errors"
	"fmt"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Counter numbers the TcpExt counters that speak of TCP memory.
type Counter uint8

// Counters of TcpExt, with the kernel's names from snmp4_net_list in
// net/ipv4/proc.c. MemoryPressuresChrono is in milliseconds, the others count
// events.
const (
	MemoryPressures       Counter = iota // TCPMemoryPressures
	MemoryPressuresChrono                // TCPMemoryPressuresChrono
	AbortOnMemory                        // TCPAbortOnMemory
	AbortOnTimeout                       // TCPAbortOnTimeout
	PruneCalled                          // PruneCalled
	RcvPruned                            // RcvPruned
	OfoPruned                            // OfoPruned
	RcvCollapsed                         // TCPRcvCollapsed
	RcvQDrop                             // TCPRcvQDrop
	ZeroWindowDrop                       // TCPZeroWindowDrop
	BacklogDrop                          // TCPBacklogDrop
	WqueueTooBig                         // TCPWqueueTooBig
	ListenOverflows                      // ListenOverflows
	ListenDrops                          // ListenDrops
	NumCounters
)

// TCPExt holds the counters of one namespace as a plain value, so that reading
// them each second allocates nothing.
type TCPExt struct {
	value [NumCounters]int64
	known uint32 // bit 1<<Counter
}

// Get gives a counter, and false where the kernel does not print it.
func (t *TCPExt) Get(c Counter) (int64, bool) {
	return t.value[c], t.known&(1<<c) != 0
}

// Set stores a counter and makes it known.
func (t *TCPExt) Set(c Counter, n int64) {
	t.value[c] = n
	t.known |= 1 << c
}

// Counters gives the shared vocabulary's form: a copy with nil for what the
// kernel does not print.
func (t *TCPExt) Counters() reading.Counters {
	values := new([NumCounters]int64)
	*values = t.value
	at := func(c Counter) *int64 {
		if t.known&(1<<c) == 0 {
			return nil
		}
		return &values[c]
	}
	return reading.Counters{
		MemoryPressures:       at(MemoryPressures),
		MemoryPressuresChrono: at(MemoryPressuresChrono),
		AbortOnMemory:         at(AbortOnMemory),
		AbortOnTimeout:        at(AbortOnTimeout),
		PruneCalled:           at(PruneCalled),
		RcvPruned:             at(RcvPruned),
		OfoPruned:             at(OfoPruned),
		RcvCollapsed:          at(RcvCollapsed),
		RcvQDrop:              at(RcvQDrop),
		ZeroWindowDrop:        at(ZeroWindowDrop),
		BacklogDrop:           at(BacklogDrop),
		WqueueTooBig:          at(WqueueTooBig),
		ListenOverflows:       at(ListenOverflows),
		ListenDrops:           at(ListenDrops),
	}
}

// NetstatFile reads net/netstat of one namespace.
type NetstatFile = Kept[TCPExt]

// OpenNetstat opens a netstat file by its path (netstat_seq_show in
// net/ipv4/proc.c). All its counters are of that namespace alone.
func OpenNetstat(path string) (*NetstatFile, error) { return keep(path, firstRead, parseNetstat) }

// OpenNetstat opens net/netstat of the daemon's own namespace.
func (f FS) OpenNetstat() (*NetstatFile, error) { return OpenNetstat(f.path("net/netstat")) }

func parseNetstat(data []byte) (TCPExt, error) {
	var t TCPExt
	names, values, err := findTable(data, "TcpExt:")
	if err != nil {
		return TCPExt{}, err
	}
	for {
		var name, value []byte
		if name, value, err = nextColumn(&names, &values); err != nil {
			return TCPExt{}, fmt.Errorf("table TcpExt: %w", err)
		}
		if name == nil {
			return t, nil
		}
		c, ok := counterNamed(name)
		if !ok {
			continue
		}
		if _, twice := t.Get(c); twice {
			return TCPExt{}, fmt.Errorf("table TcpExt: %q appears twice", name)
		}
		n, err := count(value)
		if err != nil {
			return TCPExt{}, fmt.Errorf("table TcpExt, %s: %w", name, err)
		}
		t.Set(c, n)
	}
}

func counterNamed(name []byte) (Counter, bool) {
	switch string(name) {
	case "TCPMemoryPressures":
		return MemoryPressures, true
	case "TCPMemoryPressuresChrono":
		return MemoryPressuresChrono, true
	case "TCPAbortOnMemory":
		return AbortOnMemory, true
	case "TCPAbortOnTimeout":
		return AbortOnTimeout, true
	case "PruneCalled":
		return PruneCalled, true
	case "RcvPruned":
		return RcvPruned, true
	case "OfoPruned":
		return OfoPruned, true
	case "TCPRcvCollapsed":
		return RcvCollapsed, true
	case "TCPRcvQDrop":
		return RcvQDrop, true
	case "TCPZeroWindowDrop":
		return ZeroWindowDrop, true
	case "TCPBacklogDrop":
		return BacklogDrop, true
	case "TCPWqueueTooBig":
		return WqueueTooBig, true
	case "ListenOverflows":
		return ListenOverflows, true
	case "ListenDrops":
		return ListenDrops, true
	}
	return 0, false
}

// findTable gives the two lines of a table in the way of netstat and snmp: the
// names and the values behind the same label.
func findTable(data []byte, label string) (names, values []byte, err error) {
	names, rest, err := findLine(data, label)
	if err != nil {
		return nil, nil, err
	}
	line, _, ok := nextLine(rest)
	if !ok {
		return nil, nil, fmt.Errorf("table %s %w", label, errTruncated)
	}
	word, values := nextWord(line)
	if string(word) != label {
		return nil, nil, fmt.Errorf("table %s line of values starts with %.32q", label, word)
	}
	return names, values, nil
}

// nextColumn cuts a name and its value off both lines; both are nil at the end.
// Lines of different length are an error: no value could be trusted.
func nextColumn(names, values *[]byte) (name, value []byte, err error) {
	name, *names = nextWord(*names)
	value, *values = nextWord(*values)
	switch {
	case len(name) == 0 && len(value) == 0:
		return nil, nil, nil
	case len(name) == 0:
		return nil, nil, errors.New("more values than names")
	case len(value) == 0:
		return nil, nil, errors.New("more names than values")
	}
	return name, value, nil
}
