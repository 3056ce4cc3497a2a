package restartunit

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/units"
	"github.com/tcpmemd/tcpmemd/daemon/units/unitstest"
	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	goleak.VerifyTestMain(m)
}

const queue = "task-queue.service"

// host returns a systemd with a running service, and the action on it.
func host(t *testing.T) (*unitstest.Host, *Action) {
	t.Helper()
	h := unitstest.NewHost(t.Errorf)
	h.Bus = true
	h.Add(queue, nil)
	m := units.New(units.Dialer{Name: "fake", Dial: h.Dial, Bus: true})
	t.Cleanup(func() {
		m.Close()
		h.HangUp()
	})
	return h, &Action{version: "1", proc: procfs.New("/proc"), systemd: m, uptime: func() time.Duration { return time.Hour }}
}

// request asks to restart the service, with 30 s to do it. What it holds is
// hidden, so that nothing is looked for in the kernel.
func request(h *unitstest.Host, settings string) *remediate.Request {
	return &remediate.Request{
		Settings: remediate.Settings(settings), Deadline: time.Now().Add(30 * time.Second), Host: remediate.Host{OrphansVanish: true},
		Owner: &remediate.Owner{
			Name: queue, Kind: "service", Unit: queue, Manager: "system", UnitVerified: true, InvocationID: h.Invocation(queue),
		},
		Sockets: []remediate.Socket{{Class: "hidden", Bytes: 1000, Receive: 1000}},
	}
}

func run(t *testing.T, a *Action, r *remediate.Request) *remediate.Response {
	t.Helper()
	resp, err := a.Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s: %s", resp.Result, resp.Code, resp.Message)
	return resp
}
