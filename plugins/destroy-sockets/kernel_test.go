package destroysockets

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"github.com/tcpmemd/tcpmemd/plugins/internal/victims"
	"github.com/tcpmemd/tcpmemd/plugins/internal/victims/victimstest"
	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	goleak.VerifyTestMain(m)
}

// request asks to destroy, with 10 s to do it.
func request(sockets []remediate.Socket, settings string) *remediate.Request {
	return &remediate.Request{
		Settings: remediate.Settings(settings), Sockets: sockets, Deadline: time.Now().Add(10 * time.Second),
		Owner: &remediate.Owner{Name: "task-queue.service", Kind: "service"}, Host: remediate.Host{OrphansVanish: true},
	}
}

func run(t *testing.T, r *remediate.Request) *remediate.Response {
	t.Helper()
	resp, err := New("1", "/proc").Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s: %s", resp.Result, resp.Code, resp.Message)
	return resp
}

// TestOrphans: the owner's orphans go and their memory with them; nothing else
// of the owner, and no orphan of a bystander.
func TestOrphans(t *testing.T) {
	require.Root(t)
	ns := scene.NewNetns(t)
	owner := scene.StartT(t, scene.ChildOptions{Netns: ns})
	bystander := scene.StartT(t, scene.ChildOptions{Netns: ns})
	p := victimstest.Inside(ns, owner.PID())
	orphans := scene.BuildT(t, owner, scene.Spec{Kind: scene.Orphan, Pairs: 30, SendBuffer: 1 << 18}).Role(scene.Dialer)
	held := scene.BuildT(t, owner, scene.Spec{Kind: scene.Unsent, Pairs: 3, KeepListener: true}).Sockets
	hidden := scene.BuildT(t, owner, scene.Spec{Kind: scene.Hidden, Pairs: 2, Bytes: 5000}).Class(reading.Hidden)
	others := scene.BuildT(t, bystander, scene.Spec{Kind: scene.Orphan, Pairs: 3}).Role(scene.Dialer)
	r := request(p.Request(t, slices.Concat(orphans, held, hidden)...), `{}`)

	r.DryRun = true
	dry := run(t, r)
	if dry.Result != remediate.DryRun || len(dry.Changes) != 1 || dry.Predicted["orphan"] == 0 {
		t.Errorf("dry run: %+v", dry)
	}
	p.Standing(t, slices.Concat(orphans, held, others)...)

	r.DryRun = false
	before, pages := p.Bytes(t), victimstest.UsedPages(t)
	got := run(t, r)
	fell := before - p.Bytes(t)
	t.Logf("predicted %v; the sockets of the namespace hold %d bytes less than %d, the pool %d pages", got.Predicted, fell, before, pages-victimstest.UsedPages(t))
	if got.Result != remediate.Done || got.Code != "" || got.Predicted["orphan"] != dry.Predicted["orphan"] || len(got.Changes) != 1 {
		t.Errorf("%+v", got)
	}
	if fell < got.Predicted["orphan"]*9/10 {
		t.Errorf("%d bytes less, predicted %v", fell, got.Predicted)
	}
	p.Gone(t, orphans...)
	p.Standing(t, slices.Concat(held, others)...)

	// Once more: all are gone, which is as good.
	if got = run(t, r); got.Result != remediate.Done || got.Changes != nil || !strings.Contains(got.Message, "30 sockets") {
		t.Errorf("once more: %+v", got)
	}
}

// TestSlowPeer: the connections to the culprit, and no others; the receive
// queue of a connection that is held stays with its owner.
func TestSlowPeer(t *testing.T) {
	require.Root(t)
	ns := scene.NewNetns(t)
	owner := scene.StartT(t, scene.ChildOptions{Netns: ns})
	slow := scene.StartT(t, scene.ChildOptions{Netns: ns})
	other := scene.StartT(t, scene.ChildOptions{Netns: ns})
	p := victimstest.Inside(ns, owner.PID())
	toSlow, _, err := scene.Across(t.Context(), owner, slow, scene.Spec{Kind: scene.Unsent, Pairs: 5})
	if err != nil {
		t.Fatal(err)
	}
	toOther, atOther, err := scene.Across(t.Context(), owner, other, scene.Spec{Kind: scene.Unsent, Pairs: 5})
	if err != nil {
		t.Fatal(err)
	}
	r := request(p.Request(t, slices.Concat(toSlow.Sockets, toOther.Sockets)...), `{}`)
	r.Owner.Verdict = "slow-peer"
	r.Owner.Culprit = toSlow.Sockets[0].Remote.Addr().String()
	got := run(t, r)
	if got.Result != remediate.Done || got.Predicted["owned"] < toSlow.Bytes()*9/10 || got.Predicted["owned"] > toSlow.Bytes() {
		t.Errorf("%+v, want %d bytes freed", got, toSlow.Bytes())
	}
	p.Gone(t, toSlow.Sockets...)
	p.Standing(t, slices.Concat(toOther.Sockets, atOther.Sockets)...)
}

// TestChangedMeanwhile: what is no longer as it was is left.
func TestChangedMeanwhile(t *testing.T) {
	require.Root(t)
	ns := scene.NewNetns(t)
	owner := scene.StartT(t, scene.ChildOptions{Netns: ns})
	peer := scene.StartT(t, scene.ChildOptions{Netns: ns})
	p := victimstest.Inside(ns, owner.PID())
	built, _, err := scene.Across(t.Context(), owner, peer, scene.Spec{Kind: scene.Unsent, Pairs: 4})
	if err != nil {
		t.Fatal(err)
	}
	r := request(p.Request(t, built.Sockets...), `{"class":["owned"]}`)
	r.Sockets[0].CgroupID++
	r.Sockets[1].Inode++
	r.Sockets[2].Local = "192.0.2.1:1"
	if err := owner.Close(t.Context(), built.Sockets[3]); err != nil { // an orphan by now
		t.Fatal(err)
	}
	got := run(t, r)
	if got.Result != remediate.Refused || got.Code != "identity-changed" || got.Changes != nil {
		t.Errorf("%+v", got)
	}
	p.Standing(t, built.Sockets...)

	// What waits to be accepted has no inode either, and is no orphan.
	waiting := scene.BuildT(t, owner, scene.Spec{Kind: scene.Unaccepted, Pairs: 2, Bytes: 3000}).Class(reading.Unaccepted)
	r = request(p.Request(t, waiting...), `{}`)
	for i := range r.Sockets {
		r.Sockets[i].Class = "orphan"
	}
	if got := run(t, r); got.Code != "identity-changed" {
		t.Errorf("unaccepted: %+v", got)
	}
	p.Standing(t, waiting...)

	// A cookie that nobody has: the listener and the connections stay.
	r = request(p.Request(t, built.Sockets[0]), `{"class":["owned"]}`)
	r.Sockets[0].Cookie += 1 << 40
	if got := run(t, r); got.Result != remediate.Done || got.Changes != nil {
		t.Errorf("stale cookie: %+v", got)
	}
	p.Standing(t, built.Sockets...)
}

// TestUnreadable: a namespace that nothing leads to, and rights that are
// lacking, are failures and not successes.
func TestUnreadable(t *testing.T) {
	require.Root(t)
	ns := scene.NewNetns(t)
	owner := scene.StartT(t, scene.ChildOptions{Netns: ns})
	p := victimstest.Inside(ns, owner.PID())
	orphans := scene.BuildT(t, owner, scene.Spec{Kind: scene.Orphan, Pairs: 3}).Role(scene.Dialer)
	r := request(p.Request(t, orphans...), `{}`)
	for i := range r.Sockets {
		r.Sockets[i].NetnsCookie++
	}
	if got := run(t, r); got.Result != remediate.Failed || got.Code != "unreadable" {
		t.Errorf("%+v", got)
	}
	r = request(p.Request(t, orphans...), `{}`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := New("1", "/proc").Run(ctx, r); err != nil || got.Result != remediate.TimedOut {
		t.Errorf("given up: %+v, %v", got, err)
	}
	r.Deadline = time.Now()
	if got := run(t, r); got.Result != remediate.TimedOut || got.Code != "deadline" {
		t.Errorf("no time: %+v", got)
	}
	p.Standing(t, orphans...)
	if got := answer(&victims.Report{Refused: unix.EPERM, Left: map[string]reading.Tally{"x": {Sockets: 1}}}); got.Code != "not-permitted" {
		t.Errorf("%+v", got)
	}
}
