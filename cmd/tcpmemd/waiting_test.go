package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/clock"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/pausefile"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// gate is an output that takes nothing until it is opened.
type gate struct {
	open chan struct{}
	got  bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.got.Write(p)
}

// TestStuckOutput: who speaks does not wait for who reads, memory is bounded,
// and what was dropped is said.
func TestStuckOutput(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	l := newLines(g)
	began := time.Now()
	for i := range 2 * maxLines {
		fmt.Fprintf(l, "line %d\n", i)
	}
	if _, err := l.Write(make([]byte, 2*maxLineBytes)); err != nil {
		t.Error(err)
	}
	l.flush(50 * time.Millisecond)
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("it took %s", took)
	}
	if n := l.bytes.Load(); n > maxLineBytes {
		t.Errorf("%d bytes wait", n)
	}
	close(g.open)
	l.flush(5 * time.Second)
	text := g.got.String()
	if !strings.Contains(text, "line 0\n") || !strings.Contains(text, "lines were dropped") {
		t.Errorf("written: %.60q ... without the count of what was dropped", text)
	}
	fmt.Fprintln(l, "the last")
	l.flush(5 * time.Second)
	if !strings.HasSuffix(g.got.String(), "the last\n") {
		t.Error("what came later is lost")
	}
}

// TestHungPauseFile: the loop does not wait for a file system that hangs, and
// nothing is touched meanwhile; an answer that came too late is not gone by.
func TestHungPauseFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		there := &pausefile.Pause{Why: "lunch", Until: &record.Stamp{}}
		p := &pauseLook{path: "/x", now: func() record.Stamp { return record.Stamp{} }}
		p.read = func(string, record.Stamp) *pausefile.Pause { <-hang; return nil }
		began := time.Now()
		for range 10 {
			if why := p.stop(); !strings.Contains(why, "does not answer") {
				t.Errorf("stop: %q", why)
			}
		}
		if took := time.Since(began); took != pauseWait {
			t.Errorf("ten looks took %s, want %s for the first only", took, pauseWait)
		}
		close(hang)
		synctest.Wait()
		p.read = func(string, record.Stamp) *pausefile.Pause { return there }
		if got := p.paused(); got.Why != "lunch" || p.stop() != "" {
			t.Errorf("then %+v", got)
		}
	})
}

// TestReloadForgetsNoReason: what cannot be recorded, or run, cannot after a
// reload either.
func TestReloadForgetsNoReason(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tcpmemd.toml")
	if err := os.WriteFile(file, []byte("mode = \"observe\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(config.Options{File: file})
	if err != nil {
		t.Fatal(err)
	}
	now, err := clock.New()
	if err != nil {
		t.Fatal(err)
	}
	p := &parts{flags: flags{config: file}, config: loaded.Config, clock: now}
	p.force("nothing can be recorded")
	pol, err := p.reload(t.Context())
	if err != nil || pol.Forced != "nothing can be recorded" {
		t.Errorf("forced to observe: %q, error %v", pol.Forced, err)
	}
}
