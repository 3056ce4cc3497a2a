package record

import (
	"testing"
	"time"
)

func TestSince(t *testing.T) {
	at := time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)
	one := func(boot string, seconds float64, wall time.Duration, synced bool) Stamp {
		return Stamp{At: at.Add(wall), BootID: boot, BootSeconds: seconds, Synced: synced}
	}
	for _, tc := range []struct {
		name      string
		then, now Stamp
		want      time.Duration
	}{
		{"one boot", one("a", 10, 0, true), one("a", 70, time.Minute, true), time.Minute},
		{"one boot, clock set back", one("a", 10, 0, true), one("a", 70, -time.Hour, true), time.Minute},
		{"one boot, suspended", one("a", 10, 0, true), one("a", 7210, 2*time.Hour, true), 2 * time.Hour},
		{"another boot", one("a", 9000, 0, true), one("b", 10, time.Hour, true), time.Hour},
		{"another boot, clock set back", one("a", 9000, 0, true), one("b", 10, -time.Hour, true), 10 * time.Second},
		{"another boot, clock not right", one("a", 9000, 0, true), one("b", 10, time.Hour, false), 10 * time.Second},
		{"another boot, clock was not right", one("a", 9000, 0, false), one("b", 10, time.Hour, true), 10 * time.Second},
		{"order reversed", one("a", 70, 0, true), one("a", 10, 0, true), 0},
		{"no boot id", one("", 10, 0, false), one("", 70, time.Minute, false), 0},
	} {
		if got := tc.now.Since(tc.then); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}
