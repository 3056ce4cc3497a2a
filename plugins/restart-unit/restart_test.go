package restartunit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"github.com/tcpmemd/tcpmemd/daemon/units/unitstest"
	"github.com/tcpmemd/tcpmemd/plugins/internal/victims/victimstest"
	"github.com/tcpmemd/tcpmemd/remediate"
)

type objectPath = dbus.ObjectPath

// TestFaults: whatever PID 1 and the bus do, there is one answer before the
// deadline, and it says what is known.
func TestFaults(t *testing.T) {
	tests := []struct {
		name    string
		before  func(*unitstest.Host)
		restart func(*unitstest.Host, *unitstest.Job)
		result  remediate.Result
		code    string
		says    string
		asked   int // how often for the restart
	}{
		{name: "done", result: remediate.Done, says: "was restarted", asked: 1},
		{name: "job refused", result: remediate.Refused, code: "job-refused", says: "destructive", asked: 1, before: func(h *unitstest.Host) {
			plain := h.Answer
			h.Answer = func(c unitstest.Call) ([]any, *dbus.Error, bool) {
				if c.Member == "TryRestartUnit" {
					return nil, dbus.NewError("org.freedesktop.systemd1.TransactionIsDestructive", []any{"Transaction is destructive."}), true
				}
				return plain(c)
			}
		}},
		{name: "job cancelled", result: remediate.Failed, code: "job-canceled", says: "inactive (dead)", asked: 1, restart: func(h *unitstest.Host, j *unitstest.Job) {
			j.Run()
			h.Set(queue, map[string]any{"ActiveState": "inactive", "SubState": "dead"})
			j.End("canceled")
		}},
		{name: "job times out", result: remediate.Failed, code: "job-timeout", says: `"timeout"`, asked: 1, restart: func(h *unitstest.Host, j *unitstest.Job) {
			j.Run()
			time.Sleep(10 * time.Second)
			h.Set(queue, map[string]any{"ActiveState": "failed", "SubState": "failed", "Result": "timeout"})
			j.End("timeout")
		}},
		{name: "start limit hit", result: remediate.Failed, code: "start-limit-hit", says: "failed (failed)", asked: 1, restart: func(h *unitstest.Host, j *unitstest.Job) {
			h.Set(queue, map[string]any{"ActiveState": "failed", "SubState": "failed", "Result": "start-limit-hit"})
			j.End("failed")
		}},
		{name: "dependency fails", result: remediate.Failed, code: "job-dependency", says: "dependency", asked: 1, restart: func(_ *unitstest.Host, j *unitstest.Job) {
			j.End("dependency")
		}},
		{name: "skipped", result: remediate.Failed, code: "job-skipped", says: "skipped", asked: 1, restart: func(_ *unitstest.Host, j *unitstest.Job) {
			j.End("skipped")
		}},
		{name: "stopped right before", result: remediate.Failed, code: "not-restarted", says: "not started anew", asked: 1, restart: func(h *unitstest.Host, j *unitstest.Job) {
			h.Set(queue, map[string]any{"ActiveState": "inactive", "SubState": "dead"})
			j.End("done")
		}},
		{name: "does not begin", result: remediate.TimedOut, code: "job-not-begun", says: "cancelled", asked: 1, restart: func(_ *unitstest.Host, j *unitstest.Job) {
			<-j.Cancelled
			j.End("canceled")
		}},
		{name: "does not end", result: remediate.TimedOut, code: "job-unfinished", says: "goes on", asked: 1, restart: func(h *unitstest.Host, j *unitstest.Job) {
			j.Run()
			h.Set(queue, map[string]any{"ActiveState": "deactivating", "SubState": "stop-sigterm"})
		}},
		{name: "bus down", result: remediate.Failed, code: "no-bus", says: "cannot be asked", before: func(h *unitstest.Host) { h.Down(true) }},
		{name: "bus restarts in between", result: remediate.Done, says: "was restarted", asked: 1, restart: func(h *unitstest.Host, j *unitstest.Job) {
			j.Run()
			h.Down(true)
			h.HangUp()
			time.Sleep(3 * time.Second)
			h.Started(queue)
			j.End("done") // which nobody hears
			h.Down(false)
		}},
		{name: "bus goes for good", result: remediate.TimedOut, code: "job-unfinished", says: "cannot be read", asked: 1, restart: func(h *unitstest.Host, j *unitstest.Job) {
			j.Run()
			h.Down(true)
			h.HangUp()
		}},
		{name: "unit gone in between", result: remediate.Failed, code: "job-canceled", says: "knows no unit", asked: 1, restart: func(h *unitstest.Host, j *unitstest.Job) {
			j.Vanish()
			h.Unload(queue)
		}},
		{name: "hangs", result: remediate.Failed, code: "no-bus", says: "cannot be asked", before: func(h *unitstest.Host) {
			h.Answer = func(unitstest.Call) ([]any, *dbus.Error, bool) {
				time.Sleep(time.Minute)
				return nil, nil, false
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, a := host(t)
				r := request(h, "")
				if test.before != nil {
					test.before(h)
				}
				if test.restart != nil {
					h.Restart = func(j *unitstest.Job) { test.restart(h, j) }
				}
				resp := run(t, a, r)
				if resp.Result != test.result || resp.Code != test.code || !strings.Contains(resp.Message, test.says) {
					t.Errorf("%+v, want %s %s and %q", resp, test.result, test.code, test.says)
				}
				if late := time.Since(r.Deadline); late > 0 {
					t.Errorf("%v after the deadline", late)
				}
				if n := h.Calls("TryRestartUnit"); n != test.asked {
					t.Errorf("asked %d times", n)
				}
				time.Sleep(2 * time.Minute) // what hangs ends
			})
		})
	}
}

// TestAlong: what is restarted along is told.
func TestAlong(t *testing.T) {
	h, a := host(t)
	h.Set(queue, map[string]any{"ConsistsOf": []string{"web.service", "idle.service"}})
	h.Add("web.service", nil)
	h.Add("idle.service", map[string]any{"ActiveState": "inactive"})
	old := h.Invocation(queue)
	r := request(h, `{"allow":["web"]}`)
	r.DryRun = true
	if resp := run(t, a, r); resp.Result != remediate.DryRun || !strings.Contains(resp.Message, "along with it web.service") || len(resp.Changes) != 2 {
		t.Errorf("%+v", resp)
	}
	if h.Invocation(queue) != old {
		t.Error("a dry run restarts")
	}
	r.DryRun = false
	resp := run(t, a, r)
	if resp.Result != remediate.Done || len(resp.Changes) != 2 || !strings.Contains(resp.Changes[0].Before, old) ||
		!strings.Contains(resp.Changes[0].After, h.Invocation(queue)) || resp.Changes[1].What != "unit web.service" {
		t.Errorf("%+v", resp)
	}
	if h.Invocation(queue) == old {
		t.Error("not restarted")
	}

	r = request(h, `{"allow":["web"]}`)
	r.Deadline = time.Now().Add(cleanTime + answerTime)
	if resp := run(t, a, r); resp.Code != "too-little-time" {
		t.Errorf("%+v", resp)
	}
}

// A listener that PID 1 passed on outlives the restart, and is not waited for.
func TestListenerIsNoVictim(t *testing.T) {
	require.Root(t)
	ns := scene.NewNetns(t)
	passed := scene.StartT(t, scene.ChildOptions{Netns: ns})
	h, a := host(t)
	r := request(h, "")
	r.Sockets = append(r.Sockets, victimstest.Inside(ns, passed.PID()).Request(t, scene.BuildT(t, passed, scene.Spec{Kind: scene.Listening}).Sockets...)...)
	start := time.Now()
	resp := run(t, a, r)
	if took := time.Since(start); resp.Result != remediate.Done || took > cleanTime*4/5 {
		t.Errorf("%+v after %v", resp, took)
	}
}

// TestMemory is the whole of it on the real kernel, but for systemd: a service
// in a namespace of its own holds unread, hidden and unsent memory; its end
// frees the first two, and the orphans of the third are destroyed. Its peer
// and a bystander live on.
func TestMemory(t *testing.T) {
	require.Root(t)
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean_orphans %v", clean), func(t *testing.T) {
			ns := scene.NewNetns(t)
			service := scene.StartT(t, scene.ChildOptions{Netns: ns})
			peer := scene.StartT(t, scene.ChildOptions{Netns: ns})
			bystander := scene.StartT(t, scene.ChildOptions{Netns: ns})
			p := victimstest.Inside(ns, service.PID())
			unsent, _, err := scene.Across(t.Context(), service, peer, scene.Spec{Kind: scene.Unsent, Pairs: 20, SendBuffer: 1 << 17})
			if err != nil {
				t.Fatal(err)
			}
			_, unread, err := scene.Across(t.Context(), peer, service, scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 30_000})
			if err != nil {
				t.Fatal(err)
			}
			hidden := scene.BuildT(t, service, scene.Spec{Kind: scene.Hidden, Pairs: 5, Bytes: 30_000})
			other := scene.BuildT(t, bystander, scene.Spec{Kind: scene.Unsent, Pairs: 3})
			earlier := scene.BuildT(t, bystander, scene.Spec{Kind: scene.Orphan, Pairs: 2}).Role(scene.Dialer)

			h, a := host(t)
			h.Restart = func(j *unitstest.Job) {
				j.Run()
				service.Kill()
				h.Started(queue)
				j.End("done")
			}
			r := request(h, fmt.Sprintf(`{"clean_orphans":%v}`, clean))
			r.Sockets = p.Request(t, slices.Concat(unsent.Sockets, unread.Sockets, hidden.Class(reading.Hidden), earlier)...)
			before, pages := p.Bytes(t), victimstest.UsedPages(t)
			resp := run(t, a, r)
			fell := before - p.Bytes(t)
			t.Logf("predicted %v; %d bytes less than %d and the hidden %d, the pool %d pages", resp.Predicted, fell, before, hidden.Bytes(), pages-victimstest.UsedPages(t))
			if resp.Result != remediate.Done || resp.Code != "" {
				t.Errorf("%+v", resp)
			}
			if resp.Predicted["hidden"] != hidden.Bytes() || resp.Predicted["orphan"] != 0 {
				t.Errorf("predicted %v, want %d of hidden and nothing of orphans", resp.Predicted, hidden.Bytes())
			}
			// Up to what the peers' ends free when they are reset.
			if want := resp.Predicted["owned"]; fell < want*9/10 {
				t.Errorf("%d bytes less, predicted %d", fell, want)
			}
			p.Gone(t, unread.Sockets...)
			p.Standing(t, slices.Concat(other.Sockets, earlier)...)
			if clean {
				p.Gone(t, unsent.Sockets...)
				if !strings.Contains(resp.Message, "20 sockets with") {
					t.Errorf("the message does not tell of 20 orphans: %s", resp.Message)
				}
				return
			}
			p.Standing(t, unsent.Sockets...)
			if !strings.Contains(resp.Message, " unsent stay in orphans") { // how much depends on what the kernel took
				t.Errorf("the message does not tell of what is left: %s", resp.Message)
			}
			if sum := unsent.Bytes() + unread.Bytes(); resp.Predicted["owned"] > sum-unsent.Bytes()*8/10 {
				t.Errorf("predicted %v of %d, with %d in send queues that stay", resp.Predicted, sum, unsent.Bytes())
			}
		})
	}
}
