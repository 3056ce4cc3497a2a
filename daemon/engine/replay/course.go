package replay

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// line is a value over time: what it is between two points lies on the line
// between them, after the last one it stays.
type line []knot

type knot struct {
	at time.Duration
	v  float64
}

func (l *line) add(at time.Duration, v float64) { *l = append(*l, knot{at, v}) }

// at gives the value, and how fast it changes per minute; ok is false before
// the first point.
func (l line) at(t time.Duration) (v, perMinute float64, ok bool) {
	i := len(l) - 1
	for i >= 0 && l[i].at > t {
		i--
	}
	switch {
	case i < 0:
		return 0, 0, false
	case i == len(l)-1:
		return l[i].v, 0, true
	}
	a, b := l[i], l[i+1]
	slope := (b.v - a.v) / float64(b.at-a.at)
	return a.v + slope*float64(t-a.at), slope * float64(time.Minute), true
}

// steps is a value that changes at points, and stays until the next.
type steps[T any] []step[T]

type step[T any] struct {
	at time.Duration
	v  T
}

func (s *steps[T]) add(at time.Duration, v *T) {
	if v != nil {
		*s = append(*s, step[T]{at, *v})
	}
}

func (s steps[T]) at(t time.Duration) (v T, ok bool) {
	for _, one := range slices.Backward(s) {
		if one.at <= t {
			return one.v, true
		}
	}
	return v, false
}

// hostCourse is how the host moves.
type hostCourse struct {
	used, orphans, aborts, log, coverage line
	flag                                 steps[bool]
	verdict                              steps[string]
	silent                               steps[bool]
}

// ownerCourse is how one owner moves.
type ownerCourse struct {
	owner                                   reading.Owner // what stays
	bytes, sockets, unread, send, closeWait line
	classes, evidence                       steps[map[string]float64]
	verdict, culprit, protected             steps[string]
	shared, verified                        steps[bool]
	age                                     time.Duration // at the scene's start
	pid                                     int
}

// settled is how old an owner is unless a scene says otherwise.
const settled = 24 * time.Hour

func (s *Scene) points(raw []rawPoint) error {
	if len(raw) < 2 {
		return errors.New("at: want two points in time or more")
	}
	byKey := make(map[string]*ownerCourse)
	last := time.Duration(-1)
	for i := range raw {
		p := &raw[i]
		if p.Time == nil {
			return fmt.Errorf("at %d: want a time", i+1)
		}
		at := time.Duration(*p.Time)
		if at <= last || i == 0 && at != 0 {
			return fmt.Errorf(`at %d: time = %q: the first is "0s", each is later than the one before`, i+1, at)
		}
		last = at
		if err := s.point(p, at); err != nil {
			return fmt.Errorf("at %s: %w", at, err)
		}
		for _, key := range slices.Sorted(maps.Keys(p.Owner)) {
			c := byKey[key]
			if c == nil {
				var err error
				if c, err = newCourse(key, len(byKey)); err != nil {
					return fmt.Errorf("at %s: %w", at, err)
				}
				byKey[key] = c
			}
			o := p.Owner[key]
			if err := c.point(&o, at); err != nil {
				return fmt.Errorf("at %s: owner %q: %w", at, key, err)
			}
		}
	}
	s.length = last
	if n := int64(last / s.sample); n > maxSamples {
		return fmt.Errorf("at %s: %d samples, at most %d may be: set sample = \"10s\" or more", last, n, maxSamples)
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		s.owners = append(s.owners, byKey[key])
	}
	return nil
}

func (s *Scene) point(p *rawPoint, at time.Duration) error {
	h := &s.host
	switch {
	case p.Used != nil && p.Fill != nil:
		return errors.New("used and fill: want one of them")
	case p.Used != nil:
		h.used.add(at, float64(*p.Used)/float64(s.pageSize))
	case p.Fill != nil:
		if !(*p.Fill >= 0 && *p.Fill <= 2) {
			return fmt.Errorf("fill = %v: want from 0 to 2", *p.Fill)
		}
		h.used.add(at, *p.Fill*float64(s.mem.Max))
	}
	for _, n := range []struct {
		name string
		v    *float64
		to   *line
	}{{"orphans", p.Orphans, &h.orphans}, {"aborts_on_memory", p.Aborts, &h.aborts}, {"log_out_of_memory", p.OutOfMemory, &h.log}, {"coverage", p.Coverage, &h.coverage}} {
		if n.v == nil {
			continue
		}
		if !(*n.v >= 0 && *n.v < 1e12) || n.name == "coverage" && *n.v > 1 {
			return fmt.Errorf("%s = %v: out of range", n.name, *n.v)
		}
		n.to.add(at, *n.v)
	}
	h.flag.add(at, p.UnderPressure)
	h.silent.add(at, p.Silent)
	h.verdict.add(at, p.Verdict)
	return verdictIs(p.Verdict)
}

func verdictIs(v *string) error {
	if v != nil && !slices.Contains([]string{"none", string(reading.Leak), string(reading.Load), string(reading.SlowPeer)}, *v) {
		return fmt.Errorf("verdict = %q: want leak, load, slow-peer or none", *v)
	}
	return nil
}

// newCourse makes an owner of its key: "system/NAME.service",
// "user@UID/NAME.service", "container/ID", "process/PID/START", "kernel" or
// "unresolved".
func newCourse(key string, n int) (*ownerCourse, error) {
	c := &ownerCourse{age: settled, pid: 1000 + n}
	o := &c.owner
	o.Key, o.Name = key, key
	manager, unit, _ := strings.Cut(key, "/")
	switch {
	case manager == "system" && unit != "":
		o.Kind, o.Unit, o.Name, o.Manager, o.InvocationID = reading.KindService, unit, unit, manager, fmt.Sprintf("%032x", n+1)
		if strings.HasSuffix(unit, ".scope") {
			o.Kind = reading.KindScope
		}
		o.UID = new(uint32)
	case strings.HasPrefix(manager, "user@") && unit != "":
		uid, err := strconv.ParseUint(manager[len("user@"):], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("owner %q: want user@UID/UNIT", key)
		}
		o.Kind, o.Unit, o.Name, o.Manager, o.UID = reading.KindUserService, unit, unit, manager, new(uint32(uid))
	case manager == "container" && unit != "":
		o.Kind, o.Container = reading.KindContainer, &reading.Container{ID: unit, Runtime: "containerd", Name: unit}
	case manager == "process" && unit != "":
		o.Kind = reading.KindProcess
	case key == "kernel":
		o.Kind = reading.KindKernel
	case key == "unresolved":
		o.Kind = reading.KindUnresolved
	default:
		return nil, fmt.Errorf(`owner %q: want a key such as "system/x.service", "container/ID", "process/PID/START", "kernel" or "unresolved"`, key)
	}
	o.Command = strings.TrimSuffix(o.Name, ".service")
	return c, nil
}

func (c *ownerCourse) point(raw *rawOwner, at time.Duration) error {
	if err := cmp.Or(verdictIs(raw.Verdict), c.identity(raw)); err != nil {
		return err
	}
	for _, n := range []struct {
		v  *size
		to *line
	}{{raw.Bytes, &c.bytes}, {raw.Unread, &c.unread}, {raw.Send, &c.send}} {
		if n.v != nil {
			n.to.add(at, float64(*n.v))
		}
	}
	for _, n := range []struct {
		name string
		v    *float64
		to   *line
	}{{"sockets", raw.Sockets, &c.sockets}, {"close_wait", raw.CloseWait, &c.closeWait}} {
		if n.v != nil {
			if !(*n.v >= 0 && *n.v < 1e9) {
				return fmt.Errorf("%s = %v: want a count", n.name, *n.v)
			}
			n.to.add(at, *n.v)
		}
	}
	if raw.Classes != nil {
		if err := parts("classes", raw.Classes, func(name string) bool { _, ok := reading.ParseClass(name); return ok }); err != nil {
			return err
		}
		c.classes.add(at, &raw.Classes)
	}
	if raw.Evidence != nil {
		if err := parts("evidence", raw.Evidence, func(name string) bool { return evidenceOf(name) >= 0 }); err != nil {
			return err
		}
		c.evidence.add(at, &raw.Evidence)
	}
	c.verdict.add(at, raw.Verdict)
	c.culprit.add(at, raw.Culprit)
	c.protected.add(at, raw.Protected)
	c.shared.add(at, raw.Shared)
	c.verified.add(at, raw.UnitVerified)
	return nil
}

// identity takes what an owner is.
func (c *ownerCourse) identity(raw *rawOwner) error {
	o := &c.owner
	if raw.Name != nil {
		o.Name = *raw.Name
	}
	if raw.Command != nil {
		o.Command = *raw.Command
	}
	if raw.Kind != nil {
		kinds := []reading.Kind{
			reading.KindService, reading.KindUserService, reading.KindSession, reading.KindScope, reading.KindContainer,
			reading.KindProcess, reading.KindKernel, reading.KindUnresolved,
		}
		if !slices.Contains(kinds, reading.Kind(*raw.Kind)) {
			return fmt.Errorf("kind = %q: no kind of owner", *raw.Kind)
		}
		o.Kind = reading.Kind(*raw.Kind)
	}
	if raw.Pod != nil {
		namespace, name, ok := strings.Cut(*raw.Pod, "/")
		if !ok {
			return fmt.Errorf("pod = %q: want NAMESPACE/NAME", *raw.Pod)
		}
		o.Pod = &reading.Pod{Namespace: namespace, Name: name, UID: *raw.Pod}
	}
	if raw.Netns != nil {
		o.Netns = []reading.NetnsID{{Inode: uint32(*raw.Netns), Cookie: uint64(*raw.Netns)}}
	}
	if raw.PID != nil {
		if *raw.PID < 1 || *raw.PID > 1<<22 {
			return fmt.Errorf("pid = %d: out of range", *raw.PID)
		}
		c.pid = int(*raw.PID)
	}
	if raw.Age != nil {
		c.age = time.Duration(*raw.Age)
	}
	return nil
}

// parts checks shares of an owner's bytes, by name.
func parts(what string, shares map[string]float64, known func(string) bool) error {
	sum := 0.0
	for name, share := range shares {
		if !known(name) {
			return fmt.Errorf("%s: there is none called %q", what, name)
		}
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("%s: %s = %v: want a share from 0 to 1", what, name, share)
		}
		sum += share
	}
	if sum > 1.001 {
		return fmt.Errorf("%s: the shares add up to %v, more than 1", what, sum)
	}
	return nil
}

// evidenceOf gives a kind of evidence by its name, -1 where there is none.
func evidenceOf(name string) int {
	for e := range reading.NumEvidence {
		if e.String() == name {
			return int(e)
		}
	}
	return -1
}
