package units

import (
	"context"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// Service is what must be known of a service before it is restarted, and what
// came of it afterwards.
type Service struct {
	Unit
	UnitFileState string // masked, also while the unit still runs
	JobID         uint32 // of the job under way, 0 for none

	RemainAfterExit  bool
	KillMode         string // control-group, mixed, process, none
	RefuseManualStop bool
	// RefuseManualStart also refuses a restart: it needs both.
	RefuseManualStart bool

	Restart  string // no, always, on-failure, ...
	Result   string // of the last run: success, exit-code, start-limit-hit, ...
	Restarts int    // by Restart=, since somebody started it by hand
	// More than StartLimitBurst starts in StartLimitInterval are refused, by
	// hand or by Restart=. PID 1 does not tell how many there were.
	StartLimitBurst    int
	StartLimitInterval time.Duration

	jobObject dbus.ObjectPath
}

var serviceOnly = []property[Service]{
	{iface: unitInterface, name: "UnitFileState", set: into(func(s *Service, v string) { s.UnitFileState = v })},
	{iface: unitInterface, name: "Job", set: setJob},
	{iface: unitInterface, name: "RefuseManualStart", set: into(func(s *Service, v bool) { s.RefuseManualStart = v })},
	{iface: unitInterface, name: "RefuseManualStop", set: into(func(s *Service, v bool) { s.RefuseManualStop = v })},
	{iface: unitInterface, name: "StartLimitBurst", set: into(func(s *Service, v uint32) { s.StartLimitBurst = int(v) })},
	{iface: unitInterface, name: "StartLimitIntervalUSec", set: into(func(s *Service, v uint64) {
		s.StartLimitInterval = microseconds(v)
	})},
	{iface: serviceInterface, name: "RemainAfterExit", set: into(func(s *Service, v bool) { s.RemainAfterExit = v })},
	{iface: serviceInterface, name: "KillMode", set: into(func(s *Service, v string) { s.KillMode = v })},
	{iface: serviceInterface, name: "Restart", set: into(func(s *Service, v string) { s.Restart = v })},
	{iface: serviceInterface, name: "Result", set: into(func(s *Service, v string) { s.Result = v })},
	{iface: serviceInterface, name: "NRestarts", set: into(func(s *Service, v uint32) { s.Restarts = int(v) })},
}

const serviceInterface = busName + ".Service"

// microseconds: systemd says "infinity" by the largest number.
func microseconds(v uint64) time.Duration {
	const most = uint64(1<<63-1) / 1000
	return time.Duration(min(v, most)) * time.Microsecond
}

// setJob reads the structure (id, object); without a job it is 0 and "/".
func setJob(s *Service, value any) error {
	fields, ok := value.([]any)
	if !ok || len(fields) != 2 {
		return fmt.Errorf("is a %T, not (uo)", value)
	}
	id, isID := fields[0].(uint32)
	object, isObject := fields[1].(dbus.ObjectPath)
	if !isID || !isObject {
		return fmt.Errorf("is (%T, %T), not (uo)", fields[0], fields[1])
	}
	s.JobID, s.jobObject = id, object
	return nil
}

// Service returns a service that PID 1 has loaded, by its name or an alias. It
// is never cached. A masked one, or one whose file cannot be read, is returned
// as such while PID 1 still knows it.
func (m *Manager) Service(ctx context.Context, name string) (Service, error) {
	s, err := ask(ctx, m, func(ctx context.Context, c *client) (Service, error) {
		return c.service(ctx, name)
	})
	if err != nil {
		return Service{}, fmt.Errorf("read service %s: %w", name, err)
	}
	return s, nil
}

func (c *client) service(ctx context.Context, name string) (Service, error) {
	var object dbus.ObjectPath
	if err := c.call(ctx, managerPath, managerInterface+".GetUnit", name).Store(&object); err != nil {
		return Service{}, noUnit(err)
	}
	var list []property[Service]
	for _, p := range propertiesOf(".service") {
		list = append(list, property[Service]{iface: p.iface, name: p.name, set: func(s *Service, v any) error {
			return p.set(&s.Unit, v)
		}})
	}
	s := Service{Unit: Unit{Verified: true}}
	if err := get(ctx, c, object, append(list, serviceOnly...), &s); err != nil {
		return Service{}, noUnit(err)
	}
	if s.LoadState == "not-found" && s.ActiveState == "inactive" {
		return Service{}, fmt.Errorf("%w: %s is not loaded", ErrNoUnit, name)
	}
	return s, nil
}
