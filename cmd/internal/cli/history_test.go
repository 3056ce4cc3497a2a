package cli

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// leaking is a moment so long before apitest.At of a host whose task queue
// leaks from two hours before on, and is restarted 43 minutes before.
func leaking(before time.Duration, scan bool) *history.Entry {
	at, minutes := apitest.At.Add(-before), before.Minutes()
	web := reading.Pages(4000 + 1500*math.Sin(minutes/30))
	task := reading.Pages(0)
	if minutes < 120 && minutes > 43 {
		task = reading.Pages(900 * (120 - minutes))
	}
	e := &history.Entry{
		Stamp: record.Stamp{At: at, BootID: "boot", BootSeconds: 2e6 - before.Seconds(), Synced: true}, Level: reading.Calm,
		Sample: reading.Sample{
			At: at, PageSize: 4096, Mem: reading.TCPMem{Min: 43257, Pressure: 57676, Max: 86514}, Used: web + task, Orphans: 3,
		},
	}
	switch fill := float64(web+task) / 86514; {
	case fill > 0.75:
		e.Level = reading.Critical
	case fill > 0.66:
		e.Level = reading.Pressure
	case fill > 0.5:
		e.Level = reading.Elevated
	}
	if scan {
		e.Reading = &reading.Reading{Sample: e.Sample, Owners: []reading.Owner{
			{Key: "system/web.service", Name: "web.service", Sum: reading.Tally{Sockets: 50, Bytes: int64(web) * 4096}},
		}}
		if task > 0 {
			e.Reading.Owners = append([]reading.Owner{{
				Key: "system/task-queue.service", Name: "task-queue.service", Sum: reading.Tally{Sockets: 900, Bytes: int64(task) * 4096},
				Verdict: &reading.Verdict{Kind: reading.Leak},
			}}, e.Reading.Owners...)
		}
	}
	return e
}

// over is what was recorded in the time span before apitest.At, as a ring gives
// it; silent says when nothing was.
func over(span time.Duration, silent func(before time.Duration) bool) *past {
	p := newPast("n1", apitest.At.Add(-span), apitest.At)
	pace := time.Minute
	for before := span + time.Minute; before >= 0; before -= pace {
		if before <= time.Hour {
			pace = time.Second
		}
		if silent == nil || !silent(before) {
			p.add(leaking(before, pace == time.Minute || before%(30*time.Second) == 0))
		}
	}
	p.end()
	rows := api.ActionRows{}
	host := apitest.Acted()
	for i := range host.Log {
		rows.Add(&host.Log[i])
	}
	p.did(rows.Rows())
	for _, in := range host.IncidentList {
		p.happenedTo([]api.IncidentSummary{api.SummaryOf(in)})
	}
	return p
}

func TestHistoryPages(t *testing.T) {
	never := func(time.Duration) bool { return true }
	late := over(2*time.Hour, func(before time.Duration) bool { return before > 90*time.Minute })
	calm := over(30*time.Minute, nil)
	calm.Actions, calm.Incidents = nil, nil
	for _, tt := range []struct {
		name    string
		doc     *past
		columns int
		signs   charset
	}{
		{"minute-80", over(time.Minute, nil), 80, unicodeSigns},
		{"2h-80", over(2*time.Hour, nil), 80, unicodeSigns},
		{"2h-120", over(2*time.Hour, nil), 120, unicodeSigns},
		{"2h-ascii", over(2*time.Hour, nil), 80, asciiSigns},
		{"14d-80", over(14*24*time.Hour, nil), 80, unicodeSigns},
		{"14d-ascii", over(14*24*time.Hour, nil), 80, asciiSigns},
		{"gaps-80", over(2*time.Hour, func(before time.Duration) bool {
			return before > 70*time.Minute && before < 85*time.Minute || before > 20*time.Minute && before < 21*time.Minute
		}), 80, unicodeSigns},
		{"begins-80", late, 80, unicodeSigns},
		{"calm-80", calm, 80, unicodeSigns},
		{"none-80", over(time.Hour, never), 80, unicodeSigns},
		{"2h-60", over(2*time.Hour, nil), 60, unicodeSigns},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines := pastPage(tt.doc, tt.columns, tt.signs, false)
			golden(t, "history-"+tt.name+".golden", strings.Join(lines, "\n")+"\n")
			for _, line := range lines {
				if w := layout.Width(line); w > tt.columns {
					t.Errorf("%d columns: %s", w, line)
				}
				for _, r := range line {
					if tt.signs.ascii() && r >= 0x80 {
						t.Errorf("%q in ASCII: %s", r, line)
					}
				}
			}
		})
	}
}

// TestHistory goes all the way: a ring, the socket, the command.
func TestHistory(t *testing.T) {
	host := apitest.Acted()
	var entries []*history.Entry
	for before := 10 * time.Minute; before > 0; before -= time.Second {
		e := leaking(before, before%(5*time.Second) == 0)
		if e.Reading != nil {
			e.Reading.Owners[0].Name = "evil\x1b[2J\n\u202e"
		}
		if before < 4*time.Minute || before > 5*time.Minute {
			entries = append(entries, e)
		}
	}
	host.Segments = segments(t, entries)
	a := serve(t, host)
	stdout, stderr, code := a.run(0, "history", "--since", "8m", "--json")
	doc := new(past)
	if err := json.Unmarshal([]byte(stdout), doc); err != nil || code != ExitOK {
		t.Fatalf("exit %d: %v, %s", code, err, stderr)
	}
	if len(doc.Points) != 480-61 || len(doc.Gaps) != 1 || doc.Gaps[0].Seconds != 62 || doc.Begins != nil || len(doc.Incidents) != 1 || len(doc.Actions) != 1 {
		t.Errorf("%d points, gaps %v, begins %v, %d incidents, %d actions", len(doc.Points), doc.Gaps, doc.Begins, len(doc.Incidents), len(doc.Actions))
	}
	if p := doc.Points[0]; doc.Version != 1 || doc.Hostname != "n1" || doc.PageSize != 4096 || p.Max != 86514 || p.Level != reading.Calm ||
		len(p.Owners) != 1 || p.Owners[0].Bytes != p.UsedBytes || doc.Points[1].Owners != nil {
		t.Errorf("%+v", doc.Points[:2])
	}
	stdout, _, _ = a.run(0, "history", "--since", "1d", "--until", "5m", "--json")
	if doc = new(past); json.Unmarshal([]byte(stdout), doc) != nil || doc.Begins == nil || !doc.To.Equal(apitest.At.Add(-5*time.Minute)) {
		t.Errorf("the beginning is not told: %s", stdout[:min(len(stdout), 300)])
	}

	stdout, stderr, code = a.run(80, "history", "--since", "8m")
	if code != ExitOK || stderr != "" || !strings.Contains(stdout, "not recorded: 2026-11-22 08:54:59 UTC") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	for _, r := range stdout {
		if r != '\n' && (r < ' ' || r > '~') {
			t.Errorf("%U is printed, in a locale that has ASCII only", r)
		}
	}

	for args, says := range map[string]string{
		"history --since 1h --until 2h":      "is not before",
		"history --until yesterday":          "--until",
		"history --since 1h --direct":        "only a daemon knows",
		"history --since 2026-11-20 --since": "",
	} {
		if _, stderr, code := a.run(80, strings.Fields(args)...); code != ExitUsage || !strings.Contains(stderr, says) {
			t.Errorf("%s: exit %d, %s", args, code, stderr)
		}
	}
	host.Segments = append(host.Segments, api.Segment{Name: "fine-00000099.seg.gz", Data: []byte("soup")})
	stdout, stderr, code = a.run(80, "history", "--since", "8m")
	if code != ExitFailure || !strings.Contains(stdout, "samples") || !strings.Contains(stderr, "fine-00000099") {
		t.Errorf("exit %d with a damaged segment: %s", code, stderr)
	}
}

// TestLocale: signs are those that the locale has.
func TestLocale(t *testing.T) {
	for _, tt := range []struct {
		env   map[string]string
		ascii bool
	}{
		{map[string]string{"LANG": "C"}, true},
		{nil, true},
		{map[string]string{"LANG": "de_DE.UTF-8"}, false},
		{map[string]string{"LANG": "C.utf8"}, false},
		{map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, true},
		{map[string]string{"LANG": "de_DE.ISO-8859-1", "LC_CTYPE": "C.UTF-8"}, false},
	} {
		c := command{Env: Env{Getenv: func(key string) string { return tt.env[key] }}}
		if signs := c.charset(); signs.ascii() != tt.ascii {
			t.Errorf("%v: ASCII %v", tt.env, signs.ascii())
		}
	}
}
