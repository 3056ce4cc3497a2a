// Package clock reads the clocks by which the daemon's records are kept apart
// in time, also across restarts, suspends and boots.
package clock

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

const (
	bootIDPath = "/proc/sys/kernel/random/boot_id"
	// systemd-timesyncd(8) touches it when the clock was first set right.
	timesyncPath = "/run/systemd/timesync/synchronized"
)

// resync is how long an answer about the clock's being right holds.
const resync = time.Minute

// Clock stamps moments. It may be used by several goroutines.
type Clock struct {
	bootID string

	mu     sync.Mutex // guards what follows
	asked  time.Time
	synced bool
}

// New reads the boot's id.
func New() (*Clock, error) {
	text, err := os.ReadFile(bootIDPath)
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	return &Clock{bootID: strings.TrimSpace(string(text))}, nil
}

// Now gives this moment: wall clock, and CLOCK_BOOTTIME, which goes on while
// the host is suspended and cannot be set (clock_gettime(2)).
func (c *Clock) Now() record.Stamp {
	now := time.Now()
	var ts unix.Timespec
	boot := 0.0
	// It fails only for a clock that the kernel does not have (before 2.6.39).
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err == nil {
		boot = float64(ts.Sec) + float64(ts.Nsec)/1e9
	}
	return record.Stamp{At: now.UTC().Round(0), BootID: c.bootID, BootSeconds: boot, Synced: c.right(now)}
}

// right says whether the wall clock is kept right.
func (c *Clock) right(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked.IsZero() || now.Sub(c.asked) >= resync {
		c.asked, c.synced = now, synchronized()
	}
	return c.synced
}

// synchronized asks the kernel (adjtimex(2): TIME_ERROR means that nobody keeps
// the clock) or, where a sandbox forbids that, systemd-timesyncd's mark.
func synchronized() bool {
	const timeError = 5 // TIME_ERROR of include/uapi/linux/timex.h
	var t unix.Timex
	if state, err := unix.Adjtimex(&t); err == nil {
		return state != timeError
	}
	_, err := os.Stat(timesyncPath)
	return err == nil
}
