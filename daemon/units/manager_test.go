package units

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/daemon/units/unitstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake returns a systemd with the recorded answers of a real one.
func fake(t *testing.T, version string) *unitstest.Systemd {
	t.Helper()
	r, err := unitstest.Load(filepath.Join("testdata", "systemd-"+version+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return &unitstest.Systemd{Recording: r, Errorf: t.Errorf}
}

// manager returns a Manager that reaches only the fake.
func manager(t *testing.T, s *unitstest.Systemd) *Manager {
	t.Helper()
	m := New(Dialer{Name: "fake", Dial: s.Dial, Bus: s.Bus})
	t.Cleanup(func() {
		m.Close()
		s.HangUp()
	})
	return m
}

const (
	ordinary = "/system.slice/ordinary.service"
	forged   = "/system.slice/delegated.service/nginx.service/deeper"
	userUnit = "/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service"
)

// What the systemd of Debian 11, 12 and 13 said of the same units.
func TestByCgroupOfRealSystemds(t *testing.T) {
	want := []struct {
		path string
		unit Unit // only the fields that do not change from boot to boot
		err  error
	}{
		{ordinary, Unit{Name: "ordinary.service", ControlGroup: ordinary, Slice: "system.slice", Type: "simple"}, nil},
		{ordinary + "/none", Unit{Name: "ordinary.service", ControlGroup: ordinary, Slice: "system.slice", Type: "simple"}, nil},
		{"/system.slice/system-work.slice/work@7.service", Unit{Name: "work@7.service", ControlGroup: "/system.slice/system-work.slice/work@7.service", Slice: "system-work.slice", Type: "simple"}, nil},
		{forged, Unit{Name: "delegated.service", ControlGroup: "/system.slice/delegated.service", Slice: "system.slice", Type: "simple", Delegate: true}, nil},
		{userUnit, Unit{Name: "user@1000.service", ControlGroup: "/user.slice/user-1000.slice/user@1000.service", Slice: "user-1000.slice", Type: "notify", Delegate: true}, nil}, // notify-reload since 253
		{`/batch.slice/batch-night.slice/dash\x2dname.service`, Unit{Name: `dash\x2dname.service`, ControlGroup: `/batch.slice/batch-night.slice/dash\x2dname.service`, Slice: "batch-night.slice", Type: "simple"}, nil},
		{"/system.slice/_cpu.service", Unit{Name: "cpu.service", ControlGroup: "/system.slice/_cpu.service", Slice: "system.slice", Type: "simple"}, nil},
		{"/system.slice/__under.service", Unit{Name: "_under.service", ControlGroup: "/system.slice/__under.service", Slice: "system.slice", Type: "simple"}, nil},
		{"/system.slice/act.socket", Unit{Name: "act.socket", ControlGroup: "/system.slice/act.socket", Slice: "system.slice"}, nil},
		{"/system.slice/each.socket", Unit{Name: "each.socket", ControlGroup: "/system.slice/each.socket", Slice: "system.slice", Accept: true}, nil},
		{"/sys-kernel-debug.mount", Unit{Name: "sys-kernel-debug.mount", ControlGroup: "/sys-kernel-debug.mount", Slice: "-.slice"}, nil},
		{"/system.slice", Unit{Name: "system.slice", ControlGroup: "/system.slice", Slice: "-.slice"}, nil},
		{"/system.slice/gone.service", Unit{}, ErrNoUnit},
		{"/nope/x.service", Unit{}, ErrNoUnit},
		{"/", Unit{}, ErrNoUnit},
		{"relative", Unit{}, ErrNoUnit},
	}
	for _, version := range []string{"247", "252", "257"} {
		for _, bus := range []bool{true, false} {
			t.Run(fmt.Sprintf("systemd %s, bus %v", version, bus), func(t *testing.T) {
				s := fake(t, version)
				s.Bus = bus
				m := manager(t, s)
				if _, got, err := m.Connected(t.Context()); err != nil || !strings.HasPrefix(got, version) {
					t.Fatalf("Connected: version %q, error %v", got, err)
				}
				for _, w := range want {
					got, err := m.ByCgroupNow(t.Context(), w.path)
					if !errors.Is(err, w.err) {
						t.Errorf("%s: error %v, want %v", w.path, err, w.err)
					}
					if err != nil {
						continue
					}
					if got.Type != "" && (len(got.InvocationID) != 32 || got.MainPID == 0 || got.ActiveEnter.IsZero()) {
						t.Errorf("%s: invocation %q, main pid %d, active since %v", w.path, got.InvocationID, got.MainPID, got.ActiveEnter)
					}
					if !got.Verified || got.LoadState != "loaded" || got.ActiveState != "active" || got.ActiveEnterMonotonic == 0 {
						t.Errorf("%s: %+v", w.path, got)
					}
					stable := Unit{Name: got.Name, ControlGroup: got.ControlGroup, Slice: got.Slice, Type: strings.TrimSuffix(got.Type, "-reload"), Delegate: got.Delegate, Accept: got.Accept}
					if diff := cmp.Diff(w.unit, stable); diff != "" {
						t.Errorf("%s (-want +got):\n%s", w.path, diff)
					}
				}
			})
		}
	}
}

func TestServiceOf(t *testing.T) {
	m := manager(t, fake(t, "252"))
	for _, test := range []struct {
		path, service string
		err           error
	}{
		{"/system.slice/act.socket", "act.service", nil},
		{"/system.slice/each.socket", "", ErrNoUnit}, // one instance per connection
		{ordinary, "", ErrNoUnit},
	} {
		socket, err := m.ByCgroup(t.Context(), test.path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.ServiceOf(t.Context(), socket)
		if !errors.Is(err, test.err) || got.Name != test.service {
			t.Errorf("ServiceOf(%s) = %q, %v", socket.Name, got.Name, err)
		}
	}
}

func TestByName(t *testing.T) {
	s := fake(t, "252")
	m := manager(t, s)
	if u, err := m.ByName(t.Context(), "ordinary.service"); err != nil || u.ControlGroup != ordinary {
		t.Errorf("ByName = %+v, %v", u, err)
	}
	if _, err := m.ByName(t.Context(), "missing.service"); !errors.Is(err, ErrNoUnit) {
		t.Errorf("ByName of a unit not loaded: %v", err)
	}
	// PID 1 makes up an empty unit when asked for the properties of one that
	// was unloaded a moment ago; so it was recorded.
	if _, err := m.ByName(t.Context(), "nobody.service"); !errors.Is(err, ErrNoUnit) {
		t.Errorf("ByName of a unit made up: %v", err)
	}
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fake(t, "252")
		m := manager(t, s)
		asked := 0
		expect := func(what string, path string, calls int, want error) {
			t.Helper()
			if _, err := m.ByCgroup(t.Context(), path); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
			if asked += calls; s.Calls("GetUnitByControlGroup") != asked {
				t.Errorf("%s: PID 1 was asked %d times, want %d", what, s.Calls("GetUnitByControlGroup"), asked)
			}
		}
		expect("first", ordinary+"/none", 1, nil)
		expect("again", ordinary+"/none", 0, nil)
		expect("its own directory", ordinary, 0, nil)
		expect("another below", ordinary+"/any/where", 0, nil)
		expect("a neighbour with the same beginning", ordinary+"2", 1, ErrNoUnit)
		expect("a slice", "/system.slice", 1, nil)
		expect("below a slice", "/system.slice/gone.service", 1, ErrNoUnit)
		expect("no unit, again", "/system.slice/gone.service", 0, ErrNoUnit)
		time.Sleep(negativeTTL)
		expect("no unit, later", "/system.slice/gone.service", 1, ErrNoUnit)
		expect("unit, a little later", ordinary, 0, nil)
		time.Sleep(positiveTTL)
		expect("unit, later", ordinary, 1, nil)
		if _, err := m.ByCgroupNow(t.Context(), ordinary); err != nil || s.Calls("GetUnitByControlGroup") != asked+1 {
			t.Errorf("ByCgroupNow answers from the cache")
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache()
	at := time.Unix(1, 0)
	for i := range 2 * maxCached {
		path := fmt.Sprintf("/x%d.service", i)
		c.put(path, Unit{Name: path[1:], ControlGroup: path}, nil, at.Add(time.Duration(i)))
	}
	if n := len(c.answers); n > maxCached || n < maxCached*7/8 {
		t.Errorf("%d answers, want at most %d", n, maxCached)
	}
	if _, ok := c.get("/x0.service", at); ok {
		t.Error("the oldest answer is still there")
	}
	if _, ok := c.get(fmt.Sprintf("/x%d.service", 2*maxCached-1), at); !ok {
		t.Error("the newest answer is not there")
	}
}

func TestHungPID1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fake(t, "252")
		hang := make(chan struct{})
		s.Answer = func(unitstest.Call) ([]any, *dbus.Error, bool) {
			<-hang
			return nil, nil, false
		}
		m := manager(t, s)
		took := func() time.Duration {
			start := time.Now()
			if _, err := m.ByCgroup(t.Context(), ordinary); !errors.Is(err, ErrNoBus) {
				t.Errorf("error %v, want ErrNoBus", err)
			}
			return time.Since(start)
		}
		if d := took(); d > callTimeout+writeTimeout {
			t.Errorf("blocked for %v", d)
		}
		if d := took(); d != 0 {
			t.Errorf("asked again at once: %v", d)
		}
		// It greets, then hangs: each attempt comes later than the one before.
		dialed := s.Dialed()
		for start := time.Now(); time.Since(start) < 10*time.Minute; time.Sleep(time.Second) {
			took()
		}
		if n := s.Dialed() - dialed; n < 10 || n > 20 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
		close(hang)
		time.Sleep(maxBackoff)
		if _, err := m.ByCgroup(t.Context(), ordinary); err != nil {
			t.Errorf("after PID 1 came back: %v", err)
		}
	})
}

// A peer that accepts and never reads blocks the write, not only the answer.
func TestDeafPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		m := New(Dialer{Name: "deaf", Dial: func(context.Context) (net.Conn, error) { return client, nil }})
		defer m.Close()
		start := time.Now()
		_, err := m.ByCgroup(t.Context(), ordinary)
		if d := time.Since(start); !errors.Is(err, ErrNoBus) || d > callTimeout+writeTimeout {
			t.Errorf("%v after %v", err, d)
		}
	})
}

func TestReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fake(t, "252")
		s.Bus = true
		m := manager(t, s)
		ask := func() error {
			_, err := m.ByCgroupNow(t.Context(), ordinary)
			return err
		}
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		s.HangUp()
		synctest.Wait()
		if err := ask(); err != nil {
			t.Errorf("after the bus was restarted: %v", err)
		}
		if s.Dialed() != 2 {
			t.Errorf("dialed %d times, want 2", s.Dialed())
		}
	})
}

func TestFallBackToPrivateSocket(t *testing.T) {
	s := fake(t, "252")
	noBus := SystemBus(filepath.Join(t.TempDir(), "missing"))
	m := New(noBus, Dialer{Name: "private socket", Dial: s.Dial})
	defer s.HangUp()
	defer m.Close()
	via, _, err := m.Connected(t.Context())
	if err != nil || via != "private socket" {
		t.Errorf("Connected via %q, %v", via, err)
	}

	m = New(noBus, Private(filepath.Join(t.TempDir(), "missing")))
	_, _, err = m.Connected(t.Context())
	if !errors.Is(err, ErrNoBus) || !strings.Contains(err.Error(), "system bus") || !strings.Contains(err.Error(), "private socket") {
		t.Errorf("without either: %v", err)
	}
	if _, err := m.ByCgroup(t.Context(), ordinary); !errors.Is(err, ErrNoBus) {
		t.Errorf("ByCgroup without either: %v", err)
	}
}

// A bus without systemd on it, as in a container, is no way to PID 1.
func TestBusWithoutSystemd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fake(t, "252")
		m := manager(t, s)
		if _, err := m.ByCgroup(t.Context(), ordinary); err != nil {
			t.Fatal(err)
		}
		s.Answer = func(unitstest.Call) ([]any, *dbus.Error, bool) {
			return nil, dbus.NewError("org.freedesktop.DBus.Error.ServiceUnknown", []any{"no such name"}), true
		}
		if _, err := m.ByCgroupNow(t.Context(), ordinary); !errors.Is(err, ErrNoBus) {
			t.Errorf("PID 1 left the bus: %v", err)
		}
	})
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	object := func(path string) func(unitstest.Call) ([]any, *dbus.Error, bool) {
		return func(c unitstest.Call) ([]any, *dbus.Error, bool) {
			return []any{dbus.ObjectPath(path)}, nil, c.Member == "GetUnitByControlGroup"
		}
	}
	property := func(name string, value any) func(unitstest.Call) ([]any, *dbus.Error, bool) {
		return func(c unitstest.Call) ([]any, *dbus.Error, bool) {
			return []any{dbus.MakeVariant(value)}, nil, c.Member == "Get" && c.Args[1] == name
		}
	}
	tests := []struct {
		name   string
		answer func(unitstest.Call) ([]any, *dbus.Error, bool)
		want   error // nil: any error but the package's own
	}{
		{"another unit", object(unitPrefix + "act_2eservice"), ErrMismatch},
		{"unit without processes", property("ControlGroup", ""), ErrMismatch},
		{"control group that only begins alike", property("ControlGroup", "/system.slice/ordinary.serv"), ErrMismatch},
		{"no unit's object", object("/org/freedesktop/login1"), nil},
		{"broken escape", object(unitPrefix + "ordinary_2"), nil},
		{"wrong type", property("MainPID", "48"), nil},
		{"unloaded meanwhile", property("LoadState", "not-found"), ErrNoUnit},
		{"refused", func(unitstest.Call) ([]any, *dbus.Error, bool) {
			return nil, dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"no"}), true
		}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := fake(t, "252")
			s.Answer = test.answer
			m := manager(t, s)
			u, err := m.ByCgroup(t.Context(), ordinary)
			switch {
			case err == nil:
				t.Errorf("no error, but %+v", u)
			case test.want != nil && !errors.Is(err, test.want):
				t.Errorf("error %v, want %v", err, test.want)
			case errors.Is(err, ErrNoBus), test.want == nil && errors.Is(err, ErrNoUnit):
				t.Errorf("error %v: the connection is fine", err)
			}
			if s.Dialed() != 1 {
				t.Errorf("dialed %d times", s.Dialed())
			}
			if diff := cmp.Diff(Unit{}, u); diff != "" {
				t.Errorf("unit beside an error: %s", diff)
			}
		})
	}
}

func TestCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fake(t, "252")
		m := manager(t, s)
		if _, _, err := m.Connected(t.Context()); err != nil {
			t.Fatal(err)
		}
		slow := true
		s.Answer = func(unitstest.Call) ([]any, *dbus.Error, bool) {
			if slow {
				slow = false
				time.Sleep(time.Second)
			}
			return nil, nil, false
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := m.ByCgroup(ctx, ordinary); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNoBus) {
			t.Errorf("error %v, want the caller's own deadline", err)
		}
		time.Sleep(time.Second)
		if _, err := m.ByCgroup(t.Context(), ordinary); err != nil || s.Dialed() != 1 {
			t.Errorf("the connection was given up: %v, dialed %d times", err, s.Dialed())
		}
	})
}

// Whoever owns a delegated subtree cannot escape PID 1's view by a name that
// D-Bus does not carry.
func TestAskable(t *testing.T) {
	const base = "/system.slice/delegated.service"
	long := strings.Repeat("/"+strings.Repeat("d", 255), 20)
	for path, want := range map[string]string{
		"":                        "",
		base:                      base,
		base + "/ok/\xff/nginx":   base + "/ok",
		base + "\xff":             "/system.slice",
		base + long:               (base + long)[:len(base)+256*15],
		"/\xff":                   "",
		base + "/\u00e9":          base + "/\u00e9",
		base + "/a/" + "\xc3/x/y": base + "/a",
	} {
		if got := askable(path); got != want {
			t.Errorf("askable(%.60q) = %.60q, want %.60q", path, got, want)
		}
	}
	s := fake(t, "252")
	m := manager(t, s)
	if u, err := m.ByCgroup(t.Context(), forged+"/\xff"); err != nil || u.Name != "delegated.service" {
		t.Errorf("ByCgroup = %q, %v", u.Name, err)
	}
}
