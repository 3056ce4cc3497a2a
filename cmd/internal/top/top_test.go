package top

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/api/filter"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

var update = flag.Bool("update", false, "write the golden files anew")

// source answers from a host in memory.
type source struct{ *apitest.Host }

func (s source) Status(ctx context.Context) (*api.Status, error) {
	state, err := s.State(ctx)
	if err != nil {
		return nil, err
	}
	return api.StatusFrom(s.Meta(), state), nil
}

func (s source) Owners(ctx context.Context, fresh bool) (*api.Owners, error) {
	r, err := s.Read(ctx, fresh)
	if err != nil {
		return nil, err
	}
	return api.OwnersFrom(s.Meta(), r), nil
}

func (s source) Sockets(ctx context.Context, q api.SocketQuery) (*api.Sockets, error) {
	want, err := filter.Parse(q.Filter)
	if err != nil {
		return nil, err
	}
	doc, err := api.CollectSockets(ctx, s.Meta(), &s.Reading, s.Host, want.Want(api.OwnerIndex(&s.Reading)), q.Limit, nil)
	if err == nil {
		doc.Filter = q.Filter
	}
	return doc, err
}

// viewer drives a model without a terminal: what it asks for is answered at
// once, unless it is told not to.
type viewer struct {
	Model
	t     testing.TB
	asker *asker
	now   time.Time
}

func view(t testing.TB, host *apitest.Host, width, height int) *viewer {
	t.Helper()
	v := &viewer{t: t, now: apitest.At}
	cfg := Config{Source: source{host}, Interval: 2 * time.Second, Now: func() time.Time { return v.now }}
	v.asker = &asker{Config: cfg, ctx: t.Context()}
	v.Model = newModel(cfg, v.asker.ask(nil, true)).resized(width, height)
	return v
}

// press presses keys, named or as they are typed.
func (v *viewer) press(keys ...string) {
	v.t.Helper()
	for _, key := range keys {
		text := key
		if key == "space" {
			text = " "
		} else if len([]rune(key)) > 1 {
			text = ""
		}
		v.do(v.pressed(key, text))
	}
}

func (v *viewer) kind(text string) {
	for _, r := range text {
		if r == ' ' {
			v.press("space")
			continue
		}
		v.press(string(r))
	}
}

// pass lets a time pass, second by second.
func (v *viewer) pass(d time.Duration) {
	for range int(d / time.Second) {
		v.now = v.now.Add(time.Second)
		v.do(v.at(v.now))
	}
}

func (v *viewer) do(m Model, then want) {
	v.Model = m
	if then == wantStatus || then == wantAnswer {
		v.asking++
		v.Model = v.answered(v.asker.ask(v.list, then == wantAnswer))
	}
}

// has checks what is on the screen, and that it fits.
func (v *viewer) has(texts ...string) {
	v.t.Helper()
	screen := v.String()
	for _, text := range texts {
		if !strings.Contains(screen, text) {
			v.t.Errorf("no %q in\n%s", text, screen)
		}
	}
	v.fits()
}

func (v *viewer) hasNot(texts ...string) {
	v.t.Helper()
	screen := v.String()
	for _, text := range texts {
		if strings.Contains(screen, text) {
			v.t.Errorf("%q in\n%s", text, screen)
		}
	}
}

func (v *viewer) fits() {
	v.t.Helper()
	lines := strings.Split(v.String(), "\n")
	if len(lines) > v.height {
		v.t.Errorf("%d lines in %d x %d:\n%s", len(lines), v.width, v.height, v.String())
	}
	for _, line := range lines {
		if w := layout.Width(line); w > v.width {
			v.t.Errorf("%d columns in %d x %d: %s", w, v.width, v.height, line)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got+"\n"); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", name, diff)
	}
}

func TestScreens(t *testing.T) {
	for _, tt := range []struct {
		name          string
		host          *apitest.Host
		width, height int
		keys          []string
	}{
		{"acted-80x24", apitest.Acted(), 80, 24, nil},
		{"acted-120x40", apitest.Acted(), 120, 40, nil},
		{"many-200x60", apitest.Many(5000), 200, 60, []string{"pgdown"}},
		{"sockets-80x24", apitest.Acted(), 80, 24, []string{"enter", "down"}},
		{"policy-80x24", apitest.Acted(), 80, 24, []string{"p"}},
		{"hostile-80x24", apitest.Hostile(), 80, 24, nil},
		{"keys-80x24", apitest.New(), 80, 24, []string{"?"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := view(t, tt.host, tt.width, tt.height)
			v.press(tt.keys...)
			v.fits()
			golden(t, tt.name, v.String())
		})
	}
}

// level makes a host of each level, so full.
func level(l reading.Level, used reading.Pages) *apitest.Host {
	h := apitest.Acted()
	h.Reading.Level, h.Reading.Sample.Used = l, used
	return h
}

// TestFits draws everything at every size that a terminal may have.
func TestFits(t *testing.T) {
	empty := apitest.New()
	empty.Balance(0)
	for name, host := range map[string]*apitest.Host{
		"empty": empty, "acted": apitest.Acted(), "hostile": apitest.ActedHostile(), "many": apitest.Many(100),
		"over": level(reading.Critical, 90000),
	} {
		for _, keys := range []string{"", "enter", "enter down", "p", "?", "i", "/ x", "/ 漢 漢 漢 漢 漢 漢 漢 漢 漢 漢 漢 漢"} {
			v := view(t, host, 80, 24)
			v.Paint = true
			v.press(strings.Fields(keys)...)
			for width := 1; width < 210; width += 1 + width/16 {
				for height := 1; height < 70; height += 1 + height/8 {
					v.Model = v.resized(width, height)
					v.fits()
				}
			}
			if t.Failed() {
				t.Fatalf("%s, keys %q", name, keys)
			}
		}
	}
}

// TestNothingHostileIsDrawn: names come escaped, on every page.
func TestNothingHostileIsDrawn(t *testing.T) {
	for _, keys := range []string{"", "end", "enter", "p", "i", "/ x"} {
		v := view(t, apitest.ActedHostile(), 120, 60)
		v.press(strings.Fields(keys)...)
		for _, r := range strings.ReplaceAll(v.String(), "\n", "") {
			if !prose.Visible(r) {
				t.Fatalf("keys %q draw %U:\n%q", keys, r, v.String())
			}
		}
	}
	v := view(t, apitest.New(), 80, 24)
	v.press("/")
	v.Model = v.pasted("a\x1b[31m\u202eb\nc")
	v.has(`/a\x1b[31m\u202eb c_`)
	v.answeredWith(errors.New("evil \x1b[2J"))
	v.has(`NO ANSWER, shown is 0 ms old, trying again: evil \x1b[2J`)
}

// answeredWith is a question that has no answer.
func (v *viewer) answeredWith(err error) {
	v.asking++
	v.Model = v.answered(&answer{err: err, at: v.now})
}

// TestWidths: the terminal's own count of columns is that of the layout.
func TestWidths(t *testing.T) {
	for _, name := range apitest.HostileNames {
		name = prose.Escape(name)
		if got, want := layout.Width(name), ansi.StringWidthWc(name); got != want {
			t.Errorf("%q: %d columns, the renderer counts %d", name, got, want)
		}
	}
}

func TestLevels(t *testing.T) {
	for _, tt := range []struct {
		level reading.Level
		used  reading.Pages
		bar   string
	}{
		{reading.Calm, 0, "[.......................................|............|.........................]"},
		{reading.Calm, 1, "[#......................................|............|.........................]"},
		{reading.Elevated, 43257, "[#######################################|............|.........................]"},
		{reading.Pressure, 60000, "[#######################################|############|#........................]"},
		{reading.Critical, 86514, "[#######################################|############|#########################]"},
		{reading.Critical, 99999, "[#######################################|############|#########################>"},
		{reading.Unknown, 43257, "[#######################################|............|.........................]"},
	} {
		v := view(t, level(tt.level, tt.used), 80, 24)
		v.has(tt.level.String())
		if got := strings.Split(v.String(), "\n")[1]; got != tt.bar {
			t.Errorf("%s, %d pages:\n%s\n%s", tt.level, tt.used, got, tt.bar)
		}
		v.Paint = true
		if got := strings.Split(v.String(), "\n")[1]; tt.used > 1 && !strings.Contains(got, "\x1b[") {
			t.Errorf("%s has no colour: %q", tt.level, got)
		}
	}
}

// TestRuler: limits that are too near to one another stand in a row.
func TestRuler(t *testing.T) {
	host := apitest.New()
	host.Reading.Sample.Mem = reading.TCPMem{Min: 100, Pressure: 110, Max: 100000}
	host.Balance(0)
	view(t, host, 80, 24).has("min 400.0 KiB, pressure 440.0 KiB, max 390.6 MiB")
	host.Reading.Sample.Mem = reading.TCPMem{Min: 9, Pressure: 9, Max: 1}
	view(t, host, 80, 24).has("min 36.0 KiB, pressure 36.0 KiB, max 4.0 KiB")
	host.Reading.Sample.Mem = reading.TCPMem{}
	view(t, host, 80, 24).has("max 0 B")
}

func TestSort(t *testing.T) {
	v := view(t, apitest.Leak(), 200, 60)
	for _, tt := range []struct{ key, name, first string }{
		{"m", "memory", "task-queue.service"},
		{"g", "growth", "task-queue.service"},
		{"h", "hidden", "sync.service"},
		{"o", "orphans", "task-queue.service"},
		{"c", "close-wait", "task-queue.service"},
		{"u", "unread", "task-queue.service"},
	} {
		v.press("end", tt.key)
		v.has("7 owners by "+tt.name+", 1 to 7", "\n> "+tt.first)
	}
	// What the owners are sorted by has a column, however little room there is.
	v.Model = v.resized(80, 24)
	for _, o := range orders {
		v.press(o.key)
		v.has(strings.ToUpper(o.name))
	}
}

// TestCursor: it stays with the owner that it is on; on the first row, with
// whoever is first.
func TestCursor(t *testing.T) {
	host := apitest.Many(100)
	v := view(t, host, 80, 24)
	v.has("> job@00000.service")
	v.press("down", "down")
	v.has("> job@00002.service")
	for i := range host.Reading.Owners {
		if host.Reading.Owners[i].Name == "job@00050.service" {
			host.Reading.Owners[i].Sum.Bytes += 1 << 20
		}
	}
	v.pass(2 * time.Second)
	v.has("> job@00002.service")
	v.press("home")
	v.has("> job@00050.service")
	v.press("end")
	v.has("> job@00099.service", "to 100")
	v.press("pgup", "pgdown", "up", "k", "j", "down")
	v.has("> job@00099.service")
	host.Reading.Owners = host.Reading.Owners[:10]
	v.pass(2 * time.Second)
	v.has("10 owners by memory", "> job@")
}

func TestPause(t *testing.T) {
	host := apitest.Leak()
	v := view(t, host, 80, 24)
	v.press("space")
	host.Reading.Sample.Used = 1
	v.pass(12 * time.Second)
	v.has("VIEW PAUSED, shown is 12 s old", "used 295.6 MiB of 337.9 MiB")
	v.press("down", "enter") // the sockets that are asked for come all the same
	v.has("20 sockets with 40.1 MiB of prod/checkout-7d9f (worker)", "10.9.8.7:39000", "used 295.6 MiB of 337.9 MiB")
	host.Err = errors.New("it is over")
	v.press("esc", "home", "enter")
	v.has("VIEW PAUSED, NO ANSWER, shown is 12 s old: it is over", "reading ...")
	host.Err = nil
	v.press("esc", "space")
	v.has("used 4.0 KiB")
	v.hasNot("PAUSED", "NO ANSWER")
}

// TestOldOwners: a daemon that is short of CPU answers with its last scan.
func TestOldOwners(t *testing.T) {
	host := apitest.Leak()
	host.AnswerAfter = 40 * time.Second
	view(t, host, 80, 24).has("7 owners by memory, 1 to 7, as of 40 s ago")
}

// TestNoDaemon: what is shown has its age, and no level once that is old; when
// the daemon is back, all is as before.
func TestNoDaemon(t *testing.T) {
	host := apitest.Leak()
	v := view(t, host, 80, 24)
	host.Err = &api.NotRunningError{Socket: "/run/tcpmemd/tcpmemd.sock", Err: syscall.ECONNREFUSED}
	v.pass(2 * time.Second)
	v.has("NO ANSWER, shown is 2 s old, trying again: connect to /run/tcpmemd/tcpmemd.sock", "critical, 87 % full")
	v.pass(30 * time.Second)
	v.has("NO ANSWER, shown is 32 s old", "unknown, 87 % full", "task-queue.service")
	host.Err = nil
	v.pass(2 * time.Second)
	v.has("critical, 87 % full")
	v.hasNot("NO ANSWER", "old")

	host.Err = &api.RequestError{Status: 503, Message: "has no reading yet"}
	v = view(t, host, 80, 24)
	v.has("reading ...", "has no reading yet")
	v.press("down", "enter", "i", "p", "?", "/", "x", "enter", "space", "space")
	v.fits()
	host.Err = nil
	v.press("/", "ctrl+u", "enter", "esc")
	v.pass(3 * time.Second)
	v.has("task-queue.service")
}

// TestRecorded: a file is read once, and its age is plain to see.
func TestRecorded(t *testing.T) {
	host := apitest.Leak()
	host.Source, host.AnswerAfter = api.SourceExport, time.Hour
	v := view(t, host, 80, 24)
	v.pass(10 * time.Second)
	v.has("RECORDED 60 min ago, in a file", "7 owners by memory, 1 to 7\n", "task-queue.service")
	v.press("enter")
	v.has("1203 sockets")
	if all, _ := host.Reads(); all != 2 {
		t.Errorf("%d readings", all)
	}
}

// TestSlowAnswer: a question that is not answered is told of, and only one is
// asked at a time.
func TestSlowAnswer(t *testing.T) {
	v := view(t, apitest.Leak(), 80, 24)
	m, then := v.at(v.now.Add(2 * time.Second))
	if then != wantAnswer {
		t.Fatal("nothing is asked after the interval")
	}
	m.asking++
	m, then = m.at(v.now.Add(9 * time.Second))
	if then != wantNothing {
		t.Error("asked again while one question is under way")
	}
	v.Model = m
	v.has("no answer for 7 s, shown is 9 s old", "unknown, 87 % full")
	// One that took long is followed by a rest, in which the status is asked for.
	v.now = v.now.Add(10 * time.Second)
	a := v.asker.ask(nil, true)
	a.took = 2 * time.Second
	v.Model = v.answered(a)
	for _, tt := range []struct {
		after          time.Duration
		daemon, direct want
	}{{time.Second, wantNothing, wantNothing}, {2 * time.Second, wantStatus, wantNothing}, {7 * time.Second, wantStatus, wantNothing}, {8 * time.Second, wantAnswer, wantAnswer}} {
		m := v.Model
		if _, then := m.at(v.now.Add(tt.after)); then != tt.daemon {
			t.Errorf("%s after the answer of a daemon wants %d, not %d", tt.after, then, tt.daemon)
		}
		m.Direct = true
		if _, then := m.at(v.now.Add(tt.after)); then != tt.direct {
			t.Errorf("%s after a direct reading wants %d, not %d", tt.after, then, tt.direct)
		}
	}
	m = v.Model
	m.took = time.Hour
	if _, then := m.at(v.now.Add(maxRest)); then != wantAnswer {
		t.Error("the rest has no bound")
	}
}

func TestFilter(t *testing.T) {
	v := view(t, apitest.Leak(), 80, 24)
	for _, tt := range []struct {
		text string
		has  []string
	}{
		{"QUEUE", []string{"1 owner by memory, 1 to 1, filter: QUEUE", "> task-queue.service"}},
		{"java", []string{"> prod/checkout-7d9f (worker)"}}, // its command
		{"container", []string{"1 owner by memory", "> prod/checkout-7d9f (worker)"}},
		{"unit = *.service and not unit = web*", []string{"3 owners by memory", "filter: unit = *.service and not unit = web*"}},
		{"pod prod/*", []string{"1 owner by memory", "> prod/checkout-7d9f (worker)"}},
		{"nobody", []string{"0 owners by memory, filter: nobody", "No owner matches."}},
		{"no such (name", []string{"No owner matches."}},
		{"", []string{"7 owners by memory, 1 to 7"}},
		{"state close-wait and mem > 1K", []string{"900 sockets with 228.5 MiB, filter: state close-wait and mem > 1K", "OWNER"}},
	} {
		v.press("esc", "/", "ctrl+u")
		v.kind(tt.text)
		v.press("enter")
		v.has(tt.has...)
		if v.input != nil {
			t.Errorf("%q is not taken: %s", tt.text, v.input.wrong)
		}
	}
	v.press("esc")
	v.has("7 owners by memory")

	// What is wrong is told, and can be mended.
	v.press("/")
	v.kind("state clsoe-wait")
	v.press("enter")
	v.has(`unknown state "clsoe-wait", did you mean "close-wait"?`)
	v.press("ctrl+w")
	v.kind("close-wait")
	v.has("/state close-wait_")
	v.press("enter")
	v.has("900 sockets with 228.5 MiB")

	// While it is typed, a name filters already, and Esc takes that back.
	v.press("esc", "/", "w", "e", "b")
	v.has("1 owner by memory", "> web.service", "/web_")
	v.press("backspace", "backspace", "backspace", "backspace", "esc")
	v.has("7 owners by memory")
}

func TestSockets(t *testing.T) {
	v := view(t, apitest.Leak(), 120, 40)
	v.press("enter")
	v.has("1203 sockets with 251.2 MiB of task-queue.service, 1 to ", "of the 1000 biggest", "> ", "skmem:(")
	v.press("/")
	v.kind("state established")
	v.press("enter")
	v.has("299 sockets with 18.7 MiB of task-queue.service, filter: state established")
	v.press("/", "ctrl+u", "9", "9")
	v.has("filter: state established, with: 99", "No TCP socket matches.")
	v.press("esc", "esc")
	v.has("1203 sockets with 251.2 MiB of task-queue.service")
	v.press("/")
	v.kind("fin-wait")
	v.press("enter", "end")
	v.has("with: fin-wait, 1 to 4")
	v.press("i")
	v.has("What is under the cursor", "orphan by last-seen")
	v.press("esc", "esc", "esc")
	v.has("7 owners by memory")

	// Esc, and a key at once, is what a terminal sends for Alt.
	v.press("enter", "i", "alt+esc")
	v.has("7 owners by memory")
	v.press("enter", "alt+?")
	v.has("Keys")

	// An owner that has gone has no sockets.
	host := apitest.Leak()
	v = view(t, host, 80, 24)
	host.SocketList = nil
	v.press("enter")
	v.has("There is no TCP socket any more.")
	v.press("i", "esc", "down", "end")
	v.fits()
}

// TestAnswerTooLate: sockets of an owner that is left already are not shown as
// those of another.
func TestAnswerTooLate(t *testing.T) {
	v := view(t, apitest.Leak(), 80, 24)
	m, _ := v.pressed("enter", "")
	m.asking++
	late := v.asker.ask(m.list, true)
	m, _ = m.pressed("esc", "")
	m, _ = m.pressed("down", "")
	m, _ = m.pressed("enter", "")
	m.asking++
	v.Model = m.answered(late)
	v.has("sockets of prod/checkout-7d9f (worker)", "reading ...")
	v.hasNot("10.0.0.9:5672")
}

func TestConduct(t *testing.T) {
	host := apitest.Acted()
	host.Conduct.Stop = "the kernel was started with tcpmemd.observe"
	r := &host.Conduct.Rules[0]
	r.Mode, r.Keys[0].Choice, r.Keys[0].NextIn = "enforce", "", new(41.0)
	v := view(t, host, 120, 60)
	v.has("STOPPED, nothing is touched: the kernel was started", "PAUSED until 2026-11-22 09:58:00 UTC",
		"leaking-service: task-queue.service fires, step 2/2 in 41 s: restart-unit",
		"leaking-service is held: a budget is spent, one more at 2026-11-22 09:17:00 UTC",
		"slow-peer: prod/checkout-7d9f (worker) fires, step 1/1: destroy-sockets, dry-run", "slow-peer: and 1 more",
		"blind-netns: netns 4026532000 cannot be read", "rights missing: raise-tcp-mem cannot work here", "journal: it has not taken 2 messages yet, 1 lost")
	r.Keys[0].Phase, r.Keys[0].NextIn = record.Pending, new(12.0)
	v.pass(2 * time.Second)
	v.has("leaking-service: task-queue.service pending, fires in 12 s, then restart-unit")
	r.Keys[0].Phase, r.Keys[0].Acting = record.Firing, true
	v.pass(2 * time.Second)
	v.has("leaking-service: task-queue.service fires, step 2/2 under way: restart-unit")
	r.Keys[0].Acting, r.Keys[0].Action, r.ForEach, r.Mode = false, "", "host", "observe"
	v.pass(2 * time.Second)
	v.has("leaking-service fires, every step is taken, only observed")
}

// BenchmarkFrame is a key that moves the cursor, and the frame that follows, on
// a host with 5,000 owners.
func BenchmarkFrame(b *testing.B) {
	v := view(b, apitest.Many(5000), 120, 40)
	for b.Loop() {
		v.press("down")
		_ = v.String()
	}
}

// BenchmarkAnswer is what a new reading of 5,000 owners costs the view.
func BenchmarkAnswer(b *testing.B) {
	v := view(b, apitest.Many(5000), 120, 40)
	a := v.asker.ask(nil, true)
	for b.Loop() {
		v.asking++
		v.Model = v.answered(a)
		_ = v.String()
	}
}
