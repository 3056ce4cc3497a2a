package replay

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/tcpmemd/tcpmemd/daemon/nearest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Scene is a course of events that a person wrote to try a policy.
type Scene struct {
	About   string
	Enforce bool // play it as if everything enforced
	Expect  []Expect

	sample, scan time.Duration
	pageSize     int
	mem          reading.TCPMem
	maxOrphans   int64
	start        time.Time
	length       time.Duration
	host         hostCourse
	owners       []*ownerCourse // by key
}

// SceneError is a mistake in a scene's file.
type SceneError struct {
	File string
	Err  error
}

func (e *SceneError) Error() string { return e.File + ": " + e.Err.Error() }

func (e *SceneError) Unwrap() error { return e.Err }

// MaxScene bounds a scene's file, in bytes.
const MaxScene = 1 << 20

// maxSamples bounds a scene's length, in samples.
const maxSamples = 200_000

// What a scene's file may say. See tcpmemctl(1).
type rawScene struct {
	About      string      `toml:"about"`
	As         string      `toml:"as"`
	Start      time.Time   `toml:"start"`
	Sample     duration    `toml:"sample"`
	Scan       duration    `toml:"scan"`
	PageSize   int         `toml:"page_size"`
	TCPMem     []int64     `toml:"tcp_mem"`
	MaxOrphans int64       `toml:"max_orphans"`
	At         []rawPoint  `toml:"at"`
	Expect     []rawExpect `toml:"expect"`
}

type rawPoint struct {
	Time          *duration           `toml:"time"`
	Used          *size               `toml:"used"`
	Fill          *float64            `toml:"fill"`
	Orphans       *float64            `toml:"orphans"`
	Aborts        *float64            `toml:"aborts_on_memory"`
	OutOfMemory   *float64            `toml:"log_out_of_memory"`
	Coverage      *float64            `toml:"coverage"`
	UnderPressure *bool               `toml:"under_pressure"`
	Verdict       *string             `toml:"verdict"`
	Silent        *bool               `toml:"silent"`
	Owner         map[string]rawOwner `toml:"owner"`
}

type rawOwner struct {
	Name         *string            `toml:"name"`
	Bytes        *size              `toml:"bytes"`
	Sockets      *float64           `toml:"sockets"`
	Unread       *size              `toml:"unread"`
	Send         *size              `toml:"send"`
	CloseWait    *float64           `toml:"close_wait"`
	Classes      map[string]float64 `toml:"classes"`
	Evidence     map[string]float64 `toml:"evidence"`
	Verdict      *string            `toml:"verdict"`
	Culprit      *string            `toml:"culprit"`
	Protected    *string            `toml:"protected"`
	Shared       *bool              `toml:"shared"`
	UnitVerified *bool              `toml:"unit_verified"`
	Kind         *string            `toml:"kind"`
	Command      *string            `toml:"command"`
	Pod          *string            `toml:"pod"`
	Netns        *int64             `toml:"netns"`
	PID          *int64             `toml:"pid"`
	Age          *duration          `toml:"age"`
}

// ParseScene reads the text of a scene's file. Its error is a *SceneError.
func ParseScene(file string, text []byte) (*Scene, error) {
	s, err := parseScene(text)
	if err != nil {
		return nil, &SceneError{File: file, Err: err}
	}
	return s, nil
}

func parseScene(text []byte) (*Scene, error) {
	if len(text) > MaxScene {
		return nil, fmt.Errorf("longer than %d bytes", MaxScene)
	}
	var raw rawScene
	meta, err := toml.Decode(string(text), &raw)
	if err != nil {
		return nil, plainly(err)
	}
	if err := unknownKeys(meta.Undecoded()); err != nil {
		return nil, err
	}
	s := &Scene{
		About: raw.About, Enforce: raw.As == "enforce", start: raw.Start.UTC(),
		sample: time.Duration(raw.Sample), scan: time.Duration(raw.Scan), pageSize: raw.PageSize, maxOrphans: raw.MaxOrphans,
	}
	s.defaults()
	if err := errors.Join(s.header(&raw), s.points(raw.At), s.expects(raw.Expect)); err != nil {
		return nil, err
	}
	return s, nil
}

// unknownKeys names each, with the known one that is nearest where one is near.
func unknownKeys(keys []toml.Key) error {
	var errs []error
	for _, key := range keys {
		err := fmt.Errorf("unknown key %q", key.String())
		if len(key) == 4 { // at.owner.KEY.name
			key = toml.Key{key[0], key[1], key[3]}
		}
		var beside []string
		table := strings.Join(key[:len(key)-1], ".")
		for _, known := range SceneKeys() {
			if last, ok := strings.CutPrefix(known, strings.TrimPrefix(table+".", ".")); ok && !strings.Contains(last, ".") {
				beside = append(beside, last)
			}
		}
		if near := nearest.Name(key[len(key)-1], beside); near != "" {
			err = fmt.Errorf("%w; did you mean %s?", err, near)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// plainly takes the library's own package off its messages.
func plainly(err error) error {
	if e, ok := errors.AsType[toml.ParseError](err); ok {
		if e.Position.Line > 0 {
			return fmt.Errorf("line %d: %s", e.Position.Line, e.Message)
		}
	}
	return errors.New(strings.TrimPrefix(err.Error(), "toml: "))
}

func (s *Scene) defaults() {
	if s.sample == 0 {
		s.sample = time.Second
	}
	if s.scan == 0 {
		s.scan = 5 * time.Second
	}
	if s.pageSize == 0 {
		s.pageSize = 4096
	}
	if s.maxOrphans == 0 {
		s.maxOrphans = 65536
	}
	if s.start.IsZero() {
		s.start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	}
}

func (s *Scene) header(raw *rawScene) error {
	switch {
	case !slices.Contains([]string{"", "observe", "enforce"}, raw.As):
		return fmt.Errorf("as = %q: want observe or enforce", raw.As)
	case s.sample < 100*time.Millisecond || s.sample > time.Minute:
		return fmt.Errorf("sample = %q: want from 100ms to 1m", s.sample)
	case s.scan < s.sample:
		return fmt.Errorf("scan = %q: want at least the time between samples, %s", s.scan, s.sample)
	case s.pageSize < 4096 || s.pageSize > 1<<20 || s.pageSize&(s.pageSize-1) != 0:
		return fmt.Errorf("page_size = %d: want a power of 2 from 4096 on", s.pageSize)
	case s.maxOrphans < 0:
		return fmt.Errorf("max_orphans = %d: want a count", s.maxOrphans)
	case raw.TCPMem == nil:
		s.mem = reading.TCPMem{Min: 43257, Pressure: 57676, Max: 86514}
		return nil
	case len(raw.TCPMem) != 3 || raw.TCPMem[0] < 1 || !slices.IsSorted(raw.TCPMem) || raw.TCPMem[2] > 1<<40:
		return errors.New("tcp_mem: want [min, pressure, max] in pages, none smaller than the one before")
	}
	s.mem = reading.TCPMem{Min: reading.Pages(raw.TCPMem[0]), Pressure: reading.Pages(raw.TCPMem[1]), Max: reading.Pages(raw.TCPMem[2])}
	return nil
}

// duration is written as "90s".
type duration time.Duration

func (d *duration) UnmarshalTOML(v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("%v is no duration such as \"90s\"", v)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil || parsed < 0 {
		return fmt.Errorf("%.40q is no duration such as \"90s\"", text)
	}
	*d = duration(parsed)
	return nil
}

// size is bytes: a number, or a text such as "64M", with K, M, G or T of 1024.
type size float64

func (n *size) UnmarshalTOML(v any) error {
	switch v := v.(type) {
	case int64:
		if v < 0 || v > maxBytes {
			return fmt.Errorf("%d is no size", v)
		}
		*n = size(v)
		return nil
	case string:
		var f float64
		var unit string
		if _, err := fmt.Sscanf(v+"B", "%g%s", &f, &unit); err != nil {
			return fmt.Errorf("%.40q is no size such as \"64M\"", v)
		}
		// 64MiB is how sizes are written elsewhere.
		shift := slices.Index([]string{"B", "KB", "MB", "GB", "TB"}, strings.Replace(unit, "iBB", "B", 1))
		if shift < 0 || !(f >= 0) || f*float64(uint64(1)<<(10*shift)) > maxBytes {
			return fmt.Errorf("%.40q is no size such as \"64M\"", v)
		}
		*n = size(f * float64(uint64(1)<<(10*shift)))
		return nil
	}
	return fmt.Errorf("%v is no size such as \"64M\"", v)
}

// maxBytes is more than any host has.
const maxBytes = 1 << 50

// SceneKeys lists what a scene's file may say, in order: "about", "at.fill",
// "at.owner.bytes", "expect.rule", ...
func SceneKeys() []string {
	var keys []string
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for f := range t.Fields() {
			name, of := prefix+f.Tag.Get("toml"), f.Type
			if k := of.Kind(); k == reflect.Slice || k == reflect.Map {
				of = of.Elem()
			}
			switch of {
			case reflect.TypeFor[rawPoint](), reflect.TypeFor[rawOwner](), reflect.TypeFor[rawExpect]():
				walk(of, name+".")
			default:
				keys = append(keys, name)
			}
		}
	}
	walk(reflect.TypeFor[rawScene](), "")
	return keys
}
