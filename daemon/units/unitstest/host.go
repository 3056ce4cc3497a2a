package unitstest

import (
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

// Host is a Systemd with services that can be restarted. It is Answer of its
// Systemd.
type Host struct {
	Systemd
	// Restart is what becomes of a job, in a goroutine of its own. Where it is
	// nil the job is done at once.
	Restart func(*Job)

	mu       sync.Mutex
	services map[string]map[string]any // properties by unit
	jobs     map[dbus.ObjectPath]*Job
	lastJob  uint32
	lastID   int
}

// NewHost returns a host without services.
func NewHost(errorf func(format string, args ...any)) *Host {
	h := &Host{services: map[string]map[string]any{}, jobs: map[dbus.ObjectPath]*Job{}}
	h.Systemd = Systemd{Recording: Recording{Version: "252"}, Errorf: errorf, Answer: h.answer}
	return h
}

// jobRef is the value of the property Job; without one it is 0 and "/".
type jobRef struct {
	ID     uint32
	Object dbus.ObjectPath
}

// Add adds a running service with properties that differ from the usual.
func (h *Host) Add(unit string, properties map[string]any) {
	p := map[string]any{
		"Id": unit, "Description": unit, "LoadState": "loaded", "ActiveState": "active", "SubState": "running",
		"ActiveEnterTimestamp": uint64(1_700_000_000_000_000), "ActiveEnterTimestampMonotonic": uint64(1),
		"Triggers": []string{}, "TriggeredBy": []string{},
		"ControlGroup": "/system.slice/" + unit, "Slice": "system.slice", "Delegate": false,
		"Type": "simple", "MainPID": uint32(42),
		"UnitFileState": "enabled", "Job": jobRef{Object: "/"},
		"RefuseManualStart": false, "RefuseManualStop": false,
		"StartLimitBurst": uint32(5), "StartLimitIntervalUSec": uint64(10_000_000),
		"RemainAfterExit": false, "KillMode": "control-group", "Restart": "on-failure", "Result": "success", "NRestarts": uint32(0),
		"RequiredBy": []string{}, "RequisiteOf": []string{}, "BoundBy": []string{}, "ConsistsOf": []string{}, "PropagatesStopTo": []string{},
	}
	h.mu.Lock()
	h.services[unit] = p
	h.mu.Unlock()
	h.Started(unit)
	h.Set(unit, properties)
}

// Set changes properties. A nil value takes one away, as in an older systemd.
func (h *Host) Set(unit string, properties map[string]any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.Copy(h.services[unit], properties)
}

// Unload forgets a unit.
func (h *Host) Unload(unit string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.services, unit)
}

// Started gives a unit a new invocation.
func (h *Host) Started(unit string) {
	h.mu.Lock()
	h.lastID++
	id := make([]byte, 16)
	id[15] = byte(h.lastID)
	h.mu.Unlock()
	h.Set(unit, map[string]any{"InvocationID": id, "ActiveState": "active", "SubState": "running"})
}

// Invocation is a unit's InvocationID as package units writes it.
func (h *Host) Invocation(unit string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	id, _ := h.services[unit]["InvocationID"].([]byte)
	return fmt.Sprintf("%x", id)
}

// Job is a restart that was asked for.
type Job struct {
	Unit string

	host   *Host
	id     uint32
	object dbus.ObjectPath
	state  string
	// Cancelled is closed when somebody cancels it.
	Cancelled chan struct{}
}

// Run begins the job.
func (j *Job) Run() {
	j.host.mu.Lock()
	defer j.host.mu.Unlock()
	j.state = "running"
}

// End ends the job with a result, told by signal.
func (j *Job) End(result string) {
	j.Vanish()
	j.host.Signal("JobRemoved", j.id, j.object, j.Unit, result)
}

// Vanish ends the job without a word.
func (j *Job) Vanish() {
	j.host.mu.Lock()
	defer j.host.mu.Unlock()
	delete(j.host.jobs, j.object)
	if p, ok := j.host.services[j.Unit]; ok {
		p["Job"] = jobRef{Object: "/"}
	}
}

// Forge tells, as another peer of the bus, that the job ended.
func (j *Job) Forge(result string) {
	j.host.SignalAs(":1.66", "JobRemoved", j.id, j.object, j.Unit, result)
}

func (h *Host) answer(c Call) (reply []any, err *dbus.Error, handled bool) {
	arg, _ := one(c.Args)
	switch question := c.Interface + "." + c.Member; question {
	case name + ".Manager.GetUnit":
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, ok := h.services[arg]; !ok {
			return nil, noSuchUnit(arg), true
		}
		return []any{object(arg)}, nil, true
	case name + ".Manager.GetUnitByControlGroup":
		h.mu.Lock()
		defer h.mu.Unlock()
		for unit, p := range h.services {
			if p["ControlGroup"] == arg {
				return []any{object(unit)}, nil, true
			}
		}
		return nil, noSuchUnit(arg), true
	case name + ".Manager.TryRestartUnit":
		reply, err = h.restart(c)
		return reply, err, true
	case name + ".Job.Cancel":
		return nil, h.cancel(c.Path), true
	case "org.freedesktop.DBus.Properties.Get":
		reply, err = h.get(c)
		return reply, err, true
	}
	return nil, nil, false
}

func noSuchUnit(unit string) *dbus.Error {
	return dbus.NewError(name+".NoSuchUnit", []any{"Unit " + unit + " not loaded."})
}

func (h *Host) restart(c Call) ([]any, *dbus.Error) {
	if len(c.Args) != 2 || c.Args[1] != "fail" || !h.subscribed() {
		h.breach("TryRestartUnit%v, subscribed %v", c.Args, h.subscribed())
		return nil, dbus.NewError(busDaemon+".Error.InvalidArgs", nil)
	}
	unit, _ := c.Args[0].(string)
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.services[unit]
	if !ok {
		return nil, noSuchUnit(unit)
	}
	h.lastJob++
	j := &Job{
		Unit: unit, host: h, id: h.lastJob, state: "waiting", Cancelled: make(chan struct{}),
		object: dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", h.lastJob)),
	}
	h.jobs[j.object] = j
	p["Job"] = jobRef{j.id, j.object}
	go func() {
		if h.Restart != nil {
			h.Restart(j)
			return
		}
		h.Started(unit)
		j.End("done")
	}()
	return []any{j.object}, nil
}

func (h *Host) cancel(path dbus.ObjectPath) *dbus.Error {
	h.mu.Lock()
	defer h.mu.Unlock()
	j, ok := h.jobs[path]
	if !ok {
		return unknownObject(path)
	}
	if j.state == "running" {
		h.breach("cancels a job that runs: its unit would stay stopped")
	}
	close(j.Cancelled)
	return nil
}

func unknownObject(path dbus.ObjectPath) *dbus.Error {
	return dbus.NewError(busDaemon+".Error.UnknownObject", []any{fmt.Sprintf("Unknown object '%s'.", path)})
}

func (h *Host) get(c Call) ([]any, *dbus.Error) {
	if len(c.Args) != 2 {
		return nil, dbus.NewError(busDaemon+".Error.InvalidArgs", nil)
	}
	prop, _ := c.Args[1].(string)
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasPrefix(string(c.Path), "/org/freedesktop/systemd1/job/") {
		j, ok := h.jobs[c.Path]
		if !ok {
			return nil, unknownObject(c.Path)
		}
		return []any{dbus.MakeVariant(j.state)}, nil
	}
	for unit, p := range h.services {
		if object(unit) != c.Path {
			continue
		}
		if p[prop] == nil {
			return nil, dbus.NewError(busDaemon+".Error.UnknownProperty", []any{fmt.Sprint(c.Args)})
		}
		return []any{dbus.MakeVariant(p[prop])}, nil
	}
	return nil, unknownObject(c.Path)
}
