package raisetcpmem

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestLease(t *testing.T) {
	h := newHost(t)
	r := request(`{}`)
	r.DryRun = true
	dry := h.run(r)
	want := `{"version":1,"boot_id":"` + boot + `","base":{"min":10000,"pressure":20000,"max":40000},"raised":{"min":15000,"pressure":30000,"max":60000}}`
	if string(dry.Undo) != want {
		t.Errorf("plan %s", dry.Undo)
	}
	change := []remediate.Change{{What: "net.ipv4.tcp_mem", Before: "10000 20000 40000", After: "15000 30000 60000"}}
	if diff := cmp.Diff(change, dry.Changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	expect(t, dry, remediate.DryRun, "", "would be raised")
	if h.live() != "10000 20000 40000" {
		t.Fatalf("the dry run wrote %s", h.live())
	}

	r.DryRun, r.Plan = false, dry.Undo
	done := h.run(r)
	expect(t, done, remediate.Done, "", `raised from "10000 20000 40000" to "15000 30000 60000" pages: max is 234 MB, 5.7 % of memory; `+
		`to keep it, put into a file of sysctl.d: net.ipv4.tcp_mem = 15000 30000 60000`)
	if h.live() != "15000 30000 60000" || string(done.Undo) != want || cmp.Diff(change, done.Changes) != "" {
		t.Errorf("%s; %+v", h.live(), done)
	}
	expect(t, h.run(r), remediate.Done, "", "already raised") // asked again

	expect(t, h.undo(done.Undo, `{}`), remediate.Done, "", `restored from "15000 30000 60000" to "10000 20000 40000"`)
	expect(t, h.undo(done.Undo, `{}`), remediate.Done, "", "already")
	if h.live() != "10000 20000 40000" {
		t.Errorf("%s", h.live())
	}
}

// TestCeiling: all three grow alike, as far as the ceiling allows.
func TestCeiling(t *testing.T) {
	for _, tt := range []struct{ settings, raised string }{
		{`{"factor":2}`, "20000 40000 80000"},
		{`{"factor":10,"ceiling":"15%"}`, "39321 78643 157286"},
		{`{"ceiling":0.05}`, "13107 26214 52428"},
	} {
		h := newHost(t)
		expect(t, h.lend(tt.settings), remediate.Done, "", "raised")
		if h.live() != tt.raised {
			t.Errorf("%s: %s", tt.settings, h.live())
		}
	}
}

func TestRefused(t *testing.T) {
	tests := []struct {
		name, code, says string
		change           func(*host, *remediate.Request)
	}{
		{"leak", "leak", "new room", func(_ *host, r *remediate.Request) { r.Host.Verdict = "leak" }},
		{"leaking owner", "leak", "new room", func(_ *host, r *remediate.Request) { r.Owner = &remediate.Owner{Verdict: "leak"} }},
		{"slow peer", "slow-peer", "connections", func(_ *host, r *remediate.Request) { r.Owner = &remediate.Owner{Verdict: "slow-peer"} }},
		{"no verdict", "no-verdict", "only load", func(_ *host, r *remediate.Request) { r.Host.Verdict = "" }},
		{"little memory", "too-little-memory", "480 MB of memory are available; less the 78 MB to be lent, under 10 % of 4096 MB", func(h *host, _ *remediate.Request) { h.memory(4<<30, 480<<20) }},
		{"memory pressure", "memory-pressure", "5.01 % of the last ten seconds", func(h *host, _ *remediate.Request) { h.set("pressure/memory", "full avg10=5.01 avg60=0\n") }},
		{"ceiling", "ceiling", "max is 156 MB already; the ceiling is 15 % of memory, 153 MB", func(h *host, _ *remediate.Request) { h.memory(1<<30, 1<<30) }},
		{"nearly at the ceiling", "ceiling", "already", func(_ *host, r *remediate.Request) { r.Settings = remediate.Settings(`{"ceiling":0.0385}`) }},
		{"no triple", "out-of-range", `is "5 4 3"`, func(h *host, _ *remediate.Request) { h.set("sys/net/ipv4/tcp_mem", "5 4 3\n") }},
		{"huge triple", "ceiling", "already", func(h *host, _ *remediate.Request) { h.set("sys/net/ipv4/tcp_mem", "0 0 9223372036854775807\n") }},
		{"other boot", "other-boot", "another boot", func(_ *host, r *remediate.Request) { r.BootID = otherBoot }},
		{"rival", "rival", `is "10000 20000 40000" by now, not "1 2 3"`, func(_ *host, r *remediate.Request) { r.Host.MinPages, r.Host.PressurePages, r.Host.MaxPages = 1, 2, 3 }},
		{"lent already", "leased", `and "1 2 3" without`, func(_ *host, r *remediate.Request) { r.Host.BaseMin, r.Host.BasePressure, r.Host.BaseMax = 1, 2, 3 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			r := request(`{}`)
			r.DryRun = true
			tt.change(h, r)
			before := h.live()
			resp := h.run(r)
			expect(t, resp, remediate.Refused, tt.code, tt.says)
			if h.live() != before || resp.Undo != nil {
				t.Errorf("%s, plan %s", h.live(), resp.Undo)
			}
		})
	}
}

// TestChecksAgain: what became true between the plan and the run counts.
func TestChecksAgain(t *testing.T) {
	tests := []struct {
		name, code string
		change     func(*host, *remediate.Request)
	}{
		{"leak", "leak", func(_ *host, r *remediate.Request) { r.Host.Verdict = "leak" }},
		{"little memory", "too-little-memory", func(h *host, _ *remediate.Request) { h.memory(4<<30, 100<<20) }},
		{"memory pressure", "memory-pressure", func(h *host, _ *remediate.Request) { h.set("pressure/memory", "full avg10=99.00\n") }},
		{"lower ceiling", "ceiling", func(_ *host, r *remediate.Request) { r.Settings = remediate.Settings(`{"ceiling":"5%"}`) }},
		{"tcp_mem changed by a rival", "rival", func(h *host, _ *remediate.Request) { h.set("sys/net/ipv4/tcp_mem", "1 2 3\n") }},
		{"booted anew", "other-boot", func(h *host, _ *remediate.Request) { h.set("sys/kernel/random/boot_id", otherBoot+"\n") }},
		{"no plan", "no-plan", func(_ *host, r *remediate.Request) { r.Plan = nil }},
		{"out of range", "out-of-range", func(_ *host, r *remediate.Request) {
			r.Plan = json.RawMessage(strings.Replace(string(r.Plan), `"max":60000`, `"max":39999`, 1))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			r := request(`{}`)
			r.DryRun = true
			r.Plan = h.run(r).Undo
			r.DryRun = false
			tt.change(h, r)
			before := h.live()
			resp := h.run(r)
			expect(t, resp, remediate.Refused, tt.code, "")
			if h.live() != before {
				t.Errorf("wrote %s", h.live())
			}
		})
	}
}

func TestWithoutPSI(t *testing.T) {
	h := newHost(t)
	if err := os.RemoveAll(filepath.Join(h.dir, "pressure")); err != nil {
		t.Fatal(err)
	}
	expect(t, h.lend(`{}`), remediate.Done, "", "does not tell memory pressure (PSI)")
}

func TestUndo(t *testing.T) {
	tests := []struct {
		name, settings, code, says string
		result                     remediate.Result
		change                     func(*host)
		live                       string
	}{
		{"rival", `{}`, "rival", `is "1 2 3", not "15000 30000 60000" as lent: somebody else set it, so it stays, and "10000 20000 40000" does not`, remediate.Refused, func(h *host) { h.set("sys/net/ipv4/tcp_mem", "1 2 3\n") }, "1 2 3"},
		{"rival, forced", `{"force":true}`, "rival", "", remediate.Refused, func(h *host) { h.set("sys/net/ipv4/tcp_mem", "1 2 3\n") }, "1 2 3"},
		{"other boot", `{"force":true}`, "other-boot", "", remediate.Refused, func(h *host) { h.set("sys/kernel/random/boot_id", otherBoot+"\n") }, "15000 30000 60000"},
		{"in use", `{}`, "in-use", "16000 pages are in use, not under 80 % of the old pressure mark, 20000", remediate.Refused, func(h *host) { h.used(16000) }, "15000 30000 60000"},
		{"in use, forced", `{"force":true}`, "", "restored", remediate.Done, func(h *host) { h.used(16000) }, "10000 20000 40000"},
		{"nearly in use", `{}`, "", "restored", remediate.Done, func(h *host) { h.used(15999) }, "10000 20000 40000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			lent := h.lend(`{}`)
			tt.change(h)
			expect(t, h.undo(lent.Undo, tt.settings), tt.result, tt.code, tt.says)
			if h.live() != tt.live {
				t.Errorf("%s", h.live())
			}
		})
	}
	// The daemon's count is enough.
	h := newHost(t)
	r := &remediate.UndoRequest{Undo: h.lend(`{}`).Undo, Host: remediate.Host{UsedPages: 16000}}
	if resp, err := h.Undo(t.Context(), r); err != nil || resp.Code != "in-use" {
		t.Errorf("%+v, %v", resp, err)
	}
}

// TestEndLeases: the last first, each with its answer, a broken one too.
func TestEndLeases(t *testing.T) {
	h := newHost(t)
	first := h.lend(`{}`).Undo
	second := h.lend(`{}`).Undo
	h.used(1 << 20)
	answers, err := h.EndLeases(t.Context(), []json.RawMessage{first, json.RawMessage(`{`), second})
	if err == nil || len(answers) != 3 {
		t.Fatalf("%v, %v", answers, err)
	}
	expect(t, answers[0], remediate.Done, "", "restored")
	expect(t, answers[1], remediate.Failed, "error", "parse plan")
	expect(t, answers[2], remediate.Done, "", "restored")
	if h.live() != "10000 20000 40000" {
		t.Errorf("%s", h.live())
	}
	answers, err = h.EndLeases(t.Context(), []json.RawMessage{first})
	if err != nil || len(answers) != 1 || answers[0].Result != remediate.Done {
		t.Errorf("%v, %v", answers, err)
	}
}

func TestErrors(t *testing.T) {
	h := newHost(t)
	for name, r := range map[string]*remediate.Request{
		"settings":  request(`{"factor":1}`),
		"page size": {Host: remediate.Host{Verdict: "load"}},
		"plan":      {Host: remediate.Host{PageSize: 4096}, Plan: json.RawMessage(`{"version":2}`)},
		"no plan":   {Host: remediate.Host{PageSize: 4096}, Plan: json.RawMessage("x\n\x1b")},
	} {
		if resp, err := h.Run(t.Context(), r); err == nil || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: %+v, %v", name, resp, err)
		}
	}
	for _, file := range []string{"sys/net/ipv4/tcp_mem", "sys/kernel/random/boot_id", "meminfo", "pressure/memory"} {
		h := newHost(t)
		h.set(file, "garbage\x1b")
		r := request(`{}`)
		r.DryRun = true
		if resp, err := h.Run(t.Context(), r); err == nil {
			t.Errorf("%s: %+v", file, resp)
		}
	}
	base := triple{1, 2, 3}
	no, err := explain(fmt.Errorf("read back: %w", &procfs.NotTakenError{Wrote: base.tcpMem()}), base)
	if err != nil || no.Result != remediate.Failed || no.Code != "not-taken" || no.Message != `net.ipv4.tcp_mem: wrote "1 2 3", but it reads "0 0 0"` {
		t.Errorf("%+v, %v", no, err)
	}
	for errno, code := range map[error]string{unix.EROFS: "read-only", unix.EPERM: "read-only", unix.EACCES: "read-only", unix.EINVAL: "out-of-range"} {
		if no, err := explain(&os.PathError{Op: "write", Path: "x", Err: errno}, base); err != nil || no.Code != code || no.Result != remediate.Refused {
			t.Errorf("%v: %+v, %v", errno, no, err)
		}
	}
	if no, err := explain(unix.ENOSPC, base); no != nil || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%+v, %v", no, err)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct{ settings, setting, says string }{
		{`{}`, "", ""},
		{`{"ceiling":"50%","factor":10,"min_available":"0%","force":true}`, "", ""},
		{`{"ceiling":"51%"}`, "ceiling", "between 1% and 50%"},
		{`{"ceiling":0}`, "ceiling", "between 1% and 50%"},
		{`{"ceiling":"much"}`, "ceiling", "want a share"},
		{`{"factor":1}`, "factor", "above 1"},
		{`{"factor":1e300}`, "factor", "10 at most"},
		{`{"min_available":"95%"}`, "min_available", "90% at most"},
		{`{"minavailable":"5%"}`, "minavailable", "did you mean min_available?"},
	}
	for _, tt := range tests {
		problems := New("1", "/proc").Validate(t.Context(), remediate.Settings(tt.settings))
		if tt.says == "" && problems == nil {
			continue
		}
		if len(problems) != 1 || problems[0].Setting != tt.setting || !strings.Contains(problems[0].Message, tt.says) {
			t.Errorf("%s: %v", tt.settings, problems)
		}
	}
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte(`{"version":1,"boot_id":"b","base":{"min":1,"pressure":2,"max":3},"raised":{"min":1,"pressure":2,"max":4}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePlan(data)
		if err == nil && (!p.Base.rising() || !p.Raised.rising() || p.Raised.Max <= p.Base.Max || p.BootID == "") {
			t.Fatalf("%s: %+v", data, p)
		}
	})
}
