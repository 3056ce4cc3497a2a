package procfs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const meminfo = "MemTotal:       24684096 kB\nMemFree:        23447016 kB\nMemAvailable:   24076520 kB\n"

func TestParseMemInfo(t *testing.T) {
	accepts(t, parseMemInfo, meminfo, MemInfo{24684096 << 10, 24076520 << 10})
	refuses(t, parseMemInfo, "", "MemTotal: 1 kB\n", "MemTotal: 1 kB\nMemAvailable: 1\n", "MemTotal: -1 kB\nMemAvailable: 1 kB\n",
		"MemTotal: 1 MB\nMemAvailable: 1 kB\n", "MemTotal: 9223372036854775807 kB\nMemAvailable: 1 kB\n", meminfo[:len(meminfo)-1])
}

func TestParseFullAvg10(t *testing.T) {
	some := "some avg10=7.00 avg60=0.00 avg300=0.00 total=0\n"
	accepts(t, parseFullAvg10, some+"full avg10=5.31 avg60=0.00 avg300=0.00 total=0\n", 5.31)
	refuses(t, parseFullAvg10, "", some, some+"full avg60=1\n", "full avg10=NaN\n", "full avg10=-1\n", "full avg10=101\n", "full avg10=1", "full 1\n")
}

func TestMemoryOfThisKernel(t *testing.T) {
	f := New(realProc)
	m, err := f.MemInfo()
	if err != nil || m.Total < 1<<24 || m.Available > m.Total || m.Available <= 0 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := f.MemoryFull(); err != nil {
		t.Error(err)
	}
	if id, err := f.BootID(); err != nil || len(id) != 36 {
		t.Errorf("%q, %v", id, err)
	}
	f = New(t.TempDir())
	if full, err := f.MemoryFull(); full != nil || err != nil {
		t.Errorf("without PSI: %v, %v", full, err)
	}
	if _, err := f.MemInfo(); err == nil {
		t.Error("no error without meminfo")
	}
	if _, err := f.BootID(); err == nil {
		t.Error("no error without boot_id")
	}
}

func TestSetTCPMem(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sys/net/ipv4/tcp_mem")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("100000\t200000\t300000\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	f := New(dir)
	if err := f.TCPMemWritable(); err != nil {
		t.Error(err)
	}
	want := reading.TCPMem{Min: 1, Pressure: 2, Max: 3}
	if err := f.SetTCPMem(want); err != nil {
		t.Error(err)
	}
	if got, err := f.TCPMem(); got != want || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	want.Max++ // somebody else was quicker to write
	nt, ok := errors.AsType[*NotTakenError](f.holdsTCPMem(want))
	if !ok || nt.Error() != `wrote "1 2 4", but it reads "1 2 3"` {
		t.Errorf("not taken: %v", nt)
	}
	for _, bad := range []reading.TCPMem{{}, {Min: -1, Max: 1}, {Min: 3, Pressure: 2, Max: 4}, {Pressure: 2, Max: 1}} {
		if err := f.SetTCPMem(bad); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
	// What is written is not what is read.
	if err := errors.Join(os.Remove(path), os.Symlink("/dev/null", path)); err != nil {
		t.Fatal(err)
	}
	if err := f.SetTCPMem(want); err == nil {
		t.Error("no error where nothing is kept")
	}
	if err := errors.Join(os.Remove(path), f.SetTCPMem(want)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if err := f.TCPMemWritable(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func FuzzMemory(f *testing.F) {
	f.Add([]byte(meminfo))
	f.Add([]byte("full avg10=5.31 avg60=0.00 avg300=0.00 total=0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, _ := parseMemInfo(data)
		notNegative(t, data, m.Total, m.Available)
		if percent, _ := parseFullAvg10(data); !(percent >= 0 && percent <= 100) {
			t.Fatalf("%q: %v", data, percent)
		}
	})
}
