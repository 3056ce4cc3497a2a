package scene

import "context"

// TB is what the helpers for tests need of testing.TB. The package itself is
// not imported: the drill uses scenes too.
type TB interface {
	Helper()
	Cleanup(func())
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// StartT is Start for a test: the child is stopped when the test ends.
func StartT(t TB, o ChildOptions) *Child {
	t.Helper()
	// Not t.Context(): that is done before cleanups run, and would kill the
	// child before it could free its sockets by reset.
	c, err := Start(context.WithoutCancel(t.Context()), o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { c.endQuietly() })
	return c
}

// BuildT is Build for a test that cannot go on without its scene.
func BuildT(t TB, c *Child, spec Spec) *Built {
	t.Helper()
	b, err := c.Build(t.Context(), spec)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return b
}

// NewNetns makes a namespace that a mount keeps until the test ends.
func NewNetns(t TB) *Netns {
	t.Helper()
	ns, err := MakeNetns()
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := ns.Remove(); err != nil {
			t.Errorf("%v", err)
		}
	})
	return ns
}

// NewCgroup makes a cgroup that is removed, with what runs in it, when the
// test ends. Make it before the children that start in it, so that they are
// stopped first.
func NewCgroup(t TB, name string) *Cgroup {
	t.Helper()
	g, err := MakeCgroup(name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := g.Remove(); err != nil {
			t.Errorf("%v", err)
		}
	})
	return g
}

// endQuietly stops a child that the test may have killed already.
func (c *Child) endQuietly() {
	c.mu.Lock()
	ended := c.broken != nil
	c.mu.Unlock()
	if ended {
		c.Kill()
		return
	}
	_ = c.Stop()
}
