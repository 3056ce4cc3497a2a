package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/BurntSushi/toml"
)

// maxFile is far above any configuration. It keeps a wrong path, as of a log or
// a device, out of memory, and the decoder fast: the work for one position is
// proportional to the file.
const maxFile = 64 << 10

// maxDepth is above that of every known key; what is deeper is not searched.
const maxDepth = 4

// entry is a key of a file with its value in TOML's own types: string, int64,
// float64, bool, time.Time, []any, map[string]any, []map[string]any.
type entry struct {
	path   toml.Key
	key    string // joined by dots, parts with other signs in quotes
	value  any
	table  bool // a table with nothing in it, or too deep to look
	line   int  // 1 is the first, 0 not known
	offset int  // in the text, in bytes
}

func (e entry) fail(file string, err error) *Error {
	return &Error{File: file, Line: e.line, Err: err}
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &Error{File: path, Err: cause(err)}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &Error{File: path, Err: cause(err)}
	}
	if len(data) > maxFile {
		return nil, &Error{File: path, Err: errors.New("larger than 64 KiB")}
	}
	return data, nil
}

// cause takes the path out of err: Error names the file.
func cause(err error) error {
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("%s: %w", pathErr.Op, pathErr.Err)
	}
	return err
}

// schema says which keys have values, tables too, and which are mere tables.
type schema struct {
	isValue, isTable func(path toml.Key) bool
}

// parseDocument gives the keys of a file in their order, and an *Error with
// line and column where it is not TOML. Positions are counted without a byte
// order mark, see trimmed.
func parseDocument(file string, text []byte, s schema) ([]entry, error) {
	text = trimmed(text)
	var top map[string]toml.Primitive
	md, err := toml.Decode(string(text), &top)
	if err != nil {
		return nil, syntaxError(file, text, err)
	}
	doc := s.entries(&md, top, nil)
	slices.SortStableFunc(doc, func(a, b entry) int {
		return cmp.Compare(a.offset, b.offset)
	})
	return doc, nil
}

func trimmed(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\ufeff")) }

// entries walks a table and those inside it.
func (s schema) entries(md *toml.MetaData, table map[string]toml.Primitive, above toml.Key) []entry {
	var found []entry
	for _, name := range slices.Sorted(maps.Keys(table)) {
		path := append(slices.Clip(above), name)
		l := locate(md, table[name])
		e := entry{path: path, key: path.String(), value: l.value, line: l.at.Line, offset: l.at.Start}
		if inner, ok := l.value.(map[string]any); ok && !s.isValue(path) {
			if len(inner) == 0 && s.isTable(path) {
				continue
			}
			var below map[string]toml.Primitive
			if len(inner) > 0 && len(path) < maxDepth && md.PrimitiveDecode(table[name], &below) == nil {
				found = append(found, s.entries(md, below, path)...)
				continue
			}
			e.table = true
		}
		found = append(found, e)
	}
	return found
}

// located is a value and its position. The decoder keeps positions to itself,
// but puts them into the error of an Unmarshaler; so UnmarshalTOML always
// returns one.
type located struct {
	value any
	at    toml.Position
}

var errLocated = errors.New("located")

func locate(md *toml.MetaData, p toml.Primitive) located {
	var l located
	if parseErr, ok := errors.AsType[toml.ParseError](md.PrimitiveDecode(p, &l)); ok {
		l.at = parseErr.Position
	}
	return l
}

// UnmarshalTOML implements toml.Unmarshaler.
func (l *located) UnmarshalTOML(v any) error {
	l.value = v
	return errLocated
}
