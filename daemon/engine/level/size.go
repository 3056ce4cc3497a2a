package level

import (
	"fmt"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// size writes pages as bytes in binary units, with three digits at most. It
// computes in floating point: a limit may be as large as the kernel's long.
func size(s *reading.Sample, p reading.Pages) string {
	b := float64(p) * float64(s.PageSize)
	if b < 1024 {
		return fmt.Sprintf("%.0f B", b)
	}
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		b /= 1024
		switch {
		case b < 9.95:
			return fmt.Sprintf("%.1f %s", b, unit)
		case b < 1023.5:
			return fmt.Sprintf("%.0f %s", b, unit)
		}
	}
	return fmt.Sprintf("%.0f PiB", b/1024)
}

func plural(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
