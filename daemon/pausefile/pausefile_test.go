package pausefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

func at(seconds float64) record.Stamp {
	return record.Stamp{At: time.Unix(1, 0).UTC(), BootID: "boot", BootSeconds: seconds}
}

func TestPauseEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), Name)
	if p := Read(path, at(0)); p != nil {
		t.Fatalf("a pause without a file: %+v", p)
	}
	until := at(60)
	if err := Write(path, Pause{Why: "lunch", Since: at(0), Until: &until, By: &record.Caller{UID: 0, PID: 7}}); err != nil {
		t.Fatal(err)
	}
	p := Read(path, at(59))
	if p == nil || p.Why != "lunch" || p.Until == nil || p.By.PID != 7 {
		t.Errorf("read %+v", p)
	}
	if p := Read(path, at(60)); p != nil {
		t.Errorf("the pause goes on: %+v", p)
	}
	other := at(1)
	other.BootID = "other"
	if p := Read(path, other); p != nil {
		t.Errorf("the pause of another boot goes on: %+v", p)
	}
	if err := Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := Remove(path); err != nil {
		t.Errorf("end no pause: %v", err)
	}
}

// Whatever else is there stops everything, without an end.
func TestEmergencyStop(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "words": "on fire\x1b[2J\n", "half": `{"version":1,"why":"x"`, "no end": `{"version":1,"why":"x"}`,
		"long": strings.Repeat("\u00e9", 9000), "another version": `{"version":9,"why":"x","until":{"boot_seconds":1}}`,
	} {
		path := filepath.Join(t.TempDir(), Name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := Read(path, at(1e9))
		if p == nil || p.Until != nil || p.Why == "" || len(p.Why) > 1500 || strings.ContainsRune(p.Why, 0x1b) {
			t.Errorf("%s: read %+v", name, p)
		}
	}
	path := filepath.Join(t.TempDir(), Name)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if p := Read(path, at(1)); p == nil || p.Until != nil {
		t.Errorf("a directory: %+v", p)
	}
}

// A FIFO must not hold up the loop.
func TestFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), Name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan *Pause, 1)
	go func() { done <- Read(path, at(1)) }()
	select {
	case p := <-done:
		if p == nil {
			t.Error("no stop")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("read hangs on a FIFO")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"why":"x","until":{"at":"2026-11-27T02:00:00Z","boot_id":"b","boot_seconds":5}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if p := parse(text); p != nil && (p.Until == nil || p.Why == "") {
			t.Errorf("a pause without end or reason: %+v", p)
		}
	})
}
