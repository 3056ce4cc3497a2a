package pidfd

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWait(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	start := time.Now()
	if ended, err := f.Wait(t.Context(), start.Add(50*time.Millisecond)); ended || err != nil {
		t.Errorf("living: %v, %v", ended, err)
	}
	if took := time.Since(start); took < 50*time.Millisecond || took > 10*time.Second {
		t.Errorf("waited for %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if ended, err := f.Wait(ctx, start.Add(time.Hour)); ended || err != nil {
		t.Errorf("given up: %v, %v", ended, err)
	}

	if err := f.Signal(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if ended, err := f.Wait(t.Context(), time.Now().Add(10*time.Second)); !ended || err != nil {
		t.Errorf("zombie: %v, %v", ended, err)
	}
	if err := f.Signal(unix.SIGKILL); err != nil { // a zombie takes it
		t.Error(err)
	}
	_ = cmd.Wait()
	if ended, err := f.Wait(t.Context(), time.Unix(1, 0)); !ended || err != nil {
		t.Errorf("reaped: %v, %v", ended, err)
	}
	if err := f.Signal(unix.SIGKILL); !errors.Is(err, unix.ESRCH) {
		t.Errorf("signal to a reaped one: %v", err)
	}
	if _, err := Open(1 << 22); !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EINVAL) {
		t.Errorf("nobody: %v", err)
	}
}
