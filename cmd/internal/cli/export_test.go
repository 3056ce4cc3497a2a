package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// recordedHost has something to tell for every command.
func recordedHost(t testing.TB, host *apitest.Host) *apitest.Host {
	t.Helper()
	host.Checks = []api.DoctorCheck{api.NewDoctorCheck("CAP_NET_ADMIN", api.DoctorMissing, "not there", "no hidden sockets")}
	var entries []*history.Entry
	for before := 5 * time.Minute; before > 0; before -= time.Second {
		entries = append(entries, leaking(before, before%(5*time.Second) == 0))
	}
	host.Segments = segments(t, entries)
	return host
}

// reads are the commands that an export answers.
var reads = []string{
	"status", "owners", "owners --all", "owners --limit 2", "owners --by unit", "owners --by process", "owners --by remote", "owners --by class",
	"owners --by netns --limit 1", "sockets", "sockets --all", "sockets --limit 3 class orphan or class hidden",
	"sockets unit = task-queue.service and state close-wait", "sockets pod = prod/*", "sockets comm = java and dport = :39000", "sockets evidence listener",
	"sockets nothing", "orphans", "doctor", "incidents", "incidents --limit 1", "incidents show " + apitest.EndedIncident, "incidents show " + apitest.OpenIncident,
	"incidents show none", "actions", "actions --all --since 1h", "actions --rule slow-peer", "explain " + apitest.Restart, "explain r-9", "explain r-10",
	"explain none", "policy show", "policy show leaking-service", "plugins", "plugins list", "history --since 4m", "history --until 1m",
	"policy test --since 1d", "status --json", "owners --json", "owners --json --by pod", "sockets --json", "orphans --json", "doctor --json",
	"incidents --json", "actions --json", "plugins --json", "policy show --json", "history --json", "policy test --since 1h --json",
}

// TestRoundTrip: what an export says is what the daemon said, but for the mark
// that it was recorded.
func TestRoundTrip(t *testing.T) {
	host := recordedHost(t, apitest.Acted())
	host.AnswerAfter = 3 * time.Second
	a := serve(t, host)
	file := filepath.Join(t.TempDir(), "x.tar.gz")
	stdout, stderr, code := a.run(0, "export", "-o", file)
	if code != ExitOK || stderr != "" || !strings.Contains(stdout, "Read it with --from") {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	marks := regexp.MustCompile(`, 3 s old|, recorded 5 min ago|by a scan (3 s|5 min) ago|"source":"(daemon|export)"|"(scan_)?age_seconds":\d+`)
	words := strings.NewReplacer("ask daemon:", "FROM:", "read export:", "FROM:")
	for _, args := range reads {
		for _, columns := range []int{80, 0} {
			want, wantErr, wantCode := a.run(columns, strings.Fields(args)...)
			a.later = 5 * time.Minute
			got, gotErr, gotCode := a.run(columns, append(strings.Fields(args), "--from", file)...)
			a.later = 0
			mark, gotErr, ok := strings.Cut(gotErr, "\n")
			if !ok || mark != "recorded on n1 at 2026-11-22 09:00:00 UTC, 5 min ago" {
				t.Errorf("%s: marked by %q", args, mark)
			}
			if gotCode != wantCode || words.Replace(gotErr) != words.Replace(wantErr) {
				t.Errorf("%s: exit %d, daemon %d: (-daemon +export)\n%s", args, gotCode, wantCode, cmp.Diff(wantErr, gotErr))
			}
			// Of both only the marks are taken away.
			if diff := cmp.Diff(marks.ReplaceAllString(want, ""), marks.ReplaceAllString(got, "")); diff != "" {
				t.Errorf("%s at %d columns: (-daemon +export)\n%s", args, columns, diff)
			}
		}
	}
	a.later = 5 * time.Minute
	if got, _, _ := a.run(80, "status", "--from", file); !strings.Contains(got, "recorded 5 min ago") || !strings.Contains(got, "by a scan 5 min ago") {
		t.Errorf("no mark on the page:\n%s", got)
	}
	for args, says := range map[string]string{
		"top --from FILE": "no file can answer", "reload --from FILE": "no file can answer", "act x --from FILE": "no file can answer",
		"plugins verify --from FILE": "no file can answer", "policy check --from FILE": "no file can answer", "export --from FILE": "no file can answer",
		"status --from FILE --direct": "none of the others can be", "status --from FILE --watch": "does not change",
		"sockets --info --from FILE": "--info asks the kernel", "doctor --bundle x --from FILE": "does nothing",
	} {
		if _, stderr, code := a.run(80, strings.Fields(strings.ReplaceAll(args, "FILE", file))...); code != ExitUsage || !strings.Contains(stderr, says) {
			t.Errorf("%s: exit %d, %s", args, code, stderr)
		}
	}
}

func TestExportOutput(t *testing.T) {
	t.Chdir(t.TempDir())
	a := serve(t, recordedHost(t, apitest.Acted()))
	stdout, _, code := a.run(80, "export", "--json")
	doc := new(exported)
	if err := json.Unmarshal([]byte(stdout), doc); err != nil || code != ExitOK || doc.File != "tcpmem-n1-20261122T090000Z.tar.gz" {
		t.Errorf("exit %d: %v, %s", code, err, stdout)
	}
	if info, err := os.Stat(doc.File); err != nil || info.Size() != doc.Bytes {
		t.Errorf("%v, want %d bytes", err, doc.Bytes)
	}
	// A pipe from one to the other.
	packed, _, code := a.run(0, "export", "-o", "-")
	if code != ExitOK {
		t.Fatal(code)
	}
	a.input = strings.NewReader(packed)
	if stdout, stderr, code := a.run(80, "incidents", "--from", "-"); code != ExitOK || !strings.Contains(stdout, apitest.OpenIncident) {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if stdout, _, code := a.run(80, "doctor", "--bundle", "b.tar.gz"); code != ExitOK || !strings.Contains(stdout, "--from b.tar.gz") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	if err := os.Symlink("/dev/null", "link"); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]int{
		"export -o -": ExitUsage, "export -o /dev/null": ExitFailure, "export -o none/x": ExitFailure, "export -o link": ExitFailure, "export -o .": ExitFailure,
		"export x": ExitUsage, "export --direct": ExitUsage, "export --since nothing": ExitUsage, "status --from none": ExitFailure,
	} {
		if _, stderr, code := a.run(80, strings.Fields(args)...); code != want || stderr == "" {
			t.Errorf("%s: exit %d, %s", args, code, stderr)
		}
	}
	if entries, err := filepath.Glob(".*"); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestExportOfABrokenDaemon: what there is, is in it, and what is not is told.
func TestExportOfABrokenDaemon(t *testing.T) {
	host := recordedHost(t, apitest.Acted())
	host.Cut = 1
	a := serve(t, host)
	file := filepath.Join(t.TempDir(), "x.tar.gz")
	if _, stderr, code := a.run(80, "export", "-o", file); code != ExitFailure || !strings.Contains(stderr, "records.jsonl is not in it, or not whole") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if stdout, _, code := a.run(80, "owners", "--from", file); code != ExitOK || !strings.Contains(stdout, "task-queue.service") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	if stdout, stderr, code := a.run(80, "actions", "--all", "--from", file); code != ExitFailure || !strings.Contains(stderr, "not whole") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	host.Err = errors.New("no reading")
	if _, _, code := a.run(80, "export", "-o", file); code != ExitFailure {
		t.Errorf("exit %d without a status", code)
	}
	if stdout, _, code := a.run(80, "owners", "--from", file); code != ExitOK || !strings.Contains(stdout, "task-queue.service") {
		t.Errorf("exit %d: an export that failed has replaced one: %s", code, stdout)
	}
}

// TestExportOfHostileNames: a file may come from anybody, and its names as well.
func TestExportOfHostileNames(t *testing.T) {
	a := serve(t, recordedHost(t, apitest.ActedHostile()))
	file := filepath.Join(t.TempDir(), "x.tar.gz")
	if _, stderr, code := a.run(80, "export", "-o", file); code != ExitOK {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, args := range reads {
		if strings.Contains(args, "json") {
			continue
		}
		stdout, stderr, _ := a.run(80, append(strings.Fields(args), "--from", file)...)
		for _, r := range stdout + stderr {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%q prints %U", args, r)
			}
		}
	}
}

// askedOf are commands that read a document of an export.
var askedOf = map[string][]string{
	"status.json": {"status", "history --since 4m"}, "owners.json": {"owners", "owners --all", "sockets unit = x"}, "groups/process.json": {"owners --by process"},
	"sockets.json": {"sockets", "sockets --all dport = 443"}, "orphans.json": {"orphans"}, "doctor.json": {"doctor"},
	"incidents.json": {"incidents", "history --since 4m"}, "incidents.jsonl": {"incidents show " + apitest.EndedIncident, "explain " + apitest.OpenIncident},
	"records.jsonl": {"actions --all", "explain " + apitest.Restart, "explain r-9", "explain r-11", "history --since 2h"},
	"policy.json":   {"policy show"}, "plugins.json": {"plugins"}, "manifest.json": {"plugins"}, "end.json": {"actions", "sockets"},
}

// askChanged runs what reads a document on an export where it is another.
func askChanged(t testing.TB, a *asked, files []archived, name string, data []byte) {
	t.Helper()
	changed := slices.Clone(files)
	for i := range changed {
		if changed[i].name == name {
			changed[i].data = data
		}
	}
	path := filepath.Join(a.root, "changed.tar.gz")
	pack(t, path, changed)
	for _, args := range askedOf[name] {
		stdout, stderr, _ := a.run(80, append(strings.Fields(args), "--from", path)...)
		if stdout+stderr == "" {
			t.Errorf("%q says nothing", args)
		}
		for _, r := range stdout + stderr {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%q prints %U for %q", args, r, data)
				break
			}
		}
	}
}

// exportedFiles are those of an export of a host of hostile names.
func exportedFiles(t testing.TB) (*asked, []archived) {
	t.Helper()
	a := serve(t, recordedHost(t, apitest.ActedHostile()))
	file := filepath.Join(t.TempDir(), "x.tar.gz")
	if _, stderr, code := a.run(80, "export", "-o", file); code != ExitOK {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	return a, unpack(t, file)
}

// TestHollowDocuments: whatever a document lacks, or has that cannot be, the
// commands end in order.
func TestHollowDocuments(t *testing.T) {
	a, files := exportedFiles(t)
	for _, e := range files {
		if askedOf[e.name] == nil {
			continue
		}
		first, rest, _ := bytes.Cut(e.data, []byte("\n"))
		var doc any
		if err := json.Unmarshal(first, &doc); err != nil {
			t.Fatalf("%s: %v", e.name, err)
		}
		hollow(doc, func(any) {}, func() {
			text, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			askChanged(t, a, files, e.name, append(append(text, '\n'), rest...))
		})
	}
}

// hollow calls try with each part of value in turn as nothing, and each number
// as one that cannot be. Of lists it is the first part.
func hollow(value any, set func(any), try func()) {
	others := []any{nil}
	switch v := value.(type) {
	case map[string]any:
		for key, part := range v {
			hollow(part, func(other any) { v[key] = other }, try)
		}
	case []any:
		if len(v) > 0 {
			hollow(v[0], func(other any) { v[0] = other }, try)
		}
	case float64:
		others = append(others, -v-1, 9e18)
	case nil:
		return
	}
	for _, other := range others {
		set(other)
		try()
	}
	set(value)
}

// FuzzExport: whatever the documents of an export say, no command panics, and
// none prints what attacks a terminal.
func FuzzExport(f *testing.F) {
	a, files := exportedFiles(f)
	for _, e := range files {
		if len(e.data) < 64<<10 {
			f.Add(e.name, e.data)
		}
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if len(data) < 1<<20 {
			a.t = t
			askChanged(t, a, files, name, data)
		}
	})
}

type archived struct {
	name string
	data []byte
}

func unpack(t testing.TB, path string) (files []archived) {
	t.Helper()
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	in, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		data, readErr := io.ReadAll(r)
		if err = errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}
		files = append(files, archived{h.Name, data})
	}
}

func pack(t testing.TB, path string, files []archived) {
	t.Helper()
	var b bytes.Buffer
	out := gzip.NewWriter(&b)
	w := tar.NewWriter(out)
	var err error
	for _, e := range files {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.data)), Mode: 0o644}))
		_, writeErr := w.Write(e.data)
		err = errors.Join(err, writeErr)
	}
	if err = errors.Join(err, w.Close(), out.Close(), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}
