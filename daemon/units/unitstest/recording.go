package unitstest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Recording holds the answers of one systemd.
type Recording struct {
	Version string                      `json:"version"`
	Cgroups map[string]Found            `json:"cgroups"`
	Units   map[string]map[string]Props `json:"units"` // by name, then interface ("Unit", "Service", ...)
}

// Found is the answer to GetUnitByControlGroup: an object, or an error.
type Found struct {
	Object  dbus.ObjectPath `json:"object,omitempty"`
	Error   string          `json:"error,omitempty"`
	Message string          `json:"message,omitempty"`
}

// Props are the properties of one interface.
type Props map[string]Value

// Value is a property's value with its D-Bus signature: s, as, ay (in hex),
// b, u or t.
type Value struct {
	Sig   string          `json:"sig"`
	Value json.RawMessage `json:"value"`
}

// Load reads a recording.
func Load(file string) (Recording, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Recording{}, fmt.Errorf("load recording: %w", err)
	}
	var r Recording
	if err := json.Unmarshal(text, &r); err != nil {
		return Recording{}, fmt.Errorf("load recording %s: %w", file, err)
	}
	return r, nil
}

func (r *Recording) byCgroup(path string) ([]any, *dbus.Error) {
	found, ok := r.Cgroups[path]
	switch {
	case !ok:
		return nil, dbus.NewError(name+".NoSuchUnit", []any{fmt.Sprintf("Control group '%s' is not valid or not managed by this instance", path)})
	case found.Error != "":
		return nil, dbus.NewError(found.Error, []any{found.Message})
	}
	return []any{found.Object}, nil
}

func (r *Recording) unit(unit string) ([]any, *dbus.Error) {
	if _, ok := r.Units[unit]; !ok {
		return nil, dbus.NewError(name+".NoSuchUnit", []any{"Unit " + unit + " not loaded."})
	}
	return []any{object(unit)}, nil
}

// property answers Properties.Get. For a unit that is not loaded PID 1 makes
// up an empty one, and so does this.
func (r *Recording) property(c Call) ([]any, *dbus.Error) {
	unknown := dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{fmt.Sprint(c.Args)})
	if len(c.Args) != 2 {
		return nil, unknown
	}
	iface, _ := c.Args[0].(string)
	prop, _ := c.Args[1].(string)
	for unit, interfaces := range r.Units {
		if object(unit) != c.Path {
			continue
		}
		value, ok := interfaces[strings.TrimPrefix(iface, name+".")][prop]
		if !ok {
			return nil, unknown
		}
		v, err := value.variant()
		if err != nil {
			return nil, dbus.NewError("org.freedesktop.DBus.Error.Failed", []any{err.Error()})
		}
		return []any{v}, nil
	}
	return nil, dbus.NewError("org.freedesktop.DBus.Error.UnknownObject", []any{string(c.Path)})
}

func (v Value) variant() (dbus.Variant, error) {
	into := map[string]any{"s": new(string), "as": new([]string), "ay": new(string), "b": new(bool), "u": new(uint32), "t": new(uint64)}
	p, ok := into[v.Sig]
	if !ok {
		return dbus.Variant{}, fmt.Errorf("no value of signature %q", v.Sig)
	}
	if err := json.Unmarshal(v.Value, p); err != nil {
		return dbus.Variant{}, err
	}
	switch p := p.(type) {
	case *string:
		if v.Sig == "ay" {
			b, err := hex.DecodeString(*p)
			return dbus.MakeVariant(b), err
		}
		return dbus.MakeVariant(*p), nil
	case *[]string:
		return dbus.MakeVariant(*p), nil
	case *bool:
		return dbus.MakeVariant(*p), nil
	case *uint32:
		return dbus.MakeVariant(*p), nil
	default:
		return dbus.MakeVariant(*p.(*uint64)), nil
	}
}

// object is the path of a unit: every byte that is no letter or digit, and a
// digit in front, is written as _ and two hex digits.
func object(unit string) dbus.ObjectPath {
	var b strings.Builder
	b.WriteString(unitPrefix)
	for i, c := range []byte(unit) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return dbus.ObjectPath(b.String())
}
