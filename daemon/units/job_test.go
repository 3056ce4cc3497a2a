package units

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/units/unitstest"
)

const queue = "task-queue.service"

// host returns a systemd with a service and a Manager for it.
func host(t *testing.T, bus bool) (*unitstest.Host, *Manager) {
	t.Helper()
	h := unitstest.NewHost(t.Errorf)
	h.Bus = bus
	h.Add(queue, nil)
	return h, manager(t, &h.Systemd)
}

func TestService(t *testing.T) {
	h, m := host(t, false)
	h.Set(queue, map[string]any{
		"Type": "notify", "UnitFileState": "masked", "RemainAfterExit": true, "KillMode": "process",
		"RefuseManualStop": true, "Restart": "always", "NRestarts": uint32(3), "Result": "exit-code",
		"StartLimitBurst": uint32(4), "StartLimitIntervalUSec": uint64(1<<64 - 1),
		"Job": struct {
			ID     uint32
			Object dbus.ObjectPath
		}{17, "/org/freedesktop/systemd1/job/17"},
	})
	got, err := m.Service(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	got.Unit = Unit{Type: got.Type, Verified: got.Verified, InvocationID: got.InvocationID}
	want := Service{
		Unit:          Unit{Type: "notify", Verified: true, InvocationID: h.Invocation(queue)},
		UnitFileState: "masked", JobID: 17, RemainAfterExit: true, KillMode: "process", RefuseManualStop: true,
		Restart: "always", Restarts: 3, Result: "exit-code", StartLimitBurst: 4, StartLimitInterval: microseconds(1<<64 - 1),
		jobObject: "/org/freedesktop/systemd1/job/17",
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Service{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.StartLimitInterval < 1000*time.Hour {
		t.Errorf("infinity is %v", got.StartLimitInterval)
	}
	for what, change := range map[string]map[string]any{
		"job is no structure":  {"Job": "17"},
		"job of another shape": {"Job": struct{ A, B string }{"17", "/"}},
		"wrong type":           {"KillMode": true},
	} {
		h.Add(queue, change)
		if s, err := m.Service(t.Context(), queue); err == nil || errors.Is(err, ErrNoUnit) {
			t.Errorf("%s: %+v, error %v", what, s, err)
		}
	}
	h.Add(queue, map[string]any{"LoadState": "not-found", "ActiveState": "inactive"})
	if _, err := m.Service(t.Context(), queue); !errors.Is(err, ErrNoUnit) {
		t.Errorf("made up by asking: %v", err)
	}
	h.Unload(queue)
	if _, err := m.Service(t.Context(), queue); !errors.Is(err, ErrNoUnit) {
		t.Errorf("not loaded: %v", err)
	}
}

func TestClosure(t *testing.T) {
	h, m := host(t, false)
	h.Set(queue, map[string]any{
		"RequiredBy": []string{"a.service", "gone.service"}, "BoundBy": []string{"b.service"}, "ConsistsOf": []string{"a.service", "c.service"},
		"RequisiteOf": []string{"r.service"}, "PropagatesStopTo": []string{"stopped.service", "p.service"},
	})
	for _, unit := range []string{"a", "b", "c", "deep", "r", "p"} {
		h.Add(unit+".service", nil)
	}
	h.Set("a.service", map[string]any{"ConsistsOf": []string{"deep.service", queue}})
	h.Add("stopped.service", map[string]any{"ActiveState": "inactive", "RequiredBy": []string{"behind.service"}})
	h.Add("behind.service", nil)
	got, err := m.Closure(t.Context(), queue)
	want := []Dependent{
		{"a.service", "Requires=" + queue},
		{"r.service", "Requisite=" + queue},
		{"b.service", "BindsTo=" + queue},
		{"c.service", "PartOf=" + queue},
		{"p.service", "StopPropagatedFrom=" + queue},
		{"deep.service", "PartOf=a.service"},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}

	h.Set(queue, map[string]any{"PropagatesStopTo": nil}) // systemd 247
	if got, err = m.Closure(t.Context(), queue); err != nil || len(got) != 5 {
		t.Errorf("without PropagatesStopTo: %v, %v", got, err)
	}
	h.Set(queue, map[string]any{"BoundBy": nil})
	if got, err = m.Closure(t.Context(), queue); err == nil {
		t.Errorf("without BoundBy, which every systemd has: %v", got)
	}

	many := make([]string, maxClosure+1)
	for i := range many {
		many[i] = fmt.Sprintf("n%d.service", i)
		h.Add(many[i], nil)
	}
	h.Set(queue, map[string]any{"BoundBy": many})
	if got, err = m.Closure(t.Context(), queue); !errors.Is(err, ErrTooMany) {
		t.Errorf("%d units, error %v", len(got), err)
	}
	h.Unload(queue)
	if _, err = m.Closure(t.Context(), queue); !errors.Is(err, ErrNoUnit) {
		t.Errorf("of no unit: %v", err)
	}
}

func TestTryRestart(t *testing.T) {
	tests := []struct {
		name    string
		restart func(*unitstest.Host, *unitstest.Job)
		want    JobResult
		err     error
	}{
		{name: "done", want: JobDone},
		{name: "done, slowly", want: JobDone, restart: func(h *unitstest.Host, j *unitstest.Job) {
			j.Run()
			time.Sleep(20 * time.Second)
			h.Started(queue)
			j.End("done")
		}},
		{name: "every result", want: JobDependency, restart: func(_ *unitstest.Host, j *unitstest.Job) { j.End("dependency") }},
		{name: "cancelled by somebody", want: JobCanceled, restart: func(_ *unitstest.Host, j *unitstest.Job) {
			j.Run()
			j.End("canceled")
		}},
		{name: "another job's end, and a forged one", want: JobFailed, restart: func(h *unitstest.Host, j *unitstest.Job) {
			j.Run()
			h.Signal("JobRemoved", uint32(99), dbus.ObjectPath("/org/freedesktop/systemd1/job/99"), queue, "done")
			h.Signal("JobRemoved", "nonsense")
			if h.Bus {
				j.Forge("done")
			}
			time.Sleep(time.Second)
			j.End("failed")
		}},
		{name: "no word, started", want: JobDone, restart: func(h *unitstest.Host, j *unitstest.Job) {
			h.Started(queue)
			j.Vanish()
		}},
		{name: "no word, start limit", want: JobFailed, restart: func(h *unitstest.Host, j *unitstest.Job) {
			h.Set(queue, map[string]any{"ActiveState": "failed", "Result": "start-limit-hit"})
			j.Vanish()
		}},
		{name: "no word, nothing happened", want: JobCanceled, restart: func(_ *unitstest.Host, j *unitstest.Job) { j.Vanish() }},
		{name: "bus restarts, job done", want: JobDone, restart: func(h *unitstest.Host, j *unitstest.Job) {
			j.Run()
			h.Down(true)
			h.HangUp()
			h.Started(queue)
			j.End("done")
			time.Sleep(10 * time.Second)
			h.Down(false)
		}},
		{name: "bus restarts, job goes on", want: JobDone, restart: func(h *unitstest.Host, j *unitstest.Job) {
			j.Run()
			h.HangUp()
			time.Sleep(10 * time.Second)
			h.Started(queue)
			j.End("done")
		}},
		{name: "bus goes and stays away", err: ErrUnfinished, restart: func(h *unitstest.Host, j *unitstest.Job) {
			j.Run()
			h.Down(true)
			h.HangUp()
		}},
		{name: "does not begin", err: ErrCalledOff, restart: func(_ *unitstest.Host, j *unitstest.Job) {
			<-j.Cancelled
			j.End("canceled")
		}},
		{name: "does not end", err: ErrUnfinished, restart: func(_ *unitstest.Host, j *unitstest.Job) { j.Run() }},
	}
	for _, test := range tests {
		for _, bus := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, bus %v", test.name, bus), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h, m := host(t, bus)
					if test.restart != nil {
						h.Restart = func(j *unitstest.Job) { test.restart(h, j) }
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					start := time.Now()
					got, err := m.TryRestart(ctx, queue)
					if got != test.want || !errors.Is(err, test.err) {
						t.Errorf("%q, error %v; want %q, %v", got, err, test.want, test.err)
					}
					if took := time.Since(start); took > time.Minute+callOff+callTimeout {
						t.Errorf("it took %v", took)
					}
					synctest.Wait()
				})
			})
		}
	}
}

// TestTryRestartRefused: PID 1 says no, in its own words.
func TestTryRestartRefused(t *testing.T) {
	for _, answer := range []string{"TransactionIsDestructive", "UnitMasked", "OnlyByDependency", "NoSuchUnit", "LoadFailed"} {
		synctest.Test(t, func(t *testing.T) {
			h, m := host(t, true)
			plain := h.Answer
			h.Answer = func(c unitstest.Call) ([]any, *dbus.Error, bool) {
				if c.Member == "TryRestartUnit" {
					return nil, dbus.NewError(busName+"."+answer, []any{"no, because"}), true
				}
				return plain(c)
			}
			if r, err := m.TryRestart(t.Context(), queue); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no, because") {
				t.Errorf("%s: %q, %v", answer, r, err)
			}
		})
	}
	h, m := host(t, true)
	h.Unload(queue)
	if _, err := m.TryRestart(t.Context(), queue); !errors.Is(err, ErrNoUnit) || h.Calls("TryRestartUnit") != 0 {
		t.Errorf("a unit that is gone: %v", err)
	}
}

// TestTryRestartAnswerLost: the connection ends with the call under way. It is
// never made a second time.
func TestTryRestartAnswerLost(t *testing.T) {
	for name, test := range map[string]struct {
		arrived bool // PID 1 has the job
		ended   bool
		away    bool // and stays away
		want    JobResult
		err     error
	}{
		"not arrived":       {want: "", err: ErrNoBus},
		"arrived":           {arrived: true, want: JobDone},
		"arrived and ended": {arrived: true, ended: true, want: JobDone},
		"never known":       {arrived: true, away: true, err: ErrUnfinished},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, m := host(t, true)
				h.Restart = func(j *unitstest.Job) {
					if !test.ended {
						time.Sleep(5 * time.Second)
					}
					h.Started(queue)
					j.End("done")
				}
				plain := h.Answer
				h.Answer = func(c unitstest.Call) (reply []any, err *dbus.Error, _ bool) {
					if c.Member != "TryRestartUnit" {
						return plain(c)
					}
					if test.arrived {
						reply, err, _ = plain(c)
					}
					h.Down(test.away)
					h.HangUp()
					return reply, err, true
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if got, err := m.TryRestart(ctx, queue); got != test.want && test.err == nil || !errors.Is(err, test.err) {
					t.Errorf("%q, error %v", got, err)
				}
				if n := h.Calls("TryRestartUnit"); n != 1 {
					t.Errorf("asked %d times", n)
				}
			})
		})
	}
}

// TestTryRestartWithoutBus: over the private socket, or not at all.
func TestTryRestartWithoutBus(t *testing.T) {
	h := unitstest.NewHost(t.Errorf)
	h.Add(queue, nil)
	noBus := SystemBus(filepath.Join(t.TempDir(), "missing"))
	m := New(noBus, Dialer{Name: "private socket", Dial: h.Dial})
	defer h.HangUp()
	defer m.Close()
	before := h.Invocation(queue)
	if r, err := m.TryRestart(t.Context(), queue); r != JobDone || err != nil || h.Invocation(queue) == before {
		t.Errorf("%q, %v", r, err)
	}
	m = New(noBus)
	if r, err := m.TryRestart(t.Context(), queue); !errors.Is(err, ErrNoBus) {
		t.Errorf("%q, %v", r, err)
	}
	if slices.Contains([]string{"", before}, h.Invocation(queue)) {
		t.Error("not restarted")
	}
}
