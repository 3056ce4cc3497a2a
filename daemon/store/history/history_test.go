package history

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func openRing(t testing.TB, dir string, maxBytes int64) *Ring {
	t.Helper()
	r, err := Open(dir, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustAppend(t testing.TB, r *Ring, e *Entry) {
	t.Helper()
	if err := r.Append(e); err != nil {
		t.Fatal(err)
	}
}

// What is read is what was appended, to the last field.
func TestRoundTrip(t *testing.T) {
	dir, h := t.TempDir(), newHost(4)
	r := openRing(t, dir, 32<<20)
	var want []*Entry
	for s := range 700 {
		e := h.entry(s, 5)
		if s%100 == 0 {
			e.Events = []string{"start", "level"}
			e.Sample.Gaps = []reading.Gap{{Code: "netns-unreadable", What: "netns 1", Why: "denied"}}
			e.Sample.UnderPressure, e.Sample.Conntrack = nil, nil
		}
		mustAppend(t, r, e)
		want = append(want, e)
	}
	if d := diff(want, collect(t, dir, time.Time{}, time.Time{})); d != "" {
		t.Errorf("while it is written (-want +got):\n%s", d)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = openRing(t, dir, 32<<20)
	if d := diff(want, collect(t, dir, time.Time{}, time.Time{})); d != "" {
		t.Errorf("packed (-want +got):\n%s", d)
	}
	e := h.entry(700, 5)
	mustAppend(t, r, e)
	if got := collect(t, dir, stamp(650).At, time.Time{}); len(got) != 51 || diff(append(want[650:], e), got) != "" {
		t.Errorf("since: %d entries", len(got))
	}
	if got := collect(t, dir, stamp(10).At, stamp(12).At); diff(want[10:13], got) != "" {
		t.Errorf("until: %d entries", len(got))
	}
}

// A value of each leaf survives: no field of a reading is forgotten, whatever
// is added to it.
func TestEveryLeaf(t *testing.T) {
	s := newShapes()
	for name, v := range map[string]struct {
		shape *shape
		v     reflect.Value
	}{
		"moment":  {s.moment, reflect.ValueOf(&moment{}).Elem()},
		"reading": {s.reading, reflect.ValueOf(&reading.Reading{}).Elem()},
		"owner":   {s.owner, reflect.ValueOf(&reading.Owner{}).Elem()},
	} {
		n := 0
		fill(v.v, &n)
		if name == "reading" {
			v.v.FieldByName("Owners").SetZero() // told apart
		}
		b, err := v.shape.tell(nil, v.v, v.shape.newPast())
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(v.v.Type()).Elem()
		rest, err := v.shape.listen(v.shape.names()).hear(b, got, newNums(v.shape.names()))
		if err != nil || len(rest) != 0 {
			t.Fatal(err, rest)
		}
		if d := diff(v.v.Interface(), got.Interface()); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// fill sets each field to a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(epoch.Add(time.Duration(*n))))
	case v.Kind() == reflect.Struct:
		for _, field := range v.Fields() {
			fill(field, n)
		}
	case v.Kind() == reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), n)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(int64(*n % 120))
	case v.CanUint():
		v.SetUint(uint64(*n % 120))
	case v.CanFloat():
		v.SetFloat(float64(*n) / 3)
	}
}

// An optional number that is zero is not one that is not known.
func TestZeroIsNotUnknown(t *testing.T) {
	dir := t.TempDir()
	r := openRing(t, dir, 32<<20)
	for s, stalled := range []*int64{nil, new(int64(0)), new(int64(7)), nil, new(int64(0))} {
		e := &Entry{Stamp: stamp(float64(s)), Reading: &reading.Reading{Owners: []reading.Owner{{Key: "a", Stalled: stalled}}}}
		mustAppend(t, r, e)
	}
	var got []string
	for _, e := range collect(t, dir, time.Time{}, time.Time{}) {
		text := "unknown"
		if p := e.Reading.Owners[0].Stalled; p != nil {
			text = fmt.Sprint(*p)
		}
		got = append(got, text)
	}
	if d := diff([]string{"unknown", "0", "7", "unknown", "0"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A segment of a version with other fields is read for those that both have.
func TestOtherFields(t *testing.T) {
	type other struct {
		Used, Gone int64
		Lost       string
		Level      reading.Level
	}
	type here struct {
		Level reading.Level
		New   *int64
		Used  int64
	}
	teller, past := newShape[other](), newShape[other]().newPast()
	hear, nums := newShape[here]().listen(teller.names()), newNums(teller.names())
	var got here
	for _, v := range []other{{1, 2, "x", reading.Pressure}, {-5, 3, "", reading.Calm}} {
		b, err := teller.tell(nil, reflect.ValueOf(v), past)
		if err != nil {
			t.Fatal(err)
		}
		if rest, err := hear.hear(b, reflect.ValueOf(&got).Elem(), nums); err != nil || len(rest) != 0 {
			t.Fatal(err)
		}
		if want := (here{Level: v.Level, Used: v.Used}); got != want {
			t.Errorf("%+v, not %+v", got, want)
		}
	}
}

// Two hours: the last one by the second, what was before by the minute, no
// sample twice, no event lost.
func TestTiers(t *testing.T) {
	dir, h := t.TempDir(), newHost(3)
	r := openRing(t, dir, 32<<20)
	const end = 2 * 3600
	for s := range end {
		e := h.entry(s, 30)
		if s == 100 {
			e.Events = []string{"told"}
		}
		mustAppend(t, r, e)
		if s == 5000 { // a restart in between
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r = openRing(t, dir, 32<<20)
		}
	}
	fine, coarse, events := 0, 0, 0
	last := -1.0
	for _, e := range collect(t, dir, time.Time{}, time.Time{}) {
		switch gap := e.BootSeconds - last; {
		case gap == 1:
			fine++
		case gap > 0 && gap <= 120:
			coarse++
			if e.Reading == nil {
				t.Errorf("%v s: no reading", e.BootSeconds)
			}
		default:
			t.Errorf("%v s after %v", e.BootSeconds, last)
		}
		last = e.BootSeconds
		events += len(e.Events)
	}
	if fine < 3600 || fine > 3600+300 || coarse < 50 || coarse > 61 || last != end-1 || events != 1 {
		t.Errorf("%d fine, %d coarse to %v s, %d events", fine, coarse, last, events)
	}
}

// The clocks of a host that was booted anew begin at 0, and its wall clock may
// be wrong at first: the order is that of writing.
func TestClockSetBack(t *testing.T) {
	dir := t.TempDir()
	r := openRing(t, dir, 32<<20)
	for i := range 500 {
		e := &Entry{Stamp: stamp(float64(i)), Sample: reading.Sample{Used: reading.Pages(i)}}
		if i >= 200 {
			e.At = e.At.Add(-30 * 24 * time.Hour)
		}
		if i >= 350 {
			e.BootID, e.Synced = "next", false
			e.BootSeconds -= 350
		}
		mustAppend(t, r, e)
	}
	for i, e := range collect(t, dir, time.Time{}, time.Time{}) {
		if int(e.Sample.Used) != i {
			t.Fatalf("entry %d at %d", e.Sample.Used, i)
		}
	}
}

func TestTrim(t *testing.T) {
	dir, h := t.TempDir(), newHost(200)
	e := h.entry(0, 1)
	e.Reading.Owners[150].Verdict = &reading.Verdict{Kind: reading.Leak}
	e.Reading.Owners[3].Holders = make([]reading.Holder, 5)
	r := openRing(t, dir, 32<<20)
	mustAppend(t, r, e)
	got := collect(t, dir, time.Time{}, time.Time{})[0].Reading.Owners
	if len(got) != 65 || got[64].Key != e.Reading.Owners[150].Key || len(got[3].Holders) != 1 {
		t.Errorf("%d owners, the last %s", len(got), got[len(got)-1].Key)
	}
	if len(e.Reading.Owners) != 200 || len(e.Reading.Owners[3].Holders) != 5 {
		t.Error("the caller's reading was changed")
	}
}

// Whatever comes, and however often the daemon starts, the bound holds and
// what is left can be read.
func TestBound(t *testing.T) {
	const bound = 1 << 20
	dir, h := t.TempDir(), newHost(70)
	r := openRing(t, dir, bound)
	for s := range 1500 {
		e := h.entry(s*7, 7)
		if s%500 == 499 {
			e.Reading.Owners[0].Name = strings.Repeat("long", bound/4)
		}
		if err := r.Append(e); err != nil {
			t.Fatal(err)
		}
		if s%100 == 0 {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r = openRing(t, dir, bound)
		}
		if s%50 == 0 {
			if n := folder(t, dir); n > bound {
				t.Fatalf("%d bytes after %d entries", n, s)
			}
		}
	}
	got := collect(t, dir, time.Time{}, time.Time{})
	if len(got) == 0 || got[len(got)-1].BootSeconds != 1499*7 {
		t.Errorf("%d entries", len(got))
	}
	t.Logf("%d entries in %d bytes", len(got), folder(t, dir))
}

func folder(t testing.TB, dir string) (sum int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sum += (info.Size() + 4095) &^ 4095
		}
	}
	return sum
}

// recorded gives a folder with 400 entries in one packed and one open segment.
func recorded(t *testing.T) (dir string, segment string) {
	t.Helper()
	dir = t.TempDir()
	h := newHost(4)
	r := openRing(t, dir, 32<<20)
	for s := range 400 {
		mustAppend(t, r, h.entry(s, 5))
	}
	return dir, filepath.Join(dir, "fine-00000002.seg")
}

// Cut short at any byte, a segment gives all whole entries, the next daemon
// goes on, and nothing is an error.
func TestTornTail(t *testing.T) {
	dir, segment := recorded(t)
	whole, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "fine-00000003.seg"), whole[:20], 0o600); err != nil {
		t.Fatal(err)
	}
	for cut := len(whole) - 250; cut < len(whole); cut++ {
		if err := os.WriteFile(segment, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if n := len(collect(t, dir, time.Time{}, time.Time{})); n < 390 || n > 399 {
			t.Fatalf("cut to %d: %d entries", cut, n)
		}
	}
	before := len(collect(t, dir, time.Time{}, time.Time{}))
	r := openRing(t, dir, 32<<20)
	mustAppend(t, r, newHost(1).entry(400, 0))
	got := collect(t, dir, time.Time{}, time.Time{})
	if len(got) != before+1 || got[before].BootSeconds != 400 {
		t.Errorf("%d entries after %d", len(got), before)
	}
}

// A damaged frame costs the rest of its segment and is told; what comes after
// is read.
func TestDamage(t *testing.T) {
	for name, file := range map[string]string{"packed": "fine-00000001.seg.gz", "open": "fine-00000002.seg"} {
		t.Run(name, func(t *testing.T) {
			dir, _ := recorded(t)
			path := filepath.Join(dir, file)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)*2/3] ^= 0x10
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			entries, failed := 0, 0
			var last *Entry
			for e, err := range Read(Dir(dir), time.Time{}, time.Time{}) {
				if err != nil {
					failed++
					continue
				}
				entries++
				last = e
			}
			if failed != 1 || entries < 100 || entries > 399 || name == "packed" && last.BootSeconds != 399 {
				t.Errorf("%d entries to %v, %d errors", entries, last.BootSeconds, failed)
			}
			r, err := Open(dir, 32<<20)
			if name == "open" && err == nil {
				t.Error("Open does not tell")
			}
			mustAppend(t, r, newHost(1).entry(400, 0))
		})
	}
}

func TestEmpty(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "history")
	if got := collect(t, dir, time.Time{}, time.Time{}); len(got) != 0 {
		t.Errorf("%d entries", len(got))
	}
	r := openRing(t, dir, 32<<20)
	mustAppend(t, r, newHost(0).entry(0, 0))
	if got := collect(t, dir, time.Time{}, time.Time{}); len(got) != 1 {
		t.Errorf("%d entries", len(got))
	}
}

// A reader in the midst of writing, packing and pruning sees entries in order
// and no error.
func TestReadWhileWriting(t *testing.T) {
	dir, h := t.TempDir(), newHost(10)
	r := openRing(t, dir, 2<<20)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for s := 0; ; s++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := r.Append(h.entry(s, 2)); err != nil {
				t.Error(err)
			}
		}
	}()
	defer func() { close(stop); <-ended }()
	for begun := time.Now(); time.Since(begun) < time.Second; {
		last := -1.0
		for e, err := range Read(Dir(dir), time.Time{}, time.Time{}) {
			if err != nil {
				t.Fatal(err)
			}
			if e.BootSeconds <= last {
				t.Fatalf("%v s after %v", e.BootSeconds, last)
			}
			last = e.BootSeconds
		}
	}
}

func TestParseName(t *testing.T) {
	for _, file := range []string{"fine-1.seg", "fine-00000001.seg.gz.gz", "x-00000001.seg", "fine-00000001", ".fine-00000001.seg", "fine--0000001.seg"} {
		if n, ok := parseName(file); ok {
			t.Errorf("%s is %v", file, n)
		}
	}
	for _, n := range []name{{fine, 1, true}, {coarse, 123456789, false}} {
		if got, ok := parseName(n.String()); !ok || got != n {
			t.Errorf("%v: %v", n, got)
		}
	}
}

// Any changed bit of a frame is noticed.
func TestChecksum(t *testing.T) {
	whole := frame([]byte("payload"))
	for i := range 8 * len(whole) {
		b := slices.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		if payload, _, err := unframe(b); err == nil {
			t.Errorf("bit %d: %q", i, payload)
		}
	}
}
