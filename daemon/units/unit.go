package units

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Unit is what PID 1 says of a unit.
type Unit struct {
	Name         string // primary name with its type: "task-queue.service"
	Description  string
	ControlGroup string // as directories are named; "" while it has no processes
	InvocationID string // 32 hex digits, new with each start; "" if never started
	Slice        string
	Type         string // Type= of a service (simple, notify, oneshot, ...), else ""
	LoadState    string
	ActiveState  string
	SubState     string
	MainPID      int // of a service, 0 where it has none
	// Delegate: what lies below its control group is made by somebody else.
	Delegate bool
	// ActiveEnter is when it became active, by the wall clock and as
	// CLOCK_MONOTONIC; zero if it never did.
	ActiveEnter          time.Time
	ActiveEnterMonotonic time.Duration
	// Triggers are the units that it starts: the service of a socket.
	Triggers []string
	// Accept: a socket unit that starts one instance for each connection.
	Accept bool
	// TriggeredBy are the units that start it.
	TriggeredBy []string
	// Verified is true of every unit that comes from PID 1. It stays false in
	// one that somebody made up from a path.
	Verified bool
}

// typed names the units that have a control group, by suffix; each type has a
// D-Bus interface of its own.
var typed = map[string]string{
	".service": "Service", ".scope": "Scope", ".slice": "Slice",
	".socket": "Socket", ".mount": "Mount", ".swap": "Swap",
}

// property is one value to fetch and where in a U to put it.
type property[U any] struct {
	iface, name string
	set         func(u *U, value any) error
	// late: systemd 247 does not have it, and what it does not have is zero.
	late bool
}

// unitProperties are on every unit.
var unitProperties = []property[Unit]{
	{iface: unitInterface, name: "Id", set: into(func(u *Unit, v string) { u.Name = v })},
	{iface: unitInterface, name: "Description", set: into(func(u *Unit, v string) { u.Description = v })},
	{iface: unitInterface, name: "LoadState", set: into(func(u *Unit, v string) { u.LoadState = v })},
	{iface: unitInterface, name: "ActiveState", set: into(func(u *Unit, v string) { u.ActiveState = v })},
	{iface: unitInterface, name: "SubState", set: into(func(u *Unit, v string) { u.SubState = v })},
	{iface: unitInterface, name: "InvocationID", set: into(func(u *Unit, v []byte) { u.InvocationID = hex.EncodeToString(v) })},
	{iface: unitInterface, name: "ActiveEnterTimestamp", set: into(func(u *Unit, v uint64) {
		if v != 0 {
			u.ActiveEnter = time.UnixMicro(int64(v))
		}
	})},
	{iface: unitInterface, name: "ActiveEnterTimestampMonotonic", set: into(func(u *Unit, v uint64) {
		u.ActiveEnterMonotonic = time.Duration(v) * time.Microsecond
	})},
	{iface: unitInterface, name: "Triggers", set: into(func(u *Unit, v []string) { u.Triggers = v })},
	{iface: unitInterface, name: "TriggeredBy", set: into(func(u *Unit, v []string) { u.TriggeredBy = v })},
}

// groupProperties are on every type with a control group, the others on one
// type each.
var (
	groupProperties = []property[Unit]{
		{name: "ControlGroup", set: into(func(u *Unit, v string) { u.ControlGroup = v })},
		{name: "Slice", set: into(func(u *Unit, v string) { u.Slice = v })},
		{name: "Delegate", set: into(func(u *Unit, v bool) { u.Delegate = v })},
	}
	serviceProperties = []property[Unit]{
		{name: "Type", set: into(func(u *Unit, v string) { u.Type = v })},
		{name: "MainPID", set: into(func(u *Unit, v uint32) { u.MainPID = int(v) })},
	}
	socketProperties = []property[Unit]{
		{name: "Accept", set: into(func(u *Unit, v bool) { u.Accept = v })},
	}
)

// propertiesOf lists what to fetch of a unit. Not GetAll: for a service that
// makes PID 1 read the accounting files of its control group and return 18 kB,
// at 0.3 ms of its time; these few at once cost it 0.15 ms.
func propertiesOf(unit string) []property[Unit] {
	kind, ok := typed[path.Ext(unit)]
	if !ok {
		return unitProperties
	}
	ofType := slices.Clone(groupProperties)
	switch kind {
	case "Service":
		ofType = append(ofType, serviceProperties...)
	case "Socket":
		ofType = append(ofType, socketProperties...)
	}
	for i := range ofType {
		ofType[i].iface = busName + "." + kind
	}
	return slices.Concat(unitProperties, ofType)
}

// into makes a setter that insists on the type the interface documents.
func into[U, T any](set func(*U, T)) func(*U, any) error {
	return func(u *U, value any) error {
		v, ok := value.(T)
		if !ok {
			return fmt.Errorf("is a %T, not a %T", value, v)
		}
		set(u, v)
		return nil
	}
}

// IsSlice reports whether the unit is a slice: it groups other units, and
// nobody's sockets are its own.
func (u *Unit) IsSlice() bool { return path.Ext(u.Name) == ".slice" }

// Holds reports whether a control group is the unit's own or below it.
func (u *Unit) Holds(cgroup string) bool {
	rest, ok := strings.CutPrefix(cgroup, u.ControlGroup)
	return ok && u.ControlGroup != "" && (rest == "" || rest[0] == '/' || u.ControlGroup == "/")
}

// unitName recovers the unit's name from its object path
// (bus_label_escape of systemd's shared/bus-label.c).
func unitName(object dbus.ObjectPath) (string, error) {
	label, ok := strings.CutPrefix(string(object), unitPrefix)
	if !ok {
		return "", fmt.Errorf("read unit: object path %q is not of a unit", object)
	}
	var b strings.Builder
	for i := 0; i < len(label); i++ {
		if label[i] != '_' {
			b.WriteByte(label[i])
			continue
		}
		if i+2 >= len(label) {
			return "", fmt.Errorf("read unit: object path %q: %w", object, errEscape)
		}
		c, err := hex.DecodeString(label[i+1 : i+3])
		if err != nil {
			return "", fmt.Errorf("read unit: object path %q: %w", object, errEscape)
		}
		b.WriteByte(c[0])
		i += 2
	}
	return b.String(), nil
}

// unitObject is the inverse of unitName.
func unitObject(name string) dbus.ObjectPath {
	const hexDigits = "0123456789abcdef"
	b := []byte(unitPrefix)
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' && i > 0 {
			b = append(b, c)
			continue
		}
		b = append(b, '_', hexDigits[c>>4], hexDigits[c&15])
	}
	return dbus.ObjectPath(b)
}

var errEscape = errors.New("broken escape")
