package cli

import (
	"encoding"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// documents are what the commands print with --json.
var documents = map[string]any{
	"status":           api.Status{},
	"owners":           api.Owners{},
	"owners --by":      api.Groups{},
	"sockets":          api.Sockets{},
	"orphans":          api.Orphans{},
	"health":           healthDoc{},
	"doctor":           api.Doctor{},
	"actions":          api.Actions{},
	"incidents":        api.Incidents{},
	"incidents show":   record.Incident{},
	"explain":          api.Records{},
	"act":              acting{},
	"pause":            paused{},
	"reset":            api.Done{},
	"reload":           api.Reloaded{},
	"plugins":          api.Plugins{},
	"policy show":      api.Policy{},
	"policy check":     checked{},
	"policy test":      tried{},
	"policy variables": variables{},
	"history":          past{},
	"drill":            drilled{},
}

// TestFieldsStay: within version 1 of the documents a field may be added, and
// none may go, get another name, or another type. testdata/fields.golden has
// each by the document, or the part of documents, that it is in; -update takes up
// what is new, and never what would be gone.
func TestFieldsStay(t *testing.T) {
	w := fieldWalker{seen: map[reflect.Type]bool{}}
	for _, command := range slices.Sorted(maps.Keys(documents)) {
		w.fields(command, reflect.TypeOf(documents[command]))
	}
	slices.Sort(w.out)
	golden := filepath.Join("testdata", "fields.golden")
	text, err := os.ReadFile(golden)
	if err != nil && !*update {
		t.Fatal(err)
	}
	known := slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return line == "" })
	if gone := without(known, w.out); gone != nil {
		t.Fatalf("fields that scripts may read are gone, or of another type:\n%s", strings.Join(gone, "\n"))
	}
	if *update {
		if err := os.WriteFile(golden, []byte(strings.Join(w.out, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if fresh := without(w.out, known); fresh != nil {
		t.Errorf("new fields, which -update takes up:\n%s", strings.Join(fresh, "\n"))
	}
}

func without(lines, others []string) (left []string) {
	for _, line := range lines {
		if !slices.Contains(others, line) {
			left = append(left, line)
		}
	}
	return left
}

// TestEachDocumentHasItsVersion: at the top, so that a script may refuse another.
func TestEachDocumentHasItsVersion(t *testing.T) {
	for command, doc := range documents {
		w := fieldWalker{seen: map[reflect.Type]bool{}}
		w.fields(command, reflect.TypeOf(doc))
		if !slices.Contains(w.out, command+": version number") {
			t.Errorf("%s has no version", command)
		}
	}
}

// fieldWalker lists the fields of types as encoding/json names them.
type fieldWalker struct {
	out  []string
	seen map[reflect.Type]bool
}

// fields lists those of a struct, which is called at.
func (w *fieldWalker) fields(at string, t reflect.Type) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported() && !f.Anonymous:
		case name == "" && f.Anonymous:
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			w.fields(at, inner)
		case name == "":
			w.out = append(w.out, at+": "+f.Name+" "+w.kind(f.Type))
		default:
			w.out = append(w.out, at+": "+name+" "+w.kind(f.Type))
		}
	}
}

// kind is what a value is in JSON. A part that has fields is listed by its name.
func (w *fieldWalker) kind(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "time"
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return "string"
	case t.Implements(reflect.TypeFor[json.Marshaler]()):
		return "any"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return w.kind(t.Elem())
	case reflect.Slice, reflect.Array:
		return "[]" + w.kind(t.Elem())
	case reflect.Map:
		return "{}" + w.kind(t.Elem())
	case reflect.Struct:
		if !w.seen[t] {
			w.seen[t] = true
			w.fields(t.String(), t)
		}
		return t.String()
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Interface:
		return "any"
	}
	return "number"
}
