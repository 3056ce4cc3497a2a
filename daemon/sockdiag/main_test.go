package sockdiag

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	goleak.VerifyTestMain(m)
}

// openIn opens a Conn inside a namespace.
func openIn(t *testing.T, ns *scene.Netns) *Conn {
	t.Helper()
	var c *Conn
	err := ns.Do(func() (err error) {
		c, err = Open(NewBuffer())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
