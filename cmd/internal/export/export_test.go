package export

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/control"
)

// dial serves a host on a socket.
func dial(t testing.TB, host *apitest.Host) *api.Client {
	t.Helper()
	l, err := control.Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := control.New(control.Config{Listener: l, Source: host, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	<-server.Ready()
	client := api.Dial(l.Path())
	t.Cleanup(func() {
		client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return client
}

// written is an export of a host.
func written(t testing.TB, host *apitest.Host) ([]byte, *End) {
	t.Helper()
	host.Segments = []api.Segment{{Name: "coarse-00000001.seg.gz", Data: []byte("not looked at")}}
	var b bytes.Buffer
	end, err := Write(t.Context(), &b, dial(t, host), Options{At: apitest.At, By: "0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), end
}

// entry is a file to put into an archive; size is told instead of the text's own.
type entry struct {
	name, text string
	kind       byte
	size       int64
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	out := gzip.NewWriter(&b)
	w := tar.NewWriter(out)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.text)), Mode: 0o644}
		if e.kind != 0 {
			h.Typeflag, h.Linkname = e.kind, "/etc/passwd"
		}
		if e.size > 0 {
			h.Size = e.size
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(err)
		}
		if n := e.size - int64(len(e.text)); n > 0 {
			if _, err := io.CopyN(w, zeros{}, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

const (
	goodManifest = `{"version":1,"kind":"tcpmemd-export","hostname":"n1"}`
	goodEnd      = `{"version":1}`
)

func TestHostileFiles(t *testing.T) {
	first, last := entry{name: manifestName, text: goodManifest}, entry{name: endName, text: goodEnd}
	if _, err := Read(bytes.NewReader(archive(t, first, last))); err != nil {
		t.Fatalf("the smallest one: %v", err)
	}
	if _, err := Read(bytes.NewReader(archive(t, first, entry{name: "later/added.json", text: "?"}, last))); err != nil {
		t.Errorf("with a name that is not known: %v", err)
	}
	var many []entry
	for i := range maxFiles + 1 {
		many = append(many, entry{name: fmt.Sprint("x", i)})
	}
	for name, tt := range map[string]struct {
		file []byte
		want string
	}{
		"nothing":          {nil, "no export"},
		"text":             {[]byte("hello, world, this is not packed at all"), "no export"},
		"empty archive":    {archive(t), "cut short"},
		"other archive":    {archive(t, entry{name: "README", text: "x"}), "no export"},
		"other kind":       {archive(t, entry{name: manifestName, text: `{"version":1,"kind":"backup"}`}, last), "no export"},
		"soup":             {archive(t, entry{name: manifestName, text: `soup`}, last), "no export"},
		"later version":    {archive(t, entry{name: manifestName, text: `{"version":2,"kind":"tcpmemd-export"}`}), "version 2 of the format, and this tcpmemctl reads 1"},
		"no end":           {archive(t, first), "cut short"},
		"end of later":     {archive(t, first, entry{name: endName, text: `{"version":3}`}), "version 3"},
		"manifest late":    {archive(t, last, first), "no export"},
		"twice":            {archive(t, first, entry{name: statusName}, entry{name: statusName}, last), "no export"},
		"segment twice":    {archive(t, first, entry{name: "history/fine-00000001.seg"}, entry{name: "history/fine-00000001.seg"}, last), "no export"},
		"link":             {archive(t, first, entry{name: statusName, kind: tar.TypeSymlink}, last), "no export"},
		"folder":           {archive(t, first, entry{name: "history/", kind: tar.TypeDir}, last), "no export"},
		"path":             {archive(t, first, entry{name: "history/../../etc/cron.d/x"}, last), "no name of a segment"},
		"many files":       {archive(t, append(append([]entry{first}, many...), last)...), "larger than an export can be"},
		"large file":       {archive(t, first, entry{name: statusName, size: maxFile + 1}, last), "larger than an export can be"},
		"large all in all": {bomb(t), "larger than an export can be"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := Read(bytes.NewReader(tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v; want %q", f, err, tt.want)
			}
		})
	}
}

// bomb is small, and unpacked more than an export can be.
func bomb(t *testing.T) []byte {
	entries := []entry{{name: manifestName, text: goodManifest}}
	for i := range maxAll/maxFile + 1 {
		entries = append(entries, entry{name: fmt.Sprint("ignored", i), size: maxFile})
	}
	b := archive(t, append(entries, entry{name: endName, text: goodEnd})...)
	if len(b) > 1<<20 {
		t.Errorf("a bomb of %d bytes is none", len(b))
	}
	return b
}

// TestCutFiles: wherever a file ends too early, or a byte is another, it is told.
func TestCutFiles(t *testing.T) {
	whole, _ := written(t, apitest.Acted())
	for n := 0; n < len(whole); n += max(1, len(whole)/200) {
		if _, err := Read(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("%d of %d bytes are taken for whole", n, len(whole))
		}
		changed := bytes.Clone(whole)
		changed[n] ^= 0x55
		// The gzip header has a time and a system that do not matter.
		if _, err := Read(bytes.NewReader(changed)); err == nil && n > 9 {
			t.Errorf("byte %d of %d may be any", n, len(whole))
		}
	}
}

// TestLeftOut: what has no room is counted, and told where it lacks.
func TestLeftOut(t *testing.T) {
	host := apitest.Many(maxSockets + 500)
	data, end := written(t, host)
	if want := int64(len(host.SocketList) - maxSockets); end.Sockets.Sockets != want || want <= 0 {
		t.Fatalf("%d sockets are left out, want %d", end.Sockets.Sockets, want)
	}
	f, err := Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	s := &Source{File: f, Now: apitest.At}
	doc, err := s.Sockets(t.Context(), api.SocketQuery{Limit: 10})
	if err != nil || len(doc.Sockets) != 10 || doc.Matched.Sockets != maxSockets {
		t.Fatalf("%v: %d of %d", err, len(doc.Sockets), doc.Matched.Sockets)
	}
	if g := doc.Gaps[len(doc.Gaps)-1]; g.Code != "not-exported" || *g.MayHideBytes != end.Sockets.Bytes {
		t.Errorf("gap %+v", g)
	}
	if err := doc.Validate(); err != nil {
		t.Error(err)
	}
}

// TestDocuments: a document that is missing, or of another version, is told.
func TestDocuments(t *testing.T) {
	f, err := Read(bytes.NewReader(archive(t,
		entry{name: manifestName, text: goodManifest}, entry{name: ownersName, text: `{"version":7}`}, entry{name: orphansName, text: `[]`},
		entry{name: statusName, text: `{"version":1,"ledger":{}}`}, entry{name: incidentsName, text: "{\"id\":\"a\"}\nsoup\n"},
		entry{name: endName, text: `{"version":1,"missing":{"doctor.json":"the daemon is stopping"}}`},
	)))
	if err != nil {
		t.Fatal(err)
	}
	s, ctx := &Source{File: f, Now: time.Now()}, t.Context()
	told := func(what, want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	_, err = s.Owners(ctx, false)
	told("owners", "owners.json: version 7, and this tcpmemctl reads 1", err)
	_, err = s.Orphans(ctx, false)
	told("orphans", "orphans.json", err)
	_, err = s.Status(ctx)
	told("status", "without its age", err)
	_, err = s.Doctor(ctx)
	told("doctor", "it has no doctor.json: the daemon is stopping", err)
	_, err = s.Policy(ctx)
	told("policy", "it has no policy.json", err)
	if in, err := s.Incident(ctx, "a"); err != nil || in.ID != "a" {
		t.Errorf("%+v, %v", in, err)
	}
	_, err = s.Incident(ctx, "b")
	told("incident", "incidents.jsonl", err)
}

// FuzzRead: whatever a file holds, reading it ends, and takes no more memory
// than an export may.
func FuzzRead(f *testing.F) {
	whole, _ := written(f, apitest.Acted())
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(archive(f, entry{name: manifestName, text: goodManifest}, entry{name: endName, text: goodEnd}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		file, err := Read(bytes.NewReader(data))
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 8*maxAll {
			t.Errorf("%d bytes are taken", n)
		}
		if (file == nil) == (err == nil) {
			t.Errorf("%v, %v", file, err)
		}
	})
}

// TestSecretsOfThePolicy: a webhook's path is a password.
func TestSecretsOfThePolicy(t *testing.T) {
	host := apitest.Acted()
	host.PolicyDoc.Text = "[[rule.x.step]]\nwebhook = \"https://me:secret1@chat.example:8443/secret2?secret3#secret4\" # /etc/x.toml:3\n" +
		"settings = {webhook = 'http://[::1]/secret5', command = [\"/usr/bin/tell\", \"https://me:secret6@chat.example\"]}\n"
	data, _ := written(t, host)
	f, err := Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := (&Source{File: f}).Policy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := "[[rule.x.step]]\nwebhook = \"https://chat.example:8443/left-out\" # /etc/x.toml:3\n" +
		"settings = {webhook = 'http://[::1]/left-out', command = [\"/usr/bin/tell\", \"https://chat.example\"]}\n"
	if doc.Text != want {
		t.Errorf("the policy is\n%swant\n%s", doc.Text, want)
	}
}
