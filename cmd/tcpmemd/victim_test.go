package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	actionlog "github.com/tcpmemd/tcpmemd/daemon/store/actions"
)

// victim is one state directory, and the daemons that are killed on it.
type victim struct {
	*host
	t    *testing.T
	rng  *rand.Rand
	bell *os.File
	rung chan string // marks, as they come

	toIntent time.Duration // what a daemon took from its start to its intent, of late
	records  []record.Record
	adopted  int
	locked   int // starts in vain
}

func newVictim(t *testing.T, l *lab, i int, rng *rand.Rand, rules string) *victim {
	comm := fmt.Sprintf("kl-%d-%d", i, os.Getpid())
	leaker := scene.StartT(t, scene.ChildOptions{Comm: comm, Argv0: comm})
	scene.BuildT(t, leaker, scene.Spec{Kind: scene.Unread, Pairs: 3, Bytes: 8 << 10})
	dir := filepath.Join(l.dir, comm)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, rng: rng, rung: make(chan string, 64), toIntent: 500 * time.Millisecond}
	v.host = newHost(t, l, fmt.Sprintf(killSettings, l.path(probeProgram), l.path(lenderProgram)), fmt.Sprintf(rules, comm, dir, scarceBudget, probeHold))
	v.listen(filepath.Join(dir, probeBell))
	return v
}

// listen hears the marks of the probe.
func (v *victim) listen(path string) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		v.t.Fatal(err)
	}
	var err error
	if v.bell, err = os.OpenFile(path, os.O_RDWR, 0); err != nil { // so that it has no end
		v.t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(v.bell); s.Scan(); {
			v.rung <- s.Text()
		}
	}()
	v.t.Cleanup(func() { _ = v.bell.Close() })
}

func (v *victim) kill(k *killed, among []moment) {
	for {
		aim := k.wants(v.rng, among)
		if aim == "" {
			break
		}
		p, err := v.start()
		if err != nil {
			v.t.Fatal(err)
		}
		v.aim(p, aim)
		if !p.running() {
			v.lockedOut(p)
			continue
		}
		p.kill()
		k.add(v.after(p))
		if v.t.Failed() {
			return
		}
	}
	v.finish()
}

// aim waits until the daemon is about where it is to be killed.
func (v *victim) aim(p *process, m moment) {
	for len(v.rung) > 0 {
		<-v.rung
	}
	began := time.Now()
	jitter := func(most time.Duration) { time.Sleep(time.Duration(v.rng.Int64N(int64(most)))) }
	switch m {
	case beforeIntent:
		jitter(v.toIntent)
	case intentToStart:
		size := v.logSize()
		from := v.intents(0)
		for p.running() {
			if time.Since(began) > 20*time.Second {
				v.t.Errorf("no intent in 20 s:\n%s", p.out.String())
				break
			}
			if now := v.logSize(); now != size {
				size = now
				if v.intents(0) > from {
					v.toIntent = (3*v.toIntent + time.Since(began)) / 4
					break
				}
			}
			time.Sleep(time.Millisecond)
		}
		jitter(20 * time.Millisecond)
	case pluginRunning:
		v.hear(markStart, p)
		if len(v.plugins()) == 0 && p.running() {
			v.t.Error("a plugin runs, and is not found") // so that noPlugin means something
		}
		jitter(time.Duration(probeHold * 0.5 * float64(time.Second)))
	case resultToRecord:
		v.hear(markEnd, p)
		jitter(2 * time.Millisecond)
	}
}

// lockedOut takes a daemon that ended by itself. There is one good reason: the
// one before was killed while it started a plugin, and that has its locks
// (flock(2) is of the open file, which fork copies) until it executes its
// program. A service manager starts anew, too.
func (v *victim) lockedOut(p *process) {
	v.t.Helper()
	if !strings.Contains(p.out.String(), "another daemon") {
		v.t.Fatalf("the daemon ended by itself: %v\n%s", p.err, p.out.String())
	}
	v.locked++
	time.Sleep(50 * time.Millisecond)
}

func (v *victim) hear(mark string, p *process) {
	late := time.After(20 * time.Second)
	for {
		select {
		case line := <-v.rung:
			if strings.HasPrefix(line, mark) {
				return
			}
		case <-p.ended:
			return
		case <-late:
			v.t.Errorf("no action in 20 s:\n%s", p.out.String())
			return
		}
	}
}

func (v *victim) logPath() string { return filepath.Join(v.state, actionlog.Name) }

func (v *victim) logSize() int64 {
	st, err := os.Stat(v.logPath())
	if err != nil {
		return 0
	}
	return st.Size()
}

// intents counts the intents in the log from a place on.
func (v *victim) intents(int64) int {
	data, _ := os.ReadFile(v.logPath())
	return bytes.Count(data, []byte(`"kind":"intent"`))
}
