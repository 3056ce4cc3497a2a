package owner

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func TestIdentify(t *testing.T) {
	container := &reading.Container{ID: "0123456789abcdef0123", Runtime: "containerd"}
	named := &reading.Container{ID: "0123456789abcdef0123", Runtime: "containerd", Name: "web"}
	pod := &reading.Pod{UID: "u-1", Namespace: "shop", Name: "cart-0"}
	tests := []struct {
		name   string
		source Source
		key    string // "": nobody
		shown  string
		kind   reading.Kind
		unit   string
	}{
		{
			"service",
			Source{Unit: "a.service", UnitKind: reading.KindService, Manager: "system", PID: 5},
			"system/a.service", "a.service", reading.KindService, "a.service",
		},
		{
			"user service",
			Source{Unit: "a.service", UnitKind: reading.KindUserService, Manager: "user@1000", PID: 5},
			"user@1000/a.service", "a.service", reading.KindUserService, "a.service",
		},
		{
			"session",
			Source{Unit: "session-3.scope", UnitKind: reading.KindSession, Manager: "system", PID: 5},
			"system/session-3.scope", "session-3.scope", reading.KindSession, "session-3.scope",
		},
		{
			"scope",
			Source{Unit: "run-1.scope", UnitKind: reading.KindScope, Manager: "system"},
			"system/run-1.scope", "run-1.scope", reading.KindScope, "run-1.scope",
		},
		{
			"socket unit for its service",
			Source{Unit: "a.socket", UnitKind: reading.KindService, Manager: "system", Service: "a.service"},
			"system/a.service", "a.service", reading.KindService, "a.service",
		},
		{
			"container",
			Source{Container: container, Unit: "cri-containerd-0123.scope", UnitKind: reading.KindContainer, Manager: "system", PID: 5},
			"container/0123456789abcdef0123", "0123456789ab", reading.KindContainer, "cri-containerd-0123.scope",
		},
		{
			"container in a pod",
			Source{Container: named, Pod: pod},
			"container/0123456789abcdef0123", "shop/cart-0/web", reading.KindContainer, "",
		},
		{
			"container in a nameless pod",
			Source{Container: named, Pod: &reading.Pod{UID: "u-1"}},
			"container/0123456789abcdef0123", "web", reading.KindContainer, "",
		},
		{"container with a short id", Source{Container: &reading.Container{ID: "abc"}}, "container/abc", "abc", reading.KindContainer, ""},
		{"process", Source{PID: 7, StartTime: 99, Command: "task (queue)"}, "process/7/99", "task (queue)", reading.KindProcess, ""},
		{"process in a bare cgroup", Source{PID: 7, StartTime: 99, Command: "x", Cgroup: "/lab"}, "process/7/99", "x", reading.KindProcess, ""},
		{"bare cgroup", Source{Cgroup: "/lab/x"}, "cgroup/lab/x", "/lab/x", reading.KindScope, ""},
		{"root cgroup", Source{Cgroup: "/"}, "", "", "", ""},
		{"nothing", Source{}, "", "", "", ""},
	}
	for _, tt := range tests {
		o, ok := Identify(tt.source)
		if ok != (tt.key != "") {
			t.Errorf("%s: names somebody %v", tt.name, ok)
			continue
		}
		if ok && (o.Key != tt.key || o.Name != tt.shown || o.Kind != tt.kind || o.Unit != tt.unit) {
			t.Errorf("%s: %s %q %s %q, want %s %q %s %q", tt.name, o.Key, o.Name, o.Kind, o.Unit, tt.key, tt.shown, tt.kind, tt.unit)
		}
	}
}

func TestBookPut(t *testing.T) {
	b := NewBook()
	first := b.Put(reading.Owner{Key: "a", Name: "old"})
	if again := b.Put(reading.Owner{Key: "a", Name: "new"}); again != first || b.Get(first).Name != "new" {
		t.Errorf("reference %d, name %q; want %d, new", again, b.Get(first).Name, first)
	}
	if other := b.Put(reading.Owner{Key: "b"}); other == first || other == 0 {
		t.Errorf("reference %d", other)
	}
}

// TestBookCompact: who is still named keeps an identity, under a new reference.
func TestBookCompact(t *testing.T) {
	w := newWorld(t)
	w.scan(row(1, 0, reading.FinWait1, 10))
	const n = 5000
	var refs []Ref
	for i := range n {
		refs = append(refs, w.book.Put(reading.Owner{Key: fmt.Sprintf("process/%d", i), Kind: reading.KindProcess}))
	}
	w.table.entryOf(1).owner = refs[4321]
	kept := []Ref{refs[17], refs[4999], 0}
	moved := w.book.Compact(w.table, func(keep func(Ref)) {
		for _, r := range kept {
			keep(r)
		}
	})
	if moved == nil || len(w.book.owners) != 3 || len(w.book.byKey) != 3 {
		t.Fatalf("%d owners are left, want 3", len(w.book.owners))
	}
	var keys []string
	for _, r := range []Ref{moved[refs[17]], moved[refs[4999]], w.table.entryOf(1).owner} {
		keys = append(keys, w.book.Get(r).Key)
	}
	if diff := cmp.Diff([]string{"process/17", "process/4999", "process/4321"}, keys); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if moved[0] != 0 || moved[refs[5]] != 0 {
		t.Errorf("nobody became %d, a forgotten one %d; want 0", moved[0], moved[refs[5]])
	}
	if got := owner(t, w.attribute(), "process/4321"); got.Evidence[reading.LastSeen].Sockets != 1 {
		t.Errorf("evidence %+v, want last-seen", got.Evidence)
	}
	if r := w.book.Put(reading.Owner{Key: "process/5"}); w.book.Get(r).Key != "process/5" {
		t.Error("a forgotten owner cannot come back")
	}
	if w.book.Compact(w.table, func(func(Ref)) {}) != nil {
		t.Error("a small book was compacted")
	}
}
