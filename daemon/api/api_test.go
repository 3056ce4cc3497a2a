package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// TestOwnersHasTheContract compares with the example that the contract gives:
// each of its keys is there with the same JSON type.
func TestOwnersHasTheContract(t *testing.T) {
	example, err := os.ReadFile("testdata/contract-owners.json")
	if err != nil {
		t.Fatal(err)
	}
	host := apitest.Leak()
	text, err := json.Marshal(api.OwnersFrom(host.Meta(), &host.Reading))
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal(example, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, problem := range missing(want, got, "") {
		t.Error(problem)
	}
}

// missing lists what of the example is not in a document. Where the example
// is null any type is right.
func missing(want, got any, path string) []string {
	if want == nil {
		return nil
	}
	if w, g := fmt.Sprintf("%T", want), fmt.Sprintf("%T", got); w != g {
		return []string{fmt.Sprintf("%s: is %s, want %s", path, g, w)}
	}
	var problems []string
	switch want := want.(type) {
	case map[string]any:
		for key, value := range want {
			inner, ok := got.(map[string]any)[key]
			if !ok {
				problems = append(problems, path+"."+key+": is not there")
				continue
			}
			problems = append(problems, missing(value, inner, path+"."+key)...)
		}
	case []any:
		list := got.([]any)
		if len(want) > 0 && len(list) == 0 {
			return []string{path + ": is empty"}
		}
		if len(want) > 0 {
			problems = missing(want[0], list[0], path+"[0]")
		}
	}
	return problems
}

func TestDocumentsKeepTheContract(t *testing.T) {
	for name, host := range map[string]*apitest.Host{
		"leak": apitest.Leak(), "hostile": apitest.Hostile(), "empty": balanced(apitest.New()), "many": apitest.Many(300),
	} {
		t.Run(name, func(t *testing.T) {
			m := host.Meta()
			check := func(doc interface{ Validate() error }, err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				if err := doc.Validate(); err != nil {
					t.Errorf("%T: %v", doc, err)
				}
				text, err := json.Marshal(doc)
				if err != nil {
					t.Fatal(err)
				}
				again := reflect.New(reflect.TypeOf(doc).Elem()).Interface()
				if err := json.Unmarshal(text, again); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(doc, again); diff != "" && name != "hostile" { // JSON cannot keep bytes that are no UTF-8
					t.Errorf("%T read back: (-want +got)\n%s", doc, diff)
				}
			}
			check(api.OwnersFrom(m, &host.Reading), nil)
			limited := api.OwnersFrom(m, &host.Reading)
			limited.Keep(3)
			check(limited, nil)
			check(api.StatusFrom(m, api.StateOf(&host.Reading)), nil)
			check(api.StatusFrom(m, api.State{Sample: host.Reading.Sample, Level: host.Reading.Level}), nil)
			for _, limit := range []int{0, 1, 7, 1000000} {
				check(api.CollectSockets(t.Context(), m, &host.Reading, host, all, limit, nil))
			}
			check(api.CollectOrphans(t.Context(), m, &host.Reading, host))
			for _, by := range api.Bys()[1:] {
				groups, err := api.CollectGroups(t.Context(), m, &host.Reading, host, by)
				check(groups, err)
				var sum int64
				for _, g := range groups.Groups {
					sum += g.Bytes
				}
				if sum != host.Reading.Ledger.Seen {
					t.Errorf("groups by %s hold %d bytes, want %d", by, sum, host.Reading.Ledger.Seen)
				}
			}
		})
	}
}

func balanced(h *apitest.Host) *apitest.Host {
	h.Balance(0)
	return h
}

func all(*reading.Socket) bool { return true }

func TestValidateFinds(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		spoil      func(*api.Owners)
	}{
		{"version", "version 2, want 1", func(o *api.Owners) { o.Version = 2 }},
		{"sum", "sum of the owners' bytes", func(o *api.Owners) { o.Owners = o.Owners[1:] }},
		{"order", "out of order", func(o *api.Owners) { o.Owners[0], o.Owners[1] = o.Owners[1], o.Owners[0] }},
		{"twice", "listed twice", func(o *api.Owners) { o.Owners[1].Key = o.Owners[0].Key }},
		{"classes", "sum of the classes' bytes", func(o *api.Owners) { o.Ledger.Classes.Hidden.Bytes++ }},
		{"parts", "parts", func(o *api.Owners) { o.Owners[0].SendBytes++ }},
		{"kind", `unknown kind "slice"`, func(o *api.Owners) { o.Owners[0].Kind = "slice" }},
		{"coverage", "coverage", func(o *api.Owners) { o.Ledger.Coverage = 1 }},
		{"not a number", "not a finite number", func(o *api.Owners) { o.Memory.Fill = math.NaN() }},
		{"null list", "null list", func(o *api.Owners) { o.Gaps = nil }},
		{"unseen", "unseen_bytes", func(o *api.Owners) { o.Ledger.UnseenBytes = 0 }},
		{"verdict", "unknown verdict", func(o *api.Owners) { *o.Owners[0].Verdict = "guilty" }},
		{"local time", "not in UTC", func(o *api.Owners) { o.TakenAt = o.TakenAt.In(time.FixedZone("X", 3600)) }},
	} {
		host := apitest.Leak()
		doc := api.OwnersFrom(host.Meta(), &host.Reading)
		if doc.Owners[0].Verdict != nil {
			v := *doc.Owners[0].Verdict
			doc.Owners[0].Verdict = &v
		}
		tt.spoil(doc)
		if err := doc.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestUnknownIsNull(t *testing.T) {
	r := &reading.Reading{Owners: []reading.Owner{{Key: "k", Holders: []reading.Holder{{}}, Netns: []reading.NetnsID{{Inode: 7}}}}}
	r.Ledger.Coverage, r.Trend.EtaMax = math.Inf(1), nil
	text, err := json.Marshal(api.OwnersFrom(api.Meta{}, r))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"boot_id":null`, `"under_pressure":null`, `"verdict":null,"verdict_reasons":[]`, `"eta_seconds":null`, `"lease":null`,
		`"time_wait":{"count":0,"limit":null}`, `"unit":null,"manager":null`, `"invocation_id":null,"container":null,"pod":null,"uid":null,"command":null`,
		`"netns":[{"inode":7,"cookie":null}]`, `"growth_bytes_per_minute":null`, `"protected":null`, `"checks":[]`, `"gaps":[]`, `"peers":[]`, `"coverage":0,`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func TestStaleIsUnknown(t *testing.T) {
	host := apitest.Leak()
	host.AnswerAfter = 2 * time.Minute
	doc := api.OwnersFrom(host.Meta(), &host.Reading)
	if !doc.Stale || doc.AgeSeconds != 120 || doc.Memory.Level != reading.Unknown {
		t.Errorf("stale %v, age %v, level %v; want true, 120, unknown", doc.Stale, doc.AgeSeconds, doc.Memory.Level)
	}
}

func TestSocketsKeepsTheBiggest(t *testing.T) {
	host := apitest.Leak()
	doc, err := api.CollectSockets(t.Context(), host.Meta(), &host.Reading, host, all, 4, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, s := range doc.Sockets {
		got = append(got, s.Cookie)
	}
	if diff := cmp.Diff([]uint64{1204, 1205, 1206, 1207}, got); diff != "" {
		t.Errorf("cookies: (-want +got)\n%s", diff)
	}
	if s := doc.Sockets[0]; s.OwnerName != "prod/checkout-7d9f (worker)" || s.Holder == nil || s.Holder.Command != "java" {
		t.Errorf("first socket: owner %q, holder %v", s.OwnerName, s.Holder)
	}
	if want := int64(len(host.SocketList) - 4); doc.Truncated.Sockets != want {
		t.Errorf("truncated %d, want %d", doc.Truncated.Sockets, want)
	}
}

func TestOrphansNameWhoLeftThem(t *testing.T) {
	host := apitest.Leak()
	doc, err := api.CollectOrphans(t.Context(), host.Meta(), &host.Reading, host)
	if err != nil {
		t.Fatal(err)
	}
	bytes := int64(4 * (1<<20 - 2048))
	want := []api.OrphanOwner{{
		Key: "system/task-queue.service", Name: "task-queue.service", Kind: reading.KindService, Unit: new("task-queue.service"),
		Sockets: 4, Bytes: bytes, SendBytes: 4 << 20, Evidence: map[string]reading.Tally{"last-seen": {Sockets: 4, Bytes: bytes}},
	}}
	if diff := cmp.Diff(want, doc.Owners); diff != "" {
		t.Errorf("owners: (-want +got)\n%s", diff)
	}
	if doc.LimitHalf != 65536 || doc.LimitQuarter != 32768 {
		t.Errorf("limits %d and %d", doc.LimitHalf, doc.LimitQuarter)
	}
}

func TestGroups(t *testing.T) {
	host := apitest.Leak()
	for _, tt := range []struct {
		by   api.By
		want []string
	}{
		{api.ByUnit, []string{"task-queue.service", "(no unit)", "sync.service (user@1000)", "web.service", "idle.service"}},
		{api.ByPod, []string{"(no pod)", "prod/checkout-7d9f"}},
		{api.ByContainer, []string{"(no container)", "worker"}},
		{api.ByNetns, []string{"4026531840", "4026532701"}},
		{api.ByRemote, []string{"10.0.0.9", "10.9.8.7", "(not connected)", "10.0.0.6", "192.0.2.7"}},
		{api.ByProcess, []string{"task-queue[412]", "java[900]", "(no process)", "sync[700]"}},
		{api.ByClass, []string{"owned", "orphan", "hidden", "unaccepted", "unresolved", "kernel"}},
	} {
		doc, err := api.CollectGroups(t.Context(), host.Meta(), &host.Reading, host, tt.by)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range doc.Groups {
			got = append(got, g.Name)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("by %s: (-want +got)\n%s", tt.by, diff)
		}
	}
	if _, err := api.CollectGroups(t.Context(), host.Meta(), &host.Reading, host, "colour"); err == nil {
		t.Error("by colour: no error")
	}
}

// strangers is a stream of sockets that each have another remote address.
type strangers int

func (n strangers) Sockets(_ context.Context, _ func(*reading.Socket) bool, yield func(*reading.Socket) error) error {
	for i := range n {
		s := reading.Socket{
			Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1),
			Mem:    reading.SkMem{RmemAlloc: 1},
		}
		if err := yield(&s); err != nil {
			return err
		}
	}
	return nil
}

func TestGroupsAreBounded(t *testing.T) {
	const n = api.MaxGroups + 1000
	doc, err := api.CollectGroups(t.Context(), api.Meta{}, new(reading.Reading), strangers(n), api.ByRemote)
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, g := range doc.Groups {
		sum += g.Bytes
	}
	if len(doc.Groups) != api.MaxGroups+1 || sum != n {
		t.Errorf("%d groups with %d bytes, want %d with %d", len(doc.Groups), sum, api.MaxGroups+1, n)
	}
	if g := doc.Groups[0]; g.Name != "(other)" || g.Key != nil || g.Sockets != 1000 {
		t.Errorf("biggest group %+v, want (other) with 1000 sockets", g)
	}
}
