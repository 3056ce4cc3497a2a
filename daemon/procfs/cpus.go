package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// maxCPUs is far above NR_CPUS of any kernel; a larger number is garbage.
const maxCPUs = 1 << 16

// PossibleCPUs counts the CPUs that may ever come online, from
// devices/system/cpu/possible below sys, the root of sysfs
// (show_cpus_attr in drivers/base/cpu.c). The kernel's per-CPU reserves exist
// for each of them.
func PossibleCPUs(sys string) (int, error) {
	path := filepath.Join(sys, "devices/system/cpu/possible")
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := parseCPUList(data)
	if err != nil {
		return 0, fmt.Errorf("parse %s: %w", path, err)
	}
	return n, nil
}

// parseCPUList counts the members of a list such as "0-3,8,10-11", ascending
// and without overlap as bitmap_print_to_pagebuf writes it.
func parseCPUList(data []byte) (int, error) {
	list, _, ok := nextLine(data)
	if !ok {
		return 0, errTruncated
	}
	total, next := int64(0), int64(0)
	for part := range bytes.SplitSeq(list, []byte{','}) {
		from, to, isRange := bytes.Cut(part, []byte{'-'})
		first, err := count(from)
		if err != nil {
			return 0, err
		}
		last := first
		if isRange {
			if last, err = count(to); err != nil {
				return 0, err
			}
		}
		if first < next || last < first || last >= maxCPUs {
			return 0, fmt.Errorf("range %.32q: out of order", part)
		}
		total += last - first + 1
		next = last + 1
	}
	if total == 0 {
		return 0, errors.New("no CPU")
	}
	return int(total), nil
}
