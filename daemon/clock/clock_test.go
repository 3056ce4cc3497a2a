package clock

import (
	"testing"
	"time"
)

// A stamp and the next are of one boot, in order, and as far apart as the time
// that passed.
func TestNow(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	a := c.Now()
	time.Sleep(30 * time.Millisecond)
	b := c.Now()
	if a.BootID == "" || a.BootID != b.BootID {
		t.Errorf("boot ids %q and %q", a.BootID, b.BootID)
	}
	if d := b.Since(a); d < 30*time.Millisecond || d > 10*time.Second {
		t.Errorf("%s passed, want about 30 ms", d)
	}
	if d := a.Since(b); d != 0 {
		t.Errorf("%s to an earlier moment, want 0", d)
	}
	if a.BootSeconds <= 0 || time.Since(a.At) > time.Minute {
		t.Errorf("odd stamp: %+v", a)
	}
}
