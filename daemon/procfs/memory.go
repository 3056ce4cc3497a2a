package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MemInfo is the host's memory, in bytes.
type MemInfo struct {
	Total     int64
	Available int64 // what can be had without swapping (si_mem_available)
}

// MemInfo reads meminfo (meminfo_proc_show in fs/proc/meminfo.c; its kB are
// 1024 bytes).
func (f FS) MemInfo() (MemInfo, error) {
	path := f.path("meminfo")
	data, err := os.ReadFile(path)
	if err != nil {
		return MemInfo{}, err
	}
	m, err := parseMemInfo(data)
	if err != nil {
		return MemInfo{}, fmt.Errorf("parse %s: %w", path, err)
	}
	return m, nil
}

// MemoryFull reads the share of the last ten seconds, in percent, in which no
// task got on for want of memory: full avg10 of pressure/memory (psi_show in
// kernel/sched/psi.c). It is nil on a kernel that does not tell: built without
// PSI, or started with psi=0.
func (f FS) MemoryFull() (*float64, error) {
	path := f.path("pressure/memory")
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP):
		return nil, nil
	case err != nil:
		return nil, err
	}
	percent, err := parseFullAvg10(data)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	return &percent, nil
}

// BootID reads sys/kernel/random/boot_id, a UUID that is new at each boot
// (proc_do_uuid in drivers/char/random.c).
func (f FS) BootID() (string, error) {
	path := f.path("sys/kernel/random/boot_id")
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	const length = 36
	id, _, ok := nextLine(data)
	if !ok || len(id) != length || strings.Trim(string(id), "0123456789abcdef-") != "" {
		return "", fmt.Errorf("parse %s: %.40q is no UUID", path, data)
	}
	return string(id), nil
}

func parseMemInfo(data []byte) (m MemInfo, err error) {
	if m.Total, err = kilobytes(data, "MemTotal:"); err != nil {
		return MemInfo{}, err
	}
	if m.Available, err = kilobytes(data, "MemAvailable:"); err != nil {
		return MemInfo{}, err
	}
	return m, nil
}

// kilobytes gives the bytes of a line "NAME   123 kB".
func kilobytes(data []byte, name string) (int64, error) {
	rest, _, err := findLine(data, name)
	if err != nil {
		return 0, err
	}
	word, rest := nextWord(rest)
	n, err := count(word)
	if err != nil {
		return 0, fmt.Errorf("%s %w", name, err)
	}
	if unit, _ := nextWord(rest); string(unit) != "kB" || n > 1<<52 {
		return 0, fmt.Errorf("%s %d %.8q: not a size in kB", name, n, unit)
	}
	return n << 10, nil
}

func parseFullAvg10(data []byte) (float64, error) {
	rest, _, err := findLine(data, "full")
	if err != nil {
		return 0, err
	}
	word, _ := nextWord(rest)
	number, ok := bytes.CutPrefix(word, []byte("avg10="))
	percent, err := strconv.ParseFloat(string(number), 64)
	if !ok || err != nil || !(percent >= 0 && percent <= 100) {
		return 0, fmt.Errorf("full %.32q: not a share of ten seconds", word)
	}
	return percent, nil
}
