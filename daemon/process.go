package daemon

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/metrics"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
)

// ownProcess is what this process has used, for metrics.
func ownProcess(started time.Time) metrics.Process {
	p := metrics.Process{Started: started}
	if cost := ownCost(); cost != nil {
		p.CPUSeconds, p.ResidentBytes = &cost.CPUSeconds, &cost.RSSBytes
	}
	if n, err := openFDs(); err == nil {
		p.OpenFDs = &n
	}
	return p
}

// openFDs counts this process's descriptors, without the one that it takes to
// look.
func openFDs() (int64, error) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	return int64(len(names)) - 1, err
}

// processStart is when this process was started, zero where that cannot be
// read: field 22 of /proc/self/stat counts ticks of CLOCK_BOOTTIME (do_task_stat
// in fs/proc/array.c).
func processStart() time.Time {
	st, err := procfs.New("/proc").Stat(os.Getpid())
	if err != nil {
		return time.Time{}
	}
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return time.Time{}
	}
	const tick = time.Second / 100 // USER_HZ
	return time.Now().Add(time.Duration(st.StartTime)*tick - time.Duration(boot.Nano()))
}
