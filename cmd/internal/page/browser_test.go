package page

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// screenshots names the folder for what the browser draws, for a person to look
// at; CI keeps it.
const screenshots = "TCPMEMD_SCREENSHOTS"

// widths of a window: a phone, half a screen, a screen.
var widths = []int{360, 800, 1400}

// probe is put into copies of the pages, in place of their policy: it measures
// what the browser made of them, and tells the document around. What overflows,
// is not readable, or lies on top of each other is a finding.
const probe = `<script>
addEventListener('load', () => {
  const found = [], colours = document.createElement('canvas').getContext('2d');
  const rgb = c => { colours.clearRect(0, 0, 1, 1); colours.fillStyle = c; colours.fillRect(0, 0, 1, 1); return [...colours.getImageData(0, 0, 1, 1).data]; };
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (a, b) => { const [x, y] = [light(a), light(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
  const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] == 255) return c; } return [255, 255, 255, 255]; };
  const seen = e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0 && getComputedStyle(e).visibility == 'visible'; };
  const say = (what, e) => found.push(what + ': <' + e.tagName + ' ' + (e.getAttribute('class') || '') + '> ' + e.textContent.slice(0, 60));
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > room) found.push('wider than the window: ' + document.documentElement.scrollWidth + ' of ' + room);
  let texts = 0;
  for (const e of document.body.querySelectorAll('*')) {
    if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) || !seen(e) || e.closest('.skip, title')) continue;
    texts++;
    const s = getComputedStyle(e), svg = e.ownerSVGElement;
    let on = ground(e), of = rgb(s.color);
    if (svg) {
      of = rgb(s.fill);
      const r = e.getBoundingClientRect(), [x, y] = [(r.left + r.right) / 2, (r.top + r.bottom) / 2];
      const under = [...svg.querySelectorAll('rect.level, circle')].filter(b => { const q = b.getBoundingClientRect(); return q.left <= x && x <= q.right && q.top <= y && y <= q.bottom; }).pop();
      if (under && s.stroke == 'none') on = rgb(getComputedStyle(under).fill);
      if (s.stroke != 'none') on = rgb(s.stroke);
    }
    const c = contrast(of, on);
    if (c < 4.5) say('contrast ' + c.toFixed(2), e);
    if (parseFloat(s.fontSize) < 11) say('font of ' + s.fontSize, e);
    const r = e.getBoundingClientRect();
    if (!e.closest('.scroll') && (r.left < -1 || r.right > room + 1)) say('cut off', e);
  }
  for (const svg of document.querySelectorAll('svg.plot, svg.gutter, svg.gauge')) {
    const labels = [...svg.querySelectorAll('text')].filter(e => seen(e) && !e.matches('.number'));
    labels.forEach((a, i) => labels.slice(i + 1).forEach(b => {
      const [p, q] = [a.getBoundingClientRect(), b.getBoundingClientRect()];
      if (Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1 && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 3)
        say('covers "' + b.textContent + '"', a);
    }));
  }
  for (const a of document.querySelectorAll('a[href^="#"]')) if (!document.querySelector(a.getAttribute('href'))) say('leads nowhere', a);
  const load = performance.getEntriesByType('navigation')[0];
  parent.took({name: frameElement.id, found, texts, dark: matchMedia('(prefers-color-scheme: dark)').matches,
    milliseconds: load.loadEventStart - load.responseEnd});
});
</script>`

// frame shows pages in windows of all widths. A browser without a screen has no
// window narrower than 500 pixels, but a frame is a window to its page.
const frame = `<!DOCTYPE html><meta charset="utf-8"><pre id="all"></pre><script>
const all = [];
function took(one) { all.push(one); document.getElementById('all').textContent = JSON.stringify(all); }
</script>%s`

// measured is what probe tells.
type measured struct {
	Name         string
	Found        []string
	Texts        int
	Dark         bool
	Milliseconds float64
}

// TestBrowser has a real browser draw every page, in both themes and all widths.
func TestBrowser(t *testing.T) {
	b := newBrowser(t)
	all := pages(t)
	keep(t, b.dir, all)
	policy := regexp.MustCompile(`<meta http-equiv="Content-Security-Policy"[^>]*>`)
	var frames strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		probed := policy.ReplaceAll(all[name], []byte(probe))
		if bytes.Equal(probed, all[name]) {
			t.Fatalf("%s has no policy", name)
		}
		keep(t, b.dir, map[string][]byte{name + "-probed": probed})
		for _, width := range widths {
			fmt.Fprintf(&frames, `<iframe id="%s at %d" src="%s-probed.html" width="%d" height="900"></iframe>`, name, width, name, width)
		}
	}
	keep(t, b.dir, map[string][]byte{"frames": []byte(fmt.Sprintf(frame, frames.String()))})
	for _, dark := range []bool{false, true} {
		dom, said := b.run(dark, "frames", "--window-size=1500,1000", "--dump-dom")
		m := regexp.MustCompile(`(?s)<pre id="all">(.*?)</pre>`).FindStringSubmatch(dom)
		if m == nil {
			t.Fatalf("the browser gives no document:\n%s", said)
		}
		var got []measured
		if err := json.Unmarshal([]byte(html.UnescapeString(m[1])), &got); err != nil {
			t.Fatalf("%v in %q", err, m[1])
		}
		if len(got) != len(widths)*len(all) {
			t.Errorf("%d pages were measured, want %d", len(got), len(widths)*len(all))
		}
		slowest := 0.0
		for _, one := range got {
			if one.Dark != dark || one.Texts < 10 {
				t.Errorf("%s: dark %v, %d texts", one.Name, one.Dark, one.Texts)
			}
			for _, f := range one.Found {
				t.Errorf("%s, dark %v: %s", one.Name, dark, f)
			}
			slowest = max(slowest, one.Milliseconds)
		}
		t.Logf("dark %v: the slowest of %d pages is there %.0f ms after it was read, while all load", dark, len(got), slowest)
	}
}

// TestProbe: what TestBrowser looks for, it finds.
func TestProbe(t *testing.T) {
	b := newBrowser(t)
	bad := `<!DOCTYPE html><html><head>` + probe + `</head><body style="background:#fff">
<p style="width:2000px">wide</p><p style="color:#aaa">pale</p><p style="font-size:9px">small</p><a href="#nowhere">lost</a>
<svg class="plot" width="100" height="40"><text x="0" y="20" fill="#000">one</text><text x="5" y="20" fill="#000">two</text></svg></body></html>`
	keep(t, b.dir, map[string][]byte{"bad": []byte(bad), "frames": []byte(fmt.Sprintf(frame, `<iframe id="bad" src="bad.html" width="400"></iframe>`))})
	dom, _ := b.run(false, "frames", "--window-size=800,600", "--dump-dom")
	for _, want := range []string{"wider than the window", "contrast 2.32", "font of 9px", "covers", "leads nowhere", "cut off"} {
		if !strings.Contains(html.UnescapeString(dom), want) {
			t.Errorf("the probe does not find %q in\n%s", want, dom)
		}
	}
}

// TestScreenshots draws the pages as they are, with their policy: the browser
// must have no objection. The files are for a person.
func TestScreenshots(t *testing.T) {
	b := newBrowser(t)
	all := pages(t)
	keep(t, b.dir, all)
	dir := os.Getenv(screenshots)
	if dir == "" {
		dir = t.TempDir()
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	} else {
		keep(t, dir, all)
	}
	// Two browsers at a time: starting one is what takes the time.
	var group sync.WaitGroup
	slots := make(chan struct{}, 2)
	shoot := func(name string, width int, dark bool) {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			file := fmt.Sprintf("%s-%d%s.png", name, width, map[bool]string{true: "-dark"}[dark])
			page, height := name, 1000
			if width < 500 {
				page, height = fmt.Sprintf("%s-in-%d", name, width), 2000
				keep(t, b.dir, map[string][]byte{page: fmt.Appendf(nil,
					`<!DOCTYPE html><body style="margin:0"><iframe src="%s.html" width="%d" height="%d" style="border:0;display:block"></iframe>`, name, width, height)})
			}
			path := filepath.Join(dir, file)
			_, said := b.run(dark, page, fmt.Sprintf("--window-size=%d,%d", width, height), "--hide-scrollbars", "--screenshot="+path)
			complaints(t, file, said)
			if info, err := os.Stat(path); err != nil || info.Size() < 5000 {
				t.Errorf("%s: no picture: %v", file, err)
			}
		})
	}
	for name := range all {
		shoot(name, 1400, false)
	}
	for _, name := range []string{"restarted", "status"} {
		shoot(name, 360, false)
		shoot(name, 800, true)
	}
	group.Wait()

	path := filepath.Join(dir, "restarted.pdf")
	_, said := b.run(true, "restarted", "--no-pdf-header-footer", "--print-to-pdf="+path)
	complaints(t, "restarted.pdf", said)
	if text, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(text, []byte("%PDF")) {
		t.Errorf("no pdf: %v", err)
	} else if n := bytes.Count(text, []byte("/Type /Page\n")); n < 2 || n > 6 {
		t.Errorf("%d pages of paper", n)
	}
}

// complaints are what the browser writes to its console: errors of the policy,
// of the markup, of scripts.
func complaints(t *testing.T, name, said string) {
	t.Helper()
	for line := range strings.Lines(said) {
		if strings.Contains(line, "CONSOLE") || strings.Contains(line, "Content Security Policy") {
			t.Errorf("%s: the browser says %s", name, line)
		}
	}
}

type browser struct {
	t    *testing.T
	path string
	dir  string // of pages
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	return &browser{t, require.Tool(t, "chromium"), t.TempDir()}
}

// run has a browser of its own open a page, and gives what it writes.
func (b *browser) run(dark bool, page string, args ...string) (stdout, stderr string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Minute)
	defer cancel()
	args = append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=10000",
		"--allow-file-access-from-files", "--user-data-dir=" + b.t.TempDir(), "--disable-background-networking", "--disable-component-update", "--no-first-run",
	}, args...)
	if dark {
		args = append(args, "--blink-settings=preferredColorScheme=0")
	}
	cmd := exec.CommandContext(ctx, b.path, append(args, "file://"+filepath.Join(b.dir, page+".html"))...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &errs, 5*time.Second
	if err := cmd.Run(); err != nil {
		b.t.Errorf("chromium: %v\n%s", err, errs.String())
	}
	return out.String(), errs.String()
}
