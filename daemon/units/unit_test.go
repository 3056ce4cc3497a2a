package units

import (
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

func TestHolds(t *testing.T) {
	tests := []struct {
		group, path string
		want        bool
	}{
		{"/a/x.service", "/a/x.service", true},
		{"/a/x.service", "/a/x.service/b", true},
		{"/a/x.service", "/a/x.service2", false},
		{"/a/x.service", "/a", false},
		{"", "/a", false},
		{"/", "/a", true},
	}
	for _, test := range tests {
		if got := (&Unit{ControlGroup: test.group}).Holds(test.path); got != test.want {
			t.Errorf("%q holds %q = %v", test.group, test.path, got)
		}
	}
}

func TestProtected(t *testing.T) {
	tests := []struct {
		unit string
		glob string // "" for not protected
	}{
		{"init.scope", "init.scope"},
		{"init.service", ""},
		{"systemd-journald.service", "systemd-*"},
		{"dbus.socket", "dbus*"},
		{"dbus-broker.service", "dbus*"},
		{"ssh.service", "ssh*"},
		{"sshd@3-10.0.0.1:22-10.0.0.2:5000.service", "ssh*"},
		{"docker.service", "docker"},
		{"docker.socket", "docker"},
		{"docker-4f6bd3f2a1c0.scope", ""},
		{"mydocker.service", ""},
		{"k3s-agent.service", "k3s*"},
		{"rke2-server.service", "rke2*"},
		{"session-3.scope", "session-*"},
		{"user@1000.service", "user@*"},
		{"polkit.service", "polkit*"},
		{"NetworkManager.service", "NetworkManager*"},
		{"tcpmemd.service", "tcpmemd"},
		{"task-queue.service", ""},
		{"nginx.service", ""},
		{"", ""},
	}
	globs := DefaultProtected()
	if err := CheckGlobs(globs); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		why := Protected(test.unit, globs)
		if (why != "") != (test.glob != "") || !strings.Contains(why, test.glob) {
			t.Errorf("Protected(%q) = %q, want the glob %q", test.unit, why, test.glob)
		}
	}
	if why := Protected("nginx.service", []string{"["}); !strings.Contains(why, "malformed") {
		t.Errorf("a malformed glob protects nothing: %q", why)
	}
	if err := CheckGlobs([]string{"ok*", "a["}); err == nil || !strings.Contains(err.Error(), `"a["`) {
		t.Errorf("CheckGlobs: %v", err)
	}
	globs[0] = "changed"
	if DefaultProtected()[0] == "changed" {
		t.Error("the defaults can be changed by a caller")
	}
}

func FuzzUnitName(f *testing.F) {
	for _, name := range []string{"ordinary.service", "_under.service", "work@7.service", `dash\x2dname.service`, "1.mount", "", "\xff"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		object := unitObject(name)
		if name != "" && !object.IsValid() {
			t.Fatalf("unitObject(%q) = %q is no object path", name, object)
		}
		if got, err := unitName(object); err != nil || got != name {
			t.Fatalf("unitName(%q) = %q, %v, want %q", object, got, err, name)
		}
		unitName(dbus.ObjectPath(unitPrefix + name))
	})
}
