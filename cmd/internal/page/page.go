// Package page writes an incident, or the host's state, as one HTML file for a
// browser: what happened as a sentence and a picture, and below it all that the
// document holds. The file needs nothing else: no network, no script, no font.
//
// It is pure: documents go in, bytes come out. Whatever a process may have
// chosen is escaped twice: controls and what else is invisible as everywhere
// (package prose), and then as HTML.
package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

// Meta is who writes a page, and when.
type Meta struct {
	Version string // of tcpmemctl
	Now     time.Time
}

//go:embed page.html
var pageText string

//go:embed page.css
var styleText string

// view is what the template shows. All of its text is escaped as package prose
// does; the template escapes for HTML.
type view struct {
	Title    string
	Host     string
	Kind     string // what the page is about, in two words
	Badges   []badge
	Tone     string // critical, warning, calm: of the headline
	Headline string
	Lede     []string
	Facts    []fact
	Figures  []*figure
	NoFigure string // why there is none
	Sections []section
	Foot     []string

	Style  template.CSS
	Policy string
}

type badge struct{ Class, Text string }

// fact is one of the few things to know first.
type fact struct{ Label, Value, Note string }

// figure is a picture with what it means in words and in numbers.
type figure struct {
	Caption      string
	Gutter, Plot template.HTML
	Legend       []swatch
	Data         *table
	Days         string // the days that its times are of
}

type swatch struct{ Class, Name, Note string }

// section is a part of the page; what is empty is left out.
type section struct {
	ID, Title string
	Intro     []string
	Steps     []step
	Story     []happening
	Decisions []decision
	Tables    []*table
}

// step is something to do, with the command for it if there is one.
type step struct{ Text, Command string }

// happening is a line of the story. Number joins it with the picture.
type happening struct {
	Number int
	Day    string // where it is another one than before
	Time   string
	Class  string
	Text   string
	By     string // the numbers that it was decided by
}

// decision tells one in full.
type decision struct {
	Time, Line string
	More       []pair
}

type pair struct{ Name, Text string }

type table struct {
	Caption string
	Head    []column
	Rows    [][]cell
	Foot    string
}

type column struct {
	Title string
	Right bool
}

type cell struct {
	Text   string
	Right  bool
	Strong bool
	Bar    string // a share to draw, such as "37.5%"
}

// add appends a row of texts, with the columns' alignment.
func (t *table) add(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, text := range texts {
		row[i] = cell{Text: text, Right: t.Head[i].Right}
	}
	t.Rows = append(t.Rows, row)
	return row
}

// write fills in the template.
func (v *view) write(m Meta) ([]byte, error) {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("parse page: %w", err)
	}
	hash := sha256.Sum256([]byte(styleText))
	v.Style = template.CSS(styleText)
	// Nothing but this style sheet: were a name ever taken for markup, it could
	// load and run nothing (https://www.w3.org/TR/CSP3/).
	v.Policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; base-uri 'none'; form-action 'none'"
	v.Foot = append(v.Foot, "Written by tcpmemctl "+prose.Escape(m.Version)+" at "+prose.Time(m.Now)+". Times are in UTC.")
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return nil, fmt.Errorf("write page: %w", err)
	}
	return out.Bytes(), nil
}
