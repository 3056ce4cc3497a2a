package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/journal"
)

// TestToJournal: what is inherited from a service does not make a terminal the
// journal.
func TestToJournal(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Fstat(int(os.Stderr.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	mine := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	for value, want := range map[string]bool{"": false, "1:2": false, mine: true} {
		if got := toJournal(func(string) string { return value }, os.Stdin, os.Stderr); got != want {
			t.Errorf("JOURNAL_STREAM=%s: %v, want %v", value, got, want)
		}
	}
}

// TestLeveled: each line has its priority, also one of several lines.
func TestLeveled(t *testing.T) {
	var out bytes.Buffer
	say := &speaker{journal: new(journal.Writer)}
	log := slog.New(say.handler(&out)).With("part", "x").WithGroup("g")
	log.Error("a", "n", 1)
	log.Warn("b\nc")
	log.Info("d")
	log.Debug("not asked for")
	say.fail(&out, fmt.Errorf("one\ntwo"))
	want := "<3>msg=a part=x g.n=1\n<4>msg=\"b\\nc\" part=x\n<6>msg=d part=x\n<3>tcpmemd: one\n<3>two\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
