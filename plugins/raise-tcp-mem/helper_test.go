package raisetcpmem

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/plugins/internal/plugintest"
	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	goleak.VerifyTestMain(m)
}

const (
	boot      = "01234567-89ab-cdef-0123-456789abcdef"
	otherBoot = "11111111-89ab-cdef-0123-456789abcdef"
)

// host is a proc file system of files: 4 GB, of which 3 are available.
type host struct {
	t   *testing.T
	dir string
	*Action
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	h.Action = New("1", h.dir)
	h.set("sys/net/ipv4/tcp_mem", "10000\t20000\t40000\n")
	h.set("sys/kernel/random/boot_id", boot+"\n")
	h.set("pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	h.memory(4<<30, 3<<30)
	h.used(100)
	return h
}

func (h *host) set(name, text string) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) memory(total, available int64) {
	h.t.Helper()
	h.set("meminfo", fmt.Sprintf("MemTotal: %d kB\nMemFree: 1 kB\nMemAvailable: %d kB\n", total>>10, available>>10))
}

func (h *host) used(pages int) {
	h.t.Helper()
	h.set("net/sockstat", fmt.Sprintf("sockets: used 1\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem %d\n", pages))
}

func (h *host) live() string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "sys/net/ipv4/tcp_mem"))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

func request(settings string) *remediate.Request {
	return &remediate.Request{
		BootID: boot, Settings: remediate.Settings(settings), Deadline: time.Now().Add(10 * time.Second),
		Host: remediate.Host{PageSize: 4096, Verdict: "load"},
	}
}

func (h *host) run(r *remediate.Request) *remediate.Response {
	h.t.Helper()
	resp, err := h.Run(h.t.Context(), r)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp
}

// lend runs dry and then as planned.
func (h *host) lend(settings string) *remediate.Response {
	h.t.Helper()
	r := request(settings)
	r.DryRun = true
	dry := h.run(r)
	if dry.Result != remediate.DryRun {
		h.t.Fatalf("%+v", dry)
	}
	r.DryRun, r.Plan = false, dry.Undo
	return h.run(r)
}

func (h *host) undo(raw []byte, settings string) *remediate.Response {
	h.t.Helper()
	resp, err := h.Undo(h.t.Context(), &remediate.UndoRequest{Undo: raw, Settings: remediate.Settings(settings)})
	if err != nil {
		h.t.Fatal(err)
	}
	return resp
}

func expect(t *testing.T, resp *remediate.Response, result remediate.Result, code, says string) {
	t.Helper()
	plugintest.Expect(t, resp, result, code, says)
}
