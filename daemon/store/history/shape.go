package history

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// shape lists the leaves of a struct type: numbers (also flags, times and
// optional numbers) and texts (also, as JSON, whatever has no fixed size).
type shape struct{ leaves []leaf }

type leaf struct {
	name string // path of field names; texts begin with $, what may lack with ?
	path []int  // of field and array indexes
	get  func(reflect.Value) (int64, string, error)
	set  func(reflect.Value, int64, string) error
}

// none is an optional number that is not there.
const none = math.MinInt64

// newShape lists T's leaves but for the fields named in not.
func newShape[T any](not ...string) *shape {
	s := &shape{}
	s.add(reflect.TypeFor[T](), "", nil, not)
	return s
}

func (s *shape) add(t reflect.Type, name string, path []int, not []string) {
	if slices.Contains(not, name) {
		return
	}
	sub := func(t reflect.Type, field string, i int) {
		s.add(t, strings.TrimPrefix(name+"."+field, "."), append(slices.Clip(path), i), not)
	}
	l := leaf{name: name, path: path}
	switch kind := t.Kind(); {
	case t == reflect.TypeFor[time.Time]():
		l.name = "?" + name
		l.get, l.set = getTime, setTime
	case kind == reflect.Struct:
		for i := range t.NumField() {
			sub(t.Field(i).Type, t.Field(i).Name, i)
		}
		return
	case kind == reflect.Array:
		for i := range t.Len() {
			sub(t.Elem(), strconv.Itoa(i), i)
		}
		return
	case isNumber(kind):
		l.get, l.set = func(v reflect.Value) (int64, string, error) { return number(v), "", nil }, setNumber
	case kind == reflect.Pointer && isNumber(t.Elem().Kind()):
		l.name = "?" + name
		l.get, l.set = getOptional, setOptional
	case kind == reflect.String:
		l.name = "$" + name
		l.get = func(v reflect.Value) (int64, string, error) { return 0, v.String(), nil }
		l.set = func(v reflect.Value, _ int64, text string) error { v.SetString(text); return nil }
	default:
		l.name = "$" + name
		l.get, l.set = getJSON, setJSON
	}
	s.leaves = append(s.leaves, l)
}

func (s *shape) names() (names []string) {
	for _, l := range s.leaves {
		names = append(names, l.name)
	}
	return names
}

// past is what was last told of each leaf.
type past struct {
	nums  []int64
	texts []string
}

func (s *shape) newPast() *past {
	return &past{newNums(s.names()), make([]string, len(s.leaves))}
}

// newNums are the numbers of a zero value.
func newNums(names []string) []int64 {
	nums := make([]int64, len(names))
	for i, name := range names {
		if strings.HasPrefix(name, "?") {
			nums[i] = none
		}
	}
	return nums
}

// tell appends v's changes since p to b: for each changed leaf its distance
// from the last one, then a number's difference or the text. 0 ends it.
func (s *shape) tell(b []byte, v reflect.Value, p *past) ([]byte, error) {
	last := -1
	for i := range s.leaves {
		l := &s.leaves[i]
		num, text, err := l.get(l.at(v))
		if err != nil {
			return b, fmt.Errorf("encode %s: %w", l.name, err)
		}
		if num == p.nums[i] && text == p.texts[i] {
			continue
		}
		b = binary.AppendUvarint(b, uint64(i-last))
		if l.name[0] == '$' {
			b = binary.AppendUvarint(b, uint64(len(text)))
			b = append(b, text...)
		} else {
			b = binary.AppendVarint(b, num-p.nums[i]) // may wrap, and wraps back
		}
		last, p.nums[i], p.texts[i] = i, num, text
	}
	return append(b, 0), nil
}

// listener takes in what tell of a perhaps older or younger shape told: it
// knows the leaves by their names.
type listener struct {
	leaves []*leaf // by the teller's number, nil where this shape has none
	text   []bool
}

func (s *shape) listen(names []string) *listener {
	byName := map[string]*leaf{}
	for i := range s.leaves {
		byName[s.leaves[i].name] = &s.leaves[i]
	}
	l := &listener{}
	for _, name := range names {
		l.leaves = append(l.leaves, byName[name])
		l.text = append(l.text, strings.HasPrefix(name, "$"))
	}
	return l
}

var errShort = errors.New("entry is cut short")

// hear changes v as told in b, and gives the rest of b. nums are the teller's
// numbers so far, one for each of its leaves.
func (l *listener) hear(b []byte, v reflect.Value, nums []int64) ([]byte, error) {
	at := -1
	for {
		step, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errShort
		}
		b = b[n:]
		if step == 0 {
			return b, nil
		}
		if step >= uint64(len(l.leaves)-at) {
			return nil, errors.New("entry has a value that the segment does not name")
		}
		at += int(step)
		var text string
		if l.text[at] {
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return nil, errShort
			}
			text, b = string(b[n:n+int(size)]), b[n+int(size):]
		} else {
			change, n := binary.Varint(b)
			if n <= 0 {
				return nil, errShort
			}
			b = b[n:]
			nums[at] += change
		}
		if known := l.leaves[at]; known != nil {
			if err := known.set(known.at(v), nums[at], text); err != nil {
				return nil, fmt.Errorf("decode %s: %w", known.name, err)
			}
		}
	}
}

// at finds the leaf in a value of the shape's type.
func (l *leaf) at(v reflect.Value) reflect.Value {
	for _, i := range l.path {
		if v.Kind() == reflect.Struct {
			v = v.Field(i)
		} else {
			v = v.Index(i)
		}
	}
	return v
}

func isNumber(k reflect.Kind) bool {
	return k >= reflect.Bool && k <= reflect.Uint64 || k == reflect.Float64
}

func number(v reflect.Value) int64 {
	switch {
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return int64(v.Uint())
	case v.CanFloat():
		return int64(math.Float64bits(v.Float()))
	case v.Bool():
		return 1
	}
	return 0
}

func setNumber(v reflect.Value, num int64, _ string) error {
	switch {
	case v.CanInt():
		v.SetInt(num)
	case v.CanUint():
		v.SetUint(uint64(num))
	case v.CanFloat():
		v.SetFloat(math.Float64frombits(uint64(num)))
	default:
		v.SetBool(num != 0)
	}
	return nil
}

func getOptional(v reflect.Value) (int64, string, error) {
	if v.IsNil() {
		return none, "", nil
	}
	return number(v.Elem()), "", nil
}

// setOptional makes a new number: an entry given out earlier keeps the old one.
func setOptional(v reflect.Value, num int64, _ string) error {
	if num == none {
		v.SetZero()
		return nil
	}
	v.Set(reflect.New(v.Type().Elem()))
	return setNumber(v.Elem(), num, "")
}

func getTime(v reflect.Value) (int64, string, error) {
	t := v.Interface().(time.Time)
	if t.IsZero() {
		return none, "", nil
	}
	return t.UnixNano(), "", nil
}

func setTime(v reflect.Value, num int64, _ string) error {
	t := time.Time{}
	if num != none {
		t = time.Unix(0, num).UTC()
	}
	v.Set(reflect.ValueOf(t))
	return nil
}

func getJSON(v reflect.Value) (int64, string, error) {
	if v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 {
		return 0, "", nil
	}
	data, err := json.Marshal(v.Interface())
	return 0, string(data), err
}

func setJSON(v reflect.Value, _ int64, text string) error {
	fresh := reflect.New(v.Type())
	if text != "" {
		if err := json.Unmarshal([]byte(text), fresh.Interface()); err != nil {
			return err
		}
	}
	v.Set(fresh.Elem())
	return nil
}
