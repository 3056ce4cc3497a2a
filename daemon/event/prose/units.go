package prose

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Bytes writes a size with one decimal and a unit of 1024.
func Bytes(n int64) string {
	f, unit := float64(n), 0
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	// 1023.95 would be printed as 1024.0.
	for math.Abs(f) >= 1023.95 && unit < len(units)-1 {
		f /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[unit])
}

// Growth writes bytes per minute with their sign.
func Growth(perMinute int64) string {
	if perMinute > 0 {
		return "+" + Bytes(perMinute) + "/min"
	}
	return Bytes(perMinute) + "/min"
}

// Share writes a part of a whole as a percentage.
func Share(part, whole int64) string {
	if whole <= 0 {
		return "-"
	}
	percent := 100 * float64(part) / float64(whole)
	if part > 0 && percent < 0.05 {
		return "<0.1 %" // something is not nothing
	}
	return fmt.Sprintf("%.1f %%", percent)
}

// Fill writes a fraction as a percentage.
func Fill(f float64) string { return fmt.Sprintf("%.0f %%", 100*f) }

// Coverage cuts instead of rounding: 99.96 % explained is not all.
func Coverage(f float64) string {
	tenths := math.Floor(f*1000 + 1e-9)
	if tenths >= 1000 {
		return "100 %"
	}
	return fmt.Sprintf("%.1f %%", tenths/10)
}

// Duration writes about how long, in at most two units.
func Duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int64(d/time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int64(d/time.Minute))
	case d < 48*time.Hour:
		if m := int64(d/time.Minute) % 60; m != 0 {
			return fmt.Sprintf("%d h %d min", int64(d/time.Hour), m)
		}
		return fmt.Sprintf("%d h", int64(d/time.Hour))
	default:
		return fmt.Sprintf("%d days", int64(d/(24*time.Hour)))
	}
}

// maxSeconds is more than anyone waits for, and still a time.Duration.
const maxSeconds = 100 * 365 * 24 * 3600

// Seconds is Duration for the seconds of a document.
func Seconds(s float64) string {
	return Duration(time.Duration(min(max(s, 0), maxSeconds) * float64(time.Second)))
}

// Time writes a time to the second, in UTC.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Plural counts things: "1 socket", "2 sockets", "2 entries", "2 keys".
func Plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if stem, ok := strings.CutSuffix(thing, "y"); ok && !strings.HasSuffix(stem, "e") {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
