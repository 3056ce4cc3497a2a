package units

import (
	"context"
	"errors"
	"fmt"
)

// maxClosure is how many units are asked for one closure.
const maxClosure = 100

// ErrTooMany says that a closure has more units than are asked about.
var ErrTooMany = fmt.Errorf("more than %d units", maxClosure)

// Dependent is a unit that a restart of another one takes along.
type Dependent struct {
	Name string
	Via  string // the relation and the unit that it has it with: "PartOf=a.service"
}

// relations of a unit to those that are stopped or restarted with it: what PID
// 1 calls them there, and what the other unit's file says.
type relations struct {
	active bool
	list   []relation
}

type relation struct{ unit, setting string }

func related(setting string) func(*relations, any) error {
	return into(func(r *relations, v []string) {
		for _, unit := range v {
			r.list = append(r.list, relation{unit, setting})
		}
	})
}

// unit-dependency-atom.c of systemd: UNIT_ATOM_PROPAGATE_RESTART and
// UNIT_ATOM_PROPAGATE_STOP.
var relationProperties = []property[relations]{
	{iface: unitInterface, name: "ActiveState", set: into(func(r *relations, v string) {
		r.active = v != "inactive" && v != "failed"
	})},
	{iface: unitInterface, name: "RequiredBy", set: related("Requires")},
	{iface: unitInterface, name: "RequisiteOf", set: related("Requisite")},
	{iface: unitInterface, name: "BoundBy", set: related("BindsTo")},
	{iface: unitInterface, name: "ConsistsOf", set: related("PartOf")},
	{iface: unitInterface, name: "PropagatesStopTo", set: related("StopPropagatedFrom"), late: true}, // systemd 249
}

// Closure lists the units that a restart of the named one takes along, nearest
// first. Those that are not running are not among them: a job on them does
// nothing (job_collapse_type). The error is ErrTooMany or as of Service.
func (m *Manager) Closure(ctx context.Context, name string) ([]Dependent, error) {
	var found []Dependent
	seen := map[string]bool{name: true}
	queue := []Dependent{{Name: name}}
	for asked := 0; len(queue) > 0; asked++ {
		if asked > maxClosure {
			return nil, fmt.Errorf("read closure of %s: %w", name, ErrTooMany)
		}
		next := queue[0]
		queue = queue[1:]
		r, err := ask(ctx, m, func(ctx context.Context, c *client) (relations, error) {
			var r relations
			err := get(ctx, c, unitObject(next.Name), relationProperties, &r)
			return r, noUnit(err)
		})
		switch {
		case errors.Is(err, ErrNoUnit) && next.Via != "":
			continue // unloaded meanwhile: it does not run
		case err != nil:
			return nil, fmt.Errorf("read closure of %s: %w", name, err)
		case next.Via != "" && !r.active:
			continue
		case next.Via != "":
			found = append(found, next)
		}
		for _, rel := range r.list {
			if !seen[rel.unit] {
				seen[rel.unit] = true
				queue = append(queue, Dependent{Name: rel.unit, Via: rel.setting + "=" + next.Name})
			}
		}
	}
	return found, nil
}
