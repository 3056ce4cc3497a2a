package filter

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func subject() *Subject {
	return &Subject{
		Socket: &reading.Socket{
			Cookie: 4242,
			Netns:  reading.NetnsID{Inode: 4026531840},
			State:  reading.CloseWait,
			Local:  netip.MustParseAddrPort("10.1.2.3:8080"),
			Remote: netip.MustParseAddrPort("[2001:db8::7]:443"),
			UID:    1000,
			Mem:    reading.SkMem{RmemAlloc: 2 << 20, WmemQueued: 4096, FwdAlloc: -1024},
			Rqueue: 700,
			Class:  reading.Owned, Evidence: reading.FD, Owner: "system/task-queue.service",
			Holder: &reading.Holder{PID: 412, Command: "python3 (task-queue)"},
		},
		Owner: &reading.Owner{
			Key: "system/task-queue.service", Name: "task-queue.service", Unit: "task-queue.service",
			Cgroup:    "/system.slice/task-queue.service",
			Container: &reading.Container{ID: "deadbeef", Name: "worker"},
			Pod:       &reading.Pod{Namespace: "prod", Name: "queue-0", UID: "1-2-3"},
		},
	}
}

func orphanSubject() *Subject {
	return &Subject{Socket: &reading.Socket{
		State: reading.FinWait1, Class: reading.Orphan, Evidence: reading.Netns, Owner: "unresolved",
		Local: netip.MustParseAddrPort("[::ffff:10.9.9.9]:22"),
	}}
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		text          string
		held, orphans bool
	}{
		{"", true, true},
		{"  ", true, true},
		{"unit = task-queue.service", true, false},
		{"unit != task-queue.service", false, true},
		{"owner task-*", true, false},
		{"owner = system/task-queue.service", true, false},
		{"owner = unresolved", false, true},
		{"mem > 1M", true, false},
		{"mem > 2M", true, false},
		{"mem gt 2.1MiB", false, false},
		{"recv = 2048K and send = 4k", true, false},
		{"reserved < 0", true, false},
		{"recv-q >= 700 recv-q <= 700", true, false},
		{"state close-wait", true, false},
		{"state = CLOSE_WAIT", true, false},
		{"state connected", true, true},
		{"state != close-wait", false, true},
		{"not state close-wait", false, true},
		{"class orphan or class hidden", false, true},
		{"evidence fd", true, false},
		{"netns 4026531840", true, false},
		{"pid = 412", true, false},
		{"pid != 412", false, true},
		{"pid < 1000", true, false},
		{"comm = python3", true, false},
		{"comm = *task-queue*", true, false},
		{"comm = task-queue", true, false},
		{"uid >= 1000", true, false},
		{"cookie = 4242", true, false},
		{"container = dead*", true, false},
		{"container = worker", true, false},
		{"pod = prod/queue-?", true, false},
		{"pod = 1-2-3", true, false},
		{"cgroup = /system.slice/*", true, false},
		{"src 10.0.0.0/8", true, true},
		{"src 10.1.2.3:8080", true, false},
		{"src != 10.1.2.3", false, true},
		{"dst 2001:db8::/32", true, false},
		{"dst [2001:db8::7]:443", true, false},
		{"dst = :443", true, false},
		{"dst *:*", true, false},
		{"sport = :8080 dport >= :443", true, false},
		{"sport < 23", false, true},
		{"dport != :1", true, true},
		{"!(class orphan) && mem > 0 || uid 0", true, true},
		{"class owned or class orphan and mem > 1G", true, false},
		{"(class owned or class orphan) and mem > 1G", false, false},
		{"not not class owned", true, false},
		{`unit = "task-queue.service"`, true, false},
		{`comm = 'a b\'c'`, false, false},
		{"unit = or", false, false},
	} {
		f, err := Parse(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if diff := cmp.Diff([]bool{tt.held, tt.orphans}, []bool{f.Match(subject()), f.Match(orphanSubject())}); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.text, diff)
		}
		again, err := Parse(f.String())
		if err != nil {
			t.Errorf("%s: written as %s: %v", tt.text, f, err)
			continue
		}
		if again.String() != f.String() || again.Match(subject()) != tt.held {
			t.Errorf("%s: written as %s, read back as %s", tt.text, f, again)
		}
	}
}

func TestSyntaxError(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"unti = x", `parse filter: column 1: unknown field "unti", did you mean "unit"?`},
		{"mem > 1M and stat close-wait", `parse filter: column 14: unknown field "stat", did you mean "state"?`},
		{"zzz = 1", `parse filter: column 1: unknown field "zzz"`},
		{"state clse-wait", `parse filter: column 7: unknown state "clse-wait", did you mean "close-wait"?`},
		{"class hiden", `parse filter: column 7: unknown class "hiden", did you mean "hidden"?`},
		{"unit", `parse filter: column 5: a value of "unit" is expected: a name, * and ? stand for any characters`},
		{"unit =", `parse filter: column 7: a value of "unit" is expected: a name, * and ? stand for any characters`},
		{"unit > x", `parse filter: column 1: unit has no order: use = or !=, not >`},
		{"mem > lots", `parse filter: column 7: mem "lots" is not a size, such as 4096, 64K or 1.5M`},
		{"mem > 1e9", `parse filter: column 7: mem "1e9" is not a size, such as 4096, 64K or 1.5M`},
		{"mem > 99999999999T", `parse filter: column 7: mem "99999999999T" is not a size, such as 4096, 64K or 1.5M`},
		{"pid = -1", `parse filter: column 7: pid "-1" is not a whole number`},
		{"dport :99999", `parse filter: column 7: dport ":99999" is not a port, such as :443`},
		{"src ::1:80:x", `parse filter: column 5: src "::1:80:x" is not an address such as 10.0.0.0/8, 1.2.3.4:443 or [::1]:443`},
		{"(unit x", `parse filter: column 1: this parenthesis is not closed`},
		{"unit x)", `parse filter: column 7: ")" closes nothing`},
		{"unit x or", `parse filter: column 10: ends where a term is expected, such as: state close-wait`},
		{"and unit x", `parse filter: column 1: "and" where a term is expected, such as: state close-wait`},
		{"= x", `parse filter: column 1: "=" where a term is expected, such as: state close-wait`},
		{`unit = "x`, `parse filter: column 8: this quote is not closed`},
		{`unit = é unti x`, `parse filter: column 10: unknown field "unti", did you mean "unit"?`},
	} {
		_, err := Parse(tt.text)
		if err == nil {
			t.Errorf("%s: parsed, want an error", tt.text)
			continue
		}
		if _, ok := errors.AsType[*SyntaxError](err); !ok {
			t.Errorf("%s: error is %T", tt.text, err)
		}
		if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.text, diff)
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	f, err := Parse("unit = task-* and mem > 1M and (state close-wait or dst 10.0.0.0/8) and not pid = 1")
	if err != nil {
		t.Fatal(err)
	}
	s := subject()
	if n := testing.AllocsPerRun(100, func() { f.Match(s) }); n != 0 {
		t.Errorf("%v allocations per socket, want 0", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "unit = x.service and mem > 1M", "state close-wait or (class hidden and not evidence fd)",
		`!comm = "a \" b"`, "src 10.0.0.0/8 dst [::1]:443 sport = :443", "mem>=1.5K&&recv<2G||send!=0", "((((", "!!!!unit", "\xff = \x00",
	} {
		f.Add(seed)
	}
	held, orphan := subject(), orphanSubject()
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := Parse(text)
		if err != nil {
			e, ok := errors.AsType[*SyntaxError](err)
			if !ok || e.Offset < 0 || e.Offset > len(text) || e.Column < 1 {
				t.Fatalf("Parse(%q): %#v", text, err)
			}
			return
		}
		written := parsed.String()
		again, err := Parse(written)
		if err != nil {
			if len(written) > maxLength {
				return // the long form of a filter of nearly the greatest length
			}
			t.Fatalf("Parse(%q) = %q, which does not parse: %v", text, written, err)
		}
		if again.String() != written {
			t.Fatalf("%q is written %q, then %q", text, written, again)
		}
		for _, s := range []*Subject{held, orphan} {
			if parsed.Match(s) != again.Match(s) {
				t.Fatalf("%q and %q judge differently", text, written)
			}
		}
	})
}
