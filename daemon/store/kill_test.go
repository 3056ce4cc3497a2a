package store

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// childEnv makes the test binary a daemon that writes all it can to the folder
// named, until it is killed.
const childEnv = "TCPMEMD_TEST_STORE_CHILD"

const killBound = 4 << 20

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeUntilKilled tells each durable record's ID, and the budgets' number, in
// a line of its own.
func writeUntilKilled(dir string) error {
	s, err := Open(dir, Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Now: now, MaxBytes: killBound})
	if err != nil {
		return err
	}
	room := make(chan struct{}, 32)
	tell := func(text string) func(error) {
		return func(err error) {
			if err != nil {
				text = "error " + err.Error()
			}
			fmt.Println(text)
			<-room
		}
	}
	run := os.Getpid()
	for i := 0; ; i++ {
		action := fmt.Sprintf("%d-%d", run, i)
		for _, rec := range []record.Record{event("e-" + action), intent(action), result(action)} {
			room <- struct{}{}
			s.Append(rec, tell("record "+rec.ID))
		}
		room <- struct{}{}
		s.SaveBudgets(i, tell(fmt.Sprint("budgets ", i)))
		s.SaveIncident(&record.Incident{ID: fmt.Sprint("in-", i%7), Began: stamp(float64(i)), About: action}, nil)
		s.PutOutbox(Outbox{ID: fmt.Sprint("o-", i%5), Born: stamp(float64(i))}, nil)
		s.RemoveOutbox(fmt.Sprint("o-", (i+2)%5), nil)
		s.AppendHistory(&history.Entry{Stamp: stamp(float64(i))})
	}
}

// A daemon killed at any moment: what it was told to be durable is there, once
// and in order; nothing is damaged; numbers and history go on.
func TestKill9(t *testing.T) {
	kills := 200
	if testing.Short() {
		kills = 20
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	dir := filepath.Join(t.TempDir(), "state")
	told, torn, interrupted := 0, 0, 0
	for kill := range kills {
		ids, budgets := killed(t, dir, time.Duration(random.Int64N(int64(12*time.Millisecond))))
		told += len(ids)
		s := open(t, dir, Options{MaxBytes: killBound})
		for _, f := range s.Findings() {
			if f.Code != "log-torn" {
				t.Errorf("kill %d (seed %d): %+v", kill, seed, f)
			}
			torn++
		}
		there := map[string]bool{}
		for _, rec := range records(t, s, actions.Query{}) {
			if there[rec.ID] {
				t.Errorf("kill %d (seed %d): %s is there twice", kill, seed, rec.ID)
			}
			there[rec.ID] = true
		}
		for _, id := range ids {
			if !there[id] {
				t.Errorf("kill %d (seed %d): %s was told and is lost", kill, seed, id)
			}
		}
		var kept int
		if err := s.LoadBudgets(&kept); err != nil || kept < budgets {
			t.Errorf("kill %d (seed %d): budgets %d, %v; told %d", kill, seed, kept, err, budgets)
		}
		if _, err := s.Outbox(); err != nil {
			t.Errorf("kill %d (seed %d): %v", kill, seed, err)
		}
		for _, in := range s.Incidents() {
			if _, err := s.Incident(in.ID); err != nil {
				t.Errorf("kill %d (seed %d): %v", kill, seed, err)
			}
		}
		if len(s.Unfinished()) > 1 {
			t.Errorf("kill %d (seed %d): %d unfinished", kill, seed, len(s.Unfinished()))
		}
		for _, rec := range s.Unfinished() {
			interrupted++
			s.Append(record.Record{ID: "int-" + rec.Action, Kind: record.KindResult, Action: rec.Action, Result: &record.Result{Outcome: record.Interrupted}}, nil)
		}
		closeStore(t, s)
		if t.Failed() {
			return
		}
	}
	for _, err := range history.Read(history.Dir(filepath.Join(dir, history.Name)), time.Time{}, time.Time{}) {
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d kills, seed %d: %d records told and found, %d torn lines, %d interrupted", kills, seed, told, torn, interrupted)
}

// killed runs a daemon, kills it some time after its first word, and gives
// what it told.
func killed(t *testing.T, dir string, after time.Duration) (ids []string, budgets int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for first := true; lines.Scan(); first = false {
		if first {
			time.AfterFunc(after, func() { cmd.Process.Kill() })
		}
		word, value, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "record":
			ids = append(ids, value)
		case "budgets":
			if budgets, err = strconv.Atoi(value); err != nil {
				t.Error(err)
			}
		default:
			t.Errorf("the daemon says %q", lines.Text())
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the daemon was not killed: %v: %s", err, stderr.String())
	}
	return ids, budgets
}
