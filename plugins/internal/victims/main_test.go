package victims

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, sockets []remediate.Socket) *Set {
	t.Helper()
	s, err := Open(procfs.New("/proc"), sockets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
