package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// rest measures the daemon itself, as installed, with 10,000 sockets: at rest
// with few and many namespaces, and then while it scans many sockets.
func (b *bench) rest() error {
	dir, err := b.install()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	fleet, err := scene.NewFleet(b.ctx, scene.FleetOptions{Sockets: 10_000, BytesEach: 1})
	if err != nil {
		return err
	}
	defer fleet.Stop()
	for _, c := range []struct {
		namespaces int
		target     float64
	}{{5, 0.2}, {200, 0.5}} {
		crowd, err := scene.IdleNetns(b.ctx, c.namespaces, scene.ByProcess)
		if err != nil {
			return err
		}
		err = b.restOnce(dir, c.namespaces, c.target)
		crowd.Stop()
		if err != nil {
			return err
		}
	}
	fleet.Stop()
	if b.short {
		return nil
	}
	return b.scanning(dir)
}

func (b *bench) restOnce(dir string, namespaces int, target float64) error {
	d, err := b.start(dir, "")
	if err != nil {
		return err
	}
	defer d.stop()
	length := 90 * time.Second
	if b.short {
		length = 45 * time.Second
	}
	time.Sleep(5 * time.Second) // the first scan is over
	before, err := d.cpu()
	if err != nil {
		return err
	}
	select {
	case <-time.After(length):
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
	after, err := d.cpu()
	if err != nil {
		return err
	}
	asked := api.Dial(d.socket)
	defer asked.Close()
	now, err := asked.Status(b.ctx)
	if err != nil {
		return err
	}
	if now.Level != reading.Calm || now.Since == nil || time.Since(*now.Since) < length {
		return errors.New("measure rest: the host was not calm all the time")
	}
	share := 100 * (after - before).Seconds() / length.Seconds()
	name := fmt.Sprintf("at rest, 10,000 sockets, %d namespaces", namespaces)
	b.add(name+": CPU", fmt.Sprintf("<= %.1f %% of one", target), share <= target, "%.2f %%, scans included", share)
	anon, rss, _ := d.memory()
	b.add(name+": memory", "RssAnon <= 10 MiB, VmRSS <= 28 MiB", anon <= 10<<10 && rss <= 28<<10,
		"RssAnon %.1f MiB, VmRSS %.1f MiB, %d open files", float64(anon)/1024, float64(rss)/1024, d.files())
	return nil
}

// scanning measures the daemon's memory while it scans 500,000 sockets.
func (b *bench) scanning(dir string) error {
	fleet, err := scene.NewFleet(b.ctx, scene.FleetOptions{Sockets: 500_000, BytesEach: 1})
	if err != nil {
		return err
	}
	defer fleet.Stop()
	d, err := b.start(dir, "")
	if err != nil {
		return err
	}
	defer d.stop()
	for range 3 {
		ask := exec.CommandContext(b.ctx, b.bin+"/tcpmemctl", "owners", "--socket", d.socket, "--json")
		if out, err := ask.CombinedOutput(); err != nil {
			return fmt.Errorf("ask daemon: %w: %s", err, out)
		}
		time.Sleep(2 * time.Second)
	}
	_, _, peak := d.memory()
	b.add("500,000 sockets, daemon while scanning", "VmRSS <= 80 MiB", peak <= 80<<10, "peak (VmHWM) %.1f MiB", float64(peak)/1024)
	return nil
}

// running is a daemon under test.
type running struct {
	cmd           *exec.Cmd
	socket, state string
	ended         chan struct{}
}

// install copies the programs to where the daemon starts actions from: a folder
// that nobody else may write, nor those above it.
func (b *bench) install() (dir string, err error) {
	if dir, err = os.MkdirTemp("/run", "tcpmembench-"); err != nil {
		return "", err
	}
	for _, name := range []string{"tcpmemd", "tcpmemd-action"} {
		if out, err := exec.CommandContext(b.ctx, "cp", filepath.Join(b.bin, name), dir).CombinedOutput(); err != nil {
			return dir, fmt.Errorf("copy programs: %w: %s", err, out)
		}
	}
	return dir, os.Chmod(dir, 0o755)
}

// start starts the daemon of dir, as it is shipped or, with a configuration, by
// that and the policy.d beside it; its state is new.
func (b *bench) start(dir, config string) (*running, error) {
	state, err := os.MkdirTemp(dir, "state")
	if err != nil {
		return nil, err
	}
	d := &running{socket: filepath.Join(dir, "tcpmemd.sock"), state: state}
	args := []string{"--socket", d.socket, "--state", state}
	if config != "" {
		args = append(args, "--config", config)
	}
	d.cmd = exec.CommandContext(b.ctx, filepath.Join(dir, "tcpmemd"), args...)
	d.cmd.Stderr = os.Stderr
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	d.ended = make(chan struct{})
	go func() {
		runtime.LockOSThread() // the end of the thread would send the signal
		defer runtime.UnlockOSThread()
		defer close(d.ended)
		if err := d.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		_ = d.cmd.Wait() // how it ends, its output says
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start daemon: %w", err)
	}
	for range 300 {
		if _, err := os.Stat(d.socket); err == nil {
			time.Sleep(2 * time.Second)
			return d, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	d.stop()
	return nil, fmt.Errorf("start daemon: no socket at %s", d.socket)
}

func (d *running) stop() {
	_ = d.cmd.Process.Signal(os.Interrupt)
	<-d.ended
}

// cpu is what all its threads have used, in nanoseconds by the scheduler:
// stat's ticks of 10 ms are too coarse.
func (d *running) cpu() (sum time.Duration, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", d.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		return 0, fmt.Errorf("read CPU time of the daemon: %w", err)
	}
	for _, t := range tasks {
		data, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		if f := strings.Fields(string(data)); len(f) > 0 {
			ns, _ := strconv.ParseInt(f[0], 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum, nil
}

func (d *running) memory() (anon, rss, peak int64) { return memoryOf(d.cmd.Process.Pid) }

// memoryOf reads /proc/PID/status, in KiB.
func memoryOf(pid int) (anon, rss, peak int64) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "RssAnon:":
			anon = n
		case "VmRSS:":
			rss = n
		case "VmHWM:":
			peak = n
		}
	}
	return anon, rss, peak
}

func (d *running) files() int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	return len(entries)
}
