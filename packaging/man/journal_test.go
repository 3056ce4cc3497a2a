package man

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestJournalFields holds the page's list against the names that the source
// gives to fields: those of a text without, those of an entry with a prefix.
func TestJournalFields(t *testing.T) {
	var want []string
	for dir, calls := range map[string][]string{"event": {"field", "number"}, "journal": {"add"}} {
		files, err := filepath.Glob("../../daemon/" + dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if !strings.HasSuffix(name, "_test.go") {
				want = append(want, fieldNames(t, name, calls)...)
			}
		}
	}
	slices.Sort(want)
	var got []string
	for _, item := range read(t, "tcpmemd.8").items("JOURNAL", "Dv") {
		got = append(got, strings.Fields(strings.ReplaceAll(item, ",", " "))...)
	}
	got = append(got, "MESSAGE") // of which the section is
	slices.Sort(got)
	if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
		t.Errorf("fields (-source +page):\n%s", diff)
	}
}

// fieldNames are the names that calls in a file are given, and those of
// event.Field literals.
func fieldNames(t *testing.T, file string, calls []string) (names []string) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	literal := func(e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok {
			return
		}
		name, err := strconv.Unquote(lit.Value)
		switch {
		case err != nil || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "":
		case slices.Contains(calls, "add"): // of the whole entry
			names = append(names, name)
		default:
			names = append(names, "TCPMEMD_"+name)
		}
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			called := ""
			switch f := n.Fun.(type) {
			case *ast.Ident:
				called = f.Name
			case *ast.SelectorExpr:
				called = f.Sel.Name
			}
			if slices.Contains(calls, called) && len(n.Args) == 2 {
				literal(n.Args[0])
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Name" {
				if lit, ok := n.Value.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					names = append(names, "TCPMEMD_"+strings.Trim(lit.Value, `"`))
				}
			}
		}
		return true
	})
	return names
}
