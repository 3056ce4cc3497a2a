// Package scene makes each class of TCP socket for real, on the running
// kernel, and reports what it made: the ground truth for tests, for the bench,
// for the end-to-end run and for the drill.
//
// The sockets live in child processes, because ownership is what there is to
// find. A child is this same executable started again: a program that uses
// this package calls [RunIfChild] first thing in main, or in TestMain, before
// it parses flags.
//
//	func TestMain(m *testing.M) {
//		scene.RunIfChild()
//		os.Exit(m.Run())
//	}
//
//	c := scene.StartT(t, scene.ChildOptions{Comm: "task-queue"})
//	b, err := c.Build(t.Context(), scene.Spec{Kind: scene.Hidden, Pairs: 500, Bytes: 4096})
//
// What is made stays on loopback or in namespaces made here, is bounded by its
// spec, and is ended by who made it: a child dies when its standard input
// closes and, through PR_SET_PDEATHSIG, when its parent dies in any way.
//
// The truth in [Built] comes from getsockopt(SO_MEMINFO, SO_COOKIE) and fstat
// on the descriptors, and for sockets that nobody holds from one exact
// sock_diag look-up by address: never from a dump, so it can be held against
// code that reads dumps.
package scene
