package top

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/filter"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// input is a filter while it is typed.
type input struct {
	text   string
	before string // what Esc goes back to
	wrong  string // why it cannot be taken
}

// maxInput bounds what is typed, in bytes.
const maxInput = 1000

// typed takes a key while a filter is typed.
func (m Model) typed(key, text string) (Model, want) {
	in := *m.input
	in.wrong = ""
	m.input = &in
	switch key {
	case "enter":
		return m.filtered()
	case "esc":
		m.input = nil
		return m.shownWith(in.before), wantNothing
	case "backspace", "ctrl+h":
		_, size := utf8.DecodeLastRuneInString(in.text)
		in.text = in.text[:len(in.text)-size]
	case "ctrl+u":
		in.text = ""
	case "ctrl+w":
		in.text = in.text[:strings.LastIndexByte(strings.TrimRight(in.text, " "), ' ')+1]
	default:
		if len(in.text)+len(text) <= maxInput {
			in.text += text
		}
	}
	return m.shownWith(in.text), wantNothing
}

// pasted takes text that comes as one, of which a line break is a blank.
func (m Model) pasted(text string) Model {
	if m.input != nil {
		m, _ = m.typed("", strings.Join(strings.Fields(text), " "))
	}
	return m
}

// filterText is the filter of what is shown.
func (m *Model) filterText() string {
	if m.list != nil {
		return m.list.filterText()
	}
	return m.filter
}

// filtered takes the filter that was typed. One about sockets lists the sockets
// that match, as tcpmemctl sockets does: it says nothing of an owner as such.
func (m Model) filtered() (Model, want) {
	text := strings.TrimSpace(m.input.text)
	kind, f, err := classify(text)
	switch {
	case err != nil:
		in := *m.input
		in.wrong = err.Error()
		m.input = &in
		return m, wantNothing
	case text == "" && m.list != nil && m.list.filterText() != "":
		m.input = nil
		return m.back()
	case kind == aboutNames, m.list == nil && f.OwnerOnly():
		m.input = nil
		return m.shownWith(text), wantNothing
	case m.list == nil:
		m = m.shownWith(m.input.before)
		m.input = nil
		return m.listed(newList("", "", text))
	}
	m.input = nil
	return m.listed(newList(m.list.owner, m.list.name, text))
}

// shownWith shows what is there with a filter that needs no question; with any
// other, all.
func (m Model) shownWith(text string) Model {
	text = strings.TrimSpace(text)
	kind, f, err := classify(text)
	if err != nil || kind != aboutNames && (m.list != nil || !f.OwnerOnly()) {
		text = ""
	}
	if m.list != nil {
		l := *m.list
		l.part = text
		m.list = l.sorted()
		return m
	}
	m.filter = text
	return m.arranged()
}

// about is what a filter is about.
type about int

const (
	aboutNames about = iota // a part of a name
	aboutTerms              // terms of package filter
)

// classify reads a filter. What begins with a field and goes on is in the
// language of package filter; anything that cannot be is a part of a name.
func classify(text string) (about, *filter.Filter, error) {
	if !strings.ContainsAny(text, " =!<>(") {
		return aboutNames, nil, nil
	}
	f, err := filter.Parse(text)
	if err == nil {
		return aboutTerms, f, nil
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" =!<>()", r) })
	if len(words) > 0 && words[0] == "not" {
		words = words[1:]
	}
	if syntax, ok := errors.AsType[*filter.SyntaxError](err); ok && len(words) > 0 && filter.About(words[0]) != "" {
		return aboutTerms, nil, syntax
	}
	return aboutNames, nil, nil
}

// keeps says which owners the filter keeps.
func (m *Model) keeps() func(*api.Owner) bool {
	kind, f, err := classify(m.filter)
	if kind == aboutTerms && err == nil {
		return func(o *api.Owner) bool {
			return f.Match(&filter.Subject{Socket: &reading.Socket{Owner: o.Key}, Owner: subject(o)})
		}
	}
	part := strings.ToLower(m.filter)
	return func(o *api.Owner) bool { return part == "" || holds(part, namesOf(o)...) }
}

// holds says whether one of the texts has the part, in whatever case.
func holds(part string, texts ...string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(strings.ToLower(s), part) })
}

// namesOf are the names by which a person may look for an owner.
func namesOf(o *api.Owner) []string {
	names := []string{o.Name, o.Key, string(o.Kind)}
	for _, s := range []*string{o.Unit, o.Command} {
		if s != nil {
			names = append(names, *s)
		}
	}
	if c := o.Container; c != nil {
		names = append(names, c.ID, value(c.Name))
	}
	if p := o.Pod; p != nil {
		names = append(names, value(p.Namespace)+"/"+value(p.Name))
	}
	return names
}

// subject is what of an owner a filter can be about.
func subject(o *api.Owner) *reading.Owner {
	out := &reading.Owner{Key: o.Key, Name: o.Name, Unit: value(o.Unit), Cgroup: value(o.Cgroup)}
	if c := o.Container; c != nil {
		out.Container = &reading.Container{ID: c.ID, Name: value(c.Name)}
	}
	if p := o.Pod; p != nil {
		out.Pod = &reading.Pod{Namespace: value(p.Namespace), Name: value(p.Name), UID: p.UID}
	}
	return out
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
