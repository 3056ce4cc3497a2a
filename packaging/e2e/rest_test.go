//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// How long TestAtRest watches, and for how long it then leaks and mends, here
// and in `make soak`.
const (
	restTime, restSoak = 90 * time.Second, 5 * time.Minute
	loopTime           = 30 * time.Second
)

// maxState is state.max_size: what /var/lib/tcpmemd may take.
const maxState = 128 << 20

// vitals are what the installed daemon takes of its host.
type vitals struct {
	cpu       time.Duration
	rss, anon int64 // KiB
	wakeups   int64 // voluntary context switches of all threads
	files     int
	threads   int
	processes int // of the unit, actions included
	zombies   int
	state     int64 // bytes of /var/lib/tcpmemd
}

func (v vitals) String() string {
	return fmt.Sprintf("CPU %.2f s, VmRSS %.1f MiB, RssAnon %.1f MiB, %d wakeups, %d open files, %d threads, %d processes, %d zombies, %.1f MiB of state",
		v.cpu.Seconds(), float64(v.rss)/1024, float64(v.anon)/1024, v.wakeups, v.files, v.threads, v.processes, v.zombies, float64(v.state)/(1<<20))
}

// measure reads them in /proc.
func measure(t *testing.T, m *Machine) (v vitals) {
	t.Helper()
	const script = `cd /proc/$1
awk '{ printf "%d\n", ($14 + $15) * 10000000 }' stat
awk '/^VmRSS/ { print $2 }' status
awk '/^RssAnon/ { print $2 }' status
cat task/*/status | awk '/^voluntary/ { n += $2 } END { printf "%d\n", n }'
ls fd | wc -l
ls task | wc -l
wc -l </sys/fs/cgroup/system.slice/tcpmemd.service/cgroup.procs
grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l
du --bytes --summarize /var/lib/tcpmemd | cut -f 1`
	out := run(t, m, "sh", "-ec", script, "vitals", show(t, m, "tcpmemd.service", "MainPID"))
	if _, err := fmt.Sscan(out, &v.cpu, &v.rss, &v.anon, &v.wakeups, &v.files, &v.threads, &v.processes, &v.zombies, &v.state); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	return v
}

// TestAtRest measures the daemon as it is shipped on a host where nothing
// happens, and then what becomes of it where services leak and are restarted
// again and again. TCPMEMD_E2E_SOAK is for how long (`make soak`).
func TestAtRest(t *testing.T) {
	rest, loop := restTime, loopTime
	if text := os.Getenv("TCPMEMD_E2E_SOAK"); text != "" {
		var err error
		if loop, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		rest = restSoak
	}
	m := boot(t, Bookworm)
	install(t, m)
	installLeaker(t, m)
	if err := m.WriteFile("/usr/local/bin/once", []byte(once), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, m, "systemctl", "enable", "--now", "tcpmemd")
	t.Run("Rest", func(t *testing.T) { checkRest(t, m, rest) })
	t.Run("Loop", func(t *testing.T) { checkLoop(t, m, loop) })
}

// least measures for some seconds and gives the least of what comes and goes:
// a leak would be in each.
func least(t *testing.T, m *Machine) vitals {
	t.Helper()
	v := measure(t, m)
	for range 5 {
		if err := pause(t.Context(), time.Second); err != nil {
			t.Fatal(err)
		}
		now := measure(t, m)
		now.files, now.processes = min(v.files, now.files), min(v.processes, now.processes)
		now.rss, now.anon = min(v.rss, now.rss), min(v.anon, now.anon)
		v = now
	}
	return v
}

func checkRest(t *testing.T, m *Machine, length time.Duration) {
	// The first scan is over, and what it needed is given back.
	if err := pause(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	before, start := least(t, m), time.Now()
	if err := pause(t.Context(), length); err != nil {
		t.Fatal(err)
	}
	after := least(t, m)
	passed := time.Since(start).Seconds()
	t.Logf("before: %s", before)
	t.Logf("after:  %s", after)
	t.Logf("at rest for %.0f s: CPU %.2f %% of one, %.1f wakeups a second", passed,
		100*(after.cpu-before.cpu).Seconds()/passed, float64(after.wakeups-before.wakeups)/passed)
	before.files += laterFiles
	compare(t, before, after)
}

// laterFiles: the history has a second file after the first minute.
const laterFiles = 1

// compare expects no growth. The heap may come to its usual size meanwhile.
func compare(t *testing.T, before, after vitals) {
	t.Helper()
	const room = 8 << 10
	switch {
	case after.files > before.files:
		t.Errorf("open files: %d, then %d", before.files, after.files)
	case after.processes > before.processes:
		t.Errorf("processes: %d, then %d", before.processes, after.processes)
	case after.zombies > 0:
		t.Errorf("%d zombies", after.zombies)
	case after.rss > before.rss+room || after.anon > before.anon+room:
		t.Errorf("memory: VmRSS %d, RssAnon %d KiB, then %d and %d", before.rss, before.anon, after.rss, after.anon)
	case after.state > maxState:
		t.Errorf("%d bytes in %s, %d are allowed", after.state, stateDir, maxState)
	}
}

// checkLoop has a service leak, be restarted and recover again and again, with
// reloads meanwhile, good and bad.
func checkLoop(t *testing.T, m *Machine, length time.Duration) {
	configure(t, m, faultsConfig, faultRule("loop"))
	allowActing(t, m)
	run(t, m, "systemctl", "restart", "tcpmemd")
	pid := show(t, m, "tcpmemd.service", "MainPID")
	var first, last vitals
	rounds := 0
	for end := time.Now().Add(length); rounds < 3 || time.Now().Before(end); rounds++ {
		leakOnce(t, m, fmt.Sprintf("loop-%d", rounds))
		run(t, m, "systemctl", "reload", "tcpmemd")
		if err := m.WriteFile("/etc/tcpmemd/tcpmemd.toml", []byte("mode = 1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Run(t.Context(), "systemctl", "reload", "tcpmemd"); err == nil {
			t.Error("a broken file is taken up")
		}
		configure(t, m, faultsConfig, faultRule("loop"))
		if last = least(t, m); rounds == 1 {
			first = last // all that is made at first use is there
		}
	}
	t.Logf("second: %s", first)
	t.Logf("last:   %s", last)
	t.Logf("%d rounds", rounds)
	first.files += laterFiles // the daemon was started anew
	// What comes and goes with an action may take its time to go.
	eventually(t, 2*time.Minute, func() string {
		if last = measure(t, m); last.files > first.files || last.processes > first.processes {
			return fmt.Sprintf("%s, and then %s", first, last)
		}
		return ""
	})
	compare(t, first, last)
	if now := show(t, m, "tcpmemd.service", "MainPID"); now != pid {
		t.Errorf("tcpmemd was process %s and is %s", pid, now)
	}
}

// leakOnce has a service leak, and waits until it was restarted for it and the
// incident is over.
func leakOnce(t *testing.T, m *Machine, scene string) {
	t.Helper()
	invocation := startLeaking(t, m, scene)
	eventually(t, 3*time.Minute, func() string {
		if show(t, m, scene+".service", "InvocationID") == invocation {
			return "not restarted\n" + ask(t, m, "tcpmemctl", "status")
		}
		if in, ok := incidentOf(t, m, "loop"); !ok || in.Ended == nil {
			return "the incident lasts\n" + ask(t, m, "tcpmemctl", "status")
		}
		return ""
	})
	run(t, m, "systemctl", "stop", scene+".service")
}
