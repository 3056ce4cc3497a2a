package page

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

var meta = Meta{Version: "0.1.0", Now: began.Add(time.Hour)}

var incidents = map[string]func() *record.Incident{
	"restarted": func() *record.Incident { return restarted("task-queue.service") },
	"short":     short,
	"long":      long,
	"open":      open,
	"many":      many,
	"hostile":   hostile,
	"worst":     worst,
	"nothing":   func() *record.Incident { return &record.Incident{ID: "i-1", Rule: "r", Began: at(0), Fired: at(0)} },
}

// statuses are hosts with, and without, what was recorded of their last hour.
var statuses = map[string]func() (*apitest.Host, []record.Point){
	"status": func() (*apitest.Host, []record.Point) {
		return apitest.Acted(), restarted("task-queue.service").Readings
	},
	"status-hostile": func() (*apitest.Host, []record.Point) { return apitest.ActedHostile(), hostile().Readings },
	"status-many":    func() (*apitest.Host, []record.Point) { return apitest.Many(5000), many().Readings },
	"status-none": func() (*apitest.Host, []record.Point) {
		h := apitest.New()
		h.Source = api.SourceDirect
		h.Balance(0)
		return h, nil
	},
}

// pages writes all of them, by name.
func pages(t testing.TB) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	add := func(name string, text []byte, err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = text
	}
	for name, scene := range incidents {
		text, err := Incident(scene(), meta)
		add(name, text, err)
	}
	for name, scene := range statuses {
		host, past := scene()
		state, err := host.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text, err := Status(api.StatusFrom(host.Meta(), state), api.OwnersFrom(host.Meta(), &host.Reading), past, meta)
		add(name, text, err)
	}
	return all
}

// TestHeadlines: the first sentences say who, how bad, what was done, and
// whether it is over.
func TestHeadlines(t *testing.T) {
	want := map[string]string{
		"restarted":   "task-queue.service leaked 251.0 MiB of TCP memory; the host had 94 % of its limit in use. tcpmemd restarted it, which helped. Over after 5 min.",
		"short":       "backup.service leaked 251.0 MiB of TCP memory; the host had 91 % of its limit in use. tcpmemd restarted it. Over after 3 s.",
		"long":        "task-queue.service leaked 251.0 MiB of TCP memory; the host had 100 % of its limit in use. tcpmemd only watched: it would have restarted it. Over after 3 days.",
		"open":        "TCP memory is short: the kernel slows connections down. tcpmemd did nothing about it. It is not over.",
		"many":        "job@00001.service and 4999 more held 107.4 KiB of TCP memory; the host had 119 % of its limit in use. tcpmemd only watched: it would have restarted it. It is not over.",
		"nothing":     "The rule r fired. tcpmemd did nothing about it. It is not over.",
		"status":      "n1 has 87 % of its limit of TCP memory in use: critical. task-queue.service holds 85.0 % of it, and leaks. At this pace it is full in 3 min.",
		"status-none": "n1 has 0 % of its limit of TCP memory in use: calm.",
	}
	got := make(map[string]string)
	for name, text := range pages(t) {
		if want[name] != "" {
			got[name] = read(t, text).text("h1")
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headlines (-want +got):\n%s", diff)
	}
}

// TestStructure: what a page is made of, in order.
func TestStructure(t *testing.T) {
	all := pages(t)
	for name, want := range map[string][]string{
		"restarted": {
			"What to do next", "What happened", "Who it was about", "Who held it at the worst", "What was decided, and why",
			"Sockets of the target before the first action",
		},
		"open":        {"What to do next", "What happened"},
		"nothing":     {"What to do next", "What happened"},
		"status":      {"What to do next", "What tcpmemd does about it", "Who holds it", "What else there is"},
		"status-none": {"What to do next", "Who holds it", "What else there is"},
	} {
		d := read(t, all[name])
		if diff := cmp.Diff(want, d.texts("h2")); diff != "" {
			t.Errorf("%s: sections (-want +got):\n%s", name, diff)
		}
		if n := len(d.texts("dt")); n < 5 {
			t.Errorf("%s: %d facts", name, n)
		}
	}
	d := read(t, all["restarted"])
	if diff := cmp.Diff([]string{"1", "2", "3"}, d.classes("number")[:3]); diff != "" {
		t.Errorf("numbers in the picture (-want +got):\n%s", diff)
	}
	for _, want := range []string{"restart-unit: helped", "the rule fires", "over", "max 337.9 MiB", "pressure 225.3 MiB", "min 169.0 MiB", "pressure"} {
		if !slices.Contains(d.texts("text"), want) {
			t.Errorf("the picture does not say %q, only %q", want, d.texts("text"))
		}
	}
	if names := d.classes("name wide"); len(names) == 0 || names[0] != "task-queue.service" {
		t.Errorf("the picture names %q", names)
	}
}

// TestPages: each is well-formed XML and HTML alike, refers to nothing outside,
// joins its own references, and is no larger than a mail takes.
func TestPages(t *testing.T) {
	for name, text := range pages(t) {
		t.Run(name, func(t *testing.T) {
			d := read(t, text)
			if len(text) > 500<<10 {
				t.Errorf("%d KiB", len(text)>>10)
			}
			ids := make(map[string]bool)
			for _, e := range d.elements {
				for _, a := range e.Attr {
					if a.Name.Local == "id" {
						if ids[a.Value] {
							t.Errorf("the id %s is there twice", a.Value)
						}
						ids[a.Value] = true
					}
				}
			}
			for _, e := range d.elements {
				if slices.Contains([]string{"script", "iframe", "object", "embed", "img", "link", "form", "base", "video", "audio", "foreignObject"}, e.Name.Local) {
					t.Errorf("has a <%s>", e.Name.Local)
				}
				for _, a := range e.Attr {
					switch {
					case strings.HasPrefix(a.Name.Local, "on"), a.Name.Local == "style", a.Name.Local == "src":
						t.Errorf("<%s> has %s=%q", e.Name.Local, a.Name.Local, a.Value)
					case a.Name.Local == "href", a.Name.Local == "clip-path", a.Name.Local == "aria-labelledby":
						target := strings.Trim(strings.TrimPrefix(a.Value, "url("), "#)")
						if !ids[target] || a.Name.Local == "href" && !strings.HasPrefix(a.Value, "#") {
							t.Errorf("<%s> refers to %q", e.Name.Local, a.Value)
						}
					}
				}
				if e.Name.Local == "th" && attr(e, "scope") == "" || e.Name.Local == "html" && attr(e, "lang") == "" {
					t.Errorf("<%s> lacks an attribute", e.Name.Local)
				}
			}
			for _, r := range string(text) {
				if r != '\n' && !unicode.IsPrint(r) {
					t.Errorf("has %U", r)
				}
			}
			for _, url := range regexp.MustCompile(`url\([^)]*\)|@import`).FindAllString(string(text), -1) {
				if !strings.HasPrefix(url, "url(#") {
					t.Errorf("the style refers to %s", url)
				}
			}
			if table := d.texts("caption"); strings.Contains(string(text), `class="plot"`) && !slices.ContainsFunc(table, func(s string) bool { return strings.HasPrefix(s, "TCP memory over time") }) {
				t.Error("no table behind the picture")
			}
		})
	}
}

// TestHostileNames: a name that a process chose is text, everywhere, and never
// part of a command.
func TestHostileNames(t *testing.T) {
	all := pages(t)
	for _, name := range []string{"hostile", "status-hostile"} {
		d := read(t, all[name])
		for _, e := range d.elements {
			if e.Name.Local == "script" || e.Name.Local == "img" || e.Name.Local == "b" && attr(e, "onerror") != "" {
				t.Errorf("%s: a name became <%s>", name, e.Name.Local)
			}
		}
		for _, command := range d.texts("code") {
			if !regexp.MustCompile(`^(tcpmemctl|systemctl|sysctl) [\w .@:='-]*$`).MatchString(command) {
				t.Errorf("%s: tells to run %s", name, command)
			}
		}
	}
	d := read(t, all["hostile"])
	if h1 := d.text("h1"); !strings.Contains(h1, "<script>alert(1)</script>") {
		t.Errorf("the name is not shown as it is: %s", h1)
	}
	if !strings.Contains(string(all["hostile"]), `\x1b[31mred\x1b[0m`) {
		t.Error("controls are not shown escaped")
	}
}

// TestGaps: missing readings are a gap in every shape, and not zero.
func TestGaps(t *testing.T) {
	in := long()
	text, err := Incident(in, meta)
	if err != nil {
		t.Fatal(err)
	}
	d := read(t, text)
	lines, gaps := 0, 0
	for _, e := range d.elements {
		switch attr(e, "class") {
		case "used":
			lines++
		case "gap":
			if e.Name.Local == "rect" && attr(e, "x") != "" {
				gaps++
			}
		}
	}
	if lines != 3 || gaps != 2 {
		t.Errorf("%d lines and %d gaps, want 3 and 2", lines, gaps)
	}
	for i := range in.Readings {
		if in.Readings[i].Used == 0 {
			t.Fatal("the scene itself falls to zero")
		}
	}
}

// TestLimitsChange: a limit that somebody sets is a step in its line, and where
// the limits are not known there is none.
func TestLimitsChange(t *testing.T) {
	in := restarted("task-queue.service")
	for i := range in.Readings {
		switch p := &in.Readings[i]; {
		case i > 300:
			p.Min, p.Pressure, p.Max = 0, 0, 0
		case i > 100:
			p.Max *= 2
		}
	}
	c := &chart{course: newCourse(in.Readings, pageSize, nil, axis{in.Began}, time.Time{}, time.Time{})}
	c.top = c.scale()
	lines := c.steps(limits[2].of)
	if len(lines) != 1 || len(lines[0]) < 4 {
		t.Fatalf("lines %v", lines)
	}
	line := lines[0]
	for i := range line[1:] {
		if line[i][0] != line[i+1][0] && line[i][1] != line[i+1][1] {
			t.Errorf("slopes from %v to %v", line[i], line[i+1])
		}
	}
	if low, high := line[0][1], line[len(line)-1][1]; high >= low || line[len(line)-1][0] > 850 {
		t.Errorf("the line goes from %v to %v", line[0], line[len(line)-1])
	}
}

// TestBefore: what was before the incident is in the picture, and not what it
// is said to have been like.
func TestBefore(t *testing.T) {
	in := restarted("task-queue.service")
	for i := range 10 {
		in.Readings[i].Used, in.Readings[i].Level = 10*in.Readings[i].Max, "critical"
	}
	in.Keys[0].Owner.Key = "process/412/9"
	text, err := Incident(in, meta)
	if err != nil {
		t.Fatal(err)
	}
	want := "task-queue.service[412] leaked 251.0 MiB of TCP memory; the host had 94 % of its limit in use."
	if h1 := read(t, text).text("h1"); !strings.HasPrefix(h1, want) {
		t.Errorf("says %q, want %q", h1, want)
	}
}

// TestStory: what happened is told in the order of time, and that it fires once,
// also where no record tells of it.
func TestStory(t *testing.T) {
	line := regexp.MustCompile(`<li class="(\w+)".*<span class="time">([\d:]+)</span>`)
	for name, in := range map[string]*record.Incident{"told": restarted("task-queue.service"), "untold": worst(), "empty": open()} {
		text, err := Incident(in, meta)
		if err != nil {
			t.Fatal(err)
		}
		var times []string
		fired := 0
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			times = append(times, m[2])
			if m[1] == "fired" {
				fired++
			}
		}
		if len(times) == 0 || !slices.IsSorted(times) || fired != 1 {
			t.Errorf("%s: fires %d times, at %q", name, fired, times)
		}
	}
}

// TestClockSet: a wall clock that is set back does not fold the picture.
func TestClockSet(t *testing.T) {
	in := restarted("task-queue.service")
	for i := range in.Readings {
		if i > 200 {
			in.Readings[i].At = in.Readings[i].At.Add(-time.Hour)
		}
	}
	tell := func(in *record.Incident) *course {
		return newCourse(in.Readings, pageSize, nil, axis{in.Began}, time.Time{}, time.Time{})
	}
	want, got := tell(restarted("task-queue.service")), tell(in)
	if !got.from.Equal(want.from) || !got.to.Equal(want.to) || len(got.runs) != 1 {
		t.Errorf("from %s to %s in %d runs, want %s to %s in 1", got.from, got.to, len(got.runs), want.from, want.to)
	}
}

func TestTicks(t *testing.T) {
	from := time.Date(2026, 11, 22, 8, 14, 50, 0, time.UTC)
	for _, tt := range []struct {
		span        time.Duration
		first, last string
	}{
		{time.Second, "08:14:50", "08:14:51"},
		{14 * time.Second, "08:14:50", "08:15:04"},
		{6 * time.Minute, "08:15", "08:20"},
		{5 * time.Hour, "09:00", "13:00"},
		{72 * time.Hour, "12:00", "25 Nov"},
		{14 * day, "23 Nov", "5 Dec"},
		{400 * day, "31 Dec", "26 Dec"},
	} {
		ticks := timeTicks(from, from.Add(tt.span), 8)
		if n := len(ticks); n < 2 || n > 9 || ticks[0].label != tt.first || ticks[n-1].label != tt.last {
			t.Errorf("%s: %v", tt.span, ticks)
		}
	}
	for _, top := range []int64{0, 1, 4096, 300 << 10, 365 << 20, 3 << 30, 1 << 45} {
		if ticks := sizeTicks(top, true); len(ticks) > 6 || top > 1 && len(ticks) < 2 {
			t.Errorf("%d: %v", top, ticks)
		}
	}
}

// TestContrast computes that of all texts from the style sheet (WCAG 2.2,
// 1.4.3), in both themes: TestBrowser measures what is drawn.
func TestContrast(t *testing.T) {
	light, dark, ok := strings.Cut(styleText, "prefers-color-scheme: dark")
	if !ok {
		t.Fatal("no dark theme")
	}
	for theme, text := range map[string]string{"light": light, "dark": dark} {
		vars := make(map[string]string)
		for _, m := range regexp.MustCompile(`--([\w-]+): (#[0-9a-f]{6})`).FindAllStringSubmatch(text, -1) {
			vars[m[1]] = m[2]
		}
		pairs := [][2]string{{"fg", "bg"}, {"muted", "bg"}, {"link", "bg"}, {"fg", "panel"}, {"muted", "panel"}, {"mark-fg", "mark"}, {"mark-fg", "act"}}
		for _, level := range []string{"calm", "elevated", "pressure", "critical", "unknown"} {
			pairs = append(pairs, [2]string{level + "-fg", level + "-bg"})
		}
		for _, p := range pairs {
			if c := contrast(t, vars[p[0]], vars[p[1]]); c < 4.5 {
				t.Errorf("%s: %s on %s: %.2f", theme, p[0], p[1], c)
			}
		}
		// What is no text needs 3 (1.4.11): the line of use, marks, and owners
		// against the ground.
		for _, name := range []string{"used", "act", "mark", "o0", "o1", "o2", "o3", "o4", "o5", "others"} {
			if c := contrast(t, vars[name], vars["bg"]); c < 3 {
				t.Errorf("%s: %s on bg: %.2f", theme, name, c)
			}
		}
	}
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	light := func(colour string) float64 {
		if len(colour) != 7 {
			t.Fatalf("no colour: %q", colour)
		}
		sum := 0.0
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			v := float64(n) / 255
			if v <= 0.04045 {
				v /= 12.92
			} else {
				v = math.Pow((v+0.055)/1.055, 2.4)
			}
			sum += weight * v
		}
		return sum
	}
	x, y := light(a), light(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// document is a page as an XML parser sees it.
type document struct {
	elements []xml.StartElement
	inside   []string // the text in each, of its children too
}

func read(t testing.TB, text []byte) *document {
	t.Helper()
	d, open := &document{}, []int(nil)
	dec := xml.NewDecoder(bytes.NewReader(text))
	dec.Strict = true
	dec.Entity = map[string]string{}
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return d
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			d.elements = append(d.elements, e.Copy())
			d.inside = append(d.inside, "")
			open = append(open, len(d.elements)-1)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			for _, i := range open {
				d.inside[i] += string(e)
			}
		}
	}
}

func (d *document) texts(element string) (all []string) {
	for i, e := range d.elements {
		if e.Name.Local == element {
			all = append(all, d.inside[i])
		}
	}
	return all
}

func (d *document) text(element string) string { return strings.Join(d.texts(element), " ") }

// classes gives the texts of the elements with this class.
func (d *document) classes(class string) (all []string) {
	for i, e := range d.elements {
		if attr(e, "class") == class {
			all = append(all, d.inside[i])
		}
	}
	return all
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// keep writes pages where a person, or the browser, can look at them.
func keep(t testing.TB, dir string, all map[string][]byte) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := os.WriteFile(filepath.Join(dir, name+".html"), all[name], 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkIncident(b *testing.B) {
	for _, name := range []string{"restarted", "long", "many", "worst"} {
		in := incidents[name]()
		b.Run(name, func(b *testing.B) {
			var text []byte
			for b.Loop() {
				var err error
				if text, err = Incident(in, meta); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(text)), "bytes/page")
			b.ReportMetric(0, "allocs/op")
		})
	}
}
